"""A mesh that is upgraded access point by access point: a peer from before capabilities, on either side of a pair."""

from __future__ import annotations

import os
import re
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from peers_network import FIRST, KEY, SECOND, claim_of, said_of
from peers_older import ADDRESSES, CLAIMED, MAC, SEQUENCE, OlderPeer

from roamroute.events import ClaimAnswered, Event, HostClaimed, PeerJoined
from roamroute.peers import codec
from roamroute.peers.codec import OURS, Capability
from roamroute.peers.exchange import Exchange, Outcome
from roamroute.peers.sealing import Session, SharedKey
from roamroute.peers.session import Pairing
from roamroute.values import Answer, Basis, Claim, HandoverReport, Hint, Mac, Segments, Verdict

VECTOR = Path(__file__).with_name("vector_before_capabilities.txt").read_text(encoding="ascii")
LOWER, HIGHER = IPv6Address("fd44:0:0:a::1"), IPv6Address("fd44:0:0:a::2")
SEGMENTS = Segments(IPv6Address("fd44::a"), IPv6Address("fd44::b"))


def shown(name: str) -> bytes:
    (found,) = re.findall(rf"^{re.escape(name)}:\n((?:  [0-9a-f]+\n)+)", VECTOR, re.MULTILINE)
    return bytes.fromhex("".join(found.split()))


class Pair:
    """Our exchange at one end, an older peer at the other, and no time in between."""

    def __init__(self, ours: IPv6Address, theirs: IPv6Address) -> None:
        self.now = 0.0
        self.events: list[Event] = []
        self.exchange = Exchange(ours, (KEY,), os.urandom, OURS | Capability.DAD)
        self.older = OlderPeer(theirs, ours, KEY)

    def perform(self, outcome: Outcome) -> None:
        self.events += outcome.events
        for _, datagram in outcome.datagrams:
            self.hear(self.older.receive(datagram))
        for event in outcome.events:
            if isinstance(event, HostClaimed):
                claim = event.claim
                answer = Answer(claim.mac, claim.sequence, Verdict.ACCEPTED, claim.sequence, None, (), (), 3.0)
                self.perform(self.exchange.send_answer(claim.peer, answer, self.now))

    def hear(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self.perform(self.exchange.receive(datagram, self.older.own, self.now))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.exchange.next_wakeup) is not None and due <= end:
            self.now = max(self.now, due)
            self.perform(self.exchange.tick(self.now))
        self.now = end


@pytest.fixture(params=["we begin", "it begins", "both begin"])
def pair(request: pytest.FixtureRequest) -> Pair:
    made = Pair(FIRST, SECOND) if request.param != "both begin" else Pair(SECOND, FIRST)
    greeting = made.older.greet()
    if request.param == "it begins":
        made.exchange.set_peers([made.older.own], 0.0)  # our greeting is lost
        made.hear(greeting)
    else:
        made.perform(made.exchange.set_peers([made.older.own], 0.0))
        if request.param == "both begin":
            made.hear(greeting)
    made.run(0.5)
    assert made.events == [PeerJoined(made.older.own)]
    return made


def test_claims_go_both_ways(pair: Pair) -> None:
    claim = claim_of(1)
    pair.perform(pair.exchange.send_claim(Claim(claim.mac, 7, FIRST, claim.basis, claim.addresses, SEGMENTS, 1.5), 0.5))
    assert pair.events[-1] == ClaimAnswered(pair.older.own, Answer(claim.mac, 7, Verdict.ACCEPTED, 7))
    ((mac, sequence, addresses),) = [(told[MAC], told[SEQUENCE], told[ADDRESSES]) for told in pair.older.claims]
    assert (mac, sequence) == (bytes.fromhex(claim.mac.replace(":", "")), b"\0\0\0\7")
    assert addresses == b"".join(address.packed for address in claim.addresses)
    pair.hear(pair.older.claim(bytes.fromhex("02005e440009"), 3, LOWER.packed))
    expected = Claim(Mac("02:00:5e:44:00:09"), 3, pair.older.own, Basis.ASSOCIATION, (LOWER,))
    assert HostClaimed(expected) in pair.events
    assert [(told[MAC], told[CLAIMED]) for told in pair.older.answers] == [(bytes.fromhex("02005e440009"), b"\0\0\0\3")]
    assert pair.exchange.claims_outstanding == 0


