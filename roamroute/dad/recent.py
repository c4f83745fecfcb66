"""What happened within the last seconds: bounded in time and in number. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from roamroute.values import Instant, Seconds

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The last value put under each key; forgotten after `lifetime_s`, or when `most` others have come since."""

    def __init__(self, lifetime_s: Seconds, most: int) -> None:
        self._lifetime_s = lifetime_s
        self._most = most
        self._entries: dict[Key, tuple[Instant, Value]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: Key, value: Value, now: Instant) -> None:
        """Remember `value`, as of `now`."""
        self._entries.pop(key, None)  # so that the order stays that of time
        self._entries[key] = (now, value)
        while self._entries:
            oldest = next(iter(self._entries))
            if len(self._entries) <= self._most and now - self._entries[oldest][0] <= self._lifetime_s:
                return
            del self._entries[oldest]

    def get(self, key: Key, now: Instant, within_s: Seconds | None = None) -> Value | None:
        """The value, if it was put within `within_s` (without: the lifetime) before `now`."""
        entry = self._entries.get(key)
        if entry is None or now - entry[0] > (self._lifetime_s if within_s is None else within_s):
            return None
        return entry[1]
