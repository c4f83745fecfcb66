"""Hints over a bad network: at last every peer believes of every host what its holder said last.

Losses, copies, delays beyond the repetition (a copy of an old batch comes after a newer one), restarts of either side,
claims that say the same as the hint, or something else.
"""

from __future__ import annotations

import random
from ipaddress import IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st
from peers_network import FIRST, SECOND, THIRD, Network, station

from roamroute.values import Basis, Claim, Hint, Mac, PeerId

ADDRESSES = tuple(IPv6Address((0xFD44 << 112) + number) for number in range(3))
CHOICES = ((), ADDRESSES[:1], ADDRESSES[1:], ADDRESSES)
ACTIONS = ("hint", "wait", "claim", "unshare", "restart", "restart the holder")
WEIGHTS = (10, 10, 2, 1, 0.3, 0.2)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), loss=st.sampled_from([0.0, 0.2, 0.5]), slowness=st.sampled_from([0.0, 0.05, 0.6]))
def test_every_peer_believes_at_last_what_the_holder_said_last(seed: int, loss: float, slowness: float) -> None:
    chance = random.Random(seed)
    network = Network(FIRST, SECOND, THIRD)
    network.settle()

    def fate(source: PeerId, destination: PeerId, datagram: bytes) -> list[float]:
        copies = 0 if chance.random() < loss else 1 + (chance.random() < 0.3)
        return [0.005 + chance.random() * slowness for _ in range(copies)]

    network.fate = fate
    shared: dict[Mac, Hint] = {}
    said: set[Hint] = set()
    sequence = 0
    for _ in range(60):
        holder, mac, addresses = network.nodes[FIRST], station(chance.randrange(3)), chance.choice(CHOICES)
        match chance.choices(ACTIONS, WEIGHTS)[0]:
            case "hint" if mac in shared:
                shared[mac] = Hint(mac, shared[mac].sequence, FIRST, addresses)
            case "claim":
                sequence += 1
                network.claim(holder, Claim(mac, sequence, FIRST, Basis.ASSOCIATION, addresses))
                network.run(chance.choice((0.0, 0.02, 0.3)))
                told = addresses if chance.random() < 0.7 else chance.choice(CHOICES)
                shared[mac] = Hint(mac, sequence, FIRST, told)
            case "unshare":
                shared.pop(mac, None)
                holder.exchange.unshare_hint(mac)
            case "wait":
                network.run(chance.choice((0.05, 0.26, 0.5)))
            case "restart":
                network.start(SECOND)
            case "restart the holder":
                holder = network.start(FIRST)
                for hint in shared.values():
                    holder.exchange.share_hint(hint, network.now)
            case _:
                pass
        if mac in shared:
            said.add(shared[mac])
            holder.exchange.share_hint(shared[mac], network.now)
    network.fate = lambda *_: [network.delay_s]
    network.run(20.0)
    for node in (network.nodes[SECOND], network.nodes[THIRD]):
        believed = {mac: node.believed[FIRST, mac] for mac in shared}
        assert {mac: (hint.sequence, {*hint.addresses}) for mac, hint in believed.items()} == {
            mac: (hint.sequence, {*hint.addresses}) for mac, hint in shared.items()
        }
        assert {*node.hints} <= said
    assert [peer.hints_held for peer in network.nodes[FIRST].exchange.status()] == [len(shared)] * 2
