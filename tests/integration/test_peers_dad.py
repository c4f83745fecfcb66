"""What hosts say during duplicate address detection, over the channel's real sockets."""

from __future__ import annotations

import asyncio
import select
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest
from peers_network import claim_of, said_of
from peers_sockets import AccessPoint, perform

from roamroute.events import HostClaimed, PeerJoined
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
        assert two.told[0] == HostClaimed(claim_of(1, ONE))
        assert two.said == [said_of(number) for number in range(200)]
        counters = one.channel.status().counters
        assert (counters["dad_sent"], counters["dad_repeated"], counters["claims_repeated"]) == (200, 0, 0)

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
