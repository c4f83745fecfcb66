"""The contract, kept by the fake exporter: the suite can be kept at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from roamroute.export import ExporterContext, ExporterSpec
from roamroute.testing.daemon_contract import (
    AbsenceContract,
    HearingContract,
    InjectionContract,
    RefusalContract,
    RestartContract,
    SilenceContract,
)
from roamroute.testing.exporter_contract import Rig
from roamroute.testing.exporters import FAKE_SPEC, FakeDaemon, FakeExporter
from roamroute.values import Address


def rig_with(daemon: FakeDaemon, exporter: type[FakeExporter] = FakeExporter) -> Rig:
    """A rig that can do everything to a fake daemon."""

    def now(**attributes: object) -> None:
        for name, value in attributes.items():
            setattr(daemon, name, value)
        daemon.stir()

    def refuse() -> str:
        now(refusal="not today")
        return "not today"

    def announce_elsewhere(address: Address) -> None:
        now(elsewhere={**daemon.elsewhere, address: "router 1"})

    def withdraw_elsewhere(address: Address) -> None:
        now(elsewhere={at: origin for at, origin in daemon.elsewhere.items() if at != address})

    def create(context: ExporterContext) -> FakeExporter:
        return exporter(context, daemon)

    return Rig(
        create=create,
        seen=lambda: daemon.routes,
        changes=lambda: daemon.changes,
        ours=lambda: (),
        foreign=lambda: None,
        restart=daemon.restart,
        refuse=refuse,
        relent=lambda: now(refusal=""),
        stall=lambda: now(is_silent=True),
        go_on=lambda: now(is_silent=False),
        announce_elsewhere=announce_elsewhere,
        withdraw_elsewhere=withdraw_elsewhere,
    )


class _Fake:
    """It has no entry point: nobody is to find it by name."""

    spec: ClassVar[ExporterSpec] = FAKE_SPEC

    def test_the_entry_point_leads_to_the_specification(self) -> None:
        """There is none."""


class TestWithItsDaemon(_Fake, RestartContract, HearingContract, InjectionContract, RefusalContract, SilenceContract):
    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        yield rig_with(FakeDaemon())


class TestWithoutItsDaemon(_Fake, AbsenceContract):
    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        yield Rig(table={"absent": True})
