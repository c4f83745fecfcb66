"""The key of a whole mesh is changed, access point by access point, in any order, while clients roam.

Held: every claim is answered by every peer, nobody is lost, and at the end all sessions are under the new key.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from ipaddress import IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st
from peers_network import KEY, Network, claim_of

from roamroute.events import PeerLost
from roamroute.values import PeerId

OLD, NEW = KEY, bytes(range(32, 64))
WAYS: tuple[tuple[Sequence[bytes], ...], ...] = (
    ((NEW, OLD), (NEW,)),
    ((OLD, NEW), (NEW, OLD), (NEW,)),
    ((OLD, NEW), (NEW,)),
)
"""What the file holds on each access point, one after another; all have the one before anybody gets the next."""


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(2, 6),
    way=st.sampled_from(WAYS),
    loss=st.sampled_from([0.0, 0.05]),
    pause_s=st.sampled_from([0.0, 0.03, 1.0, 20.0]),
)
def test_no_claim_is_unanswered_while_the_key_is_changed(
    seed: int, count: int, way: tuple[Sequence[bytes], ...], loss: float, pause_s: float
) -> None:
    chance = random.Random(seed)
    addresses: list[PeerId] = [IPv6Address((0xFD44 << 112) + number) for number in range(count)]
    network = Network(*addresses)
    network.settle()
    network.fate = lambda *_: [] if chance.random() < loss else [0.005 + chance.random() / 50]
    sequence = itertools.count(1)

    def roam() -> None:
        node = network.nodes[chance.choice(addresses)]
        network.claim(node, claim_of(next(sequence), node.address))

    for keys in way:
        for address in chance.sample(addresses, count):
            node = network.nodes[address]
            roam()
            network.perform(node, node.exchange.set_keys(keys, network.now))
            roam()
            network.run(chance.random() * pause_s)
            if chance.random() < 0.1:
                network.run(5.1)  # else its claims would be forgotten, and nobody would notice
                network.start(address, keys)
    network.run(5.1)
    roam()
    network.run(120.0)
    for node in network.nodes.values():
        assert node.unanswered == []
        assert not any(isinstance(event, PeerLost) for event in node.events)
        assert all(peer.has_own_key for peer in node.exchange.status())
