"""An exporter with a daemon that is a dictionary: for tests of what stands before an exporter, and the model of one.

The daemon installs the routes itself, as BIRD and FRR do in their modes `inject`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from roamroute.adapter.ledger import Ledger
from roamroute.adapter.problems import watch
from roamroute.adapter.settings import Check, flag, read_table
from roamroute.delta import Delta, difference
from roamroute.errors import DaemonGone, DaemonRefused
from roamroute.export import Exporter, ExporterContext, ExporterSpec, ExportReport, FibNeeds, Finding, Problem
from roamroute.values import Address, HostRoute, Seconds

START = "start the daemon"
PATIENCE_S: Seconds = 0.2


@attrs.define(eq=False)
class FakeDaemon:
    """What outlives an exporter. Set its attributes, then call `stir`, which lets exporters look again."""

    routes: dict[Address, HostRoute] = attrs.field(factory=dict)
    """What it was told, announces, and has installed."""
    changes: int = 0
    """How often a route was made or taken away."""
    elsewhere: dict[Address, str] = attrs.field(factory=dict)
    """Other routers' host routes, and their origins."""
    refusal: str = ""
    """What it answers to a change; empty: it does what it is told."""
    is_silent: bool = False
    is_there: bool = True
    stirred: asyncio.Event = attrs.field(factory=asyncio.Event)

    def stir(self) -> None:
        """Wake everybody who waits for news of the daemon."""
        self.stirred.set()
        self.stirred = asyncio.Event()

    def restart(self) -> None:
        """Forget everything."""
        self.routes.clear()
        self.stir()

    async def change(self, delta: Delta) -> None:
        """Carry out a change, once the daemon answers. Raises: DaemonGone, DaemonRefused."""
        if not self.is_there:
            raise DaemonGone("the fake daemon is not there")
        while self.is_silent:
            await self.stirred.wait()
        if self.refusal:
            raise DaemonRefused(f"the fake daemon refused a change: {self.refusal}")
        for route in delta.withdrawn:
            self.changes += self.routes.pop(route.address, None) is not None
        for route in delta.announced:
            self.changes += self.routes.get(route.address) != route
            self.routes[route.address] = route
        self.stir()


class FakeExporter:
    """Keeps the contract of `roamroute.export.Exporter`. Set `failure` to make publishing raise it."""

    def __init__(self, context: ExporterContext, daemon: FakeDaemon, needs: FibNeeds | None = None) -> None:
        self.daemon = daemon
        self.failure: Exception | None = None
        self.published: list[Delta | tuple[HostRoute, ...]] = []
        """Every call, in order: a `Delta`, or the whole set as a tuple."""
        self._context = context
        self._needs = needs or FibNeeds(installs=False)
        self._ledger = Ledger(context)
        self._is_connected = False
        self._refusal = ""

    async def run(self) -> None:
        """Follow the daemon until cancelled; tell it again what it has forgotten."""
        async with asyncio.TaskGroup() as group:
            group.create_task(watch("fake", self._context, self._problems))
            group.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            stirred = self.daemon.stirred
            self._is_connected = self.daemon.is_there
            missing = difference(self.daemon.routes, self._ledger.wanted).announced
            if missing and self._is_connected and not self._refusal and not self.daemon.is_silent:
                try:
                    await self._change(Delta(announced=missing))
                except (DaemonGone, DaemonRefused) as error:
                    self._context.log("warning", str(error))
            if self._ledger.confirm_exactly(self.daemon.routes if self._is_connected else ()):
                self._context.changed()
            roaming = {at for at in self.daemon.elsewhere if any(at in each for each in self._context.prefixes)}
            self._ledger.heard_exactly("daemon", {at: self.daemon.elsewhere[at] for at in roaming})
            await stirred.wait()

    def needs(self) -> FibNeeds:
        """As given."""
        return self._needs

    def may_delete(self, route: HostRoute) -> bool:
        """Always."""
        return True

    async def publish(self, delta: Delta) -> None:
        """Tell the daemon the difference to what is wanted now."""
        self.published.append(delta)
        self._ledger.publish(delta)
        await self._reconcile()

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        """Tell the daemon the difference to what is wanted now."""
        self.published.append(tuple(wanted))
        self._ledger.publish_all(wanted)
        await self._reconcile()

    async def _reconcile(self) -> None:
        if self.failure is not None:
            raise self.failure
        delta = difference(self.daemon.routes, self._ledger.wanted)
        if delta:
            await self._change(delta)

    async def _change(self, delta: Delta) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.daemon.change(delta)
        except DaemonRefused as error:
            self._refusal = str(error)
            raise
        except TimeoutError:
            raise DaemonGone(f"the fake daemon has not answered for {PATIENCE_S} s") from None
        self._refusal = ""

    def report(self) -> ExportReport:
        """What the daemon has is exported, and installed."""
        here = frozenset(self.daemon.routes) if self._is_connected else None
        exported = None if here is None else self._ledger.exported & here
        return ExportReport(self._is_connected, "fake 1.0", exported, tuple(self._problems()), here)

    def _problems(self) -> Iterable[Problem]:
        if not self._is_connected:
            yield Problem("the fake daemon is not there", START, len(self._ledger.wanted))
        elif self._refusal:
            yield Problem(self._refusal, "relent", len(self._ledger.missing(0)))

    async def close(self) -> None:
        """Nothing is open."""


_CHECKS: Mapping[str, Check] = {"absent": flag}


def _parse(table: Mapping[str, Any]) -> dict[str, Any]:
    return read_table("fake", table, _CHECKS)


def _create(settings: dict[str, Any], context: ExporterContext) -> Exporter:
    return FakeExporter(context, FakeDaemon(is_there=not settings.get("absent", False)))


def _config(_settings: dict[str, Any], context: ExporterContext) -> str:
    return f"routes of protocol {context.kernel.protocol} are welcome\n"


async def _check(settings: dict[str, Any], _context: ExporterContext) -> Iterable[Finding]:
    if settings.get("absent"):
        return [Finding("error", "fake", "the fake daemon is not there", START)]
    return [Finding("ok", "fake", "the fake daemon is there")]


FAKE_SPEC = ExporterSpec(name="fake", parse=_parse, create=_create, config=_config, check=_check)
