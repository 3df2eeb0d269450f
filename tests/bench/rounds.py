"""Runs a table: its gateways in turn, round by round, so that what the machine does meanwhile
falls on all of them alike."""

import contextlib
import sys

from . import measure, work


def run(bench, table, names):
    """Figures of each round, by gateway."""
    rounds = min(bench.rounds, table.rounds)
    with contextlib.ExitStack() as stack:
        running = {} if table.fresh else {
            name: stack.enter_context(bench.fleet.running(name)) for name in names}
        for gateway in running.values():
            bench.load.wrk(gateway.url + work.SMALL, measure.WARM_UP)
        return [one_round(bench, table, names, running, number) for number in range(1, rounds + 1)]


def one_round(bench, table, names, running, number):
    figures = {}
    for name in names:
        with contextlib.ExitStack() as stack:
            gateway = running.get(name) or stack.enter_context(
                bench.fleet.running(name, table.counted))
            figures[name] = table.measure(bench, gateway)
        print(f"{table.name} {number} {name}: {brief(figures[name])}", file=sys.stderr, flush=True)
    if base := figures.get(table.baseline):
        for name, own in figures.items():
            if name != table.baseline:
                own["added_p50_us"] = own["p50_us"] - base["p50_us"]
    return figures


def brief(figures):
    words = (f"{name} {value:.4g}" for name, value in figures.items() if isinstance(value, float))
    return ", ".join(words)
