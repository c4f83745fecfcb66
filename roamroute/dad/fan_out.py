"""Copies to single stations: in portions, so that what comes meanwhile need not wait, and within a budget. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs

from roamroute.dad.counters import DadCounters
from roamroute.dad.effects import HandOut
from roamroute.dad.limits import Limits
from roamroute.schedule import Budget
from roamroute.values import DadMessage, Instant, Mac


@attrs.define
class _Waiting:
    link: str
    message: DadMessage
    stations: deque[Mac]
    late_at: Instant


class FanOut:
    """First come, first served; what has waited for `Limits.unicast_late_s` is given up."""

    def __init__(self, limits: Limits, counters: DadCounters) -> None:
        self._limits = limits
        self._counters = counters
        self._budget = Budget(limits.unicast_rate, limits.unicast_burst)
        self._waiting: deque[_Waiting] = deque()
        self._next_at: Instant = float("-inf")

    def add(self, link: str, message: DadMessage, stations: Sequence[Mac], now: Instant) -> list[HandOut]:
        """Copies of `message` to all of `stations`; return those that are to go at once."""
        if not stations:
            return []
        if len(self._waiting) >= self._limits.messages_remembered:
            self._counters.late += len(stations)
            return []
        self._waiting.append(_Waiting(link, message, deque(stations), now + self._limits.unicast_late_s))
        return self.tick(now)

    def tick(self, now: Instant) -> list[HandOut]:
        """The next portion, when its time has come."""
        if now < self._next_at:
            return []
        effects: list[HandOut] = []
        room = self._limits.unicast_portion
        while self._waiting and room:
            first = self._waiting[0]
            if first.late_at < now:
                self._counters.late += len(first.stations)
                self._waiting.popleft()
                continue
            chosen: list[Mac] = []
            while first.stations and len(chosen) < room and self._budget.take(now):
                chosen.append(first.stations.popleft())
            if chosen:
                effects.append(HandOut(first.link, first.message, tuple(chosen)))
                self._counters.unicast_frames += len(chosen)
                room -= len(chosen)
            if first.stations:
                break
            self._waiting.popleft()
        pause_s = self._limits.unicast_pause_s if effects else 0.0
        self._next_at = max(now + pause_s, self._budget.next_token_at(now))
        return effects

    @property
    def next_wakeup(self) -> Instant | None:
        """When `tick` has something to do."""
        return self._next_at if self._waiting else None
