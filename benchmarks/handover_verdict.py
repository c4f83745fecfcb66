"""The report of one `roamroute lab` as figures with their bars: what the handover was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from benchmarks.figure import Figure


@attrs.frozen
class Bars:
    """In milliseconds from the layer-2 connection, or packets. None: only reported."""

    downlink_median: float | None = None
    downlink_p95: float | None = None
    uplink_median: float | None = None
    uplink_p95: float | None = None
    lost_at_100: float | None = None
    """Packets that one roam may lose beyond those sent while layer 2 was down, had there been 100 a second."""
    stall: float | None = None
    """How much longer than layer 2 was down a TCP download may stand still."""
    failures: float | None = 0


FULL = Bars(downlink_median=10, downlink_p95=30, uplink_median=10, uplink_p95=30, lost_at_100=3, stall=300)
LOSS = Bars(downlink_p95=120, uplink_p95=120)
DELAY = Bars()
DUMB = Bars()
"""Nobody tells of associations: the gaps are reported, and every roam comes back."""
MODES = Bars(failures=None)


@attrs.frozen
class Report:
    """What `roamroute lab --json` wrote, and what was asked of it by `handover_scenarios`."""

    found: Mapping[str, Any]

    @property
    def daemon(self) -> str:
        return str(self.found["versions"]["routing"])

    @property
    def modes(self) -> list[str]:
        return list(self.found["options"]["modes"])

    def gap(self, mode: str, behaviour: str, direction: str, statistic: str) -> float | None:
        """`statistic` of all gaps in milliseconds, infinite where it lies among those that did not come back."""
        wanted = (mode, behaviour, direction, "all")
        for one in self.found["summaries"]:
            if (one["mode"], one["behaviour"], one["direction"], one["visits"]) == wanted:
                return math.inf if one[statistic] is None else float(one[statistic]) * 1000
        return None

    def gaps(self, mode: str, behaviour: str, direction: str) -> list[float]:
        """Every gap in milliseconds."""
        gaps = [roam[direction]["gap_s"] for roam in self._roams(mode, behaviour) if roam[direction] is not None]
        return [math.inf if gap is None else float(gap) * 1000 for gap in gaps]

    def most_lost_at_100(self, mode: str) -> float:
        """The most that one roam lost of one flow, in either direction and with either IP version."""
        rate = float(self.found["options"]["packets_per_second"])
        lost = [
            roam[direction]["lost_after"]
            for roam in self._roams(mode)
            for direction in ("downlink", "downlink_ipv4", "uplink")
            if roam[direction] is not None
        ]
        return max(lost, default=0) * 100 / rate

    def longest_hole(self, mode: str) -> float:
        """The longest time without packets after the first had arrived, of any flow of any roam, in milliseconds."""
        directions = ("downlink", "downlink_ipv4", "correspondent", "uplink")
        flows = [roam[direction] for roam in self._roams(mode) for direction in directions]
        return max((float(flow["hole_s"]) * 1000 for flow in flows if flow is not None), default=0.0)

    def longest_stall(self, mode: str) -> float | None:
        """By how much a download stood still longer than layer 2 was down, in milliseconds; None: no download."""
        stalls = [
            max(0.0, roam["stall_s"] - roam["layer_2_s"]) * 1000
            for roam in self._roams(mode)
            if roam["stall_s"] is not None
        ]
        return max(stalls, default=None)

    def failures(self, mode: str) -> int:
        """Roams that did not come back, and downloads that were wrong."""
        downloads = [walk["download"] for walk in self.found["walks"] if walk["mode"] == mode and "download" in walk]
        failed = [roam for roam in self._roams(mode) if roam["has_failed"]]
        return len(failed) + len([download for download in downloads if not download["is_verified"]])

    def steps(self, mode: str, behaviour: str) -> dict[str, float]:
        """The median of each step of the handover in milliseconds."""
        return {
            one["step"]: float(one["median_s"]) * 1000
            for one in self.found["steps"]
            if (one["mode"], one["behaviour"]) == (mode, behaviour)
        }

    def _roams(self, mode: str, behaviour: str | None = None) -> list[Mapping[str, Any]]:
        return [roam for roam in self.found["roams"] if roam["mode"] == mode and behaviour in (None, roam["behaviour"])]


def figures(name: str, report: Report, bars: Bars) -> Iterator[Figure]:
    """Every figure of one report, for each of its modes; bars are for a mode that is not for comparison only."""
    for mode in report.modes:
        label = name if len(report.modes) == 1 else f"{name}, {mode}"
        yield from _mode_figures(label, report, mode, bars if mode == "roamroute" else Bars(failures=None))


def _mode_figures(name: str, report: Report, mode: str, bars: Bars) -> Iterator[Figure]:
    directions = (
        ("silent", "downlink", bars.downlink_median, bars.downlink_p95),
        ("silent", "downlink_ipv4", bars.downlink_median, bars.downlink_p95),
        ("silent", "correspondent", None, None),
        ("talking", "downlink", bars.downlink_median, bars.downlink_p95),
        ("talking", "uplink", bars.uplink_median, bars.uplink_p95),
    )
    for behaviour, direction, median_bar, p95_bar in directions:
        if (value := report.gap(mode, behaviour, direction, "median_s")) is None:
            continue
        what = f"{name}, {behaviour}: {direction}"
        yield Figure(f"{what}, median", value, "ms", median_bar, samples=report.gaps(mode, behaviour, direction))
        for label, statistic, bar in (("p95", "p95_s", p95_bar), ("max", "max_s", None)):
            extreme = report.gap(mode, behaviour, direction, statistic)
            yield Figure(f"{what}, {label}", math.nan if extreme is None else extreme, "ms", bar)
    lost = report.most_lost_at_100(mode)
    yield Figure(f"{name}: most lost by a roam, at 100 a second", lost, "packets", bars.lost_at_100)
    yield Figure(f"{name}: longest hole after the gap", report.longest_hole(mode), "ms")
    if (stall := report.longest_stall(mode)) is not None:
        yield Figure(f"{name}: longest TCP stall beyond layer 2", stall, "ms", bars.stall)
    yield Figure(f"{name}: failures", report.failures(mode), "", bars.failures)
    for step, value in report.steps(mode, "silent").items():
        if step == "connected":  # by definition at 0
            continue
        yield Figure(f"{name}: {step}, median", value, "ms", note="as the access points say")
