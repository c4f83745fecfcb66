"""Telling the exporter what is to be published: the net change, or everything, and again after a failure.

A task of its own, since a routing daemon may be slow: what comes meanwhile is told together in the next publication.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from roamroute.delta import coalesce
from roamroute.effects import Announce, Withdraw
from roamroute.errors import RoamrouteError
from roamroute.export import Exporter
from roamroute.logs import log
from roamroute.values import Address, HostRoute, Seconds

_LIMIT_S: Seconds = 10.0  # an exporter that takes longer is told everything again
_PAUSE_S: Seconds = 1.0  # before a failed publication is tried again, doubled up to the next
_PAUSE_MAXIMUM_S: Seconds = 30.0
_STOP_LIMIT_S: Seconds = 5.0  # systemd kills after 90 s by default; an operator at a terminal waits less gladly
_STOP_INJECTED_S: Seconds = 30.0  # where nobody else can take the routes away: FRR needs 20 s for 5,000
_STOP_LOOK_S: Seconds = 0.05


class Publisher:
    """`published` says all that is to be published at this moment; `name` is the exporter's, for the log."""

    def __init__(self, name: str, exporter: Exporter, published: Callable[[], Sequence[HostRoute]]) -> None:
        self._name = name
        self._exporter = exporter
        self._published = published
        self._untold: list[Announce | Withdraw] = []
        self._must_tell_all = True
        self._wanted = asyncio.Event()
        self._telling = asyncio.Lock()

    def changed(self, effects: Sequence[Announce | Withdraw]) -> None:
        """These have just been carried out in the FIB."""
        self._untold += effects
        self._wanted.set()

    def all_changed(self) -> None:
        """Anything may be different."""
        self._must_tell_all = True
        self._wanted.set()

    async def run(self) -> None:
        """Tell the exporter, one publication at a time, until cancelled."""
        pause_s = _PAUSE_S
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            delta = coalesce(self._untold)
            self._untold = []
            try:
                async with asyncio.timeout(_LIMIT_S), self._telling:
                    if self._must_tell_all:
                        await self._exporter.publish_all(self._published())
                        self._must_tell_all = False
                    else:
                        await self._exporter.publish(delta)
                pause_s = _PAUSE_S
            except (RoamrouteError, TimeoutError) as error:
                text = str(error) or f"no end after {_LIMIT_S:g} s"
                log("warning", f"exporter {self._name}: {text}; trying again in {pause_s:g} s")
                self.all_changed()
                await asyncio.sleep(pause_s)
                pause_s = min(_PAUSE_MAXIMUM_S, 2 * pause_s)

    async def withdraw_all(self, withdrawn: frozenset[Address]) -> int:
        """Publish nothing any more, and wait until the daemon has told that, for a limited time.

        `withdrawn`: what was published until now. Returns how much of it a daemon that installs routes itself still
        has in the kernel.
        """
        limit_s = _STOP_LIMIT_S if self._exporter.needs().installs else _STOP_INJECTED_S
        try:
            async with asyncio.timeout(limit_s), self._telling:
                await self._exporter.publish_all(())
                await asyncio.sleep(self._exporter.needs().linger_s)
                while self._left(withdrawn):  # noqa: ASYNC110 - a report tells nobody that it has changed
                    await asyncio.sleep(_STOP_LOOK_S)
        except (RoamrouteError, TimeoutError) as error:
            text = str(error) or f"no end after {limit_s:g} s"
            log("warning", f"exporter {self._name}: {text} while withdrawing")
        return self._left(withdrawn)

    def _left(self, withdrawn: frozenset[Address]) -> int:
        return len(withdrawn & (self._exporter.report().installed or frozenset()))
