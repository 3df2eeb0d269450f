"""Load: as many requests as a gateway takes, from wrk (HTTP/1.1) or h2load (HTTP/2)."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import work
from .process import Failed

LUA = Path(__file__).with_name("load.lua")


@dataclass
class Figures:
    """What a load generator saw."""

    requests: int
    seconds: float
    p50_us: int
    p99_us: int
    non_2xx: int
    errors: int


class Load:
    """Requests with the keys of the gateways, made on the CPU of the load."""

    def __init__(self, machine, folder, keys):
        self.machine = machine
        self.keys = folder / "keys.txt"
        self.first_key = keys[0].secret
        self.keys.write_text("".join(f"{key.secret}\n" for key in keys))

    def wrk(self, url, seconds, connections=work.CONNECTIONS, body=0, close=False):
        """HTTP/1.1, plain or TLS, with the keys in turn."""
        command = [self.machine.program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s"]
        command += ["-s", str(LUA), url]
        environment = os.environ | {
            "BENCH_KEYS": str(self.keys), "BENCH_BODY": str(body), "BENCH_CLOSE": str(int(close))}
        lines = self.run(command, seconds, environment).splitlines()
        return Figures(**json.loads(lines[-1]))

    def h2load(self, url, seconds, connections=4, streams=16):
        """HTTP/2 without TLS. All requests carry one key: h2load can't take turns."""
        log = self.keys.with_name("h2load.log")
        log.unlink(missing_ok=True)
        command = [
            self.machine.program("h2load"), "-t1", f"-c{connections}", f"-m{streams}",
            f"-D{seconds}", f"--log-file={log}", "-H", f"x-api-key: {self.first_key}",
            "-H", "user-agent: bench/1.0", url]
        said = self.run(command, seconds)
        ok, *others = map(int, re.search(
            r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said).groups())
        failed = int(re.search(r"(\d+) failed", said)[1])
        # Start, status and microseconds of each request.
        times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
        return Figures(ok + sum(others), seconds, at(times, 50), at(times, 99), sum(others), failed)

    def run(self, command, seconds, environment=None):
        pinned = ["taskset", "-c", ",".join(map(str, self.machine.load_cpus)), *command]
        done = subprocess.run(pinned, capture_output=True, text=True, env=environment,
                              timeout=seconds + 60, check=False)
        if done.returncode:
            raise Failed(f"{command[0]} failed: {done.stderr or done.stdout}")
        return done.stdout


def at(ordered, percent):
    """The value below which this part of ordered values lies."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0