def test_it_is_sent_nothing_that_it_does_not_know(pair: Pair) -> None:
    pair.exchange.share_hint(Hint(claim_of(1).mac, 1, FIRST, (LOWER,)), pair.now)
    pair.perform(pair.exchange.send_report(pair.older.own, HandoverReport(claim_of(1).mac, 1, 0.1)))
    pair.perform(pair.exchange.relay_dad([(said_of(1), None)], pair.now))
    pair.run(100.0)
    assert pair.older.unknown == []
    assert not any(count for name, count in pair.exchange.counters.items() if name.startswith("dad_"))
    (peer,) = pair.exchange.status()
    assert (peer.is_up, peer.capabilities, peer.hints_held, peer.hints_unacknowledged) == (True, (), 0, 1)


def upgrade(pair: Pair) -> list[Event]:
    """Start roamroute in the older peer's place; return what that is told within a second."""
    upgraded = Exchange(pair.older.own, (KEY,), os.urandom, OURS | Capability.DAD)
    events: list[Event] = []
    waiting = [(True, datagram) for _, datagram in upgraded.set_peers([pair.older.peer], pair.now).datagrams]
    end = pair.now + 1.0
    while waiting or (pair.exchange.next_wakeup is not None and pair.exchange.next_wakeup <= end):
        if not waiting:
            pair.now = max(pair.now, pair.exchange.next_wakeup or 0.0)
            waiting += [(False, datagram) for _, datagram in pair.exchange.tick(pair.now).datagrams]
            continue
        is_ours, datagram = waiting.pop(0)
        place, source = (pair.exchange, pair.older.own) if is_ours else (upgraded, pair.older.peer)
        outcome = place.receive(datagram, source, pair.now)
        events += () if is_ours else outcome.events
        waiting += [(not is_ours, datagram) for _, datagram in outcome.datagrams]
    return events


def test_it_is_told_everything_after_its_upgrade(pair: Pair) -> None:
    pair.exchange.share_hint(Hint(claim_of(1).mac, 1, FIRST, (LOWER,)), pair.now)
    pair.run(1.0)
    assert [type(event).__name__ for event in upgrade(pair)] == ["PeerJoined", "HostHinted"]
    (peer,) = pair.exchange.status()
    assert (peer.capabilities, peer.hints_held) == (("hints", "reports", "segments", "dad"), 1)


def test_it_is_told_nothing_any_more_after_going_back(pair: Pair) -> None:
    pair.exchange.share_hint(Hint(claim_of(1).mac, 1, FIRST, (LOWER,)), pair.now)
    upgrade(pair)
    pair.older = OlderPeer(pair.older.own, pair.older.peer, KEY)
    pair.hear(pair.older.greet())
    pair.perform(pair.exchange.relay_dad([(said_of(1), None)], pair.now))
    pair.exchange.share_hint(Hint(claim_of(2).mac, 1, FIRST, (LOWER,)), pair.now)
    pair.run(30.0)
    assert pair.older.unknown == []
    (peer,) = pair.exchange.status()
    assert (peer.is_up, peer.capabilities, peer.hints_held) == (True, (), 0)
    assert pair.exchange.next_wakeup is not None
    pair.perform(pair.exchange.send_claim(claim_of(3, FIRST), pair.now))
    assert len(pair.older.claims) == 1


def test_the_hello_and_claim_of_its_page_are_understood() -> None:
    pairing = Pairing((SharedKey(shown("key")),), HIGHER, LOWER, bytes(8), lambda length: bytes([0xBB]) * length, 0.0)
    envelope = codec.open_envelope(shown("hello from lower, challenge aa.."))
    assert isinstance(envelope, codec.HelloEnvelope)
    (reply,) = pairing.receive_hello(envelope, 0.0).datagrams
    answer = codec.open_envelope(reply)
    assert isinstance(answer, codec.HelloEnvelope)
    assert codec.decode_hello(answer.body).echo == bytes([0xAA]) * 16
    ends = (HIGHER, bytes([0xBB]) * 16), (LOWER, bytes([0xAA]) * 16)
    session = Session(SharedKey(shown("key")), *ends, boot=bytes(8), agreed_at=0.0)
    sealed = codec.open_envelope(shown("claim, sealed by lower, counter 0"))
    assert isinstance(sealed, codec.SealedEnvelope)
    plaintext = session.open(sealed)
    assert plaintext == shown("claim, plain")
    (claim,) = codec.decode_messages(plaintext, LOWER)
    assert isinstance(claim, Claim)
    assert (claim.sequence, claim.segments, claim.age_s) == (7, Segments(), None)


def test_what_says_nothing_new_is_written_as_before() -> None:
    """A claim without segments, and everything that a ping or an answer says, has not changed by a byte."""
    (claim,) = codec.decode_messages(shown("claim, plain"), LOWER)
    (answer,) = codec.decode_messages(shown("answer, plain"), HIGHER)
    assert codec.encode_message(claim) == shown("claim, plain")
    assert codec.encode_message(answer) == shown("answer, plain")
