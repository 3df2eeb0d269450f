"""Counts that hardly depend on how busy the machine is: instructions and system calls a request."""

import contextlib
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

from .process import Failed

SETTLE = 1.5
"""Seconds for a tracer to attach, or for requests under way to end and be recorded: some gateways
write records once a second."""

PATIENCE = 60
"""Seconds in which a gateway under callgrind has to answer enough: its port may be open long before
it answers, and on a busy machine it is slow."""

ENOUGH = 100
"""Requests to take a mean of."""

TOP = 40
"""Functions that are told by name."""


def wrapper(machine, folder):
    """How a program is started so that its instructions are counted."""
    return (machine.program("valgrind"), "--tool=callgrind", "--separate-threads=yes",
            f"--callgrind-out-file={folder}/callgrind.%p")


def system_calls(drive):
    """Calls of each name, from strace on all threads of a gateway under full load."""
    def count(bench, gateway):
        with traced(bench, gateway) as summary:
            figures = drive(bench, gateway, bench.seconds)
        if not figures.requests:
            raise Failed(f"{gateway.name} answered nothing:\n{gateway.process.tail()}")
        row = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$")
        rows = filter(None, map(row.match, summary.read_text().splitlines()))
        calls = {found[2]: int(found[1]) / figures.requests for found in rows}
        calls.pop("total", None)
        if not calls:
            raise Failed(f"strace counted nothing: {summary.read_text()}")
        return {"system_calls": sum(calls.values()),
                "calls": {name: rate for name, rate in calls.items() if rate > 0.001}}
    return count


@contextlib.contextmanager
def traced(bench, gateway):
    """Has a gateway's calls counted; the file they are in is complete at the end."""
    summary = gateway.folder / "strace.txt"
    pids = [word for pid in gateway.process.tree() for word in ("-p", str(pid))]
    tracer = subprocess.Popen(
        [bench.machine.program("strace"), "-f", "-c", "-o", summary, *pids],
        stderr=subprocess.DEVNULL)
    try:
        time.sleep(SETTLE)
        yield summary
    finally:
        tracer.terminate()
        tracer.wait()


def instructions(drive):
    """Instructions of all threads, from callgrind, without those of start and warm-up."""
    def count(bench, gateway):
        # Until each key had its turn: what is paid for once is no part of a request.
        driven(bench, gateway, drive, bench.seconds, len(gateway.setup.keys))
        before = gateway.records()
        control(bench, gateway, "--zero")
        driven(bench, gateway, drive, 2 * bench.seconds, ENOUGH)
        control(bench, gateway, "--dump")
        requests = gateway.records() - before
        if not requests:
            raise Failed(f"{gateway.name} recorded nothing:\n{gateway.process.tail()}")
        dumps = gateway.folder.glob(f"callgrind.{gateway.process.pid}.1-*")
        threads = [Profile(path) for path in dumps]
        by_function = sum((thread.by_function for thread in threads), Counter())
        return {
            "instructions": sum(thread.total for thread in threads) / requests,
            "busiest_thread": max(thread.total for thread in threads) / requests,
            "requests": requests,
            "functions": {
                name: round(each / requests) for name, each in by_function.most_common(TOP)},
        }
    return count


def driven(bench, gateway, drive, seconds, enough):
    """Drives a gateway for so long, and on until it has answered enough or had its time."""
    before, answered = gateway.settle(0), 0
    deadline = time.monotonic() + PATIENCE
    while True:
        answered += drive(bench, gateway, seconds).requests
        if answered >= enough or time.monotonic() > deadline:
            break
    if not answered:
        raise Failed(f"{gateway.name} answered nothing in {PATIENCE} s:\n{gateway.process.tail()}")
    gateway.settle(before + answered)
    time.sleep(SETTLE)


def control(bench, gateway, action):
    subprocess.run(
        [bench.machine.program("callgrind_control"), action, str(gateway.process.pid)],
        check=True, capture_output=True)


class Profile:
    """What callgrind saw of one thread: instructions by function, without those it calls."""

    def __init__(self, path):
        self.names = {}
        self.by_function = Counter()
        function, is_call = None, False
        for line in Path(path).read_text(errors="replace").splitlines():
            if line.startswith("fn="):
                function = self.name(line[3:])
            elif line.startswith("cfn="):
                self.name(line[4:])
            elif line.startswith("calls="):
                is_call = True
            elif function and line[:1] in "+-*0123456789" and len(words := line.split()) == 2:
                # The line behind a call is what the called function took.
                if not is_call:
                    self.by_function[function] += int(words[1])
                is_call = False
        self.total = self.by_function.total()

    def name(self, text):
        """Names stand in full once, and by number from then on."""
        number, _, name = text.partition(" ")
        return self.names.setdefault(number, name)
