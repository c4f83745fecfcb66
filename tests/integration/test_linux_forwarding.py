"""Forwarding between access points with real packets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from roamroute.delta import Delta
from roamroute.effects import EndForward, Forward
from roamroute.events import ForwardUsed
from roamroute.linux.forwarding import Forwarding
from roamroute.values import HostRoute

from .linux_namespaces import eventually
from .linux_tunnels import STATION, STATION4, TABLES, Mesh, make_mesh, mesh_address, segments

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


# what others do to our rules and routes


def shown(mesh: Mesh, name: str) -> list[str]:
    """Rules and routes of ours, as `ip` shows them, but for what counts or runs out."""
    whats = ["-6 rule", "-4 rule"]
    whats += [f"{family} route show table {TABLES + place}" for family in ("-6", "-4") for place in range(3)]
    lines = [line for what in whats for line in mesh.on(name, f"ip {what}", check=False).splitlines()]
    return sorted(re.sub(r" (expires|packets|bytes|errors) \w+", "", line).strip() for line in lines)


async def test_what_others_flush_is_put_back(mesh: Mesh) -> None:
    old = mesh.forwarding("a")
    async with running(mesh, "a", old):
        old.forward(to("b"))
        old.deliver_all(HOST)
        before = shown(mesh, "a")
        for command in (
            f"ip -6 route flush table {TABLES}",
            f"ip -4 route flush table {TABLES}",
            f"ip -6 route flush table {TABLES + 1}",
            f"ip -6 route flush table {TABLES + 2}",
            *(f"ip -6 rule del pref {4544 + place}" for place in range(5)),
            "ip -4 rule del pref 4548",
        ):
            mesh.on("a", command)
            await eventually(lambda: shown(mesh, "a") == before)
        mesh.on("a", "ip sr tunsrc set ::")
        await eventually(lambda: mesh.on("a", "ip sr tunsrc show").split()[-1] == str(mesh_address("a")))
    assert not [line for line in mesh.logs["a"].lines if "error" in line]


async def test_forwards_and_segments_survive_the_interface_that_their_routes_name(mesh: Mesh) -> None:
    changes: list[str | None] = []
    old = mesh.forwarding("a", changed=lambda: changes.append(old.why_not))
    async with running(mesh, "a", old):
        old.forward(to("b"))
        before = shown(mesh, "a")
        assert any("dev up0" in line for line in before)
        mesh.on("a", "ip link set up0 down")
        await eventually(lambda: shown(mesh, "a") == [line.replace("dev up0", "dev wlan0") for line in before])
        mesh.on("a", "ip link set wlan0 down")
        await eventually(lambda: old.why_not is not None and "no interface" in old.why_not)
        mesh.on("a", "ip link set wlan0 up")
        mesh.on("a", "ip addr add fe80::1/64 dev wlan0 nodad")
        await eventually(lambda: old.why_not is None)
        assert changes[-1] is None
        await eventually(lambda: sum("encap seg6 " in line for line in shown(mesh, "a")) == 2)


def test_another_run_flushes_what_a_crash_left_and_doubles_no_rule(mesh: Mesh) -> None:
    crashed = mesh.forwarding("a")
    with mesh.inside("a"):
        before = shown(mesh, "a")
        crashed.forward(to("b"))
        mesh.forwarding("a")
        assert shown(mesh, "a") == before


def test_rules_and_routes_of_others_are_never_touched(mesh: Mesh) -> None:
    others = [
        f"-6 rule add pref 4546 to fd44:77::/64 lookup {TABLES}",
        "-4 rule add pref 4548 to 10.77.0.0/16 lookup 77",
        f"-6 route add fd44:77::1 dev up0 table {TABLES} metric 8",
        f"-6 route add fd44:77::2 dev up0 table {TABLES + 2} metric 8",
        f"-4 route add 10.77.0.1 dev up0 table {TABLES}",
    ]
    for command in others:
        mesh.on("a", f"ip {command}")
    before = shown(mesh, "a")
    old = mesh.forwarding("a")
    with mesh.inside("a"):
        old.forward(to("b"))
        assert set(before) < set(shown(mesh, "a"))
        old.clear()
    assert shown(mesh, "a") == before


async def test_a_source_that_another_program_has_set_is_left_alone_and_told(mesh: Mesh) -> None:
    mesh.on("a", "ip sr tunsrc set fd44:5::5")
    changes: list[str | None] = []
    old = mesh.forwarding("a", changed=lambda: changes.append(old.why_not))
    assert old.why_not is not None
    assert "fd44:5::5" in old.why_not
    async with running(mesh, "a", old):
        mesh.on("a", "ip sr tunsrc set ::")
        await eventually(lambda: old.why_not is None)
        mesh.on("a", "ip sr tunsrc set fd44:5::6")
        await eventually(lambda: old.why_not is not None)
    with mesh.inside("a"):
        old.clear()
    assert mesh.on("a", "ip sr tunsrc show").split()[-1] == "fd44:5::6"
    assert [why is None for why in changes] == [True, False]


def test_packets_of_a_peer_that_has_gone_are_not_taken_any_more(mesh: Mesh) -> None:
    old, new = mesh.forwarding("a"), mesh.forwarding("b")
    roam(mesh, old, new)
    assert mesh.pings()
    new.set_peers(frozenset({mesh_address("c")}))
    assert not mesh.pings()
    new.set_peers(frozenset({mesh_address("a"), mesh_address("c")}))
    assert mesh.pings()
