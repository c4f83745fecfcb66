"""The peers' channel over real UDP sockets, in a network namespace whose loopback holds all mesh addresses."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from peers_network import KEY, claim_of
from peers_older import OlderPeer
from peers_sockets import AccessPoint, perform

from roamroute.effects import DropClaim, SendClaim, ShareHint, UnshareHint
from roamroute.events import ClaimUnanswered, HandoverReported, HostClaimed, HostHinted, PeerJoined, PeerLost
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.peers import DEFAULT_PORT
from roamroute.peers import channel as channel_module
from roamroute.values import HandoverReport, Hint

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "nft", "nsenter")]

NEW_KEY = bytes(range(32, 64))
ONE, TWO, THREE = (IPv6Address(f"fd44:0:0:a::{number}") for number in (1, 2, 3))


@pytest.fixture
def mesh() -> Iterator[Namespace]:
    with Sandbox() as sandbox:
        namespace = sandbox.namespace("mesh")
        namespace.ip(*(f"addr add {address}/128 dev lo nodad" for address in (ONE, TWO, THREE)))
        yield namespace


def test_a_claim_is_answered_in_one_round_trip(mesh: Namespace) -> None:
    async def script() -> None:
        one, two = AccessPoint(ONE, ONE, TWO), AccessPoint(TWO, ONE, TWO)
        assert await one.until(lambda: PeerJoined(TWO) in one.events, "the session stands") < 1.0
        one.claim(1)
        await one.until(lambda: bool(one.answered), "the answer is there")
        assert two.events == [PeerJoined(ONE), HostClaimed(claim_of(1, ONE))]
        (peer,) = one.channel.status().peers
        assert (peer.peer, peer.is_up, peer.restarts) == (TWO, True, 0)
        assert peer.rtt_s is not None
        assert one.channel.status().claims_outstanding == 0

    perform(mesh, script)


def test_it_works_between_ipv4_addresses(mesh: Namespace) -> None:
    async def script() -> None:
        addresses = IPv4Address("127.0.0.2"), IPv4Address("127.0.0.3")
        one, two = (AccessPoint(address, *addresses) for address in addresses)
        one.claim(1)
        await one.until(lambda: bool(one.answered), "the answer is there")
        assert HostClaimed(claim_of(1, addresses[0])) in two.events

    perform(mesh, script)


def test_a_claim_made_before_anything_runs_still_arrives(mesh: Namespace) -> None:
    async def script() -> None:
        mesh.ip(f"addr del {ONE}/128 dev lo")
        one = AccessPoint(ONE, TWO)
        one.claim(1)
        await one.until(lambda: any("cannot listen on" in line for line in one.log), "the missing address is told")
        two = AccessPoint(TWO, ONE)
        mesh.ip(f"addr add {ONE}/128 dev lo nodad")
        await one.until(lambda: bool(one.answered), "the answer is there")
        assert HostClaimed(claim_of(1, ONE)) in two.events
        assert sum("cannot listen" in line for line in one.log) == 1

    perform(mesh, script)


def test_a_claim_reaches_a_peer_that_was_restarted_at_once(mesh: Namespace) -> None:
    async def script() -> None:
        one, two = AccessPoint(ONE, TWO), AccessPoint(TWO, ONE)
        await one.until(lambda: PeerJoined(TWO) in one.events, "the session stands")
        await two.end()
        two = AccessPoint(TWO, ONE)
        one.claim(1)
        assert await one.until(lambda: bool(one.answered), "the answer is there") < 0.5
        assert one.events.count(PeerJoined(TWO)) == 2
        assert one.channel.status().peers[0].restarts == 1
        assert two.events[0] == PeerJoined(ONE)

    perform(mesh, script)


def test_every_claim_arrives_although_a_third_of_the_datagrams_is_lost(mesh: Namespace) -> None:
    rules = "table inet lossy { chain input { type filter hook input priority 0; numgen random mod 100 < 33 drop; }; }"
    mesh.run("nft", "-f", "-", stdin=rules)

    async def script() -> None:
        one, two = AccessPoint(ONE, TWO), AccessPoint(TWO, ONE)
        await one.until(lambda: PeerJoined(TWO) in one.events, "the session stands")
        for number in range(300):
            one.claim(number)
        await one.until(lambda: len(one.answered) == 300, "all are answered")
        assert len({event.claim.mac for event in two.events if isinstance(event, HostClaimed)}) == 300
        assert not any(isinstance(event, ClaimUnanswered) for event in one.events)

    perform(mesh, script)


def test_a_peer_that_does_not_answer_is_reported_after_5_s_and_a_dropped_claim_is_not(mesh: Namespace) -> None:
    async def script() -> None:
        one, two = AccessPoint(ONE, TWO), AccessPoint(TWO, ONE)
        two.verdict = None
        await one.until(lambda: PeerJoined(TWO) in one.events, "the session stands")
        one.claim(1)
        one.claim(2)
        one.channel.drop_claim(DropClaim(claim_of(2).mac, "a test"))
        waited = await one.until(lambda: any(isinstance(event, ClaimUnanswered) for event in one.events), "reported")
        assert 4.9 < waited < 7.0
        assert [event for event in one.events if isinstance(event, ClaimUnanswered)] == [
            ClaimUnanswered(TWO, claim_of(1).mac, 1)
        ]

    perform(mesh, script)


def test_a_flood_of_garbage_does_not_keep_a_claim_from_arriving(mesh: Namespace) -> None:
    async def script() -> None:
        one, two = AccessPoint(ONE, TWO), AccessPoint(TWO, ONE)
        await one.until(lambda: PeerJoined(TWO) in one.events, "the session stands")
        stranger = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        stranger.bind((str(THREE), 0))
        forger = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        forger.bind((str(ONE), 0))  # the peer's address, another port: as good as a forged source

        async def flood() -> None:
            for number in range(200):
                for _ in range(20):
                    stranger.sendto(os.urandom(200), (str(TWO), DEFAULT_PORT))
                    forger.sendto(b"rr\1" + bytes([1 + number % 2]) + os.urandom(100), (str(TWO), DEFAULT_PORT))
                await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        for number in range(20):
            one.claim(number)
            await asyncio.sleep(0)
        await one.until(lambda: len(one.answered) == 20, "all are answered")
        await flooding
        await two.until(lambda: two.channel.status().counters["from_strangers"] > 100, "strangers are counted")
        assert two.channel.status().counters["forged"] > 0
        assert two.channel.status().peers[0].is_up
        stranger.close()
        forger.close()

    perform(mesh, script)


def test_another_key_is_told_in_the_log_soon_and_once(mesh: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "KEYS_COMPARED_S", 0.3)

    async def script() -> None:
        one, two = AccessPoint(ONE, TWO), AccessPoint(TWO, ONE, keys=(bytes(32),))
        await one.until(lambda: any("is the key the same on both?" in line for line in one.log), "the log says it")
        await asyncio.sleep(1.0)
        assert sum("is the key the same on both?" in line for line in one.log) == 1
        assert one.events == two.events == []

    perform(mesh, script)


def test_peers_come_and_go(mesh: Namespace) -> None:
    async def script() -> None:
        one, two, three = AccessPoint(ONE), AccessPoint(TWO, ONE), AccessPoint(THREE, ONE)
        one.claim(1)
        assert one.channel.status().peers == ()
        one.channel.set_peers([ONE, TWO, THREE])
        await one.until(lambda: {PeerJoined(TWO), PeerJoined(THREE)} <= set(one.events), "both have joined")
        one.channel.set_peers([THREE])
        assert one.events[-1] == PeerLost(TWO)
        one.claim(2)
        await one.until(lambda: bool(one.answered), "the answer is there")
        assert HostClaimed(claim_of(2, ONE)) in three.events
        assert not any(isinstance(event, HostClaimed) for event in two.events)

    perform(mesh, script)


def test_a_peer_without_a_route_is_counted_and_told_once(mesh: Namespace) -> None:
    async def script() -> None:
        one = AccessPoint(ONE, IPv6Address("fd66::1"))
        await one.until(lambda: one.channel.status().counters["send_failures"] >= 3, "it is tried")
        assert sum("cannot send to fd66::1" in line for line in one.log) == 1

    perform(mesh, script)


def test_a_closed_channel_lets_its_port_go(mesh: Namespace) -> None:
    async def script() -> None:
        one = AccessPoint(ONE, TWO)
        await one.until(lambda: one.channel.status().is_bound, "it listens")
        await one.end()
        one.channel.close()
        again = AccessPoint(ONE, TWO)
        await again.until(lambda: again.channel.status().is_bound, "its successor listens")

    perform(mesh, script)


def hint_of(number: int, peer: IPv6Address = ONE) -> Hint:
    claim = claim_of(number, peer)
    return Hint(claim.mac, 1, peer, claim.addresses)


def test_hints_and_reports_arrive_although_a_third_of_the_datagrams_is_lost(mesh: Namespace) -> None:
    rules = "table inet lossy { chain input { type filter hook input priority 0; numgen random mod 100 < 33 drop; }; }"
    mesh.run("nft", "-f", "-", stdin=rules)

    async def script() -> None:
        one, two = AccessPoint(ONE, TWO), AccessPoint(TWO, ONE)
        for number in range(100):
            one.channel.share_hint(ShareHint(hint_of(number), "a test"))
        one.channel.unshare_hint(UnshareHint(hint_of(0).mac, "a test"))
        await one.until(lambda: one.channel.status().peers[0].hints_held == 99, "all are acknowledged")
        told = [event.hint for event in two.events if isinstance(event, HostHinted)]
        assert sorted(hint.mac for hint in told) == sorted(hint_of(number).mac for number in range(1, 100))
        report = HandoverReport(hint_of(1).mac, 1, 0.5)
        for _ in range(20):
            one.channel.send_report(TWO, report)
        await two.until(lambda: HandoverReported(ONE, report) in two.events, "the report is there")

    perform(mesh, script)


def test_the_former_holder_is_told_before_the_call_returns(mesh: Namespace) -> None:
    async def script() -> None:
        one, two, three = AccessPoint(ONE, TWO, THREE), AccessPoint(TWO, ONE), AccessPoint(THREE, ONE)
        await one.until(lambda: {PeerJoined(TWO), PeerJoined(THREE)} <= set(one.events), "the sessions stand")
        before = {peer.peer: peer.sent for peer in one.channel.status().peers}
        one.channel.send_claim(SendClaim(claim_of(1, ONE), "a test", first=THREE))
        sent = {peer.peer: peer.sent - before[peer.peer] for peer in one.channel.status().peers}
        assert sent == {TWO: 0, THREE: 1}
        await one.until(lambda: one.channel.status().claims_outstanding == 0, "both have answered")
        assert all(HostClaimed(claim_of(1, ONE)) in other.events for other in (two, three))

    perform(mesh, script)


def test_the_key_is_changed_without_an_unanswered_claim(mesh: Namespace) -> None:
    async def script() -> None:
        points = [AccessPoint(address, ONE, TWO, THREE) for address in (ONE, TWO, THREE)]
        sequence = 0

        async def roam() -> None:
            nonlocal sequence
            for point in points:
                sequence += 1
                point.claim(sequence, sequence)
            await points[0].until(
                lambda: all(point.channel.status().claims_outstanding == 0 for point in points), "all are answered"
            )

        await roam()
        for keys in ((NEW_KEY, KEY), (NEW_KEY,)):
            for point in (points[1], points[0], points[2]):
                point.channel.set_keys(keys)
                await roam()
                await asyncio.sleep(0.2)
        await points[0].until(
            lambda: all(peer.has_own_key for point in points for peer in point.channel.status().peers), "all have it"
        )
        for point in points:
            assert not any(isinstance(event, ClaimUnanswered | PeerLost) for event in point.events)
        with pytest.raises(ValueError):
            points[0].channel.set_keys(())

    perform(mesh, script)


def test_a_peer_of_an_older_version_works_as_before(mesh: Namespace) -> None:
    async def script() -> None:
        one, two = AccessPoint(ONE, TWO, THREE), AccessPoint(TWO, ONE)
        older = OlderPeer(THREE, ONE, KEY)
        wire = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        wire.bind((str(THREE), DEFAULT_PORT))

        def send(datagrams: list[bytes]) -> None:
            for datagram in datagrams:
                wire.sendto(datagram, (str(ONE), DEFAULT_PORT))

        asyncio.get_running_loop().add_reader(wire.fileno(), lambda: send(older.receive(wire.recv(2000))))
        await one.until(lambda: {PeerJoined(TWO), PeerJoined(THREE)} <= set(one.events), "the sessions stand")
        one.channel.share_hint(ShareHint(hint_of(1), "a test"))
        one.channel.send_claim(SendClaim(claim_of(1, ONE), "a test", first=THREE))
        send(older.claim(bytes.fromhex("02005e440009"), 1))
        await one.until(lambda: one.channel.status().claims_outstanding == 0, "both have answered")
        await one.until(lambda: bool(older.answers), "the older peer's claim is answered")
        two.channel.share_hint(ShareHint(hint_of(2, TWO), "a test"))
        await one.until(lambda: HostHinted(hint_of(2, TWO)) in one.events, "hints go among the others")
        assert len(older.claims) >= 1
        assert older.unknown == []
        assert [peer.capabilities for peer in one.channel.status().peers] == [("hints", "reports", "segments"), ()]
        asyncio.get_running_loop().remove_reader(wire.fileno())
        wire.close()

    perform(mesh, script)


def forgeries(number: int) -> list[bytes]:
    """What anybody can make: noise, hellos, sealed datagrams of sessions that there are not."""
    return [
        os.urandom(100),
        b"rr\1\1" + os.urandom(100),
        b"rr\1\2" + os.urandom(100),
        b"rr\1\2" + os.urandom(8) + number.to_bytes(8, "big") + os.urandom(60),
    ]


def test_a_flood_costs_a_bounded_share_of_the_time(mesh: Namespace) -> None:
    async def script() -> None:
        one, two = AccessPoint(ONE, TWO), AccessPoint(TWO, ONE)
        await one.until(lambda: PeerJoined(TWO) in one.events, "the session stands")
        forger = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        forger.bind((str(ONE), 0))  # the peer's address, another port: as good as a forged source
        for number in range(256):
            for datagram in forgeries(number):
                forger.sendto(datagram, (str(TWO), DEFAULT_PORT))
        one.claim(1)
        await two.until(lambda: two.channel.status().counters["rests"] >= 5, "it rests between its readings")
        await one.until(lambda: bool(one.answered), "the claim gets through")
        counters = two.channel.status().counters
        refused = sum(counters[name] for name in ("malformed", "forged", "unknown_session"))
        assert counters["rests"] >= refused // (2 * channel_module.DATAGRAMS_PER_WAKEUP)
        assert two.channel.status().peers[0].is_up
        forger.close()

    perform(mesh, script)


@pytest.mark.parametrize("version", [4, 6])
def test_the_kernel_drops_most_of_what_strangers_send_and_nothing_of_a_peers(mesh: Namespace, version: int) -> None:
    addresses = (IPv4Address("127.0.0.2"), IPv4Address("127.0.0.3"), IPv4Address("127.0.0.4"))

    async def script() -> None:
        first, second, third = addresses if version == 4 else (ONE, TWO, THREE)
        two = AccessPoint(second)
        await two.until(lambda: two.channel.status().is_bound, "it listens")
        two.channel.set_peers([first])
        one = AccessPoint(first, second)
        await one.until(lambda: PeerJoined(second) in one.events, "the session stands")
        stranger = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        stranger.bind((str(third), 0))
        for number in range(100):
            for _ in range(32):
                stranger.sendto(os.urandom(100), (str(second), DEFAULT_PORT))
            one.claim(number)
            await asyncio.sleep(0.005)
        await one.until(lambda: len(one.answered) == 100, "all claims are answered")
        assert 50 < two.channel.status().counters["from_strangers"] < 800  # 200 of the 3,200
        two.channel.set_peers([first, third])
        three = AccessPoint(third, second)
        await three.until(lambda: PeerJoined(second) in three.events, "who becomes a peer is heard")
        stranger.close()

    perform(mesh, script)
