"""All figures of one scenario of the handover, and its table on standard error."""

from __future__ import annotations

import sys

from benchmarks.figure import Figure
from benchmarks.handover_scenarios import SCENARIOS, measured
from benchmarks.handover_table import table
from benchmarks.handover_verdict import figures


def rows_of(name: str) -> list[Figure]:
    """Measure what has not been measured yet. A routing that cannot be run is a figure that fails, with the reason."""
    scenario = SCENARIOS[name]
    found: list[Figure] = []
    for run, report, error in measured(scenario):
        if report is None:
            found.append(Figure(f"{run.name}: measured", 0, "", 1, "at least", note=error))
        else:
            found += figures(f"{report.daemon}, {run.routing}", report, scenario.bars)
    print(table(scenario), file=sys.stderr)
    return found
