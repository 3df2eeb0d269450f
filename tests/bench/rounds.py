"""Runs a table: its gateways in turn, round by round, so that what the machine does meanwhile
falls on all of them alike."""

import contextlib
import sys

from . import measure, work
from .process import Failed


def run(bench, table, names):
    """Figures of each round, by gateway. One that fails is left out of the table, and said why."""
    failures = {}
    with contextlib.ExitStack() as stack:
        running = {}
        for name in () if table.fresh else names:
            with noted(failures, table, name):
                gateway = stack.enter_context(bench.fleet.running(name))
                bench.load.wrk(gateway.url + work.SMALL, measure.WARM_UP)
                running[name] = gateway
        rounds = [one_round(bench, table, names, running, failures, number)
                  for number in range(1, min(bench.rounds, table.rounds) + 1)]
    for figures in rounds:
        for name in failures:
            figures.pop(name, None)
    return rounds, failures


def one_round(bench, table, names, running, failures, number):
    figures = {}
    for name in names:
        if name in failures:
            continue
        with noted(failures, table, name), contextlib.ExitStack() as stack:
            gateway = running.get(name) or stack.enter_context(
                bench.fleet.running(name, table.counted))
            figures[name] = table.measure(bench, gateway)
            print(f"{table.name} {number} {name}: {brief(figures[name])}",
                  file=sys.stderr, flush=True)
    if base := figures.get(table.baseline):
        for name, own in figures.items():
            if name != table.baseline:
                own["added_p50_us"] = own["p50_us"] - base["p50_us"]
    return figures


@contextlib.contextmanager
def noted(failures, table, name):
    """Keeps why a gateway failed, so that the others go on."""
    try:
        yield
    except Failed as failure:
        failures[name] = str(failure)
        print(f"{table.name} {name} failed: {failure}", file=sys.stderr, flush=True)


def brief(figures):
    words = (f"{name} {value:.4g}" for name, value in figures.items() if isinstance(value, float))
    return ", ".join(words)
