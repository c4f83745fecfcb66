"""The contract, kept by the fake exporter: the suite can be kept at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from roamroute.export import ExporterSpec
from roamroute.testing.exporter_contract import ROUTES, ExporterContract, Rig
from roamroute.testing.exporters import FAKE_SPEC, FakeExporter, FakeOutside
from roamroute.values import HostRoute


class TestFakeExporter(ExporterContract):
    spec: ClassVar[ExporterSpec] = FAKE_SPEC

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        outside = FakeOutside()
        yield Rig(
            create=lambda _context: FakeExporter(outside),
            moved=HostRoute(ROUTES[0].address, "wlan1"),
            seen=lambda: outside.routes,
            changes=lambda: outside.changes,
        )

    def test_the_entry_point_leads_to_the_specification(self) -> None:
        """It has no entry point: nobody is to find it by name."""
