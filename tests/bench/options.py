"""The command line: which tables, which gateways, how often and how long."""

import argparse
import os
from pathlib import Path

from . import work
from .contestants import CONTESTANTS
from .machine import ROOT
from .tables import COUNTS, TABLES

KNOWN = {table.name: table for table in TABLES + COUNTS}


def parse(arguments, about):
    """What was asked for; ends the program, with a word why, where that can't be."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=about)
    parser.add_argument("--rounds", type=int, default=5, help="how often each gateway has its turn")
    parser.add_argument("--seconds", type=int, help="how long a turn is (default: 5; to count: 2)")
    parser.add_argument("--keys", type=int, help=f"how many keys there are (default: {work.KEYS}; "
                                                 f"to count: {work.KEYS_TO_COUNT})")
    parser.add_argument("--only", type=names, metavar="TABLE[,TABLE]",
                        help=f"some of {', '.join(KNOWN)}")
    parser.add_argument("--gateways", type=names, metavar="NAME[,NAME]", default=list(CONTESTANTS),
                        help=f"some of {', '.join(CONTESTANTS)}")
    parser.add_argument("--counts", action="store_true",
                        help="count instructions and system calls instead of measuring time")
    parser.add_argument("--smoke", action="store_true",
                        help="all of it, once and briefly: whether it works, not how fast")
    parser.add_argument("--save", type=Path, default=target / "bench/result.json", metavar="FILE",
                        help="where the figures go as JSON (default: target/bench/result.json)")
    options = parser.parse_args(arguments)
    options.target = target
    if options.smoke:
        options.rounds, options.seconds, options.keys = 1, 1, 200
    wanted = options.only or default_tables(options)
    only_counts = all(KNOWN.get(name) in COUNTS for name in wanted)
    options.seconds = options.seconds or (2 if only_counts else 5)
    options.keys = options.keys or (work.KEYS_TO_COUNT if only_counts else work.KEYS)
    for kind, given, known in (
            ("table", wanted, KNOWN), ("gateway", options.gateways, CONTESTANTS)):
        for name in given:
            if name not in known:
                parser.error(f"there is no {kind} '{name}': give some of {', '.join(known)}")
    options.tables = [KNOWN[name] for name in wanted]
    return options


def names(text):
    return text.split(",")


def default_tables(options):
    tables = TABLES + COUNTS if options.smoke else COUNTS if options.counts else TABLES
    return [table.name for table in tables if not table.by_name]
