"""The contract, kept by the exporter `kernel` against the real FIB of a network namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
from integration.linux_namespaces import Bed, make_bed, sh
from kernel_routes import installed, routes_of

from roamroute.export import ExporterSpec
from roamroute.linux.fib import SPEC
from roamroute.linux.rtnetlink import GROUP_IPV4_ROUTE, GROUP_IPV6_ROUTE, Notifications
from roamroute.testing.exporter_contract import ROUTES, ExporterContract, Rig
from roamroute.values import HostRoute

THEIRS = "42"


@pytest.mark.requires_root
class TestKernelExporter(ExporterContract):
    spec: ClassVar[ExporterSpec] = SPEC

    @pytest.fixture(autouse=True)
    def bed(self) -> Iterator[None]:
        for bed in make_bed():
            sh(f"ip -n {bed.ap} link add wlan1 type veth peer name wlan1peer && ip -n {bed.ap} link set wlan1 up")
            sh(f"ip -n {bed.ap} addr add 10.45.0.1/24 dev wlan1")
            # Another program's routes: for an address of ours with another metric, and for one that is nobody's.
            for line in (f"{ROUTES[0].address} dev wlan1 metric 1024", "fd44:0:0:1::ffff dev wlan0 metric 8"):
                sh(f"ip -n {bed.ap} -6 route add {line} proto {THEIRS}")
            self.namespaces = bed
            yield

    namespaces: Bed

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        monitor = Notifications((GROUP_IPV4_ROUTE, GROUP_IPV6_ROUTE), 1 << 20)
        heard = 0

        def changes() -> int:
            nonlocal heard
            while messages := monitor.read(100)[0]:
                heard += len(messages)
            return heard

        try:
            yield Rig(
                create=lambda context: SPEC.create(SPEC.parse({}), context),
                moved=HostRoute(ROUTES[0].address, "wlan1"),
                seen=lambda: installed(self.namespaces.ap),
                foreign=lambda: routes_of(self.namespaces.ap, THEIRS),
                changes=changes,
            )
        finally:
            monitor.close()
