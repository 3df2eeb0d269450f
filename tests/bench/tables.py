"""The tables: which work, by whom, and which figures are set against each other."""

from collections.abc import Callable
from dataclasses import dataclass

from . import counts, fleet, measure, work

GATEWAYS = ("nginx", "haproxy", "envoy", "pingora", "fastgate")
OURS = "fastgate"


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    measure: Callable
    """Takes the benchmark and a running gateway, gives figures by name."""
    contestants: tuple = GATEWAYS
    figures: tuple = ("cpu_us",)
    """What gateways are compared by, the most telling first."""
    sides: tuple = ()
    """Who is compared with whom; where nothing is said, FastGate with all others."""
    fresh: bool = False
    """Every measurement is of a gateway that has just been started."""
    counted: bool = False
    """Its gateways are started so that their instructions are counted."""
    rounds: int = 1000
    """As many rounds as were asked for, but no more than these."""
    baseline: str = ""
    """Whose p50 is taken from that of the others in the same round."""
    note: str = ""
    """What to know when reading it."""
    by_name: bool = False
    """Takes so long that it is run only when it is asked for."""

    def pairs(self):
        others = [name for name in self.contestants if name not in (OURS, self.baseline)]
        return self.sides or [(OURS, other) for other in others]


def http1(path, **options):
    """The load of wrk on one path."""
    return lambda bench, gateway, seconds: bench.load.wrk(gateway.url + path, seconds, **options)


def http2(bench, gateway, seconds):
    return bench.load.h2load(gateway.h2c_url + work.SMALL, seconds)


def tls(close):
    return lambda bench, gateway, seconds: bench.load.wrk(
        gateway.tls_url + work.SMALL, seconds, close=close)


def timed(drive):
    """CPU time under a load."""
    return lambda bench, gateway: measure.under_load(
        gateway, lambda seconds: drive(bench, gateway, seconds), bench.seconds)


def fixed_rate(bench, gateway):
    return measure.at_fixed_rate(gateway, bench.seconds, work.PREFIX + work.SMALL)


def at_rest(_bench, gateway):
    return measure.at_rest(gateway)


def with_keys(count):
    def watch(_bench, gateway):
        gateway.setup.control_plane.fill(count)
        return measure.of_a_start(gateway)
    return watch


def nodes(which):
    def watch(bench, gateway):
        return fleet.follow(bench.machine, gateway.setup.control_plane, which)
    return watch


def idle(count):
    def watch(bench, gateway):
        # On one connection: room left by others would hide what quiet ones take.
        bench.load.wrk(gateway.url + work.SMALL, measure.WARM_UP, connections=1)
        return measure.of_idle_connections(gateway, count)
    return watch


H2C_NOTE = "4 connections with 16 streams each; all requests carry one key, of all there are"
CALLGRIND_NOTE = ("valgrind knows no SHA instructions: hashing a key takes FastGate some 6,000 "
                  "more than on a CPU that has them")

TABLES = (
    Table("full", "Full work over HTTP/1.1, 1 KiB answers", timed(http1(work.SMALL)),
          ("floor", *GATEWAYS)),
    Table("h2c", "Full work over HTTP/2 without TLS", timed(http2), note=H2C_NOTE),
    Table("large", "Full work, 100 KiB answers", timed(http1(work.LARGE)), ("floor", *GATEWAYS)),
    Table("upload", "Full work, 16 KiB uploads", timed(http1(work.UPLOAD, body=work.UPLOAD_SIZE)),
          ("floor", *GATEWAYS)),
    Table("latency", "Latency at 3,000 requests a second", fixed_rate,
          ("direct", "floor", *GATEWAYS), figures=("added_p50_us",), baseline="direct",
          note="open loop: an answer's time counts from when its request was due"),
    Table("redis", "Full work, limits in Redis", timed(http1(work.SMALL)),
          ("fastgate", "fastgate-redis", "fastgate-asking-redis"),
          sides=(("fastgate-redis", "fastgate"), ("fastgate-asking-redis", "fastgate"))),
    Table("workers", "Full work, two workers", timed(http1(work.SMALL)),
          ("nginx", "nginx-2-workers", "fastgate", "fastgate-2-workers"),
          figures=("cpu_us", "rps"),
          sides=(("nginx-2-workers", "nginx"), ("fastgate-2-workers", "fastgate")),
          note="on two CPUs the load shares one with the second worker: requests/s can't double"),
    Table("memory", "Memory with all keys, before any load", at_rest, figures=("memory_mib",),
          fresh=True, rounds=3),
    Table("idle-1000", "1,000 quiet connections", idle(1_000), figures=("kib_per_connection",),
          fresh=True, rounds=3),
    Table("idle-10000", "10,000 quiet connections", idle(10_000), figures=("kib_per_connection",),
          fresh=True, rounds=3),
    Table("memory-million", "A node without load with 1,000,000 keys, from a start with nothing",
          with_keys(1_000_000), (OURS,), figures=("memory_mib",), fresh=True, rounds=1,
          by_name=True, note="the keys stay, so ask for other tables in another run"),
    Table("nodes", "100 nodes, 1,000 keys changed a second for 30 s; 10 more nodes read nothing",
          nodes(fleet.MANY_CHANGES), (OURS,), figures=("lag_p99_ms",), rounds=1, by_name=True,
          note="each change is a call and a revision; lag is from when it was due until a node was "
               "sent it; nodes, load, control plane and Postgres share all CPUs"),
    Table("nodes-million", "50 nodes that come at once to 1,000,000 keys",
          nodes(fleet.MANY_KEYS), (OURS,), figures=("cold_s",), rounds=1, by_name=True,
          note="the keys stay, so ask for other tables in another run"),
    Table("tls", "Full work over TLS 1.3, kept connections", timed(tls(close=False))),
    Table("tls-new", "Full work over TLS 1.3, a connection for each request",
          timed(tls(close=True))),
)

COUNTS = (
    Table("instructions", "Instructions in user space a request",
          counts.instructions(http1(work.SMALL)), figures=("instructions",), fresh=True,
          counted=True, rounds=1, note=CALLGRIND_NOTE),
    Table("system-calls", "System calls a request", counts.system_calls(http1(work.SMALL)),
          figures=("system_calls",), rounds=1),
    Table("instructions-h2c", "Instructions in user space a request, HTTP/2",
          counts.instructions(http2), figures=("instructions",), fresh=True, counted=True,
          rounds=1, note=CALLGRIND_NOTE),
    Table("system-calls-h2c", "System calls a request, HTTP/2", counts.system_calls(http2),
          figures=("system_calls",), rounds=1),
)
