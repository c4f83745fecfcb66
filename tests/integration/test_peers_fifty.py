"""Fifty access points that find each other one by one, and one of them dead among 256: what it costs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest
from peers_network import claim_of
from peers_sockets import AccessPoint, perform

from roamroute.effects import ShareHint
from roamroute.events import ClaimAnswered, HostHinted, PeerJoined, PeerLost
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.values import Hint

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "nsenter")]

COUNT = 50
ADDRESSES = [IPv6Address(f"fd44:0:0:a::{number:x}") for number in range(1, COUNT + 1)]


@pytest.fixture
def mesh() -> Iterator[Namespace]:
    with Sandbox() as sandbox:
        namespace = sandbox.namespace("mesh")
        namespace.ip(*(f"addr add {address}/128 dev lo nodad" for address in ADDRESSES))
        yield namespace


def sessions(points: list[AccessPoint]) -> int:
    return sum(isinstance(event, PeerJoined) for point in points for event in point.events)


def test_fifty_that_discover_each_other_all_agree(mesh: Namespace) -> None:
    """Each learns of the others in another order, in portions, as their routes arrive: A may know B before B knows A"""

    async def script() -> None:
        chance = random.Random(50)
        points = [AccessPoint(address) for address in ADDRESSES]
        unknown = [chance.sample(ADDRESSES, COUNT) for _ in points]
        while any(unknown):
            for point, left in zip(points, unknown, strict=True):
                del left[: chance.randrange(20)]
                point.channel.set_peers(set(ADDRESSES) - set(left))
            await asyncio.sleep(0.02)
        await points[0].until(lambda: sessions(points) == COUNT * (COUNT - 1), "all sessions stand", 0.2)

        for number, point in enumerate(points):
            point.claim(number)
            hint = Hint(claim_of(100 + number).mac, 1, point.address, tuple(ADDRESSES[:3]))
            point.channel.share_hint(ShareHint(hint, "a test"))
        await points[0].until(
            lambda: not any(point.channel.status().claims_outstanding for point in points),
            "all claims are answered",
            look_s=0.5,
        )
        await points[0].until(
            lambda: all(peer.hints_held == 1 for point in points for peer in point.channel.status().peers),
            "all know all hosts",
            look_s=0.5,
        )
        for point in points:
            assert sum(isinstance(event, PeerJoined) for event in point.events) == COUNT - 1
            assert not any(isinstance(event, PeerLost) for event in point.events)
            hinted = {event.hint.peer for event in point.events if isinstance(event, HostHinted)}
            assert hinted == set(ADDRESSES) - {point.address}

        before = [point.channel.status().counters["datagrams_sent"] for point in points]
        began, spent = time.monotonic(), time.process_time()
        await asyncio.sleep(2.0)
        passed = time.monotonic() - began
        sent = [
            (point.channel.status().counters["datagrams_sent"] - count) / passed
            for point, count in zip(points, before, strict=True)
        ]
        assert sum(sent) / COUNT < 49 * 0.3  # a ping or its answer per peer every 9 s; twice that for who was late
        assert (time.process_time() - spent) / passed < 0.5  # of one processor, for all fifty

    perform(mesh, script)


def test_a_dead_peer_holds_up_none_of_the_others(mesh: Namespace) -> None:
    async def script() -> None:
        points = [AccessPoint(address, *ADDRESSES) for address in ADDRESSES[:12]]  # the other 38 are never there
        living = len(points) - 1
        await points[0].until(lambda: sessions(points) == 12 * living, "the living have found each other")
        await points[-1].end()  # and one dies
        began = time.monotonic()
        points[0].claim(1)
        await points[0].until(
            lambda: len({event.peer for event in points[0].events if isinstance(event, ClaimAnswered)}) == living - 1,
            "the living have answered",
        )
        assert time.monotonic() - began < 1.0
        counters = points[0].channel.status().counters
        await asyncio.sleep(2.0)
        again = points[0].channel.status().counters
        # a hello a second at most to the 38 while the claim waits; to the dead one the claim, 4 times a second
        assert (again["datagrams_sent"] - counters["datagrams_sent"]) / 2.0 < 38 * 1.5 + 40

    perform(mesh, script)
