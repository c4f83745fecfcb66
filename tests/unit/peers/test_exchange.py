"""All peers together: who is told first, what is shared ahead, what is reported, and what a peer gone mad costs."""

from __future__ import annotations

import random
import tracemalloc
from ipaddress import IPv6Address

import pytest
from peers_network import FIRST, KEY, SECOND, THIRD, Network, claim_of, station

from roamroute.events import HandoverReported, HostHinted
from roamroute.peers import codec
from roamroute.peers.exchange import HINTS_BURST, Exchange
from roamroute.values import Answer, Claim, HandoverReport, Hint, PeerId, Segments, Verdict


def trio() -> Network:
    network = Network(FIRST, SECOND, THIRD)
    network.settle()
    return network


def share(network: Network, hint: Hint) -> None:
    network.nodes[hint.peer].exchange.share_hint(hint, network.now)


def hint_of(number: int, peer: PeerId = FIRST, sequence: int = 1) -> Hint:
    claim = claim_of(number, peer, sequence)
    return Hint(claim.mac, sequence, peer, claim.addresses)


def test_the_former_holder_is_told_before_all_others() -> None:
    network = trio()
    first = network.nodes[FIRST]
    outcome = first.exchange.send_claim(claim_of(1), network.now, THIRD)
    assert [peer for peer, _ in outcome.datagrams] == [THIRD]
    assert first.exchange.next_wakeup == network.now
    assert [peer for peer, _ in first.exchange.tick(network.now).datagrams] == [SECOND]


def test_a_hastened_claim_is_sent_once() -> None:
    network = trio()
    first, second = network.nodes[FIRST], network.nodes[SECOND]
    (datagram,) = first.exchange.hasten_claim(claim_of(1), SECOND)
    network.inject(FIRST, SECOND, datagram, network.delay_s)
    network.perform(first, first.exchange.send_claim(claim_of(1), network.now, SECOND, is_hastened=True))
    network.run(1.0, lambda: len(first.answers) == 2)
    assert {*second.claims} == {*network.nodes[THIRD].claims} == {claim_of(1)}
    counters = first.exchange.counters
    assert counters["claims_sent"] - counters["claims_repeated"] == 2
    assert first.exchange.counters["datagrams_sent"] == sum(peer.sent for peer in first.exchange.status())


def test_routers_are_told_with_the_former_holder_and_as_insistently() -> None:
    network = trio()
    other = network.nodes[SECOND]
    other.exchange = Exchange(SECOND, (KEY,), random.Random(7).randbytes, codec.OURS | codec.Capability.ROUTER)
    other.exchange.set_peers([FIRST, THIRD], network.now)
    first = network.nodes[FIRST]
    network.perform(other, other.exchange.tick(network.now))
    network.run(60.0, lambda: any("router" in peer.capabilities for peer in first.exchange.status()))
    assert [peer for peer, _ in first.exchange.send_claim(claim_of(1), network.now, THIRD).datagrams] == [THIRD, SECOND]
    assert not first.exchange.tick(network.now).datagrams
    assert [peer for peer, _ in first.exchange.send_claim(claim_of(2), network.now).datagrams] == [SECOND]
    assert [peer for peer, _ in first.exchange.tick(network.now).datagrams] == [THIRD]
    assert SECOND in [peer for peer, _ in first.exchange.tick(network.now + 0.006).datagrams]


def test_without_a_session_nothing_can_be_hastened() -> None:
    network = Network(FIRST)
    assert network.nodes[FIRST].exchange.hasten_claim(claim_of(1), SECOND) == ()
    network.nodes[FIRST].exchange.set_peers([SECOND], network.now)
    assert network.nodes[FIRST].exchange.hasten_claim(claim_of(1), SECOND) == ()


def test_the_age_of_a_claim_grows_while_it_is_repeated() -> None:
    network = trio()
    first, second = network.nodes[FIRST], network.nodes[SECOND]
    network.fate = lambda *_: []
    claim = Claim(station(1), 1, FIRST, claim_of(1).basis, segments=Segments(SECOND), age_s=2.0)
    network.claim(first, claim)
    network.run(0.1)
    network.fate = lambda *_: [network.delay_s]
    network.run(1.0, lambda: bool(second.claims))
    (told,) = second.claims
    assert told.segments == Segments(SECOND)
    assert told.age_s == pytest.approx(2.14, abs=0.002)
    answer = Answer(claim.mac, 1, Verdict.REFUSED, 2, SECOND, age_s=7.5)
    network.perform(second, second.exchange.send_answer(FIRST, answer, network.now))
    network.run(0.1)
    assert [event.answer.age_s for event in first.answers if event.peer == SECOND][-1] == 7.5


def test_a_hint_is_told_once_and_acknowledged() -> None:
    network = trio()
    share(network, hint_of(1))
    network.run(10.0)
    assert network.nodes[SECOND].hints == network.nodes[THIRD].hints == [hint_of(1)]
    status = network.nodes[FIRST].exchange.status()
    assert [(peer.hints_held, peer.hints_unacknowledged) for peer in status] == [(1, 0), (1, 0)]
    assert network.nodes[FIRST].exchange.counters["hint_batches_repeated"] == 0


