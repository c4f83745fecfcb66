"""The contract, kept by the FRR adapter in both modes: vtysh absent, mute, talking nonsense, dying, and a real FRR."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from frr_routers import Pair, pair_of
from generations import FRR, Generation, parameters
from integration.linux_namespaces import inside
from kernel_routes import follow_fib, installed, routes_of
from roamroute_frr import SPEC
from roamroute_frr.vtysh import PROMPT

from roamroute.adapter.terminal import Terminal
from roamroute.export import ExporterSpec, KernelNumbers
from roamroute.linux.fib import KernelFib
from roamroute.testing.daemon_contract import (
    AbsenceContract,
    HearingContract,
    InjectionContract,
    RefusalContract,
    RestartContract,
    SilenceContract,
)
from roamroute.testing.exporter_contract import ExporterContract
from roamroute.testing.exporter_rig import Rig
from roamroute.values import Address, HostRoute

STATIC = 196
"""zebra's number for static routes in the kernel (FRR's rt_netlink.h)."""
BAD_VTYSH = {
    "mute": "import time; time.sleep(600)",
    "nonsense": "while True: print('ap# nonsense ' * 20); input('ap# ')",
    "dies": "input('ap# '); input('ap# '); print('half an ans', end='', flush=True)",
    "dies-configuring": """
while True:
    line = input('ap# ')
    if line == 'show daemons': print(' zebra staticd ospf6d')
    if line.startswith('conf'): print('half an ans', end='', flush=True); break
    if 'json' in line: print('{}')
""",
    "refuses": "while True: input('ap# '); print('% Permission denied')",
}


@pytest.mark.parametrize("mode", ["kernel", "inject"])
class TestWithoutFrr(AbsenceContract):
    spec: ClassVar[ExporterSpec] = SPEC
    mode: str

    @pytest.fixture(autouse=True)
    def scene(self, mode: str) -> None:
        self.mode = mode

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        yield Rig(table={"command": ["/nonexistent/vtysh"], "mode": self.mode})


@pytest.mark.parametrize(
    ("fault", "mode"),
    [
        ("mute", "inject"),
        ("nonsense", "kernel"),
        ("dies", "kernel"),
        ("dies-configuring", "inject"),
        ("refuses", "inject"),
    ],
)
class TestWithABadVtysh(ExporterContract):
    spec: ClassVar[ExporterSpec] = SPEC
    table: dict[str, Any]

    @pytest.fixture(autouse=True)
    def scene(self, fault: str, mode: str, tmp_path: Path) -> None:
        program = tmp_path / "vtysh.py"
        program.write_text(BAD_VTYSH[fault], encoding="utf-8")
        self.table = {"command": [sys.executable, "-S", str(program)], "mode": mode}

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        yield Rig(table=self.table)


@pytest.fixture(scope="module", params=parameters(FRR))
def generation(request: pytest.FixtureRequest) -> Generation:
    assert isinstance(request.param, Generation)
    return request.param


@pytest.fixture(scope="module")
def injecting_pair(generation: Generation) -> Iterator[Pair]:
    with pair_of(generation, "ospf", "inject") as pair:
        yield pair


@pytest.fixture(scope="module")
def reading_pair(generation: Generation) -> Iterator[Pair]:
    with pair_of(generation, "ospf", "kernel") as pair:
        yield pair


class _WithTheRealFrr:
    spec: ClassVar[ExporterSpec] = SPEC
    pair: Pair

    def seen(self) -> dict[Address, HostRoute]:
        routes = installed(self.pair.ap.namespace, STATIC)
        return {address: route for address, route in routes.items() if route.link.startswith("wlan")}


@pytest.mark.requires_root
class TestWithTheRealFrr(_WithTheRealFrr, RestartContract, HearingContract, SilenceContract):
    @pytest.fixture(autouse=True)
    def scene(self, reading_pair: Pair) -> Iterator[None]:
        self.pair = reading_pair
        with inside(reading_pair.ap.namespace):
            yield

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        pair = self.pair
        pair.flush()
        yield Rig(
            table={"command": pair.ap.command},
            beside=lambda exporter, context: KernelFib(context, exporter.needs, exporter.may_delete),
            seen=lambda: installed(pair.ap.namespace),
            settle_s=20.0,
            follow_fib=follow_fib,
            restart=lambda: pair.ap.restart("zebra", "ospf6d", "ospfd"),
            stall=lambda: pair.ap.signal("zebra", signal.SIGSTOP),
            go_on=lambda: pair.ap.signal("zebra", signal.SIGCONT),
            announce_elsewhere=pair.announce_elsewhere,
            withdraw_elsewhere=pair.withdraw_elsewhere,
        )


@pytest.mark.requires_root
class TestWithTheRealFrrInjecting(
    _WithTheRealFrr, RestartContract, HearingContract, InjectionContract, RefusalContract, SilenceContract
):
    @pytest.fixture(autouse=True)
    def scene(self, injecting_pair: Pair) -> Iterator[None]:
        self.pair = injecting_pair
        with inside(injecting_pair.ap.namespace):
            yield

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        pair = self.pair
        pair.flush()
        keeper = "mgmtd" if "mgmtd" in pair.ap.daemons else "staticd"
        operator = Terminal(pair.ap.command, prompt=PROMPT)

        async def refuse() -> str:
            if keeper != "mgmtd":
                pytest.skip("FRR 8 has no lock that an operator could take")
            await operator.ask("configure terminal file-lock")
            return "locked by another session"

        async def relent() -> None:
            await operator.ask_all(("mgmt commit apply", "end"))

        try:
            yield Rig(
                table={"command": pair.ap.command, "mode": "inject"},
                seen=self.seen,
                ours=lambda: routes_of(pair.ap.namespace, KernelNumbers().protocol),
                settle_s=20.0,
                follow_fib=follow_fib,
                restart=lambda: pair.ap.restart(*{keeper, "staticd"}),
                refuse=refuse,
                relent=relent,
                stall=lambda: pair.ap.signal(keeper, signal.SIGSTOP),
                go_on=lambda: pair.ap.signal(keeper, signal.SIGCONT),
                announce_elsewhere=pair.announce_elsewhere,
                withdraw_elsewhere=pair.withdraw_elsewhere,
            )
        finally:
            await operator.close()
