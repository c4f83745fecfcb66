"""Forwarding between access points with real packets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from roamroute.delta import Delta
from roamroute.effects import EndForward, Forward
from roamroute.events import ForwardUsed
from roamroute.linux.forwarding import Forwarding
from roamroute.values import HostRoute

from .linux_namespaces import eventually
from .linux_tunnels import STATION, STATION4, Mesh, make_mesh, mesh_address, segments

HOST = (HostRoute(STATION, "wlan0"), HostRoute(STATION4, "wlan0"))


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    for built in make_mesh():
        try:
            yield built
        finally:
            for opened in built.opened:
                asyncio.run(opened.close())


def to(name: str) -> list[Forward | EndForward]:
    there, ours = mesh_address(name), segments(name)
    assert ours.ipv6 is not None
    assert ours.ipv4 is not None
    return [Forward(STATION, ours.ipv6, there, "test"), Forward(STATION4, ours.ipv4, there, "test")]


END = [EndForward(STATION, "test"), EndForward(STATION4, "test")]


def roam(mesh: Mesh, old: Forwarding, new: Forwarding) -> None:
    """The station goes from a to b; the core still sends to a."""
    mesh.route_to("a")
    mesh.attach("b")
    old.forward(to("b"))
    with mesh.inside("b"):
        new.deliver(Delta(announced=HOST))


@pytest.mark.parametrize("family", [6, 4])
def test_what_still_arrives_at_the_old_access_point_reaches_the_station_at_the_new_one(mesh: Mesh, family: int) -> None:
    old, new = mesh.forwarding("a"), mesh.forwarding("b")
    assert old.why_not is None
    assert new.why_not is None
    mesh.route_to("a")
    mesh.attach("b")
    with mesh.inside("b"):
        new.deliver(Delta(announced=HOST))
    assert not mesh.pings(family=family)
    old.forward(to("b"))
    assert mesh.pings(family=family)
    assert new.status().taken[mesh_address("a")] >= 2
    old.forward(END)
    assert not mesh.pings(family=family)
    assert not old.status().forwards


def test_nothing_is_left_after_clear(mesh: Mesh) -> None:
    def everything() -> str:
        whats = [f"ip -{family} {what}" for family in (6, 4) for what in ("rule", "route show table all")]
        shown = [mesh.on("a", what, check=False) for what in whats]
        return "\n".join(line for text in shown for line in text.splitlines() if "144" in line or "454" in line)

    before = everything()
    old = mesh.forwarding("a")
    with mesh.inside("a"):
        old.deliver_all(HOST)
        old.forward(to("b"))
        assert everything() != before
        old.clear()
    assert everything() == before
    assert mesh.on("a", "ip sr tunsrc show").split()[-1] == "::"


@asynccontextmanager
async def running(mesh: Mesh, name: str, forwarding: Forwarding) -> AsyncIterator[None]:
    """The thread is in the namespace of the access point meanwhile."""
    with mesh.inside(name):
        task = asyncio.create_task(forwarding.run())
        try:
            await asyncio.sleep(0.05)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_the_first_packet_that_is_sent_on_is_told_at_once_and_the_others_once_a_second(mesh: Mesh) -> None:
    old, new = mesh.forwarding("a"), mesh.forwarding("b")
    async with running(mesh, "a", old):
        roam(mesh, old, new)
        events = mesh.events["a"]
        await asyncio.to_thread(mesh.pings, count=1)
        await eventually(lambda: events == [ForwardUsed(STATION)])
        await asyncio.to_thread(mesh.pings, count=10, family=4)
        await eventually(lambda: ForwardUsed(STATION4) in events)
        await asyncio.to_thread(mesh.pings, count=20)
        assert events.count(ForwardUsed(STATION4)) == 1
        old.forward(END)
        before = list(events)
        await asyncio.to_thread(mesh.pings, count=3)
        assert events == before
