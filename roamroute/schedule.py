"""Timers and budgets of the engine. Pure: time is an argument everywhere."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from roamroute.values import Instant

Key = TypeVar("Key", bound=Hashable)


class Timetable(Generic[Key]):
    """At most one due time for each key; setting it again replaces the old one.

    A replaced time stays in the heap until it is due or the heap has grown to four times its live size, so memory is
    bounded by the number of keys.
    """

    def __init__(self) -> None:
        self._due: dict[Key, Instant] = {}
        self._heap: list[tuple[Instant, int, Key]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: Key) -> bool:
        return key in self._due

    def set(self, key: Key, when: Instant) -> None:
        """Let `key` be due at `when`."""
        if self._due.get(key) == when:
            return
        self._due[key] = when
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, key))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._due):
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def due(self, key: Key) -> Instant:
        """When `key` is due. Raises: KeyError when it has no time."""
        return self._due[key]

    def cancel(self, key: Key) -> None:
        """Forget the time of `key`, if it has one."""
        self._due.pop(key, None)

    def pop_due(self, now: Instant) -> Iterator[Key]:
        """Yield and remove the keys that are due, earliest first. Keys set meanwhile are seen if they are due."""
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == when:
                del self._due[key]
                yield key

    @property
    def next_due(self) -> Instant | None:
        """The earliest due time, or None."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None


class Budget:
    """A token bucket: `rate` tokens per second, at most `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = max(burst, 1.0)
        self._tokens = self.burst
        self._filled_at: Instant | None = None

    def _fill(self, now: Instant) -> None:
        if self._filled_at is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now

    def take(self, now: Instant) -> bool:
        """Spend one token if there is one."""
        self._fill(now)
        # 1e-6: the sum of many small fillings may fall short of one token by rounding.
        if self._tokens < 1.0 - 1e-6:
            return False
        self._tokens -= 1.0
        return True

    def take_up_to(self, count: int, now: Instant) -> int:
        """Spend as many whole tokens as there are, at most `count`; how many."""
        self._fill(now)
        taken = min(count, int(self._tokens + 1e-6))
        self._tokens -= taken
        return taken

    def next_token_at(self, now: Instant, count: int = 1) -> Instant:
        """When `take` will succeed `count` times in a row, or as often as the burst allows: `now` or later."""
        self._fill(now)
        return now + max(0.0, min(count, self.burst) - self._tokens) / self.rate
