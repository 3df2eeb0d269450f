"""The machine: which CPU does what, where the programs are, what versions they have."""

import datetime
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from .process import Failed

ROOT = Path(__file__).resolve().parents[2]


class Machine:
    """CPUs and programs. The gateway has CPU 0 to itself; load and upstream are on CPU 1."""

    load_cpus = (1,)

    def __init__(self, target):
        self.target = Path(target)
        self.cpus = os.cpu_count()
        if self.cpus < 2:
            raise Failed("two CPUs are needed: one for the gateway, one for load and upstream")
        # What is neither: control plane, Postgres, Redis.
        self.server_cpus = (2,) if self.cpus > 2 else self.load_cpus

    def gateway_cpus(self, workers):
        """CPU 0 first; those of the others only when no more are left."""
        taken = {*self.load_cpus, *self.server_cpus}
        spare = [cpu for cpu in range(self.cpus) if cpu not in taken]
        return (*spare, *sorted(taken, reverse=True))[:workers]

    def program(self, name):
        """Our own as they were built, others as installed."""
        for folder in ("release", "release/examples", "bench/pingora/release"):
            built = self.target / folder / name
            if built.is_file():
                return str(built)
        bundled = self.target / "bench/envoy/envoy/_bin" / name
        found = shutil.which(name) or (str(bundled) if bundled.is_file() else None)
        if not found and (found := shutil.which(name, path="/usr/sbin:/usr/local/sbin")) is None:
            raise Failed(f"{name} is not installed: see tests/bench/run")
        return found

    def describe(self):
        """For the report."""
        model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        return {
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "cpu": f"{self.cpus} x {model[1] if model else platform.machine()}",
            "kernel": platform.release(),
            "commit": said(["git", "-C", ROOT, "describe", "--always", "--dirty"]),
        }

    def version(self, name):
        """What a program says of itself."""
        flag = {"nginx": "-v", "haproxy": "-v", "wrk": "-v"}.get(name, "--version")
        words = re.search(r"\d+\.\d+[\w.+~-]*", said([self.program(name), flag]))
        return words[0] if words else "unknown"


def said(command):
    """The first line of what a program prints."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().partition("\n")[0]
