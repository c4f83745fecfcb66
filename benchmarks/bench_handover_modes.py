"""Full handover, claims alone, and no peers side by side, in few roams: what each part is worth; no bars."""

from __future__ import annotations

from benchmarks.figure import Figure
from benchmarks.handover_rows import rows_of


def run() -> list[Figure]:
    """See `handover_scenarios`."""
    return rows_of("modes")