def test_a_batch_whose_acknowledgement_was_lost_is_not_told_twice() -> None:
    network = trio()
    network.fate = lambda source, *_: [network.delay_s] if source == FIRST else []
    share(network, hint_of(1))
    network.run(1.0)
    network.fate = lambda *_: [network.delay_s]
    network.run(5.0)
    assert network.nodes[SECOND].hints == [hint_of(1)]
    assert network.nodes[FIRST].exchange.status()[0].hints_held == 1


def test_a_peer_that_restarts_or_comes_back_is_told_everything_again() -> None:
    network = trio()
    for number in range(50):
        share(network, hint_of(number))
    network.run(10.0)
    second = network.start(SECOND)
    network.run(1.0)
    assert {hint.mac for hint in second.hints} == {station(number) for number in range(50)}
    assert len(network.nodes[THIRD].hints) == 50
    network.fate = lambda *_: []
    network.run(60.0)
    share(network, hint_of(50))
    network.fate = lambda *_: [network.delay_s]
    network.run(30.0)
    assert {hint.mac for hint in second.hints} == {station(number) for number in range(51)}


def test_an_accepted_claim_spares_its_hint() -> None:
    network = trio()
    first = network.nodes[FIRST]
    network.claim(first, claim_of(1))
    network.run(0.05)
    share(network, hint_of(1))
    network.run(10.0)
    assert network.nodes[SECOND].hints == []
    assert first.exchange.counters["hints_spared"] == 2
    assert [peer.hints_held for peer in first.exchange.status()] == [1, 1]


def test_a_refused_claim_does_not() -> None:
    network = trio()
    network.nodes[SECOND].verdict = lambda _: Verdict.REFUSED
    network.claim(network.nodes[FIRST], claim_of(1))
    share(network, hint_of(1))
    network.run(10.0)
    assert network.nodes[SECOND].hints == [hint_of(1)]
    assert network.nodes[THIRD].hints == []


def test_a_removed_peer_is_told_nothing_and_forgotten() -> None:
    network = trio()
    first = network.nodes[FIRST]
    network.perform(first, first.exchange.set_peers([THIRD], network.now))
    share(network, hint_of(1))
    network.run(10.0)
    assert network.nodes[SECOND].hints == []
    assert network.nodes[THIRD].hints == [hint_of(1)]


def test_hints_above_the_allowance_are_not_acknowledged_and_come_again() -> None:
    network = trio()
    second = network.nodes[SECOND]
    for number in range(int(HINTS_BURST)):
        session = network.nodes[FIRST].exchange._pairings[SECOND]
        message = codec.encode_message(hint_of(number % 100))
        (datagram,) = session.carry(message * 2 + codec.encode_message(codec.HintsSent(number)))
        outcome = second.exchange.receive(datagram, FIRST, network.now)
        assert len(outcome.events) == len(outcome.datagrams) * 2
    counters = second.exchange.counters
    assert counters["hints_received"] == HINTS_BURST
    assert counters["hints_refused"] == HINTS_BURST


def test_hints_that_ask_for_no_acknowledgement_are_not_taken() -> None:
    network = trio()
    session = network.nodes[FIRST].exchange._pairings[SECOND]
    (datagram,) = session.send(hint_of(1))
    assert network.nodes[SECOND].exchange.receive(datagram, FIRST, network.now).events == ()


def test_a_hint_is_named_by_its_authenticated_sender() -> None:
    network = trio()
    network.nodes[FIRST].exchange.share_hint(hint_of(1, THIRD), network.now)
    network.run(1.0)
    assert HostHinted(hint_of(1, FIRST)) in network.nodes[SECOND].events


def test_a_report_reaches_the_claimant() -> None:
    network = trio()
    report = HandoverReport(station(1), 3, 0.001, 0.25, 7.5, 0.0005)
    network.perform(network.nodes[FIRST], network.nodes[FIRST].exchange.send_report(SECOND, report))
    network.perform(network.nodes[FIRST], network.nodes[FIRST].exchange.send_report(FIRST, report))
    network.run(0.1)
    assert HandoverReported(FIRST, report) in network.nodes[SECOND].events
    assert network.nodes[THIRD].reports == []
    assert network.nodes[FIRST].exchange.counters["reports_sent"] == 1


def test_255_dead_peers_cost_a_fixed_amount() -> None:
    """Never there, or gone: memory that does not grow, and few datagrams, also while hosts roam."""
    dead = [IPv6Address(int(SECOND) + 100 + number) for number in range(253)]
    network = Network(FIRST, SECOND)
    network.settle()
    first = network.nodes[FIRST]
    network.start(THIRD)
    network.settle()
    del network.nodes[THIRD]
    network.perform(first, first.exchange.set_peers([SECOND, THIRD, *dead], network.now))
    network.run(60.0)
    tracemalloc.start()
    held = []
    for number in range(8):
        network.sent = []
        network.claim(first, claim_of(number % 2, FIRST, number + 1))
        share(network, hint_of(number % 2, FIRST, number + 1))
        network.run(6.0)
        assert len(network.sent) / 6.0 < 255 * (0.12 + 0.9)  # a hello every 9 s; one a second while the claim waits
        network.sent, first.events, network.nodes[SECOND].events = [], [], []
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[-1] - held[2] < 50_000
    network.claim(first, claim_of(99))
    assert network.run(1.0, lambda: bool(first.answers)) == pytest.approx(2 * network.delay_s)
