"""What hosts say, over a bad network: nothing is told twice, or late, or without having been said; little is sent."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from peers_network import FIRST, SECOND, THIRD, Network, said_of

from roamroute.peers import relays
from roamroute.peers.codec import OURS, Capability
from roamroute.values import DadMessage, PeerId

DELAY_S, COPIES_MAXIMUM = 0.005, 16


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.2, 0.5]),
    slowness=st.sampled_from([0.0, 0.05, 0.6]),
    restarts=st.sampled_from([0.0, 0.05]),
)
def test_each_peer_is_told_once_and_in_time(seed: int, loss: float, slowness: float, restarts: float) -> None:
    chance = random.Random(seed)
    network = Network(FIRST, SECOND, THIRD, capabilities=OURS | Capability.DAD)
    network.settle()

    def fate(source: PeerId, destination: PeerId, datagram: bytes) -> list[float]:
        copies = 0 if chance.random() < loss else 1 + (chance.random() < 0.3)
        return [DELAY_S + chance.random() * slowness for _ in range(copies)]

    network.fate = fate
    said: dict[DadMessage, float] = {}
    heard: Counter[tuple[PeerId, DadMessage]] = Counter()
    for number in range(40):
        if chance.random() < restarts:
            network.start(chance.choice((SECOND, THIRD)))
        message = said_of(number)
        said[message] = network.now
        network.relay(network.nodes[FIRST], message)
        network.run(chance.choice((0.0, 0.01, 0.3)))
        for peer in (SECOND, THIRD):
            for source, told in network.nodes[peer].said:
                assert source == FIRST
                heard[peer, told] += 1
                assert network.now - said[told] <= relays.GIVE_UP_S + DELAY_S + slowness + 0.3
            network.nodes[peer].said.clear()
    counters = network.nodes[FIRST].exchange.counters
    assert counters["dad_repeated"] <= (COPIES_MAXIMUM - 1 + 3 * (restarts > 0)) * counters["dad_sent"]
    network.run(2.5)
    for peer in (SECOND, THIRD):
        heard.update((peer, told) for _, told in network.nodes[peer].said)
    assert len(network.nodes[FIRST].exchange._relays) == 0
    if not restarts:
        assert set(heard.values()) <= {1}
        if not loss:
            assert len(heard) == 2 * len(said)
