"""One timer of the loop for a pure part that says when it wants to be called next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from roamroute.values import Instant


class Alarm:
    """Calls when something is due; an early call is harmless, and cheaper than a new timer."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: Instant | None) -> None:
        """Call at `due` (monotonic seconds, as the loop's), or not at all."""
        if self._timer is not None:
            if due is not None and self._timer.when() <= due:
                return
            self.cancel()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._ring)

    def cancel(self) -> None:
        """Do not call; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._call()
