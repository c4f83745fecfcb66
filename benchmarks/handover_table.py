"""One table of what handover_{full,alone,loss,stay,delay,dumb,modes} have measured, held against the bars, as Markdown.

    python -m benchmarks.handover_table [SCENARIO ...]

It measures nothing. A figure that misses its bar is bold, and its row says FAIL.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.handover_scenarios import SCENARIOS, Scenario, kept
from benchmarks.handover_verdict import Bars, Report

COLUMNS = (
    "routing",
    "daemon",
    "downlink median / p95 / max",
    "IPv4",
    "uplink median / p95 / max",
    "most lost at 100/s",
    "longest hole",
    "TCP stall beyond layer 2",
    "failed",
    "verdict",
)
STATISTICS = ("median_s", "p95_s", "max_s")


def table(scenario: Scenario) -> str:
    """The table of one scenario; empty when nothing of it has been measured."""
    rows = [row for run, report in kept(scenario) for row in _rows(run.name, report, scenario.bars)]
    if not rows:
        return ""
    reports = [report for _, report in kept(scenario)]
    began = [float(report.found["run"]["began"]) for report in reports]
    codes = sorted({str(report.found["run"]["code"]) for report in reports})
    span = " to ".join(time.strftime("%Y-%m-%d %H:%M", time.gmtime(moment)) for moment in (min(began), max(began)))
    words = " ".join(scenario.words)
    gateway = "takes part" if "--gateway-peer" in scenario.words else "does not take part"
    head = (
        f"`roamroute lab {words}` with each routing; the gateway {gateway}; {span} UTC, code {', '.join(codes)}; "
        "milliseconds\n"
    )
    return "\n".join([head, _line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, rows)])


def _rows(name: str, report: Report, bars: Bars) -> Iterator[list[str]]:
    for mode in report.modes:
        held = bars if mode == "roamroute" else Bars(failures=None)
        label = name if len(report.modes) == 1 else f"{name}, {mode}"
        silent = "silent" if report.gap(mode, "silent", "downlink", "median_s") is not None else "talking"
        downlink = _cells(report, mode, silent, "downlink", (held.downlink_median, held.downlink_p95, None))
        ipv4 = _cells(report, mode, silent, "downlink_ipv4", (held.downlink_median, held.downlink_p95, None))
        uplink = _cells(report, mode, "talking", "uplink", (held.uplink_median, held.uplink_p95, None))
        rest = [
            [_cell(report.most_lost_at_100(mode), held.lost_at_100, digits=1)],
            [_cell(report.longest_hole(mode), None)],
            [_cell(report.longest_stall(mode), held.stall)],
            [_cell(float(report.failures(mode)), held.failures)],
        ]
        cells = [" / ".join(group) for group in (downlink, ipv4, uplink, *rest)]
        verdict = "FAIL" if any("**" in cell for cell in cells) else "-" if held == Bars(failures=None) else "PASS"
        yield [label, report.daemon, *cells, verdict]


def _cells(report: Report, mode: str, behaviour: str, direction: str, bars: Iterable[float | None]) -> list[str]:
    values = [report.gap(mode, behaviour, direction, statistic) for statistic in STATISTICS]
    return [_cell(value, bar) for value, bar in zip(values, bars, strict=True)] if values[0] is not None else ["-"]


def _cell(value: float | None, bar: float | None, digits: int = 0) -> str:
    if value is None:
        return "-"
    text = "never" if math.isinf(value) else f"{value:.{digits}f}"
    return f"**{text}**" if bar is not None and value > bar else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(names: Sequence[str]) -> int:
    """Print the tables asked for, or all; 1 where there is none."""
    tables = [found for name in names or SCENARIOS if (found := table(SCENARIOS[name]))]
    print("\n\n".join(tables) or "nothing has been measured: make bench NAMES=handover_full")
    return 0 if tables else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
