"""The exporter called `bird`: confirms what BIRD exports, reports foreign routes, and in mode "inject" brings ours.

In mode "kernel" the routes are in the kernel whether BIRD runs or not; a BIRD that starts finds them there. In mode
"inject" they are in a file that BIRD includes, with the same effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence

from roamroute.adapter.ledger import Ledger
from roamroute.adapter.problems import watch
from roamroute.adapter.reconnect import reconnect
from roamroute.delta import Delta
from roamroute.export import ExporterContext, ExportReport, FibNeeds, Problem
from roamroute.values import Address, HostRoute, Instant, Seconds
from roamroute_bird.agenda import Agenda
from roamroute_bird.client import Client
from roamroute_bird.confirmation import Confirmation, Obstacle, Standing
from roamroute_bird.inject import Injector
from roamroute_bird.protocol import BirdRefused
from roamroute_bird.remedies import problem_of
from roamroute_bird.settings import Settings

LOOK_S: Seconds = 1.0
"""Between two looks at BIRD's status: what the operator changes shows within this time."""
TURNS = 10
"""So many held addresses are asked about at each look, for foreign routes: 1 ms of BIRD's time."""
SWEEP_FROM = 32
"""More addresses than this are asked for all at once."""
SWEEP_SHARE = 20
"""A sweep (15 ms in BIRD, 60 ms here, for 5,000 routes) is followed by so many times its duration without one."""
SWEEP_PAUSE_S: Seconds = 0.1
SWEEP_S: Seconds = 30.0
"""Between two sweeps in the background."""
REMIND_FIRST_S: Seconds = 1.0
REMIND_LAST_S: Seconds = 60.0
"""How long a route that BIRD does not have is waited for before BIRD is asked to look for itself; then doubled."""
CONFIRMATION_S: Seconds = 3.0
"""What BIRD has not exported after this time it does not export."""
PUBLISH_LIMIT_S: Seconds = 0.5
"""How long a publication waits for BIRD to read the file; the work goes on after that."""

_PLACE = "bird"


