"""An exporter that publishes into a dictionary: for tests of what stands before an exporter."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from roamroute.delta import Delta
from roamroute.errors import ConfigError, RoamrouteError
from roamroute.export import Exporter, ExporterContext, ExporterSpec, ExportReport, FibNeeds
from roamroute.values import Address, HostRoute


@attrs.define(eq=False)
class FakeOutside:
    """What outlives an exporter: the routes, and how often they were changed."""

    routes: dict[Address, HostRoute] = attrs.field(factory=dict)
    changes: int = 0


class FakeExporter:
    """Keeps the contract of `roamroute.export.Exporter`. Set `failure` to make publishing raise it."""

    def __init__(self, outside: FakeOutside | None = None, needs: FibNeeds | None = None) -> None:
        self.outside = outside or FakeOutside()
        self.failure: RoamrouteError | None = None
        self.published: list[Delta | tuple[HostRoute, ...]] = []
        """Every call, in order: a `Delta`, or the whole set as a tuple."""
        self.is_running = False
        self._needs = needs or FibNeeds(installs=False)

    async def run(self) -> None:
        """Do nothing until cancelled."""
        self.is_running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.is_running = False

    def needs(self) -> FibNeeds:
        """As given."""
        return self._needs

    def may_delete(self, route: HostRoute) -> bool:
        """Always."""
        return True

    async def publish(self, delta: Delta) -> None:
        """Apply the change to the dictionary."""
        self.published.append(delta)
        self._fail()
        for route in delta.withdrawn:
            if self.outside.routes.get(route.address) == route:
                del self.outside.routes[route.address]
                self.outside.changes += 1
        for route in delta.announced:
            if self.outside.routes.get(route.address) != route:
                self.outside.routes[route.address] = route
                self.outside.changes += 1

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        """Make the dictionary equal to `wanted`."""
        self.published.append(tuple(wanted))
        self._fail()
        target = {route.address: route for route in wanted}
        differing = {
            key for key in self.outside.routes.keys() | target if self.outside.routes.get(key) != target.get(key)
        }
        self.outside.routes = target
        self.outside.changes += len(differing)

    def report(self) -> ExportReport:
        """Everything is exported."""
        return ExportReport(True, "fake", frozenset(self.outside.routes))

    async def close(self) -> None:
        """Nothing is open."""

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


def _parse(table: Mapping[str, Any]) -> None:
    if table:
        raise ConfigError(tuple(f"exporters.fake.{key}: unknown key; this exporter has no settings" for key in table))


def _create(_settings: object, _context: ExporterContext) -> Exporter:
    return FakeExporter()


FAKE_SPEC = ExporterSpec(name="fake", parse=_parse, create=_create)
