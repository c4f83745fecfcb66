"""The exporter called `frr`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from roamroute.adapter.ledger import Ledger
from roamroute.delta import Delta
from roamroute.export import ExporterContext, ExportReport, FibNeeds
from roamroute.values import HostRoute
from roamroute_frr.settings import Settings


class FrrExporter:
    """See `roamroute.export.Exporter` for the contract of the methods."""

    def __init__(self, settings: Settings, context: ExporterContext) -> None:
        self._settings = settings
        self._ledger = Ledger(context)

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def needs(self) -> FibNeeds:
        return FibNeeds(installs=not self._settings.injects)

    def may_delete(self, route: HostRoute) -> bool:
        return True

    async def publish(self, delta: Delta) -> None:
        self._ledger.publish(delta)

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        self._ledger.publish_all(wanted)

    def report(self) -> ExportReport:
        return ExportReport(False, "FRR")

    async def close(self) -> None:
        """Nothing is open."""
