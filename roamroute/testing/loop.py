"""Virtual time for asyncio: a loop that does not wait, but moves its clock on to the next timer.

For code that waits by the loop (`asyncio.sleep`, `asyncio.timeout`, `call_later`) and tells time by `loop.time()`.
Sockets work as far as the answer is there at once; threads and processes do not, nobody waits for them.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from roamroute.values import Instant, Seconds

Result = TypeVar("Result")


class _Impatient(selectors.DefaultSelector):
    """Counts the time that it should have waited."""

    waited_s: Seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and there is no timer: nothing would ever happen")
            self.waited_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time starts at 1000 s, and passes only when there is nothing to do."""

    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    def time(self) -> Instant:
        return 1000.0 + self._impatient.waited_s


def run_virtually(scene: Coroutine[Any, Any, Result]) -> Result:
    """As `asyncio.run`, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scene)
