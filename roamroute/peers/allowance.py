"""A token bucket: what bounds the traffic that somebody else can provoke, or that we make by ourselves. Pure."""

from __future__ import annotations

import math

from roamroute.values import Instant


class Allowance:
    """`rate` a second, `burst` at once. `now` never decreases from call to call."""

    __slots__ = ("_burst", "_filled_at", "_level", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._filled_at = burst, -math.inf

    def take(self, now: Instant, amount: float = 1.0) -> bool:
        """Take so much, if it is there; `amount` is at most the burst."""
        self._level = min(self._burst, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def next_at(self, now: Instant, amount: float = 1.0) -> Instant:
        """When so much will be there; a little later rather than earlier."""
        missing = amount - self._level - (now - self._filled_at) * self._rate
        return now + max(missing, 0.0) / self._rate + 1e-6
