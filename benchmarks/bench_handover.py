"""A client roams through the emulated mesh with the real babeld: gaps, and what they cost a TCP download.

100 roams for each row, the client silent towards the old access point; then a talking one for its download, beside
the same with host routes set by hand at once. `ROAMROUTE_BENCH_ROAMS` makes it shorter.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.figure import Figure
from roamroute.lab import run_lab
from roamroute.lab.options import LabOptions
from roamroute.lab.report import Report, Summary

ROAMS = int(os.environ.get("ROAMROUTE_BENCH_ROAMS", "100"))
RESULTS = Path(__file__).resolve().parent / "results"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roamroute"
DEBIAN_13 = str(CACHE / "bin" / "babeld-1.13.1")
DEBIAN_12 = shutil.which("babeld", path=os.environ.get("PATH", "") + ":/usr/sbin") or "/usr/sbin/babeld"
DWELL_S = 1.0


def run() -> list[Figure]:
    """Downlink gap after layer-2 connection; bars are those of the issue that asked for this."""
    figures = []
    figures += _silent("babeld 1.13.1, default hello", DEBIAN_13, {}, median_ms=500, p95_ms=1000)
    figures += _silent("babeld 1.13.1, hello 0.2 s", DEBIAN_13, {"hello-interval": "0.2"}, median_ms=150)
    figures += _silent("babeld 1.12.1, hello 0.5 s", DEBIAN_12, {"hello-interval": "0.5"}, median_ms=500)
    figures += _silent("babeld 1.12.1, default hello", DEBIAN_12, {}, max_ms=6000)
    figures += _download("babeld 1.13.1, default hello", DEBIAN_13)
    return figures


def _lab(name: str, babeld: str, options: Mapping[str, str], behaviour: str, modes: tuple[str, ...]) -> Report:
    report = run_lab(
        LabOptions(
            modes=modes,
            behaviours=(behaviour,),
            roams=ROAMS,
            routing="babeld",
            routing_options={"command": babeld, **options},
            first_visits=behaviour == "silent",
            dwell_s=DWELL_S,
            json_file=RESULTS / f"handover {name}, {behaviour}.json",
        ),
        lambda line: print(line, file=sys.stderr),
    )
    if not report.is_complete:
        raise RuntimeError(f"{name}: the run was interrupted")
    return report


def _silent(
    name: str,
    babeld: str,
    options: Mapping[str, str],
    median_ms: float | None = None,
    p95_ms: float | None = None,
    max_ms: float | None = None,
) -> list[Figure]:
    report = _lab(name, babeld, options, "silent", ("roamroute",))
    summary = _summary(report, "downlink", "all")
    samples = [roam.downlink.gap_s * 1000 for roam in report.roams]
    figures = [
        Figure(f"{name}: downlink, median", summary.median_s * 1000, "ms", bar=median_ms, samples=samples),
        Figure(f"{name}: downlink, p95", summary.p95_s * 1000, "ms", bar=p95_ms),
        Figure(f"{name}: downlink, max", summary.max_s * 1000, "ms", bar=max_ms),
        Figure(f"{name}: roams that did not come back", len(report.failures()), "", bar=0),
    ]
    for visits in ("first visits", "returns"):
        part = _summary(report, "downlink", visits)
        figures.append(Figure(f"{name}: {visits}, median of {part.roams}", part.median_s * 1000, "ms"))
    for direction in ("all_addresses", "correspondent"):
        part = _summary(report, direction, "all")
        figures.append(Figure(f"{name}: {direction}, median", part.median_s * 1000, "ms"))
    figures.append(Figure(f"{name}: lost per roam after layer-2 connection", summary.lost_after_mean, "packets"))
    return figures


def _download(name: str, babeld: str) -> list[Figure]:
    report = _lab(name, babeld, {}, "talking", ("roamroute", "hand"))
    stalls: dict[str, float] = {}
    verified: dict[str, bool] = {}
    for walk in report.walks:
        assert walk.download is not None
        stalls[walk.mode] = max(stalls.get(walk.mode, 0.0), walk.download.longest_stall_s())
        verified[walk.mode] = verified.get(walk.mode, True) and walk.download.is_verified
    summary = _summary(report, "uplink", "all")
    return [
        Figure(f"{name}: TCP download right at its end", float(verified["roamroute"]), "", 1, "at least"),
        Figure(
            f"{name}: longest TCP stall beyond that of routes by hand",
            stalls["roamroute"] - stalls["hand"],
            "s",
            bar=1.0,
            note=f"{stalls['roamroute']:.2f} s, by hand {stalls['hand']:.2f} s",
        ),
        Figure(f"{name}: uplink of a talking client, median", summary.median_s * 1000, "ms"),
    ]


def _summary(report: Report, direction: str, visits: str) -> Summary:
    return next(
        each
        for each in report.summaries()
        if each.mode == "roamroute" and each.direction == direction and each.visits == visits
    )
