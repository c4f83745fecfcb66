"""The contract, kept by the BIRD adapter in both modes: BIRD absent, mute, talking nonsense, refusing, working."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bad_daemons import Behaviour, hang_up, mute, serving, talk_nonsense
from bird_routers import Pair, pair_of
from generations import BIRD, parameters
from integration.linux_namespaces import inside
from kernel_routes import follow_fib, installed, routes_of
from roamroute_bird import SPEC
from roamroute_bird.hostsfile import render

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

GREETING = b"0001 BIRD 2.17.5 ready.\n"


async def greet_and_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Like a BIRD that dies in the middle of an answer."""
    writer.write(GREETING)
    await reader.readline()
    writer.write(b"1000-BIRD 2.17.5\n1011-Router ID is")
    await writer.drain()


async def deny(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Like a BIRD that grants nothing."""
    writer.write(GREETING)
    while await reader.readline():
        writer.write(b"8007 Access denied\n")


async def answer_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Talks and never comes to the last line."""
    writer.write(GREETING)
    await reader.readline()
    writer.write(b"1000-BIRD 2.17.5\n")
    with contextlib.suppress(OSError):
        while not reader.at_eof():
            writer.write(b" and another thing\n" * 100)
            await writer.drain()
            await asyncio.sleep(0.01)


class TestWithoutBird(AbsenceContract):
    spec: ClassVar[ExporterSpec] = SPEC
    table: ClassVar[dict[str, Any]] = {"socket": "/nonexistent/bird.ctl"}

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        yield Rig(table=self.table)


class TestWithoutBirdInjecting(TestWithoutBird):
    table: ClassVar[dict[str, Any]] = {
        "socket": "/nonexistent/bird.ctl",
        "mode": "inject",
        "include": "/nonexistent/hosts.conf",
    }


class TestWithoutBirdc(TestWithoutBird):
    table: ClassVar[dict[str, Any]] = {"command": ["/nonexistent/birdc"]}


@pytest.mark.parametrize(
    ("behaviour", "mode"),
    [
        (mute, "kernel"),
        (mute, "inject"),
        (hang_up, "inject"),
        (talk_nonsense, "kernel"),
        (greet_and_go, "inject"),
        (deny, "inject"),
        (answer_without_end, "kernel"),
    ],
)
class TestWithABadBird(ExporterContract):
    spec: ClassVar[ExporterSpec] = SPEC
    behaviour: Behaviour
    table: dict[str, Any]

    @pytest.fixture(autouse=True)
    def scene(self, behaviour: Behaviour, mode: str, tmp_path: Path) -> None:
        self.behaviour = behaviour
        self.table = {"socket": str(tmp_path / "bird.ctl"), "mode": mode, "include": str(tmp_path / "hosts.conf")}

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        async with serving(self.table["socket"], self.behaviour):
            yield Rig(table=self.table)


@pytest.mark.parametrize(
    ("program", "mode"),
    [
        pytest.param("import sys; sys.exit(1)", "inject", id="ends"),
        pytest.param("import time; time.sleep(600)", "kernel", id="mute"),
        pytest.param(f"print({GREETING.decode()!r} + 'bird> ', flush=True); input()", "kernel", id="dies in a command"),
        pytest.param(f"while True: print({GREETING.decode()!r} + 'bird> nonsense')", "inject", id="endless"),
    ],
)
class TestWithABadBirdc(ExporterContract):
    spec: ClassVar[ExporterSpec] = SPEC
    table: dict[str, Any]

    @pytest.fixture(autouse=True)
    def scene(self, program: str, mode: str, tmp_path: Path) -> None:
        command = [sys.executable, "-c", program]
        self.table = {"command": command, "mode": mode, "include": str(tmp_path / "hosts.conf")}

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        yield Rig(table=self.table)


@pytest.fixture(scope="module", params=parameters(BIRD))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with pair_of(request.param) as pair:
        pair.start()
        yield pair


class _WithTheRealBird:
    spec: ClassVar[ExporterSpec] = SPEC
    pair: Pair

    @pytest.fixture(autouse=True)
    def scene(self, pair: Pair) -> Iterator[None]:
        self.pair = pair
        pair.here.revive()
        pair.there.revive()
        with inside(pair.here.namespace):
            yield

    def announce_elsewhere(self, address: Address) -> None:
        self.pair.there.hold(address)

    def withdraw_elsewhere(self, address: Address) -> None:
        self.pair.there.leave(address)


@pytest.mark.requires_root
class TestWithTheRealBird(_WithTheRealBird, RestartContract, HearingContract, SilenceContract):
    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        pair = self.pair
        pair.flush()
        yield Rig(
            table=self.table(pair),
            beside=lambda exporter, context: KernelFib(context, exporter.needs, exporter.may_delete),
            seen=lambda: installed(pair.here.namespace),
            settle_s=20.0,
            follow_fib=follow_fib,
            restart=pair.here.restart,
            stall=lambda: pair.here.signal(signal.SIGSTOP),
            go_on=lambda: pair.here.signal(signal.SIGCONT),
            announce_elsewhere=self.announce_elsewhere,
            withdraw_elsewhere=self.withdraw_elsewhere,
        )

    def table(self, pair: Pair) -> dict[str, Any]:
        return {"socket": str(pair.here.socket)}


class TestWithTheRealBirdc(TestWithTheRealBird):
    def table(self, pair: Pair) -> dict[str, Any]:
        birdc = ["ip", "netns", "exec", pair.here.namespace, pair.generation.terminal, "-s", str(pair.here.socket)]
        return {"command": birdc}


@pytest.mark.requires_root
class TestWithTheRealBirdInjecting(
    _WithTheRealBird, RestartContract, HearingContract, InjectionContract, RefusalContract, SilenceContract
):
    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        pair = self.pair
        here = pair.here
        pair.flush()
        # BIRD 3.1.7 may die of protocols that are taken away and brought back within some ms: only the routes go.
        here.include.write_text(render({6: {}, 4: {}}))
        here.configure()

        def refuse() -> str:
            here.configuration.write_text(here.text + "protocol nonsense { }\n")
            return f"{here.configuration}:{here.text.count(chr(10)) + 1}:10 syntax error"

        def relent() -> None:
            here.configuration.write_text(here.text)

        def seen() -> dict[Address, HostRoute]:
            routes = installed(here.namespace, "bird")
            return {address: route for address, route in routes.items() if route.link.startswith("wlan")}

        yield Rig(
            table={"socket": str(here.socket), "mode": "inject", "include": str(here.include)},
            seen=seen,
            ours=lambda: routes_of(here.namespace, KernelNumbers().protocol),
            settle_s=20.0,
            follow_fib=follow_fib,
            restart=here.restart,
            refuse=refuse,
            relent=relent,
            stall=lambda: here.signal(signal.SIGSTOP),
            go_on=lambda: here.signal(signal.SIGCONT),
            announce_elsewhere=self.announce_elsewhere,
            withdraw_elsewhere=self.withdraw_elsewhere,
        )
