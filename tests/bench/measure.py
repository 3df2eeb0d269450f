"""One measurement of one gateway: load on one side, its processes watched on the other."""

import contextlib
import time
from pathlib import Path

from . import idle, pace, work
from .process import TICKS, Failed

MIB = 1 << 20
WARM_UP = 1


def under_load(gateway, drive, seconds):
    """CPU time a request, while `drive(seconds)` gives the gateway all it takes. What it does after that
    until all its records are where they go belongs to the requests too."""
    records = gateway.settle(0)
    own = gateway.process.cpu_seconds()
    with watch(gateway) as used:
        figures = drive(seconds)
    memory = gateway.process.memory()
    if not figures.requests:
        raise Failed(f"{gateway.name} answered nothing:\n{gateway.process.tail()}")
    # Requests that were under way when the load ended are recorded and not counted.
    written = gateway.settle((records or 0) + figures.requests)
    result = {
        "cpu_us": (gateway.process.cpu_seconds() - own) / figures.requests * 1e6,
        "rps": figures.requests / figures.seconds,
        "p50_us": figures.p50_us,
        "p99_us": figures.p99_us,
        "memory_mib": memory / MIB,
        "busy": used["cpu"] / used["wall"],
        "others": used["others"],
        "non_2xx": figures.non_2xx,
        "errors": figures.errors,
    }
    if records is not None:
        result["records"] = min(1.0, (written - records) / figures.requests)
        gateway.forget()
    return result


@contextlib.contextmanager
def watch(gateway):
    """Seconds of CPU that the gateway took in this block, and what others took of its CPUs."""
    cpus = gateway.setup.cpus
    wall, busy, own = time.monotonic(), busy_seconds(cpus), gateway.process.cpu_seconds()
    used = {}
    yield used
    used["cpu"] = gateway.process.cpu_seconds() - own
    used["wall"] = time.monotonic() - wall
    others = busy_seconds(cpus) - busy - used["cpu"]
    used["others"] = max(0.0, others / used["wall"] / len(cpus))


def busy_seconds(cpus):
    """Time in which these CPUs did not idle."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in {f"cpu{cpu}" for cpu in cpus}:
            user, nice, system, _idle, _wait, irq, softirq, steal = map(int, ticks[:8])
            total += user + nice + system + irq + softirq + steal
    return total / TICKS


def at_fixed_rate(gateway, seconds, path):
    """Latency at a rate that all gateways can take."""
    records = gateway.settle(0)
    with watch(gateway) as used:
        latency = pace.measure(gateway.port, path, gateway.setup.keys, seconds, work.CONNECTIONS,
                               work.SMALL_SIZE)
    if records is not None:
        gateway.settle(records + latency.requests)
        gateway.forget()
    return {"p50_us": latency.p50_us, "p99_us": latency.p99_us, "late": latency.late,
            "cpu_us": used["cpu"] / latency.requests * 1e6, "others": used["others"],
            "non_2xx": latency.non_2xx}


def at_rest(gateway):
    """Memory of one that is done with starting and has served nothing yet."""
    time.sleep(idle.QUIET)
    return {"memory_mib": gateway.process.memory() / MIB}


def of_a_start(gateway):
    """A gateway like this one that starts with nothing, and once more with what it has kept."""
    name = f"{gateway.name}-cold"
    figures = {}
    for start in ("cold_start_s", "warm_start_s"):
        began = time.monotonic()
        started = type(gateway)(name, gateway.setup)
        try:
            figures[start] = time.monotonic() - began
            time.sleep(idle.QUIET)
            memory = {"memory_mib": started.process.memory(), "peak_mib": started.process.peak()}
            for figure, read in memory.items():
                figures[figure] = max(figures.get(figure, 0), read / MIB)
        finally:
            started.stop()
    return figures


def of_idle_connections(gateway, count):
    """Memory for each of many quiet connections."""
    before = gateway.process.memory()
    with idle.connections(gateway, count):
        grown = gateway.process.memory() - before
    return {"kib_per_connection": grown / count / 1024, "memory_mib": (before + grown) / MIB}
