"""Forwarding between access points with real packets."""

from __future__ import annotations

import asyncio
import errno
import re
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv6Address

import pytest

from roamroute.delta import Delta
from roamroute.effects import EndForward, Forward
from roamroute.events import ForwardUsed
from roamroute.export import KernelNumbers
from roamroute.linux.forwarding import Forwarding
from roamroute.linux.left_overs import remove_left_overs
from roamroute.linux.rtnetlink import GROUP_IPV6_ROUTE, Notifications, Refusal, Requests
from roamroute.values import Address, HostRoute
from roamroute.wire import netlink, tunnelled

from .linux_namespaces import eventually
from .linux_tunnels import SERVER, SERVER4, STATION, STATION4, TABLES, Mesh, make_mesh, mesh_address, segments

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
        shown = [mesh.on("a", what, check=False) for what in (*whats, "nft list ruleset")]
        return "\n".join(line for text in shown for line in text.splitlines() if re.search("144|454|drop", line))

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
        begun = time.monotonic()
        await asyncio.to_thread(mesh.pings, count=10, family=4)
        await eventually(lambda: ForwardUsed(STATION4) in events)
        assert events.count(ForwardUsed(STATION4)) <= 1 + (time.monotonic() - begun)
        old.forward(END)
        before = list(events)
        await asyncio.to_thread(mesh.pings, count=3)
        assert events == before


