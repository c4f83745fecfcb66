"""Warnings that come again and again: told once, then counted."""

from __future__ import annotations

import time
from collections.abc import Callable

from roamroute.linux.rtnetlink import Log
from roamroute.values import Instant, Seconds


class Repeats:
    """Logs the first of its kind at once; others are counted, and the count is told with the next after `quiet_s`.

    Bounded: of more than 64 kinds the oldest is forgotten.
    """

    def __init__(self, log: Log, *, quiet_s: Seconds = 60.0, clock: Callable[[], Instant] = time.monotonic) -> None:
        self._log = log
        self._quiet_s = quiet_s
        self._clock = clock
        self._seen: dict[str, tuple[Instant, int]] = {}

    def tell(self, level: str, kind: str, text: str) -> None:
        """Log `text`, unless something of the same `kind` was logged within the quiet time."""
        now = self._clock()
        told_at, count = self._seen.pop(kind, (now - self._quiet_s, 0))
        if now - told_at < self._quiet_s:
            self._seen[kind] = (told_at, count + 1)
            return
        self._seen[kind] = (now, 0)
        if len(self._seen) > 64:
            del self._seen[next(iter(self._seen))]
        self._log(level, f"{text} (and {count} times more since)" if count else text)
