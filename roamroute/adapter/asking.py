"""An exporter for a routing daemon that tells nothing by itself and must be asked: BIRD, FRR.

A route that was just published is asked for at once and again after pauses that double; all others are looked at in
turn, a few a second; many at a time are asked for by one look at everything, seldom enough to be no load. What the
daemon lacks it is reminded of.

The adapter brings a `Daemon`, which knows how to ask, and where it injects an `Injection`, which brings our routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from roamroute.adapter.agenda import Agenda
from roamroute.adapter.ledger import Ledger
from roamroute.adapter.problems import watch
from roamroute.adapter.reconnect import reconnect
from roamroute.delta import Delta, without_lingering
from roamroute.export import ExporterContext, ExportReport, FibChange, FibNeeds, Problem
from roamroute.values import Address, HostRoute, Instant, Seconds

LOOK_S: Seconds = 1.0
"""Between two looks at the daemon: what the operator changes shows within this time."""
TURNS = 10
"""So many held addresses are asked for at each look: 1 ms of BIRD's time, 10 ms of FRR's."""
SWEEP_FROM = 32
"""More addresses than this are asked for all at once."""
SWEEP_SHARE = 5
"""A look at everything is followed by so many times its duration without one."""
SWEEP_PAUSE_S: Seconds = 0.1
SWEEP_AFTER_REMINDER_S: Seconds = 0.3
SWEEP_S: Seconds = 30.0
"""Between two looks at everything in the background."""
REMIND_FIRST_S: Seconds = 1.0
REMIND_LAST_S: Seconds = 60.0
"""How long a route that the daemon does not have is waited for before it is reminded; then doubled."""
CONFIRMATION_S: Seconds = 3.0
"""What the daemon has not exported after this time it does not export."""
PUBLISH_LIMIT_S: Seconds = 0.5
"""How long a publication waits for the injection; the work goes on after that."""

_PLACE = "daemon"


class Standing(Protocol):
    """Where one of our routes stands in the daemon."""

    @property
    def is_exported(self) -> bool: ...

    @property
    def is_absent(self) -> bool:
        """The daemon does not have the route at all; it may be reminded."""

    @property
    def foreign(self) -> str | None:
        """The origin of another router's route for the same host."""


TheStanding = TypeVar("TheStanding", bound=Standing)


class Daemon(Protocol[TheStanding]):
    """How a routing daemon is asked. Coroutines raise DaemonGone, DaemonRefused, MalformedInput, which end it all."""

    @property
    def program(self) -> str:
        """Name and version."""

    async def learn(self) -> None:
        """Connect, and learn what must be known before anything else."""

    async def look(self) -> bool:
        """See whether the daemon was restarted or configured anew: then everything is asked for again."""

    async def standing(self, address: Address) -> TheStanding:
        """Ask for one of our routes; constant effort."""

    async def all_exported(self, addresses: Collection[Address]) -> Collection[Address]:
        """Which of these are exported, by a look at everything."""

    async def remind(self) -> None:
        """Let the daemon look for our routes again, where it reads them itself."""

    def forget(self, address: Address) -> None:
        """A route is not wanted any more."""

    def trouble(self) -> Problem | None:
        """What is wrong in general, without the count of routes."""

    def problem(self, address: Address, standing: TheStanding) -> Problem:
        """Why a route is not exported, without the count of routes."""

    async def close(self) -> None:
        """Disconnect."""


class Injection(Protocol):
    """Brings our routes to the daemon; works by itself, also when nobody runs."""

    @property
    def has_failed(self) -> bool: ...

    @property
    def is_busy(self) -> bool:
        """Is something still on its way? What the daemon lacks then is no wonder."""

    def change(self, delta: Delta) -> None: ...

    def replace(self, routes: Iterable[HostRoute]) -> None: ...

    def again(self, *, is_forgetful: bool = False) -> None:
        """Try once more; `is_forgetful`: trust nothing that is remembered of the daemon."""

    async def settled(self, limit_s: Seconds) -> None:
        """Wait for the daemon to have it all, at most so long. Raises: why it has not."""

    def problems(self, routes: int) -> Iterable[Problem]: ...

    async def close(self) -> None: ...


