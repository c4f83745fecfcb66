"""The key is changed while everything goes on: access point by access point, in any order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from peers_network import FIRST, KEY, SECOND, THIRD, Network, claim_of

from roamroute.events import PeerJoined, PeerLost
from roamroute.peers import codec
from roamroute.peers.exchange import Exchange
from roamroute.values import PeerId

OLD, NEW, THIRD_KEY = KEY, bytes(range(32, 64)), bytes(range(64, 96))


def set_keys(network: Network, address: PeerId, *keys: bytes) -> None:
    node = network.nodes[address]
    network.perform(node, node.exchange.set_keys(keys, network.now))


def is_answered(network: Network, source: PeerId, number: int) -> float:
    """Claim, and say how long it took until all have answered."""
    node = network.nodes[source]
    before = len(node.answers)
    network.claim(node, claim_of(number, source, sequence=number))
    took = network.run(5.0, lambda: len(node.answers) - before >= len(network.nodes) - 1)
    assert node.unanswered == []
    return took


def own_keys(network: Network) -> list[bool]:
    return [peer.has_own_key for node in network.nodes.values() for peer in node.exchange.status()]


def pair(*keys: Sequence[bytes]) -> Network:
    network = Network()
    for address, accepted in zip((FIRST, SECOND), keys, strict=True):
        network.start(address, accepted)
    network.run(5.0, lambda: all(own.exchange.status()[0].is_up for own in network.nodes.values()))
    network.run(1.0)
    return network


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((OLD,), (OLD, NEW)),
        ((OLD,), (NEW, OLD)),
        ((NEW, OLD), (OLD, NEW)),
        ((OLD, NEW), (NEW, OLD)),
        ((NEW,), (THIRD_KEY, OLD, NEW)),
        ((NEW, OLD), (THIRD_KEY, OLD)),
    ],
)
def test_two_that_have_a_key_in_common_agree_whoever_prefers_which(
    first: Sequence[bytes], second: Sequence[bytes]
) -> None:
    network = pair(first, second)
    for source in (FIRST, SECOND):
        assert is_answered(network, source, 1) == pytest.approx(2 * network.delay_s)
    before = len(network.sent)
    network.run(300.0)
    assert (len(network.sent) - before) / 300.0 < 0.6  # nobody insists


def test_two_without_a_key_in_common_do_not() -> None:
    network = pair((OLD, THIRD_KEY), (NEW,))
    assert [node.events for node in network.nodes.values()] == [[], []]


def test_sessions_go_on_and_are_replaced_by_such_of_the_new_key() -> None:
    network = pair((OLD,), (OLD,))
    set_keys(network, FIRST, NEW, OLD)
    network.run(3.0)
    assert is_answered(network, FIRST, 1) == pytest.approx(2 * network.delay_s)
    assert own_keys(network) == [False, True]
    set_keys(network, SECOND, NEW, OLD)
    network.run(3.0)
    assert own_keys(network) == [True, True]
    set_keys(network, FIRST, NEW)
    assert is_answered(network, SECOND, 2) == pytest.approx(2 * network.delay_s)
    assert all(len(node.events) - len(node.answers) - len(node.claims) == 1 for node in network.nodes.values())


def test_a_key_that_is_removed_ends_its_session_at_once() -> None:
    network = pair((OLD,), (OLD,))
    recorded = [entry for entry in network.sent if entry[2] == SECOND]
    set_keys(network, SECOND, NEW)
    second = network.nodes[SECOND]
    assert second.exchange.status()[0].has_own_key is False
    network.claim(network.nodes[FIRST], claim_of(1))
    for _, source, destination, datagram in recorded:
        network.inject(source, destination, datagram)
    network.run(4.0)
    assert second.claims == []


def test_a_removed_key_costs_one_and_a_half_round_trips_where_the_new_one_was_known() -> None:
    network = pair((OLD, NEW), (OLD, NEW))
    set_keys(network, FIRST, NEW)
    assert is_answered(network, FIRST, 1) <= 5 * network.delay_s + 1e-9
    network = pair((OLD, NEW), (OLD, NEW))
    set_keys(network, FIRST, NEW)
    assert is_answered(network, SECOND, 1) <= 6 * network.delay_s + 1e-9
    assert not any(isinstance(event, PeerLost) for node in network.nodes.values() for event in node.events)
    assert [node.events.count(PeerJoined(SECOND)) for node in network.nodes.values()] == [1, 0]


def test_the_same_keys_again_change_nothing() -> None:
    network = pair((OLD, NEW), (OLD, NEW))
    before = len(network.sent)
    set_keys(network, FIRST, OLD, NEW)
    set_keys(network, FIRST, OLD, NEW, OLD)
    network.run(2.0)
    assert len(network.sent) == before


def test_a_peer_that_does_not_accept_the_new_key_yet_is_asked_rarely() -> None:
    network = pair((OLD,), (OLD,))
    set_keys(network, FIRST, NEW, OLD)
    network.run(3600.0)
    assert network.nodes[SECOND].exchange.counters["forged"] < 90
    assert all(node.exchange.status()[0].is_up for node in network.nodes.values())


def test_both_may_turn_to_each_others_key_at_once() -> None:
    network = pair((OLD, NEW), (OLD, NEW))
    set_keys(network, FIRST, NEW, OLD)
    set_keys(network, SECOND, THIRD_KEY, OLD, NEW)
    network.run(30.0)
    for source in (FIRST, SECOND):
        assert is_answered(network, source, 1) == pytest.approx(2 * network.delay_s)


def test_greetings_that_cross_under_two_keys_end_with_one_session() -> None:
    for first, second in (((OLD, NEW), (NEW, OLD)), ((NEW, OLD), (OLD, NEW))):
        network = Network()
        good = network.fate
        network.fate = lambda *_: []
        network.start(FIRST, first)
        network.start(SECOND, second)
        greetings = tuple(network.sent)
        network.fate = good
        for _, source, destination, datagram in greetings[-2:]:
            network.inject(source, destination, datagram, network.delay_s)
        for source in (FIRST, SECOND):
            assert is_answered(network, source, 1) <= 8 * network.delay_s
        forged = [node.exchange.counters["unknown_session"] for node in network.nodes.values()]
        assert sum(forged) <= 4


@pytest.mark.parametrize("keys", [(), (OLD, NEW, THIRD_KEY, bytes(32)), (OLD, NEW[1:])])
def test_other_numbers_and_lengths_of_keys_are_refused(keys: Sequence[bytes]) -> None:
    with pytest.raises(ValueError):
        Exchange(FIRST, keys, bytes)
    network = pair((OLD,), (OLD,))
    with pytest.raises(ValueError):
        set_keys(network, FIRST, *keys)
    assert is_answered(network, FIRST, 1) == pytest.approx(2 * network.delay_s)


def test_a_forged_hello_is_checked_under_every_key_and_costs_nothing_else() -> None:
    network = pair((OLD, NEW, THIRD_KEY), (OLD,))
    before = len(network.sent)
    network.inject(SECOND, FIRST, b"rr\1" + bytes([codec.HELLO]) + bytes(60))
    network.run(0.05)
    assert len(network.sent) == before
    assert network.nodes[FIRST].exchange.counters["forged"] == 1


def test_a_third_access_point_that_was_forgotten_is_left_out_and_joins_later() -> None:
    network = Network(FIRST, SECOND, THIRD)
    network.settle()
    for address in (FIRST, SECOND):
        set_keys(network, address, NEW, OLD)
    network.run(5.0)
    for address in (FIRST, SECOND):
        set_keys(network, address, NEW)
    network.run(60.0)
    assert PeerLost(THIRD) in network.nodes[FIRST].events
    set_keys(network, THIRD, NEW)
    network.run(12.0)
    assert is_answered(network, THIRD, 1) == pytest.approx(2 * network.delay_s)
