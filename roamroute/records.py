"""The record of one handover: its steps, how it ended, and the forms in which others get it. Pure."""

from __future__ import annotations

import enum
from bisect import bisect_left
from typing import Any

import attrs

from roamroute.values import Address, Basis, HandoverReport, Instant, Mac, PeerId, Seconds

STEPS = (
    "connected",
    "announced",
    "confirmed",
    "claimed",
    "diverted",
    "forwarded",
    "exported",
    "converged",
    "withdrawn",
)
"""In the order in which they usually come; see docs/json.md."""
BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Upper limits of the histogram's buckets."""


class Side(enum.Enum):
    """Which side of the handover a record tells of."""

    TO = "to"
    FROM = "from"


class Outcome(enum.Enum):
    """How a record ended."""

    COMPLETE = "complete"
    """Everything that was waited for has happened, as far as it can be told."""
    SUPERSEDED = "superseded"
    """The host moved on, or the claim was lost."""
    LAPSED = "lapsed"
    """Something did not happen in time, or the other side did not tell."""


@attrs.define(eq=False)
class Record:
    """One handover, from `origin` to `destination`, as `side` saw it.

    `began` is the association at `destination`, or the claim's sending where there was none; for the side FROM it is
    the claim's arrival. `reached` has the instant of each step that has happened, by its name in `STEPS`.
    `known_by`: how the addresses were known when the first was announced: "hint", "memory" (the host was here before),
    "answer" (of the former holder) or "discovery" (the host's own packets).
    """

    mac: Mac
    numbers: list[int]
    side: Side
    origin: PeerId | None
    destination: PeerId
    trigger: Basis
    because: str
    began: Instant
    due: Instant
    is_hinted: bool = False
    known_by: str | None = None
    addresses: set[Address] = attrs.field(factory=set)
    reached: dict[str, Instant] = attrs.field(factory=dict)
    outcome: Outcome | None = None
    sent: Instant = 0.0
    """When the last claim was sent (side TO)."""
    elsewhere: set[Address] = attrs.field(factory=set)
    """The addresses for which our routing daemon knows another router's route (side FROM)."""
    withdrawn: set[Address] = attrs.field(factory=set)
    """Those of which our own route is out of the FIB (side FROM)."""
    is_told: bool = False
    """The former holder's report is in (side TO), or the claim has been followed (side FROM)."""

    @property
    def number(self) -> int:
        """The mobility sequence number of the claim, the last one after a refusal."""
        return self.numbers[-1]

    @property
    def is_handover(self) -> bool:
        """False for a host that came from nowhere, and for one whose claim was not followed."""
        return self.origin is not None if self.side is Side.TO else self.is_told

    def after(self, step: str) -> Seconds | None:
        """Seconds from the beginning to the step, None when it has not happened or is not known."""
        at = self.reached.get(step)
        return None if at is None else max(0.0, at - self.began)


@attrs.define(eq=False)
class Histogram:
    """How long a step took: `counts` by `BUCKETS_S`, the last one for what is longer."""

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: Seconds = 0.0

    def add(self, value_s: Seconds) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS_S, value_s)] += 1
        self.sum_s += value_s


def report_of(record: Record) -> HandoverReport | None:
    """What the former holder tells the claimant of a record; None where that is not ours to do."""
    if record.side is not Side.FROM or not record.is_told:
        return None
    return HandoverReport(
        record.mac,
        record.number,
        withdrawn_s=record.after("withdrawn"),
        forwarded_s=record.after("forwarded"),
        converged_s=record.after("converged"),
        diverted_s=record.after("diverted"),
    )


def fields_of(record: Record) -> dict[str, Any]:
    """A record as plain JSON values, without its time; see docs/json.md."""
    return {
        "mac": record.mac,
        "number": record.number,
        "side": record.side.value,
        "from": None if record.origin is None else str(record.origin),
        "to": str(record.destination),
        "trigger": record.trigger.name.lower(),
        "because": record.because,
        "is_hinted": record.is_hinted,
        "known_by": record.known_by,
        "claims": len(record.numbers),
        "is_complete": record.outcome is not None,
        "outcome": None if record.outcome is None else record.outcome.value,
        "addresses": [str(address) for address in sorted(record.addresses, key=lambda each: (each.version, each))],
        "steps": {f"{step}_s": _rounded(record.after(step)) for step in STEPS},
    }


def _rounded(value_s: Seconds | None) -> Seconds | None:
    return None if value_s is None else round(value_s, 6)
