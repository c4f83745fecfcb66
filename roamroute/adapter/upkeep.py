"""Work that brings a daemon to what is wanted: one piece at a time, in a task of its own, bursts coalesced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from roamroute.errors import DaemonGone, DaemonRefused, KernelRefused, MalformedInput
from roamroute.values import Seconds

Failure = KernelRefused | DaemonRefused | DaemonGone


class Upkeep:
    """What is asked for while a piece of work is being done goes into the next one, together.

    `once` does one piece: everything that is wanted when it begins. It raises KernelRefused, DaemonRefused, DaemonGone
    or MalformedInput; nothing is tried again before `again` asks for it. Works also when nobody runs the exporter. Any
    other exception is a mistake of ours: whoever calls next gets it.
    """

    def __init__(self, once: Callable[[], Awaitable[None]]) -> None:
        self._once = once
        self._asked = 0
        self._done = 0
        """Numbers of requests: all up to `_done` have been worked on."""
        self._failure: Failure | None = None
        self._task: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()

    @property
    def failure(self) -> Failure | None:
        """Why the last piece of work failed."""
        return self._failure

    @property
    def is_busy(self) -> bool:
        """Is there work that has not been finished?"""
        return self._done < self._asked

    @property
    def is_settled(self) -> bool:
        """Has everything been done that was asked for?"""
        return self._done == self._asked and self._failure is None

    def again(self) -> None:
        """Ask for another piece of work."""
        self._raise_mistake()
        self._asked += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_up())
            self._task.add_done_callback(lambda _task: self._progress.set())

    async def settled(self, limit_s: Seconds) -> None:
        """Wait until what was asked for up to now has been done; returns after `limit_s`, and the work goes on.

        Raises: why it failed.
        """
        asked = self._asked
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._done < asked:
                    self._raise_mistake()
                    self._progress.clear()
                    await self._progress.wait()
                if self._failure is not None:
                    raise self._failure

    async def close(self) -> None:
        """End the work, where it stands; idempotent."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _raise_mistake(self) -> None:
        if self._task is not None and self._task.done():
            self._task.result()

    async def _keep_up(self) -> None:
        while self._done < self._asked:
            asked = self._asked
            try:
                await self._once()
                self._failure = None
            except (KernelRefused, DaemonRefused, DaemonGone) as error:
                self._failure = error
            except MalformedInput as error:
                self._failure = DaemonGone(str(error))
            self._done = asked
            self._progress.set()
