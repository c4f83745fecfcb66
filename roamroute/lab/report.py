"""What a run found: as a table for people and as JSON for programs.

The JSON is stable: fields may be added, `"schema"` changes when one changes its meaning. Times are in seconds; a time
that was never reached is `null`. Every roam is in it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from roamroute import __version__
from roamroute.lab.anatomy import Anatomy, StepSummary, summed_up
from roamroute.lab.gaps import FlowGap, median, percentile
from roamroute.lab.modes import MODES
from roamroute.lab.options import LabOptions
from roamroute.lab.roams import CORRESPONDENTS_PER_SECOND, Roam, Walk

SCHEMA = 1

DIRECTIONS: tuple[tuple[str, str, Callable[[Roam], FlowGap | None]], ...] = (
    ("downlink", "server to client", lambda roam: roam.downlink),
    ("all_addresses", "server to the last of its addresses", lambda roam: roam.all_addresses),
    ("downlink_ipv4", "server to client, IPv4", lambda roam: roam.downlink_ipv4),
    ("correspondent", "host on the old AP to client", lambda roam: roam.correspondent),
    ("uplink", "client to server", lambda roam: roam.uplink),
)

VISITS: tuple[tuple[str, Callable[[Roam], bool]], ...] = (
    ("all", lambda roam: True),
    ("first visits", lambda roam: roam.is_first_visit),
    ("returns", lambda roam: not roam.is_first_visit),
)


@attrs.frozen
class Summary:
    """One direction of one kind of roam. Times in seconds; infinite values are roams that did not come back."""

    mode: str
    behaviour: str
    direction: str
    visits: str
    roams: int
    failures: int
    median_s: float
    p95_s: float
    max_s: float
    lost_after_mean: float
    """Packets sent after the layer-2 connection and lost, per roam."""
    lost_mean: float
    """The same and those sent while layer 2 was down."""
    lost_at_100_mean: float
    lost_at_100_max: float
    """Packets sent after the layer-2 connection and lost, had there been 100 a second; NaN where flows are mixed."""
    hole_max_s: float
    """The longest time without packets in any roam, after the first had arrived and until the next roam."""


@attrs.frozen
class Report:
    """The result of `run_lab`."""

    options: LabOptions
    versions: Mapping[str, str]
    converged_after_s: float
    walks: Sequence[Walk]
    roams: Sequence[Roam]
    is_complete: bool = True
    """False when the run was interrupted: what was measured until then is here."""

    def summaries(self) -> list[Summary]:
        """Every direction that was measured, for all roams, for first visits and for returns."""
        found = []
        for mode in self.options.modes:
            for behaviour in self.options.behaviours:
                roams = [roam for roam in self.roams if roam.mode == mode and roam.behaviour == behaviour]
                for direction, _, gap_of in DIRECTIONS:
                    for visits, belongs in VISITS:
                        gaps = [gap for roam in roams if belongs(roam) and (gap := gap_of(roam)) is not None]
                        if gaps:
                            rate = self._rate(direction)
                            found.append(_summary(mode, behaviour, direction, visits, gaps, rate))
        return found

    def step_summaries(self) -> list[StepSummary]:
        """What the access points say of the handovers, step by step."""
        found = []
        for mode in self.options.modes:
            for behaviour in self.options.behaviours:
                found += summed_up(mode, behaviour, self._handovers(mode, behaviour))
        return found

    def _handovers(self, mode: str, behaviour: str) -> list[Anatomy]:
        roams = [roam for roam in self.roams if roam.mode == mode and roam.behaviour == behaviour]
        return [roam.handover for roam in roams if roam.handover is not None]

    def _rate(self, direction: str) -> float:
        """Packets a second; NaN where flows of different rates are one direction."""
        rate = self.options.packets_per_second
        match direction:
            case "all_addresses":
                return math.nan
            case "correspondent":
                return min(rate, CORRESPONDENTS_PER_SECOND)
            case _:
                return rate

    def longest_stall_s(self, mode: str) -> float:
        """The longest stall of a TCP download in this mode; NaN when there was none."""
        stalls = [walk.download.longest_stall_s() for walk in self.walks if walk.mode == mode and walk.download]
        return max(stalls, default=math.nan)

    def stalls_beyond_layer_2_s(self, mode: str) -> list[float]:
        """By how much the download stood still longer than layer 2 was down, at each roam in this mode."""
        roams = [roam for roam in self.roams if roam.mode == mode]
        return [max(0.0, roam.stall_s - roam.layer_2_s) for roam in roams if roam.stall_s is not None]

    def is_well(self) -> bool:
        """Did every roam come back, and was every download right, in every mode that is not for comparison only?"""
        judged = {mode for mode in self.options.modes if not MODES[mode].is_reference}
        downloads = [walk.download for walk in self.walks if walk.mode in judged and walk.download is not None]
        failures = [roam for roam in self.failures() if roam.mode in judged]
        return self.is_complete and not failures and all(download.is_verified for download in downloads)

    def failures(self) -> list[Roam]:
        return [roam for roam in self.roams if roam.has_failed]

    def as_json(self) -> dict[str, Any]:
        """The whole report, as values that `json` can write."""
        walks = []
        for walk in self.walks:
            entry: dict[str, Any] = {
                "mode": walk.mode,
                "behaviour": walk.behaviour,
                "walk": walk.number,
                "joined_after_s": _number(walk.joined_after_s),
            }
            if walk.download is not None:
                entry["download"] = {
                    "bytes": walk.download.bytes_read,
                    "is_verified": walk.download.is_verified,
                    "error": walk.download.error,
                    "longest_stall_s": _number(walk.download.longest_stall_s()),
                }
            walks.append(entry)
        return {
            "schema": SCHEMA,
            "is_complete": self.is_complete,
            "versions": dict(self.versions),
            "options": _plain(attrs.asdict(self.options)),
            "converged_after_s": _number(self.converged_after_s),
            "summaries": [_plain(attrs.asdict(summary)) for summary in self.summaries()],
            "steps": [_plain(attrs.asdict(summary)) for summary in self.step_summaries()],
            "walks": walks,
            "roams": [_plain(attrs.asdict(roam)) | {"has_failed": roam.has_failed} for roam in self.roams],
        }

    def write_json(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def print(self, console: Console) -> None:
        """Tables of gaps and downloads, failures and versions."""
        for mode in self.options.modes:
            for behaviour in self.options.behaviours:
                summaries = [one for one in self.summaries() if one.mode == mode and one.behaviour == behaviour]
                if summaries:
                    console.print(_gap_table(mode, behaviour, summaries, self.options.limit_s))
                steps = [one for one in self.step_summaries() if one.mode == mode and one.behaviour == behaviour]
                if steps:
                    console.print(_step_table(steps, self._handovers(mode, behaviour)))
        if any(walk.download is not None for walk in self.walks):
            console.print(self._download_table())
        for roam in self.failures():
            console.print(
                f"[red]did not come back within {self.options.limit_s:g} s[/red]: {roam.mode}, {roam.behaviour}, "
                f"roam {roam.number}, {roam.origin} to {roam.destination}"
            )
        if not self.is_complete:
            console.print("[red]interrupted: these are the roams until then[/red]")
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        console.print(f"mesh converged after {self.converged_after_s:.1f} s; {versions}", style="dim")

    def _download_table(self) -> Table:
        table = Table(title="TCP download, server to client, through all roams", title_justify="left")
        for column in (
            "mode",
            "downloads",
            "bytes",
            "checksum",
            "longest stall",
            "longest by a roam, median",
            "beyond layer 2, median",
            "max",
        ):
            table.add_column(column, justify="left" if column in ("mode", "checksum") else "right")
        limit_s = self.options.limit_s
        for mode in self.options.modes:
            downloads = [walk.download for walk in self.walks if walk.mode == mode and walk.download is not None]
            if not downloads:
                continue
            wrong = [one.error or "differs" for one in downloads if not one.is_verified]
            stalls = [roam.stall_s for roam in self.roams if roam.mode == mode and roam.stall_s is not None]
            beyond = self.stalls_beyond_layer_2_s(mode)
            table.add_row(
                mode,
                str(len(downloads)),
                f"{sum(one.bytes_read for one in downloads):,}",
                f"[red]{wrong[0]}[/red]" if wrong else "right",
                milliseconds(self.longest_stall_s(mode), limit_s),
                milliseconds(median(stalls), limit_s),
                milliseconds(median(beyond), limit_s),
                milliseconds(max(beyond, default=math.nan), limit_s),
            )
        return table


def versions(routing_version: str) -> dict[str, str]:
    """Versions of everything that takes part."""
    return {
        "roamroute": __version__,
        "routing": routing_version,
        "hostapd": _first_line("hostapd", "-v"),
        "wpa_supplicant": _first_line("wpa_supplicant", "-v"),
        "kernel": os.uname().release,
        "Python": platform.python_version(),
    }


def milliseconds(seconds: float, limit_s: float) -> str:
    """A time for people; infinite is what the limit cut off, NaN what was not measured."""
    if math.isnan(seconds):
        return "-"
    return f"over {limit_s:g} s" if math.isinf(seconds) else f"{seconds * 1000:.0f} ms"


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip()
    return said.splitlines()[0].removeprefix(command[0]).strip() if said else "unknown"


def _summary(mode: str, behaviour: str, direction: str, visits: str, gaps: Sequence[FlowGap], rate: float) -> Summary:
    times = [gap.gap_s for gap in gaps]
    lost_at_100 = [gap.lost_after * 100 / rate for gap in gaps]
    return Summary(
        mode=mode,
        behaviour=behaviour,
        direction=direction,
        visits=visits,
        roams=len(gaps),
        failures=sum(math.isinf(time) for time in times),
        median_s=median(times),
        p95_s=percentile(times, 95),
        max_s=max(times),
        lost_after_mean=sum(gap.lost_after for gap in gaps) / len(gaps),
        lost_mean=sum(gap.lost for gap in gaps) / len(gaps),
        lost_at_100_mean=sum(lost_at_100) / len(gaps),
        lost_at_100_max=max(lost_at_100),
        hole_max_s=max(gap.hole_s for gap in gaps),
    )


def _gap_table(mode: str, behaviour: str, summaries: Iterable[Summary], limit_s: float) -> Table:
    table = Table(
        title=f"{MODES[mode].text}; the client is {behaviour}",
        caption="gap: layer-2 connection to the first packet delivered; lost: packets per roam, sent after it; "
        "at 100/s: the most that one roam lost, had there been 100 a second; "
        "hole: the longest time without packets after the first has arrived and until the next roam",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("direction")
    table.add_column("roams", justify="left")
    for column in ("number", "failed", "gap median", "p95", "max", "lost", "at 100/s", "lost with L2 down", "hole"):
        table.add_column(column, justify="right")
    texts = {direction: text for direction, text, _ in DIRECTIONS}
    for one in summaries:
        table.add_row(
            texts[one.direction] if one.visits == "all" else "",
            one.visits,
            str(one.roams),
            f"[red]{one.failures}[/red]" if one.failures else "0",
            milliseconds(one.median_s, limit_s),
            milliseconds(one.p95_s, limit_s),
            milliseconds(one.max_s, limit_s),
            f"{one.lost_after_mean:.1f}",
            "-" if math.isnan(one.lost_at_100_max) else f"{one.lost_at_100_max:.1f}",
            f"{one.lost_mean:.1f}",
            milliseconds(one.hole_max_s, limit_s),
            end_section=one.visits == "returns",
        )
    return table


def _step_table(steps: Iterable[StepSummary], handovers: Sequence[Anatomy]) -> Table:
    hinted = sum(handover.is_hinted for handover in handovers)
    title = f"what the access points say of {len(handovers)} handovers, {hinted} of them hinted"
    table = Table(
        title=title,
        min_width=len(title),
        caption="from AP-STA-CONNECTED as roamroute receives it",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("step")
    for column in ("roams", "median", "p95", "max"):
        table.add_column(column, justify="right")
    for one in steps:
        times = (one.median_s, one.p95_s, one.max_s)
        table.add_row(one.step, str(one.roams), *(f"{seconds * 1000:.1f} ms" for seconds in times))
    return table


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """Values that JSON can carry: paths as text, no infinite numbers."""
    match value:
        case float():
            return _number(value)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case Path():
            return str(value)
        case Enum():
            return value.value
        case _:
            return value
