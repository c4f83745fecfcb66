"""What hosts say during duplicate address detection, over the channel's real sockets."""

from __future__ import annotations

import asyncio
import select
import socket
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest
from peers_network import claim_of, said_of
from peers_sockets import AccessPoint, perform

from roamroute.events import HostClaimed, PeerJoined, PeerLost
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.peers import DEFAULT_PORT

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "nft", "nsenter")]

ONE, TWO = (IPv6Address(f"fd44:0:0:a::{number}") for number in (1, 2))


@pytest.fixture
def mesh() -> Iterator[Namespace]:
    with Sandbox() as sandbox:
        namespace = sandbox.namespace("mesh")
        namespace.ip(*(f"addr add {address}/128 dev lo nodad" for address in (ONE, TWO)))
        yield namespace


async def joined() -> tuple[AccessPoint, AccessPoint]:
    one, two = (AccessPoint(address, ONE, TWO, is_proxy=True) for address in (ONE, TWO))
    await one.until(lambda: PeerJoined(TWO) in one.events, "the session stands")
    await two.until(lambda: PeerJoined(ONE) in two.events, "the session stands")
    await asyncio.sleep(0.1)
    return one, two


def test_it_is_in_the_peers_socket_before_the_call_returns(mesh: Namespace) -> None:
    async def script() -> None:
        one, two = await joined()
        wire = two.channel._socket
        assert wire is not None
        assert not select.select([wire], [], [], 0)[0]
        one.channel.relay_dad(said_of(1), None)
        assert select.select([wire], [], [], 0)[0]
        await two.until(lambda: two.said == [said_of(1)], "it is told")

    perform(mesh, script)


def test_a_claim_overtakes_what_hosts_say_at_both_ends(mesh: Namespace) -> None:
    """Two hundred questions in the same turn as the claim, and before it."""

    async def script() -> None:
        one, two = await joined()
        two.told.clear()
        for number in range(200):
            one.channel.relay_dad(said_of(number), None)
        one.claim(1)
        await two.until(lambda: len(two.told) == 201, "all is told")
        assert two.told.index(HostClaimed(claim_of(1, ONE))) <= 1  # the first question leaves at once
        assert sorted(message.mac for message in two.said) == [said_of(number).mac for number in range(200)]
        assert one.channel.status().counters["dad_sent"] == 200

    perform(mesh, script)


def test_where_one_datagram_in_five_is_lost_all_is_told_once(mesh: Namespace) -> None:
    async def script() -> None:
        one, two = await joined()
        mesh.run("nft", "add table inet loss")
        mesh.run("nft", "add chain inet loss input { type filter hook input priority 0; }")
        mesh.run("nft", f"add rule inet loss input udp dport {DEFAULT_PORT} numgen random mod 100 < 20 drop")
        for number in range(300):
            one.channel.relay_dad(said_of(number), None)
            await asyncio.sleep(0.002)
        await two.until(lambda: len(two.said) == 300, "all is told")
        await one.until(lambda: not one.channel._exchange._relays.next_wakeup, "all is acknowledged")
        assert set(Counter(message.mac for message in two.said).values()) == {1}
        assert one.channel.status().counters["dad_repeated"] > 20
        assert two.channel.status().counters["dad_copies"] > 10

    perform(mesh, script)


def test_what_the_client_links_and_hostapd_know_comes_first(mesh: Namespace) -> None:
    """After a stall of the daemon: the host has come here meanwhile, and the peers' socket is the first to be read."""

    async def script() -> None:
        one, two = await joined()
        link, station = socket.socketpair()
        here = PeerLost(ONE)  # an event like any other
        loop = asyncio.get_running_loop()
        loop.add_reader(link, lambda: two.told.append(here) if link.recv(1) else None)
        two.told.clear()
        one.channel.relay_dad(said_of(1), None)
        station.send(b"!")
        await two.until(lambda: len(two.told) == 2, "both are told")
        assert two.told == [here, said_of(1)]
        loop.remove_reader(link)
        link.close()
        station.close()

    perform(mesh, script)
