"""Whatever a peer with the key, or anybody without it, sends: nothing is raised, and the session goes on.

Also the order of datagrams: any permutation, with copies, of what two peers have said leaves both where they would be.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from peers_network import FIRST, SECOND, Network, claim_of

from roamroute.events import HostClaimed, HostHinted
from roamroute.peers import codec
from roamroute.values import Hint

elements = st.tuples(st.integers(0, 30), st.binary(max_size=40)).map(
    lambda element: bytes([element[0]]) + len(element[1]).to_bytes(2, "big") + element[1]
)
bodies = st.lists(elements, max_size=6).map(b"".join)
messages = st.tuples(st.integers(0, 12), bodies).map(
    lambda message: bytes([message[0]]) + len(message[1]).to_bytes(2, "big") + message[1]
)


def pair() -> Network:
    network = Network(FIRST, SECOND)
    network.settle()
    return network


def is_well(network: Network) -> bool:
    first = network.nodes[FIRST]
    before = len(first.answers)
    network.claim(first, claim_of(900))
    network.run(5.0, lambda: len(first.answers) > before)
    return len(first.answers) > before and all(
        peer.is_up for node in network.nodes.values() for peer in node.exchange.status()
    )


@settings(max_examples=100, deadline=None)
@given(plaintexts=st.lists(st.lists(messages, max_size=5).map(b"".join) | st.binary(max_size=200), max_size=20))
def test_nothing_that_a_peer_seals_does_harm(plaintexts: list[bytes]) -> None:
    network = pair()
    session = network.nodes[FIRST].exchange._pairings[SECOND]
    for plaintext in plaintexts:
        (datagram,) = session.carry(plaintext)
        network.inject(FIRST, SECOND, datagram)
    network.run(0.1)
    assert is_well(network)


@settings(max_examples=100, deadline=None)
@given(bodies=st.lists(bodies, max_size=10), seed=st.integers(0, 2**32))
def test_nothing_that_a_peer_signs_does_harm(bodies: list[bytes], seed: int) -> None:
    """Authentic hellos with any fields: challenges that were never given, echoes of old ones, capabilities."""
    network = pair()
    chance = random.Random(seed)
    pairing = network.nodes[FIRST].exchange._pairings[SECOND]
    known = [pairing._challenge, network.nodes[SECOND].exchange._pairings[FIRST]._challenge]
    for body in bodies:
        hello = codec.Hello(
            chance.choice([*known, chance.randbytes(16)]),
            chance.randbytes(8),
            chance.choice([None, *known, chance.randbytes(16)]),
            codec.Capability(chance.randrange(32)),
        )
        signed = codec.encode_hello(hello) + body
        authenticator = pairing._keys[0].authenticator(FIRST, SECOND, signed)
        network.inject(FIRST, SECOND, signed + authenticator, chance.random() / 10)
    network.run(6.0)
    assert is_well(network)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 30))
def test_any_order_with_copies_tells_the_same(seed: int, count: int) -> None:
    network = pair()
    chance = random.Random(seed)
    network.fate = lambda *_: [chance.random() / 2 for _ in range(chance.randrange(1, 4))]
    first, second = network.nodes[FIRST], network.nodes[SECOND]
    said = []
    for number in range(count):
        claim = claim_of(number, FIRST, number + 1)
        hint = Hint(claim_of(100 + number).mac, 1, FIRST, claim.addresses)
        said += [HostClaimed(claim), HostHinted(hint)]
        network.claim(first, claim)
        first.exchange.share_hint(hint, network.now)
        network.run(chance.random() / 10)
    network.run(8.0)
    assert set(said) == {event for event in second.events if isinstance(event, HostClaimed | HostHinted)}
    assert first.unanswered == []
    assert len(second.hints) == count