class AskingExporter(Generic[TheStanding]):
    """See `roamroute.export.Exporter` for the contract of the methods. `remedy`: for a daemon that is out of reach.

    `lingering_metric`: as `FibNeeds` has it. `is_lingering`: False where a host that has moved on must be withdrawn at
    once, since the daemon cannot announce it worse and others would share their load between both access points.
    """

    def __init__(
        self,
        name: str,
        context: ExporterContext,
        daemon: Daemon[TheStanding],
        injection: Injection | None,
        *,
        remedy: str,
        lingering_metric: int | None = None,
        is_lingering: bool = True,
        clock: Callable[[], Instant] = time.monotonic,
    ) -> None:
        self._lingering_metric = lingering_metric
        self._is_lingering = is_lingering
        self._name = name
        self._context = context
        self._daemon = daemon
        self._injection = injection
        self._remedy = remedy
        self._clock = clock
        self._ledger = Ledger(context, clock=clock)
        self._agenda = Agenda()
        self._wake = asyncio.Event()
        self._is_connected = False
        self._trouble = f"not connected to {daemon.program} yet"
        self._standings: dict[Address, TheStanding] = {}
        """Of the addresses that were asked for one by one and are not exported."""
        self._next_sweep: Instant = -math.inf
        self._next_reminder: Instant = -math.inf
        self._reminder_pause_s = REMIND_FIRST_S
        self._bringing_since: Instant = math.inf
        self._left_over_since: Instant = math.inf
        self._judged_from: Instant = -math.inf
        """Before that the daemon has not had the time to export what it may have."""

    # the contract

    async def run(self) -> None:
        tasks = [
            asyncio.ensure_future(reconnect(self._converse, self._disconnected)),
            asyncio.ensure_future(watch(self._name, self._context, self._problems)),
            asyncio.ensure_future(self._context.follow_fib(self._fib_changed)),
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._is_connected = False

    def needs(self) -> FibNeeds:
        return FibNeeds(installs=self._injection is None, lingering_metric=self._lingering_metric)

    def may_delete(self, route: HostRoute) -> bool:
        return True

    async def publish(self, delta: Delta) -> None:
        delta = delta if self._is_lingering else without_lingering(delta)
        self._ledger.publish(delta)
        now = self._clock()
        for route in delta.withdrawn:
            if route.address not in self._ledger.wanted:
                self._drop(route.address)
        for route in delta.announced:
            self._agenda.hold(route.address, now)
        self._wake.set()
        if self._injection is not None:
            self._injection.change(delta)
            await self._injection.settled(PUBLISH_LIMIT_S)

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        wanted = tuple(route for route in wanted if self._is_lingering or not route.is_lingering)
        before = dict(self._ledger.wanted)
        self._ledger.publish_all(wanted)
        now = self._clock()
        for address in before.keys() - self._ledger.wanted.keys():
            self._drop(address)
        for route in wanted:
            if before.get(route.address) != route:
                self._agenda.hold(route.address, now)
        self._wake.set()
        if self._injection is not None:
            self._injection.replace(wanted)
            await self._injection.settled(PUBLISH_LIMIT_S)

    def report(self) -> ExportReport:
        return ExportReport(
            is_connected=self._is_connected,
            daemon=self._daemon.program,
            exported=self._ledger.exported if self._is_connected else None,
            problems=tuple(self._problems()),
            installed=self._ledger.installed if self._injection is not None else None,
        )

    async def close(self) -> None:
        if self._injection is not None:
            await self._injection.close()
        await self._daemon.close()

    def _drop(self, address: Address) -> None:
        self._agenda.drop(address)
        self._standings.pop(address, None)
        self._daemon.forget(address)
        self._ledger.heard(_PLACE, address, None)

    def _fib_changed(self, change: FibChange) -> None:
        self._ledger.fib_changed(change)
        now = self._clock()
        for address in (change.removed | change.foreign.keys()) & self._ledger.wanted.keys():
            self._agenda.hold(address, now)
        self._wake.set()

    # the conversation

    async def _converse(self) -> None:
        await self._daemon.learn()
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
        self._context.log("info", f"connected to {self._daemon.program}")
        if self._injection is not None:
            self._injection.again(is_forgetful=True)
        self._context.changed()

    def _ask_anew(self) -> None:
        """The daemon is another, or has another configuration."""
        now = self._clock()
        self._agenda.ask_all(now)
        self._next_reminder = now + REMIND_FIRST_S
        self._reminder_pause_s = REMIND_FIRST_S
        self._judged_from = now + CONFIRMATION_S

    def _disconnected(self, why: str) -> None:
        if self._is_connected:
            self._context.log("warning", f"lost {self._daemon.program}: {why}")
        self._is_connected = False
        self._trouble = why
        self._ledger.confirm_exactly(())
        self._standings.clear()
        self._context.changed()

    async def _look(self) -> None:
        if await self._daemon.look():
            self._ask_anew()
            if self._injection is not None:
                self._injection.again(is_forgetful=True)
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
        standing = await self._daemon.standing(address)
        if address not in self._ledger.wanted:
            self._daemon.forget(address)
            return  # withdrawn while the daemon answered
        if standing.is_exported:
            self._standings.pop(address, None)
        else:
            self._standings[address] = standing
        self._agenda.answered(address, self._clock(), is_exported=standing.is_exported)
        self._ledger.heard(_PLACE, address, standing.foreign)
        if self._ledger.confirm(address, standing.is_exported):
            self._context.changed()

    async def _sweep(self) -> None:
        begun = self._clock()
        exported = await self._daemon.all_exported(self._agenda.held)
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
        """Where the daemon does not have routes that it should have by now, let it look again."""
        now = self._clock()
        if self._is_bringing:
            self._bringing_since = min(self._bringing_since, now)
            if now > self._bringing_since + REMIND_FIRST_S:  # a long one; what a reminder causes is over in no time
                self._judged_from = now + CONFIRMATION_S
                self._next_reminder = now + REMIND_FIRST_S
            return
        self._bringing_since = math.inf
        absent = {at for at, standing in self._standings.items() if standing.is_absent}
        must_work = self._injection is not None and (self._injection.has_failed or self._has_left_over(now))
        if not absent and not must_work:
            self._reminder_pause_s = REMIND_FIRST_S
            return
        if now < self._next_reminder or (not must_work and absent.isdisjoint(self._ledger.missing(REMIND_FIRST_S))):
            return
        self._reminder_pause_s = min(REMIND_LAST_S, 2 * self._reminder_pause_s)
        self._next_reminder = now + self._reminder_pause_s
        self._context.log("debug", f"{self._daemon.program} lacks {len(absent)} routes; letting it look again")
        if self._injection is not None:
            self._injection.again(is_forgetful=True)
        else:
            await self._daemon.remind()
        self._agenda.ask_all(now)
        self._next_sweep = min(self._next_sweep, now + SWEEP_AFTER_REMINDER_S)

    def _has_left_over(self, now: Instant) -> bool:
        """Has the daemon installed, and not removed for a while, what is not wanted any more?"""
        self._left_over_since = min(self._left_over_since, now) if self._ledger.has_left_over else math.inf
        return now > self._left_over_since + REMIND_FIRST_S

    @property
    def _is_bringing(self) -> bool:
        """Is the injection at work, and well?"""
        return self._injection is not None and self._injection.is_busy and not self._injection.has_failed

    # what is told

    def _problems(self) -> Iterable[Problem]:
        held = len(self._ledger.wanted)
        if not self._is_connected:
            yield Problem(self._trouble, self._remedy, held)
            return
        if self._injection is not None:
            troubles = tuple(self._injection.problems(held))
            yield from troubles
            if troubles:
                return
        if self._clock() < self._judged_from or self._is_bringing:
            return
        trouble = self._daemon.trouble()
        if trouble is not None:
            yield Problem(trouble.text, trouble.remedy, held)
        missing = self._ledger.missing(CONFIRMATION_S)
        known = [address for address in missing if address in self._standings]
        if known:
            problem = self._daemon.problem(known[0], self._standings[known[0]])
            yield Problem(problem.text, problem.remedy, len(missing))
