"""The anatomy of a roam: what the access points' daemons say of the handover, step by step.

The records come from `roamroute status` of the access points (docs/json.md); the lab adds nothing to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from roamroute import control
from roamroute.errors import RoamrouteError
from roamroute.lab.gaps import median, percentile

SAME_S = 0.5
"""A record belongs to a layer-2 connection that is no further away: two of them are at least the time without layer 2
and the authentication apart, and a record without an association begins a little after it."""

Records = Mapping[str, Sequence[Mapping[str, Any]]]
"""What each access point says, by its name."""


@attrs.frozen
class Anatomy:
    """One handover as the new access point knows it, with what the old one has reported to it.

    `steps`: seconds from AP-STA-CONNECTED, as roamroute has received it, to each step that has happened, in the order
    in which they usually come. `former`: the name of the access point that the host came from, None where the new one
    does not know it.
    """

    former: str | None
    is_hinted: bool
    known_by: str | None
    outcome: str | None
    steps: Mapping[str, float]

    def text(self) -> str:
        """One line for people, in milliseconds."""
        times = [f"{step} {_milliseconds(after_s)}" for step, after_s in self.steps.items()]
        how = "hinted" if self.is_hinted else f"known by {self.known_by}" if self.known_by else "not hinted"
        return f"{how}, from {self.former or 'nobody known'}: {', '.join(times) or 'nothing has happened'} ms"


@attrs.frozen
class StepSummary:
    """One step of all handovers of one kind. `roams`: in how many it has happened."""

    mode: str
    behaviour: str
    step: str
    roams: int
    median_s: float
    p95_s: float
    max_s: float


def read_records(sockets: Mapping[str, Path]) -> Records:
    """The handovers that each daemon remembers; what one that does not answer remembers is not known."""
    found = {}
    for name, path in sockets.items():
        try:
            found[name] = control.ask(path, "status").get("handovers") or ()
        except RoamrouteError:
            found[name] = ()
    return found


def know_each_other(sockets: Iterable[Path]) -> bool:
    """Has every daemon all its peers, and a way to each of their segments, where they have any?"""
    for path in sockets:
        try:
            status = control.ask(path, "status")
        except RoamrouteError:
            return False
        for peer in (status.get("peers") or {}).get("peers", ()):
            if not peer["is_up"] or not all(segment["is_routed"] for segment in peer["segments"]):
                return False
    return True


def find_anatomy(
    records: Records, destination: str, mac: str, connected_at: float, names: Mapping[str, str]
) -> Anatomy | None:
    """The handover that began with this layer-2 connection at `destination`; None: its daemon knows of none.

    `connected_at` is in the seconds since 1970 that the records have; `names`: address to access point.
    """
    fitting = [
        record
        for record in records.get(destination, ())
        if record["mac"] == mac and record["side"] == "to" and abs(record["time"] - connected_at) < SAME_S
    ]
    if not fitting:
        return None
    record = min(fitting, key=lambda each: abs(float(each["time"]) - connected_at))
    former = record["from"]
    return Anatomy(
        former=None if former is None else names.get(former, former),
        is_hinted=record["is_hinted"],
        known_by=record["known_by"],
        outcome=record["outcome"],
        steps={step.removesuffix("_s"): after_s for step, after_s in record["steps"].items() if after_s is not None},
    )


def summed_up(mode: str, behaviour: str, anatomies: Iterable[Anatomy]) -> list[StepSummary]:
    """Each step that has happened at least once, by its median."""
    times: dict[str, list[float]] = {}
    for anatomy in anatomies:
        for step, after_s in anatomy.steps.items():
            times.setdefault(step, []).append(after_s)
    found = [
        StepSummary(mode, behaviour, step, len(each), median(each), percentile(each, 95), max(each))
        for step, each in times.items()
    ]
    return sorted(found, key=lambda one: one.median_s)


def _milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return "0" if value == 0 else f"{value:+.0f}" if value >= 100 else f"{value:+.1f}"
