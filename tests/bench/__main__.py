"""FastGate beside other gateways, on the same work, in one run; the README says what is measured."""

import contextlib
import fcntl
import shlex
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import rounds, work
from .certificate import Certificate
from .contestants import CONTESTANTS, Fleet
from .control_plane import ControlPlane
from .gateways.gateway import Setup
from .idle import allow_files
from .load import Load
from .machine import Machine
from .options import parse
from .process import Failed
from .report import Report
from .upstream import Upstream

TOOLS = ("nginx", "haproxy", "envoy", "pingora", "wrk", "h2load")


@dataclass
class Bench:
    """What measurements are made with."""

    machine: Machine
    load: Load
    fleet: Fleet
    rounds: int
    seconds: int


def main():
    # Ended from outside, everything is stopped in order all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse(sys.argv[1:], about=__doc__)
    try:
        with contextlib.ExitStack() as stack:
            return run(options, stack)
    except Failed as failure:
        print(f"tests/bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(options, stack):
    """Measures what was asked for; the exit code says whether every gateway took part to the end."""
    stack.enter_context(alone())
    allow_files(1024)
    machine = Machine(options.target)
    temporary = tempfile.TemporaryDirectory(prefix="fastgate-bench-", ignore_cleanup_errors=True)
    folder = Path(stack.enter_context(temporary))
    folder.chmod(0o755)  # Postgres and the workers of nginx run as others.
    bench = assemble(options, machine, folder, stack)
    report = Report(machine.describe() | {
        "command": shlex.join(["tests/bench/run", *sys.argv[1:]]),
        "rounds": bench.rounds, "seconds": bench.seconds, "keys": options.keys,
        "connections": work.CONNECTIONS,
        # Pingora is only built where it takes part.
        "versions": {tool: machine.version(tool) for tool in TOOLS
                     if tool != "pingora" or tool in options.gateways}})
    has_failed = False
    for table in options.tables:
        names = [name for name in table.contestants if name in options.gateways]
        if not names:
            continue
        figures, failures = rounds.run(bench, table, names)
        has_failed |= bool(failures)
        print(report.add(table, figures, failures), flush=True)
        report.save(options.save)
    print(report.summary(), flush=True)
    for name, (kind, _) in CONTESTANTS.items():
        if kind.note and name in options.gateways:
            print(f"- {name}: {kind.note}")
    print(f"saved in {options.save}", file=sys.stderr)
    return int(has_failed)


@contextlib.contextmanager
def alone():
    """Two benchmarks at once would measure each other: the second one waits."""
    with open(Path(tempfile.gettempdir(), "fastgate-bench.lock"), "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another benchmark to end", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def assemble(options, machine, folder, stack):
    """Everything but the gateways."""
    upstream = Upstream(machine, folder)
    stack.callback(upstream.stop)
    plane = None
    if any(name.startswith("fastgate") for name in options.gateways):
        plane = ControlPlane(machine, folder, upstream, stack)
        print(f"creating {options.keys} keys through the API", file=sys.stderr)
        keys = plane.create_keys(options.keys, work.LIMIT)
    else:
        keys = work.made_up_keys(options.keys)
    setup = Setup(machine, folder, upstream, keys, Certificate(machine, folder), plane)
    return Bench(machine, Load(machine, folder, keys), Fleet(setup), options.rounds,
                 options.seconds)


if __name__ == "__main__":
    sys.exit(main())
