"""The report: medians over rounds, ratios within rounds, as Markdown for people and as JSON."""

import json
import statistics

COLUMNS = {
    "cpu_us": ("CPU µs a request", "{:.1f}"),
    "added_p50_us": ("added p50 µs", "{:.0f}"),
    "rps": ("requests/s", "{:,.0f}"),
    "p50_us": ("p50 µs", "{:,.0f}"),
    "p99_us": ("p99 µs", "{:,.0f}"),
    "kib_per_connection": ("KiB a connection", "{:.1f}"),
    "memory_mib": ("memory MiB", "{:.0f}"),
    "peak_mib": ("at its peak", "{:.0f}"),
    "cold_start_s": ("s to ready from nothing", "{:.1f}"),
    "warm_start_s": ("s to ready from disk", "{:.1f}"),
    "cold_s": ("s until all had everything", "{:.1f}"),
    "changes_per_s": ("changes/s", "{:,.0f}"),
    "lag_p50_ms": ("p50 lag ms", "{:.0f}"),
    "lag_p99_ms": ("p99 lag ms", "{:.0f}"),
    "converged_s": ("s until all were equal", "{:.1f}"),
    "alone_p99_ms": ("p99 lag of one alone, ms", "{:.0f}"),
    "alone_bytes": ("its bytes a node", "{:.0f}"),
    "control_plane_mib": ("control plane MiB", "{:.0f}"),
    "instructions": ("instructions", "{:,.0f}"),
    "busiest_thread": ("of them its busiest thread", "{:,.0f}"),
    "system_calls": ("system calls", "{:.2f}"),
    "records": ("recorded", "{:.0%}"),
    "non_2xx": ("non-2xx", "{:.0f}"),
    "errors": ("errors", "{:.0f}"),
    "busy": ("busy", "{:.0%}"),
    "others": ("others on its CPU", "{:.0%}"),
}


SUMMARY = ("floor", "nginx", "haproxy", "envoy", "pingora", "fastgate")
"""Whose figures are in the summary."""


class Report:
    """All that was measured."""

    def __init__(self, about):
        self.content = {"about": about, "tables": []}

    def add(self, table, rounds, failures):
        """Puts a table's rounds in, and why gateways are not in it; returns it for people."""
        medians = {name: median_of([figures[name] for figures in rounds]) for name in rounds[0]}
        ratios = [ratio_of(rounds, *pair, figure) for figure in table.figures
                  for pair in table.pairs() if medians.keys() >= set(pair)]
        entry = {"name": table.name, "title": table.title, "figure": table.figures[0],
                 "medians": medians, "ratios": [ratio for ratio in ratios if ratio],
                 "note": table.note, "failures": failures, "rounds": rounds}
        self.content["tables"].append(entry)
        return as_text(entry)

    def summary(self):
        """A row for each table: the figure that is compared, by gateway, and its ratios."""
        lines = ["| | " + " | ".join(SUMMARY) + " | ratios |",
                 "|---|" + "---|" * (len(SUMMARY) + 1)]
        for entry in self.content["tables"]:
            figure, medians = entry["figure"], entry["medians"]
            cells = [cell(medians.get(name, {}), figure) for name in SUMMARY]
            ratios = ", ".join(
                f"{ratio['of']} {ratio['median']:.2f} x {ratio['to']}".removeprefix("fastgate ")
                for ratio in entry["ratios"] if ratio["figure"] == figure)
            title = f"{entry['title']}: {COLUMNS[figure][0]}"
            lines.append("| " + " | ".join([title, *cells, ratios]) + " |")
        return "\n".join(lines) + "\n"

    def save(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.content, indent=1, ensure_ascii=False) + "\n")


def median_of(figures):
    """The median of each figure by itself; what is no figure as it came first."""
    return {
        name: statistics.median(one[name] for one in figures)
        if isinstance(value, (int, float)) else value
        for name, value in figures[0].items()}


def ratio_of(rounds, one, other, figure):
    """One contestant's figure over another's in the same round; None: there is none."""
    ratios = [figures[one][figure] / figures[other][figure]
              for figures in rounds if figures[other].get(figure) and figure in figures[one]]
    if not ratios:
        return None
    return {"of": one, "to": other, "figure": figure, "median": statistics.median(ratios),
            "least": min(ratios), "most": max(ratios)}


def as_text(entry):
    """A table of Markdown, with its ratios and notes below."""
    medians = entry["medians"]
    columns = [name for name in COLUMNS if any(name in figures for figures in medians.values())]
    lines = [f"**{entry['title']}** (`{entry['name']}`, medians of {len(entry['rounds'])})", ""]
    lines.append("| | " + " | ".join(COLUMNS[name][0] for name in columns) + " |")
    lines.append("|---|" + "---|" * len(columns))
    for name, figures in medians.items():
        cells = [cell(figures, column) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    for ratio in entry["ratios"]:
        what = COLUMNS[ratio["figure"]][0]
        lines.append(f"- {ratio['of']} / {ratio['to']}, {what}: **{ratio['median']:.2f}** "
                     f"({ratio['least']:.2f} to {ratio['most']:.2f})")
    for name, why in entry["failures"].items():
        lines.append(f"- {name} failed: {why.splitlines()[0].removesuffix(':')}")
    if entry["note"]:
        lines.append(f"- {entry['note']}")
    return "\n".join(lines) + "\n"


def cell(figures, column):
    value = figures.get(column)
    return "" if value is None else COLUMNS[column][1].format(value)