async def test_under_load_few_packets_wake_anybody(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[bytes] = []
    real = tunnelled.inner_addresses

    def look(packet: bytes) -> tuple[Address, Address]:
        looked_at.append(packet)
        return real(packet)

    monkeypatch.setattr(tunnelled, "inner_addresses", look)
    old, new = mesh.forwarding("a"), mesh.forwarding("b")
    async with running(mesh, "a", old):
        roam(mesh, old, new)
        await asyncio.sleep(0)
        begun = time.monotonic()
        await asyncio.to_thread(mesh.pings, count=60)  # 3 s, or more on a busy machine
        assert 2 <= len(looked_at) <= 4 + 2 * (time.monotonic() - begun)
        assert new.status().taken[mesh_address("a")] >= 60


async def test_packets_of_our_own_clients_do_not_tell_that_a_forward_is_used(mesh: Mesh) -> None:
    """They say nothing of the routing, and would keep it in use for as long as two neighbours talk."""
    old, new = mesh.forwarding("a"), mesh.forwarding("b")
    async with running(mesh, "a", old):
        roam(mesh, old, new)
        neighbour = IPv6Address("fd44:0:0:1::78")
        old.deliver(Delta(announced=(HostRoute(neighbour, "wlan0"),)))
        await asyncio.sleep(0)
        mesh.on("a", f"ip addr add {neighbour}/128 dev lo")
        mesh.on("a", f"ping -c 3 -i 0.05 -W 1 -I {neighbour} {STATION}", check=False)
        await eventually(lambda: new.status().taken[mesh_address("a")] >= 3)
        await asyncio.sleep(0.1)
        assert mesh.events["a"] == []


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


# packets that have become too big (mesh links of 1500 octets)


@pytest.mark.parametrize(("family", "header"), [(6, 48), (4, 28)])
async def test_senders_are_told_when_packets_are_too_big_for_being_sent_on(
    mesh: Mesh, family: int, header: int
) -> None:
    old, new = mesh.forwarding("a"), mesh.forwarding("b")
    source, target = (SERVER, STATION) if family == 6 else (SERVER4, STATION4)

    def ping(size: int) -> str:
        """Packets of `size` octets, which their sender may fragment when it is told to."""
        command = f"ping -{family} -n -M dont -i 0.2 -c 3 -W 1 -s {size - header} -I {source} {target}"
        return mesh.on("core", command, check=False)

    async with running(mesh, "a", old):
        roam(mesh, old, new)
        await asyncio.sleep(0)
        assert "3 received" in await asyncio.to_thread(ping, 1460)
        told = await asyncio.to_thread(ping, 1500)
        assert "mtu" in told.lower()
        assert "1460" in told
        assert "icmp_seq=3 ttl" in told
    assert old.status().told_too_big == 1


async def test_a_download_goes_on_with_smaller_segments(mesh: Mesh) -> None:
    old, new = mesh.forwarding("a"), mesh.forwarding("b")
    serving = f'{sys.executable} -c \'import socket; s=socket.create_server(("{SERVER}",5201),family=10); '
    serving += "c,_=s.accept(); c.sendall(bytes(3_000_000)); c.close()'"
    asking = f"import socket,sys; s=socket.create_connection(('{SERVER}',5201),timeout=20); "
    asking += "print(sum(iter(lambda: len(s.recv(65536)), 0)))"
    async with running(mesh, "a", old):
        roam(mesh, old, new)
        await asyncio.sleep(0)
        server = asyncio.create_task(asyncio.to_thread(mesh.on, "core", serving))
        await asyncio.to_thread(wait_for_listener, mesh)
        received = await asyncio.to_thread(mesh.on, "sta", f'{sys.executable} -c "{asking}"')
        assert int(received) == 3_000_000
        await server
    assert old.status().told_too_big >= 1
    assert old.status().forwards


def wait_for_listener(mesh: Mesh) -> None:
    end = time.monotonic() + 10
    while ":5201" not in mesh.on("core", "ss -tnl"):
        assert time.monotonic() < end
        time.sleep(0.05)


# kernels and machines that are different


def test_a_router_without_client_links_sends_on_and_takes_nothing(mesh: Mesh) -> None:
    router, new = mesh.forwarding("a", ()), mesh.forwarding("b")
    assert router.why_not is None
    assert not router.segments
    mesh.route_to("a")
    mesh.attach("b")
    with mesh.inside("b"):
        new.deliver(Delta(announced=HOST))
    router.forward(to("b"))
    assert mesh.pings()
    assert mesh.pings(family=4)
    assert "lookup 4546" not in mesh.on("a", "ip -6 rule")
    assert not mesh.on("a", "nft list tables")


def test_several_client_links_take_no_ipv4(mesh: Mesh) -> None:
    """What is decapsulated could be sent into a tunnel again."""
    taking = mesh.forwarding("b", ("wlan0", "wlan1"))
    assert taking.why_not is None
    assert taking.segments.ipv6 == segments("b").ipv6
    assert taking.segments.ipv4 is None
    assert "End.DX4" not in mesh.on("b", "ip -6 route show table 4546")


def refusing(monkeypatch: pytest.MonkeyPatch, is_refused: Callable[[tuple[int, int, bytes]], int]) -> None:
    """A kernel that refuses some requests with an errno."""
    real = Requests.transact

    def transact(self: Requests, bodies: Sequence[tuple[int, int, bytes]]) -> list[Refusal]:
        refused = {place: number for place, body in enumerate(bodies) if (number := is_refused(body))}
        kept = [place for place in range(len(bodies)) if place not in refused]
        refusals = [Refusal(kept[each.position], each.errno) for each in real(self, [bodies[place] for place in kept])]
        return sorted(refusals + [Refusal(*item) for item in refused.items()], key=lambda each: each.position)

    monkeypatch.setattr(Requests, "transact", transact)


@pytest.mark.parametrize("family", [6, 4])
def test_without_routes_by_source_rules_tell_the_peers_apart(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, family: int
) -> None:
    """A kernel without CONFIG_IPV6_SUBTREES: EINVAL for a route with a source."""
    refusing(monkeypatch, lambda body: errno.EINVAL if body[0] == netlink.RTM_NEWROUTE and body[2][2] else 0)
    old, new = mesh.forwarding("a"), mesh.forwarding("b")
    assert new.why_not is None
    roam(mesh, old, new)
    assert mesh.pings(family=family)
    new.set_peers(frozenset({mesh_address("c")}))
    assert not mesh.pings(family=family)
    assert [line for line in mesh.logs["b"].lines if "SUBTREES" in line]


def test_a_kernel_that_cannot_encapsulate_is_told_and_nothing_is_forwarded(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_refused(body: tuple[int, int, bytes]) -> int:
        is_encapsulating = body[0] == netlink.RTM_NEWROUTE and netlink.attribute(21, b"\5\0") in body[2]
        return errno.EOPNOTSUPP if is_encapsulating else 0

    refusing(monkeypatch, is_refused)
    old = mesh.forwarding("a")
    assert old.why_not is not None
    assert "CONFIG_IPV6_SEG6_LWTUNNEL" in old.why_not
    old.forward(to("b"))
    assert not old.status().forwards


@pytest.mark.parametrize("family", [6, 4])
def test_a_kernel_before_6_0_encapsulates_with_a_routing_header(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, family: int
) -> None:
    def is_refused(body: tuple[int, int, bytes]) -> int:
        # Mode ENCAP_RED in SEG6_IPTUNNEL_SRH of 28 octets
        is_reduced = struct.pack("=HHi", 32, 1, 3) in body[2]
        return errno.EINVAL if is_reduced else 0

    refusing(monkeypatch, is_refused)
    old, new = mesh.forwarding("a"), mesh.forwarding("b")
    assert old.why_not is None
    roam(mesh, old, new)
    assert "mode encap segs" in mesh.on("a", f"ip -{family} route show table 4544")
    assert mesh.pings(family=family)


async def test_a_forward_that_the_kernel_refuses_is_tried_again_and_told_once(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = True
    old = mesh.forwarding("a")

    def is_refused(body: tuple[int, int, bytes]) -> int:
        return errno.ENOSPC if is_full and body[0] == netlink.RTM_NEWROUTE and STATION.packed in body[2] else 0

    refusing(monkeypatch, is_refused)
    async with running(mesh, "a", old):
        old.forward(to("b"))
        assert set(old.status().forwards) == {STATION4}
        await asyncio.sleep(1.2)
        is_full = False
        await eventually(lambda: set(old.status().forwards) == {STATION, STATION4})
    assert len([line for line in mesh.logs["a"].lines if "refused" in line]) == 1


def test_what_an_earlier_run_left_is_removed_where_forwarding_is_off_now(mesh: Mesh) -> None:
    before = shown(mesh, "a")
    with mesh.inside("a"):
        crashed = mesh.forwarding("a")
        crashed.deliver_all(HOST)
        crashed.forward(to("b"))
        remove_left_overs(TABLES, KernelNumbers(), mesh.logs["a"])
    assert shown(mesh, "a") == before
    assert not mesh.on("a", "nft list tables")


def test_the_source_that_an_earlier_run_set_is_no_other_program_s(mesh: Mesh) -> None:
    """It was killed, and our mesh address is another one now."""
    with mesh.inside("a"):
        mesh.forwarding("a")
        mesh.on("a", "ip -6 rule add priority 4600 protocol 144 from fd44:0:0:a::77 to fd44::/16 iif wlan0 goto 32766")
        mesh.on("a", "ip sr tunsrc set fd44:0:0:a::77")
        assert mesh.forwarding("a").why_not is None
        mesh.on("a", "ip -6 rule add priority 4600 protocol 144 from fd44:0:0:a::77 to fd44::/16 iif wlan0 goto 32766")
        mesh.on("a", "ip sr tunsrc set fd44:0:0:a::77")
        remove_left_overs(TABLES, KernelNumbers(), mesh.logs["a"])
        assert mesh.on("a", "ip sr tunsrc show").split()[-1] == "::"


async def test_the_filter_of_what_clients_send_is_put_back(mesh: Mesh) -> None:
    old = mesh.forwarding("a")
    async with running(mesh, "a", old):
        mesh.on("a", "nft flush ruleset")
        await eventually(lambda: "drop" in mesh.on("a", "nft list ruleset"))
    assert old.is_guarded


async def test_a_routing_daemon_that_listens_is_not_flooded_with_the_hosts_that_packets_are_taken_for(
    mesh: Mesh,
) -> None:
    """Some 270 messages fit into a socket buffer of the default size; babeld does not notice what did not."""
    taking = mesh.forwarding("b")
    async with running(mesh, "b", taking):
        with mesh.inside("b"):
            listener = Notifications((GROUP_IPV6_ROUTE,), 212_992)
        taking.deliver_all([HostRoute(STATION + number, "wlan0") for number in range(1, 301)])
        at_once = len(listener.read(1000)[0])
        assert 0 < at_once <= 60
        await eventually(lambda: mesh.on("b", "ip -6 route show table 4545").count("dev wlan0") == 300)
        listener.close()
