"""A program beside the benchmark: pinned to CPUs, ended with it, its time and memory read."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")

PATIENCE = 120
"""Seconds for a program to start: what is traced takes its time."""


class Failed(Exception):
    """Something did not do what it has to; the text says what, for people."""


class Process:
    """A program and all the processes it starts."""

    def __init__(self, name, command, cpus, folder, stdout=None, stop_signal=signal.SIGTERM,
                 user=None):
        self.name = name
        self.stop_signal = stop_signal
        self.log = Path(folder) / f"{name}.log"
        # taskset: children inherit the CPUs. setpriv: it ends even when the benchmark is killed.
        pinned = ["taskset", "-c", ",".join(map(str, cpus))]
        pinned += ["setpriv", "--pdeathsig", signal.Signals(stop_signal).name[3:], *as_user(user)]
        pinned += map(str, command)
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                pinned, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                cwd=folder, start_new_session=True)

    @property
    def pid(self):
        return self.child.pid

    def wait_for(self, what, check, seconds=PATIENCE):
        """Asks until `check` gives something true, and returns it."""
        deadline = time.monotonic() + seconds
        while not (found := check()):
            if self.child.poll() is not None:
                raise Failed(f"{self.name} ended with {self.child.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: {what} not within {seconds} s:\n{self.tail()}")
            time.sleep(0.02)
        return found

    def wait_for_port(self, port):
        self.wait_for(f"port {port} open", lambda: is_open(port))

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(self.stop_signal)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        # What it may have left behind is in a process group of its own.
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def tree(self):
        """The process and all below it."""
        found, left = [], [self.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                left += map(int, task.read_text().split())
        return found

    def run_on(self, cpus):
        """Moves all its processes and threads to these CPUs; those they start follow."""
        for pid in self.tree():
            for task in Path(f"/proc/{pid}/task").iterdir():
                # A thread may have ended since.
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(task.name), cpus)

    def cpu_seconds(self):
        """User and system time of all its processes and threads, those that ended included."""
        return sum(map(cpu_seconds, self.tree()))

    def memory(self):
        """Bytes in memory; what its processes share counts once."""
        return sum(map(proportional_set, self.tree()))


    def peak(self):
        """The most bytes in memory that it had at any time, its children left out."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise Failed(f"the kernel says nothing about the memory of process {self.pid}")


def as_user(name):
    """What setpriv is told to run a program as this user."""
    return [f"--reuid={name}", f"--regid={name}", "--clear-groups"] if name else []


def cpu_seconds(pid):
    # Behind the name, which may hold anything: utime, stime, and the same of children waited for.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def proportional_set(pid):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise Failed(f"the kernel says nothing about the memory of process {pid}")


GIVEN_PORTS = set()


def free_port():
    """A port that nobody listens on, and that was not given before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in GIVEN_PORTS:
            GIVEN_PORTS.add(port)
            return port


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
