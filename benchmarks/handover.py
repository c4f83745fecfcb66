"""What the benchmarks bench_handover_*.py share: one row of the comparison over routing daemons, with its bars.

50 roams of a silent client and 50 of a talking one, in the lab as `roamroute lab` has it; routing daemons at their
default timers. `ROAMROUTE_BENCH_ROAMS` makes it shorter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.figure import Figure
from roamroute.errors import RoamrouteError
from roamroute.lab import run_lab
from roamroute.lab.installed import find_routing
from roamroute.lab.options import LabOptions
from roamroute.lab.report import Report
from roamroute.lab.survey import routing_text

ROAMS = int(os.environ.get("ROAMROUTE_BENCH_ROAMS", "50"))
RESULTS = Path(__file__).resolve().parent / "results"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roamroute"
LIMIT_S = 70.0
"""A route that a routing daemon has lost may come back only when the other daemons' timers for it run out."""
DIRECTIONS = ("all_addresses", "correspondent", "uplink")


def rows(commands: Iterable[str | None], bars_ms: Mapping[str, float]) -> list[Figure]:
    """A row for every routing of `bars_ms` (to the bar of its median downlink gap) with each of the daemons.

    A command of None is the one that is installed. What cannot be run is a figure that fails, and the rest is measured.
    """
    figures = []
    for command in commands:
        for routing, bar_ms in bars_ms.items():
            options = {"command": command} if command is not None else {}
            try:
                figures += row(routing, options, bar_ms)
            except RoamrouteError as error:
                print(f"{routing_text(routing, options)}: {error}", file=sys.stderr)
                note = str(error).splitlines()[0]
                figures.append(Figure(f"{routing_text(routing, options)}: measured", 0, "", 1, "at least", note=note))
    return figures


def row(routing: str, options: Mapping[str, str], bar_ms: float) -> list[Figure]:
    """Measure one routing. Raises: RoamrouteError where it cannot be run."""
    name = f"{find_routing(routing).lab.version(options)}, {routing}"
    report = run_lab(
        LabOptions(roams=ROAMS, routing=routing, routing_options=options, limit_s=LIMIT_S),
        lambda line: print(line, file=sys.stderr),
    )
    if not report.is_complete:
        raise RoamrouteError(f"{name}: the run was interrupted")
    RESULTS.mkdir(parents=True, exist_ok=True)
    report.write_json(RESULTS / f"handover {name}.json")
    return list(_figures(name, report, bar_ms))


def _figures(name: str, report: Report, bar_ms: float) -> Iterable[Figure]:
    for behaviour in report.options.behaviours:
        summaries = {
            one.direction: one for one in report.summaries() if one.behaviour == behaviour and one.visits == "all"
        }
        downlink = summaries["downlink"]
        samples = [roam.downlink.gap_s * 1000 for roam in report.roams if roam.behaviour == behaviour]
        what = f"{name}, {behaviour}"
        yield Figure(f"{what}: downlink, median", downlink.median_s * 1000, "ms", bar_ms, samples=samples)
        yield Figure(f"{what}: downlink, p95", downlink.p95_s * 1000, "ms")
        yield Figure(f"{what}: downlink, max", downlink.max_s * 1000, "ms")
        for direction in DIRECTIONS:
            if direction in summaries:
                yield Figure(f"{what}: {direction}, median", summaries[direction].median_s * 1000, "ms")
        yield Figure(f"{what}: lost per roam after layer-2 connection", downlink.lost_after_mean, "packets")
    yield Figure(f"{name}: roams that did not come back", len(report.failures()), "", bar=0)
    downloads = [walk.download for walk in report.walks if walk.download is not None]
    are_right = all(one.is_verified for one in downloads)
    yield Figure(f"{name}: TCP download right at its end", float(are_right), "", 1, "at least")
    yield Figure(f"{name}: longest TCP stall", report.longest_stall_s("roamroute"), "s")