class BirdExporter:
    """See `roamroute.export.Exporter` for the contract of the methods."""

    def __init__(
        self, settings: Settings, context: ExporterContext, *, clock: Callable[[], Instant] = time.monotonic
    ) -> None:
        self._settings = settings
        self._context = context
        self._clock = clock
        self._ledger = Ledger(context, clock=clock)
        self._client = Client(settings)
        self._bird = Confirmation(settings, context, self._client)
        self._injector = Injector(settings, context) if settings.injects else None
        self._agenda = Agenda()
        self._wake = asyncio.Event()
        self._is_connected = False
        self._trouble = "not connected to BIRD yet"
        self._standings: dict[Address, Standing] = {}
        """Of the addresses that were asked for one by one and are not exported."""
        self._next_sweep: Instant = -math.inf
        self._next_reminder: Instant = -math.inf
        self._reminder_pause_s = REMIND_FIRST_S
        self._judged_from: Instant = -math.inf
        """Before that BIRD has not had the time to export what it may have."""

    # the contract

    async def run(self) -> None:
        tasks = [
            asyncio.ensure_future(reconnect(self._converse, self._disconnected)),
            asyncio.ensure_future(watch("bird", self._context, self._problems)),
            asyncio.ensure_future(self._context.follow_fib(self._ledger.fib_changed)),
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._is_connected = False

    def needs(self) -> FibNeeds:
        return FibNeeds(installs=not self._settings.injects)

    def may_delete(self, route: HostRoute) -> bool:
        return True

    async def publish(self, delta: Delta) -> None:
        self._ledger.publish(delta)
        now = self._clock()
        for route in delta.withdrawn:
            if route.address not in self._ledger.wanted:
                self._drop(route.address)
        for route in delta.announced:
            self._agenda.hold(route.address, now)
        self._wake.set()
        if self._injector is not None:
            self._injector.change(delta)
            await self._injector.settled(PUBLISH_LIMIT_S)

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        before = dict(self._ledger.wanted)
        self._ledger.publish_all(wanted)
        now = self._clock()
        for address in before.keys() - self._ledger.wanted.keys():
            self._drop(address)
        for route in wanted:
            if before.get(route.address) != route:
                self._agenda.hold(route.address, now)
        self._wake.set()
        if self._injector is not None:
            self._injector.replace(wanted)
            await self._injector.settled(PUBLISH_LIMIT_S)

    def report(self) -> ExportReport:
        return ExportReport(
            is_connected=self._is_connected,
            daemon=self._bird.status.program if self._bird.status.version else "BIRD",
            exported=self._ledger.exported if self._is_connected else None,
            problems=tuple(self._problems()),
            installed=self._ledger.installed if self._settings.injects else None,
        )

    async def close(self) -> None:
        if self._injector is not None:
            await self._injector.close()
        await self._client.close()

    def _drop(self, address: Address) -> None:
        self._agenda.drop(address)
        self._standings.pop(address, None)
        self._ledger.heard(_PLACE, address, None)

    # the conversation

    async def _converse(self) -> None:
        await self._bird.learn()
        self._connected()
        next_look = self._clock() + LOOK_S
        while True:
            self._wake.clear()
            if self._clock() >= next_look:
                await self._look()
                next_look = self._clock() + LOOK_S
            await self._ask_due()
            await self._remind()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s(next_look)):
                    await self._wake.wait()

    def _pause_s(self, next_look: Instant) -> Seconds:
        due = self._agenda.next_due
        now = self._clock()
        if due is not None and len(self._agenda.due(now)) > SWEEP_FROM:
            due = self._next_sweep
        return max(0.0, min(next_look, math.inf if due is None else due) - now)

    def _connected(self) -> None:
        self._is_connected = True
        self._next_sweep = -math.inf
        self._ask_anew()
        self._context.log("info", f"connected to {self._bird.status.program} at {self._settings.place}")
        if self._injector is not None and self._injector.has_failed:
            self._injector.again()
        self._context.changed()

    def _ask_anew(self) -> None:
        """BIRD is another, or has another configuration."""
        now = self._clock()
        self._agenda.ask_all(now)
        self._next_reminder = now + REMIND_FIRST_S
        self._reminder_pause_s = REMIND_FIRST_S
        self._judged_from = now + CONFIRMATION_S

    def _disconnected(self, why: str) -> None:
        if self._is_connected:
            self._context.log("warning", f"lost BIRD: {why}")
        self._is_connected = False
        self._trouble = why
        self._ledger.confirm_exactly(())
        self._standings.clear()
        self._context.changed()

    async def _look(self) -> None:
        """See whether BIRD was restarted or reconfigured; ask about some addresses whose turn it is."""
        if await self._bird.look(self._injector.configured if self._injector is not None else None):
            self._ask_anew()
            if self._injector is not None and self._injector.has_failed:
                self._injector.again()
        elif self._clock() >= self._next_sweep + SWEEP_S and len(self._agenda.held) > SWEEP_FROM:
            await self._sweep()
        for address in self._agenda.turns(TURNS):
            await self._ask(address)

    async def _ask_due(self) -> None:
        due = self._agenda.due(self._clock())
        if len(due) <= SWEEP_FROM:
            for address in due:
                await self._ask(address)
        elif self._clock() >= self._next_sweep:
            await self._sweep()
            exported = self._ledger.exported
            for address in [address for address in due if address not in exported][:TURNS]:
                await self._ask(address)

    async def _ask(self, address: Address) -> None:
        standing = await self._bird.standing(address)
        if address not in self._ledger.wanted:
            return  # withdrawn while BIRD answered
        is_exported = standing.obstacle is None
        if is_exported:
            self._standings.pop(address, None)
        else:
            self._standings[address] = standing
        self._agenda.answered(address, self._clock(), is_exported=is_exported)
        self._ledger.heard(_PLACE, address, standing.foreign)
        if self._ledger.confirm(address, is_exported):
            self._context.changed()

    async def _sweep(self) -> None:
        begun = self._clock()
        exported = await self._bird.all_exported(self._agenda.held)
        now = self._clock()
        self._next_sweep = now + max(SWEEP_PAUSE_S, SWEEP_SHARE * (now - begun))
        asked = {*self._agenda.due(now), *self._ledger.exported}
        for address in exported:
            self._standings.pop(address, None)
        for address in asked:
            self._agenda.answered(address, now, is_exported=address in exported)
        if self._ledger.confirm_exactly(exported):
            self._context.changed()

    async def _remind(self) -> None:
        """Where BIRD does not have routes that it should have by now, let it read the kernel or the file again."""
        now = self._clock()
        absent = {at for at, standing in self._standings.items() if standing.obstacle is Obstacle.ABSENT}
        if not absent:
            self._reminder_pause_s = REMIND_FIRST_S
            return
        if now < self._next_reminder or absent.isdisjoint(self._ledger.missing(REMIND_FIRST_S)):
            return
        self._reminder_pause_s = min(REMIND_LAST_S, 2 * self._reminder_pause_s)
        self._next_reminder = now + self._reminder_pause_s
        self._context.log("debug", f"BIRD lacks {len(absent)} routes; asking it to look again")
        if self._injector is not None:
            self._injector.again()
        else:
            with contextlib.suppress(BirdRefused):  # its own scan follows, when the access is read-only
                await self._bird.rescan()
        self._agenda.ask_all(now)

    # what is told

    def _problems(self) -> Iterable[Problem]:
        held = len(self._ledger.wanted)
        if not self._is_connected:
            yield Problem(self._trouble, f"systemctl status bird; birdc -s {self._settings.socket} show status", held)
            return
        if self._injector is not None:
            troubles = tuple(self._injector.problems(held))
            yield from troubles
            if troubles:
                return
        if self._clock() < self._judged_from:
            return
        missing = self._ledger.missing(CONFIRMATION_S)
        known = [address for address in missing if address in self._standings]
        if known:
            yield problem_of(known[0], self._standings[known[0]], len(missing), self._bird, self._settings)
