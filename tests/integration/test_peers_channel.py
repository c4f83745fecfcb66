"""The peers' channel over real UDP sockets, in a network namespace whose loopback holds all mesh addresses."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

import pytest
from peers_network import claim_of

from roamroute.effects import DropClaim, SendAnswer, SendClaim
from roamroute.events import ClaimAnswered, ClaimUnanswered, Event, HostClaimed, PeerJoined, PeerLost
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.peers import DEFAULT_PORT, PeerChannel
from roamroute.peers import channel as channel_module
from roamroute.values import Answer, PeerId, Verdict

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "nft", "nsenter")]

KEY = bytes(range(32))
ONE, TWO, THREE = (IPv6Address(f"fd44:0:0:a::{number}") for number in (1, 2, 3))
LIMIT_S = 15.0


@pytest.fixture
def mesh() -> Iterator[Namespace]:
    with Sandbox() as sandbox:
        namespace = sandbox.namespace("mesh")
        namespace.ip(*(f"addr add {address}/128 dev lo nodad" for address in (ONE, TWO, THREE)))
        yield namespace


class AccessPoint:
    """A running channel that accepts every claim from inside `emit`, and what it was told."""

    def __init__(self, address: PeerId, *peers: PeerId, keys: Sequence[bytes] = (KEY,)) -> None:
        self.address = address
        self.events: list[Event] = []
        self.log: list[str] = []
        self.verdict: Verdict | None = Verdict.ACCEPTED
        self.channel = PeerChannel(address, DEFAULT_PORT, keys, peers, self._emit, self._log)
        self._running = asyncio.create_task(self.channel.run())

    def claim(self, number: int, sequence: int = 1) -> None:
        self.channel.send_claim(SendClaim(claim_of(number, self.address, sequence), "a test"))

    @property
    def answered(self) -> set[str]:
        return {event.answer.mac for event in self.events if isinstance(event, ClaimAnswered)}

    async def until(self, condition: Callable[[], bool], what: str) -> float:
        started = time.monotonic()
        try:
            async with asyncio.timeout(LIMIT_S):
                while not condition():  # noqa: ASYNC110 - the condition is about a socket's other end
                    await asyncio.sleep(0.001)
        except TimeoutError:
            raise AssertionError(f"not within {LIMIT_S} s: {what}; {self.events}; {self.channel.status()}") from None
        return time.monotonic() - started

    async def end(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, HostClaimed) and self.verdict is not None:
            claim = event.claim
            answer = Answer(claim.mac, claim.sequence, self.verdict, claim.sequence, claim.peer, claim.addresses)
            self.channel.send_answer(SendAnswer(claim.peer, answer, "a test"))

    def _log(self, level: str, line: str) -> None:
        self.log.append(f"{level}: {line}")


def perform(mesh: Namespace, script: Callable[[], Awaitable[None]]) -> None:
    """Run the script in the namespace; channels that it leaves running end with the loop."""

    async def main() -> None:
        await script()

    with mesh.entered():
        asyncio.run(main())


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


def test_another_key_is_told_in_the_log(mesh: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "REFUSALS_LOGGED_S", 0.5)

    async def script() -> None:
        one, two = AccessPoint(ONE, TWO), AccessPoint(TWO, ONE, keys=(bytes(32),))
        await one.until(lambda: any("is the key the same on both?" in line for line in one.log), "the log says it")
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
