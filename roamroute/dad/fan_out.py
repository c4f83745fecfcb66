"""Copies to single stations: in portions, so that what comes meanwhile need not wait, and within a budget. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from itertools import islice

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
    stations: Iterator[Mac]
    spared: Collection[Mac]
    frames: int
    """So many are left."""
    late_at: Instant


class FanOut:
    """First come, first served; what could not be sent within `Limits.unicast_late_s` is not begun."""

    def __init__(self, limits: Limits, counters: DadCounters) -> None:
        self._limits = limits
        self._counters = counters
        self._budget = Budget(limits.unicast_rate, limits.unicast_burst)
        self._waiting: deque[_Waiting] = deque()
        self._frames = 0
        self._next_at: Instant = float("-inf")

    def add(
        self, link: str, message: DadMessage, stations: Collection[Mac], spared: Collection[Mac], now: Instant
    ) -> list[HandOut]:
        """Copies of `message` to all of `stations` but `spared`; return those that are to go at once.

        `stations` is read later, and is then what it is now.
        """
        if not stations:
            return []
        late_at = now + self._limits.unicast_late_s
        if self._done_at(self._frames + len(stations), now) > late_at:
            self._counters.late += len(stations)
            return []
        chosen = tuple(stations)
        self._waiting.append(_Waiting(link, message, iter(chosen), spared, len(chosen), late_at))
        self._frames += len(chosen)
        return self.tick(now)

    def tick(self, now: Instant) -> list[HandOut]:
        """The next portion, when its time has come."""
        if now < self._next_at:
            return []
        effects: list[HandOut] = []
        room = self._limits.unicast_portion
        while self._waiting and room:
            first = self._waiting[0]
            if first.late_at < now:  # the shell was late
                self._counters.late += first.frames
                self._drop_first()
                continue
            chosen = list(islice(first.stations, self._budget.take_up_to(min(room, first.frames), now)))
            if not chosen:
                break
            room -= len(chosen)
            first.frames -= len(chosen)
            self._frames -= len(chosen)
            found = tuple(mac for mac in chosen if mac not in first.spared)
            if found:
                self._counters.unicast_frames += len(found)
                effects.append(HandOut(first.link, first.message, found))
            if not first.frames:
                self._drop_first()
        self._next_at = max(now + self._limits.unicast_pause_s, self._budget.next_token_at(now))
        return effects

    @property
    def next_wakeup(self) -> Instant | None:
        """When `tick` has something to do."""
        return self._next_at if self._waiting else None

    def _drop_first(self) -> None:
        self._frames -= self._waiting.popleft().frames

    def _done_at(self, frames: int, now: Instant) -> Instant:
        """When so many will have been sent, by the budget and by the pauses."""
        limits = self._limits
        by_pauses = now + frames / limits.unicast_portion * limits.unicast_pause_s
        beyond_burst = max(frames - limits.unicast_burst, 0.0) / limits.unicast_rate
        return max(by_pauses, self._budget.next_token_at(now, frames) + beyond_burst)
