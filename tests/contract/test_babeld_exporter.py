"""The contract, kept by the babeld adapter whatever babeld does: absent, mute, talking nonsense, hanging up, at work.

That routes reach the far routers, and how soon, is for tests/integration.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from bad_daemons import Behaviour, hang_up, mute, serving, talk_nonsense
from integration.babeld_mesh import AS_INSTALLED, OPERATOR, Mesh, mesh_of, sh
from integration.linux_namespaces import inside
from kernel_routes import installed
from roamroute_babeld import SPEC
from roamroute_babeld.fragment import installed_version, render
from roamroute_babeld.settings import Settings

from roamroute.export import ExporterContext, ExporterSpec, KernelNumbers
from roamroute.linux.fib import KernelFib
from roamroute.testing.daemon_contract import AbsenceContract, HearingContract, RestartContract, SilenceContract
from roamroute.testing.exporter_contract import PREFIXES, ExporterContract, Rig
from roamroute.values import Address


async def stop_in_the_dump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets, answers a little, and falls silent in the middle of a line."""
    writer.write(b"BABEL 1.0\nversion babeld-1.13.1\nhost ap\nmy-id 02:00:5e:ff:fe:44:00:01\nok\n")
    await reader.readline()
    writer.write(b"add interface e0 up true ipv6 fe80::1\nadd xroute fd44:0:0:1::a/12")
    await writer.drain()
    await reader.read()


class TestWithoutBabeld(AbsenceContract):
    spec: ClassVar[ExporterSpec] = SPEC

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        yield Rig(table={"socket": "/nonexistent/babeld.sock", "command": "/nonexistent/babeld"})


@pytest.mark.parametrize("behaviour", [mute, hang_up, talk_nonsense, stop_in_the_dump])
class TestWithABadBabeld(ExporterContract):
    spec: ClassVar[ExporterSpec] = SPEC

    @pytest.fixture(autouse=True)
    def scene(self, behaviour: Behaviour, tmp_path: Path) -> None:
        self.behaviour = behaviour
        self.socket = str(tmp_path / "babeld.sock")

    behaviour: Behaviour
    socket: str

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        async with serving(self.socket, self.behaviour):
            yield Rig(table={"socket": self.socket})


class Pair:
    """The access point's babeld and another access point's, both as `roamroute config babeld` wants them."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.here, self.there = mesh, mesh["here"], mesh["there"]
        command = tuple(mesh.command.split())
        for router in (self.here, self.there):
            settings = Settings(socket=str(router.socket))
            fragment = render(settings, bare_context(), installed_version(command))
            router.configuration = [fragment, OPERATOR]
            for link in ("wlan0", "wlan1"):
                router.ip(f"link add {link} type bridge", f"link set {link} up")
            router.ip("addr add 10.44.255.1/32 dev wlan0")

    def flush(self) -> None:
        numbers = KernelNumbers()
        for router in (self.here, self.there):
            for protocol in (numbers.protocol, numbers.withdrawing_protocol, numbers.dormant_protocol):
                for family in ("-6", "-4"):
                    sh(f"ip {family} -n {router.namespace} route flush proto {protocol}", check=False)

    def restart(self) -> None:
        self.here.kill()
        self.here.start()

    def announce_elsewhere(self, address: Address) -> None:
        numbers = KernelNumbers()
        self.there.ip(f"-6 route add {address} dev wlan0 proto {numbers.protocol} metric {numbers.metric}")

    def withdraw_elsewhere(self, address: Address) -> None:
        numbers = KernelNumbers()
        parked = f"proto {numbers.withdrawing_protocol} metric {numbers.parked_metric}"
        self.there.ip(f"-6 route add unreachable {address} {parked}")
        self.there.ip(f"-6 route del {address} proto {numbers.protocol}")


def bare_context() -> ExporterContext:
    return ExporterContext(("wlan0", "wlan1"), PREFIXES, KernelNumbers())


@pytest.fixture(scope="module", params=AS_INSTALLED)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with mesh_of(request.param, tmp_path_factory.mktemp("babeld"), ("here", "there")) as mesh:
        pair = Pair(mesh)
        mesh.start()
        yield pair


@pytest.mark.requires_root
class TestWithTheRealBabeld(RestartContract, HearingContract, SilenceContract):
    spec: ClassVar[ExporterSpec] = SPEC
    pair: Pair

    @pytest.fixture(autouse=True)
    def scene(self, pair: Pair) -> Iterator[None]:
        self.pair = pair
        with inside(pair.here.namespace):
            yield

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        pair = self.pair
        pair.flush()
        yield Rig(
            table={"socket": str(pair.here.socket), "command": pair.mesh.command},
            beside=lambda exporter, context: KernelFib(context, exporter.needs, exporter.may_delete),
            seen=lambda: installed(pair.here.namespace),
            settle_s=20.0,
            restart=pair.restart,
            stall=lambda: pair.here.signal(signal.SIGSTOP),
            go_on=lambda: pair.here.signal(signal.SIGCONT),
            announce_elsewhere=pair.announce_elsewhere,
            withdraw_elsewhere=pair.withdraw_elsewhere,
        )
