"""Key agreement and replay: what makes a session, what does not, and what it costs an attacker."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from peers_network import FIRST, KEY, SECOND, THIRD, Network, claim_of

from roamroute.events import PeerJoined, PeerLost
from roamroute.peers import codec
from roamroute.peers.allowance import Allowance
from roamroute.peers.sealing import WINDOW, ReplayWindow, Session, SharedKey
from roamroute.peers.session import Pairing


def pair() -> Network:
    network = Network(FIRST, SECOND)
    network.settle()
    return network


def test_a_session_stands_after_three_flights() -> None:
    network = Network(FIRST, SECOND)
    took = network.run(1.0, lambda: network.nodes[FIRST].exchange.status()[0].is_up)
    assert took == pytest.approx(3 * network.delay_s)
    network.run(0.1)
    assert [node.events for node in network.nodes.values()] == [[PeerJoined(SECOND)], [PeerJoined(FIRST)]]


def test_a_claim_in_a_standing_session_costs_one_round_trip() -> None:
    network = pair()
    first = network.nodes[FIRST]
    network.claim(first, claim_of(1))
    assert network.run(1.0, lambda: bool(first.answers)) == pytest.approx(2 * network.delay_s)


def test_a_claim_reaches_a_peer_that_has_just_restarted_within_a_few_round_trips() -> None:
    network = pair()
    network.fate = lambda *_: []
    second = network.start(SECOND)  # its own greeting is lost
    network.run(0.01)
    network.fate = lambda *_: [network.delay_s]
    network.claim(network.nodes[FIRST], claim_of(1))
    assert network.run(1.0, lambda: bool(second.claims)) <= 5 * network.delay_s + 1e-9
    assert network.nodes[FIRST].exchange.status()[0].restarts == 1
    assert network.nodes[FIRST].events.count(PeerJoined(SECOND)) == 2
    assert PeerLost(SECOND) not in network.nodes[FIRST].events


def test_a_peer_that_has_restarted_gets_its_own_claim_through_at_once() -> None:
    network = pair()
    second = network.start(SECOND)
    network.claim(second, claim_of(1, SECOND))
    assert network.run(1.0, lambda: bool(network.nodes[FIRST].claims)) <= 3 * network.delay_s + 1e-9


def test_a_silent_peer_is_lost_after_35_s_and_joins_again() -> None:
    network = pair()
    network.fate = lambda *_: []
    first = network.nodes[FIRST]
    assert network.run(60.0, lambda: PeerLost(SECOND) in first.events) == pytest.approx(35.0, abs=1.0)
    network.run(3600.0)
    network.fate = lambda *_: [network.delay_s]
    network.claim(first, claim_of(1))
    assert network.run(1.0, lambda: bool(first.answers)) <= 0.03  # the old session still carries it
    assert first.events.count(PeerJoined(SECOND)) == 2


def test_an_idle_pair_costs_few_datagrams() -> None:
    network = pair()
    before = len(network.sent)
    network.run(600.0)
    assert (len(network.sent) - before) / 600.0 <= 0.55  # both directions, both sides: pings and their answers
    assert all(peer.is_up for node in network.nodes.values() for peer in node.exchange.status())


def test_an_absent_peer_is_greeted_ever_more_rarely() -> None:
    network = Network(FIRST, SECOND)
    del network.nodes[SECOND]
    network.run(600.0)
    assert 60 <= network.traffic[FIRST] <= 95


def test_another_key_makes_no_session() -> None:
    network = Network(FIRST)
    network.start(SECOND, (bytes(32),))
    network.run(30.0)
    for node in network.nodes.values():
        assert node.events == []
        assert node.exchange.counters["forged"] > 0


def test_a_recorded_session_never_opens_again() -> None:
    network = pair()
    network.claim(network.nodes[FIRST], claim_of(1))
    network.run(1.0)
    recorded = [entry for entry in network.sent if entry[2] == SECOND]
    second = network.nodes[SECOND]
    assert len(second.claims) == 1
    for restart in (False, True, True):
        if restart:
            second = network.start(SECOND)
            network.settle()
        heard = len(second.claims)
        for _ in range(3):
            for _, source, destination, datagram in recorded:
                network.inject(source, destination, datagram)
            network.run(1.0)
        assert len(second.claims) == heard
        assert all(peer.is_up for node in network.nodes.values() for peer in node.exchange.status())


def test_a_reflected_datagram_is_not_accepted() -> None:
    network = pair()
    network.claim(network.nodes[FIRST], claim_of(1))
    network.run(0.1)
    for _, source, destination, datagram in tuple(network.sent):
        network.inject(destination, source, datagram)  # back to its sender, in the name of the peer
    network.run(0.1)
    assert network.nodes[FIRST].claims == []
    assert network.nodes[FIRST].exchange.counters["forged"] > 0


def test_a_third_peer_cannot_pass_on_what_it_heard_as_its_own() -> None:
    network = Network(FIRST, SECOND, THIRD)
    network.settle()
    network.claim(network.nodes[FIRST], claim_of(1))
    network.run(0.1)
    heard = len(network.nodes[SECOND].claims)
    for _, source, destination, datagram in tuple(network.sent):
        if (source, destination) == (FIRST, SECOND):
            network.inject(THIRD, SECOND, datagram)
    network.run(0.1)
    assert len(network.nodes[SECOND].claims) == heard


def test_every_flipped_bit_is_noticed() -> None:
    network = pair()
    network.fate = lambda *_: []
    network.claim(network.nodes[FIRST], claim_of(1))
    datagram = network.sent[-1][3]
    second = network.nodes[SECOND]
    for position in range(len(datagram) * 8):
        flipped = bytearray(datagram)
        flipped[position // 8] ^= 1 << position % 8
        network.perform(second, second.exchange.receive(bytes(flipped), FIRST, network.now))
    assert second.claims == []
    network.perform(second, second.exchange.receive(datagram, FIRST, network.now))
    assert len(second.claims) == 1


def test_a_held_back_confirmation_takes_no_live_session_away() -> None:
    network = Network(FIRST, SECOND)
    held: list[bytes] = []

    def hold(source: object, destination: object, datagram: bytes) -> list[float]:
        if destination == SECOND and datagram[3] == codec.HELLO and len(datagram) > 60 and not held:
            held.append(datagram)
            return []
        return [network.delay_s]

    network.fate = hold
    network.settle()
    assert held
    network.inject(FIRST, SECOND, held[0])
    network.run(1.0)
    first = network.nodes[FIRST]
    network.claim(first, claim_of(1))
    assert network.run(1.0, lambda: bool(first.answers)) == pytest.approx(2 * network.delay_s)


def test_a_flood_in_a_peers_name_costs_little_and_breaks_nothing() -> None:
    network = pair()
    second = network.nodes[SECOND]
    noise = random.Random(1)
    recorded = [datagram for _, source, _, datagram in network.sent if source == FIRST]
    before = network.traffic[SECOND]
    tracemalloc.start()
    held, _ = tracemalloc.get_traced_memory()
    for number in range(20_000):
        match number % 4:
            case 0:
                datagram = noise.randbytes(60)
            case 1:
                datagram = codec.sealed_header(noise.randbytes(8), number) + noise.randbytes(40)
            case 2:
                datagram = b"rr\1\1" + noise.randbytes(60)
            case _:
                datagram = noise.choice(recorded)
        outcome = second.exchange.receive(datagram, FIRST, network.now)
        assert outcome.events == ()
        assert len(outcome.datagrams) <= 2
        network.traffic[SECOND] += len(outcome.datagrams)
        network.now += 0.0001
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown - held < 20_000
    assert network.traffic[SECOND] - before <= 2 * (64 + 8 + 2.0 * (200 + 20))
    first = network.nodes[FIRST]
    network.claim(first, claim_of(1))
    assert network.run(1.0, lambda: bool(first.answers)) == pytest.approx(2 * network.delay_s)


def test_a_flood_from_strangers_keeps_nothing() -> None:
    network = pair()
    second = network.nodes[SECOND].exchange
    datagram = network.sent[0][3]
    tracemalloc.start()
    held, _ = tracemalloc.get_traced_memory()
    for number in range(10_000):
        outcome = second.receive(datagram, type(FIRST)((0xFD66 << 112) + number), network.now)
        assert outcome.datagrams == ()
        assert outcome.events == ()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown - held < 5_000
    assert second.counters["from_strangers"] == 10_000


def test_the_window_takes_each_counter_once_and_nothing_too_old() -> None:
    window = ReplayWindow()
    for counter in (0, 5, 3, 5 + WINDOW, 6):
        assert window.is_fresh(counter)
        window.mark(counter)
        assert not window.is_fresh(counter)
    assert not window.is_fresh(5)
    assert window.is_fresh(7)
    assert window.is_fresh(2**64 - 1)
    window.mark(2**64 - 1)
    assert not window.is_fresh(8)


def test_both_sides_make_the_same_keys_and_no_direction_shares_one() -> None:
    one = Session(SharedKey(KEY), (FIRST, b"a" * 16), (SECOND, b"b" * 16), bytes(8), 0.0)
    two = Session(SharedKey(KEY), (SECOND, b"b" * 16), (FIRST, b"a" * 16), bytes(8), 0.0)
    for sender, receiver in ((one, two), (two, one)):
        envelope = codec.open_envelope(sender.seal(b"text"))
        assert isinstance(envelope, codec.SealedEnvelope)
        assert envelope.session == receiver.receive_id
        assert receiver.open(envelope) == b"text"
        assert sender.open(envelope) is None
    assert one.receive_id != two.receive_id


def test_an_allowance_fills_up_to_its_burst() -> None:
    allowance = Allowance(rate=10.0, burst=2.0)
    assert [allowance.take(0.0) for _ in range(3)] == [True, True, False]
    assert allowance.take(0.1)
    assert [allowance.take(100.0) for _ in range(3)] == [True, True, False]


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError):
        Pairing((SharedKey(bytes(31)),), FIRST, SECOND, bytes(8), bytes, 0.0)
