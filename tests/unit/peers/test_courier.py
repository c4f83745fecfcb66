"""Repetition of claims: when, to whom, how long, and how many at most."""

from __future__ import annotations

import tracemalloc
from ipaddress import IPv6Address

import pytest
from peers_network import FIRST, SECOND, THIRD, claim_of, station

from roamroute.events import ClaimUnanswered
from roamroute.peers.courier import CLAIMS_MAXIMUM, SENDS_PER_TICK, WAITS_MAXIMUM, Courier, Round
from roamroute.values import Answer, Claim, PeerId, Verdict


def answer(claim: Claim, verdict: Verdict = Verdict.ACCEPTED, claimed: int | None = None) -> Answer:
    return Answer(claim.mac, claim.sequence if claimed is None else claimed, verdict, claim.sequence)


def follow(courier: Courier, until: float) -> list[tuple[float, Round]]:
    """Tick whenever it is due, up to `until`."""
    rounds = []
    while (due := courier.next_wakeup) is not None and due <= until:
        happened = courier.tick(due)
        if happened.sends or happened.unanswered:
            rounds.append((round(due, 6), happened))
    return rounds


def courier_with(*peers: PeerId) -> Courier:
    courier = Courier()
    courier.set_peers(peers, 0.0)
    return courier


def test_a_claim_goes_to_every_peer_at_once() -> None:
    courier = courier_with(SECOND, THIRD)
    assert set(courier.send(claim_of(1), 0.0).sends) == {(SECOND, claim_of(1)), (THIRD, claim_of(1))}


def test_it_is_repeated_fast_then_slower_and_given_up_after_5_s() -> None:
    courier = courier_with(SECOND)
    courier.send(claim_of(1), 0.0)
    rounds = follow(courier, 10.0)
    instants = [instant for instant, happened in rounds if happened.sends]
    assert instants[:7] == pytest.approx([0.02, 0.06, 0.14, 0.30, 0.55, 0.80, 1.05])
    assert rounds[-1] == (5.0, Round((), (ClaimUnanswered(SECOND, station(1), 1),)))
    assert len(instants) == 22
    assert courier.next_wakeup is None


def test_the_first_is_told_before_the_others_and_asked_more_often() -> None:
    courier = courier_with(SECOND, THIRD)
    assert courier.send(claim_of(1), 0.0, first=(THIRD,)).sends == ((THIRD, claim_of(1)),)
    assert courier.next_wakeup == 0.0
    assert courier.tick(0.0) == Round(((SECOND, claim_of(1)),))
    rounds = follow(courier, 0.4)
    told = {
        peer: [instant for instant, happened in rounds if (peer, claim_of(1)) in happened.sends]
        for peer in (SECOND, THIRD)
    }
    assert told[THIRD] == pytest.approx([0.005, 0.015, 0.035, 0.075, 0.155, 0.315])
    assert told[SECOND] == pytest.approx([0.02, 0.06, 0.14, 0.30])
    assert sum(happened.repetitions for _, happened in rounds) == 10
    courier.answered(THIRD, answer(claim_of(1)), 0.4)
    courier.answered(SECOND, answer(claim_of(1)), 0.4)
    assert courier.next_wakeup is None


def test_a_first_that_is_no_peer_changes_nothing() -> None:
    courier = courier_with(SECOND)
    assert courier.send(claim_of(1), 0.0, first=(THIRD,)) == Round(((SECOND, claim_of(1)),))


def test_a_first_that_has_answered_leaves_the_others_as_they_were() -> None:
    courier = courier_with(SECOND, THIRD)
    courier.send(claim_of(1), 0.0, first=(THIRD,))
    courier.answered(THIRD, answer(claim_of(1)), 0.0)
    instants = [instant for instant, happened in follow(courier, 0.4) if happened.sends == ((SECOND, claim_of(1)),)]
    assert instants == pytest.approx([0.0, 0.02, 0.06, 0.14, 0.30])


def test_only_those_who_have_not_answered_are_asked_again() -> None:
    courier = courier_with(SECOND, THIRD)
    courier.send(claim_of(1), 0.0)
    courier.answered(SECOND, answer(claim_of(1)), 0.01)
    (_, happened), *_ = follow(courier, 0.02)
    assert happened.sends == ((THIRD, claim_of(1)),)
    courier.answered(THIRD, answer(claim_of(1), Verdict.REFUSED), 0.03)
    assert (len(courier), courier.waits, courier.next_wakeup) == (0, 0, None)


def test_a_pending_answer_slows_the_repetition_down() -> None:
    courier = courier_with(SECOND)
    courier.send(claim_of(1), 0.0)
    courier.answered(SECOND, answer(claim_of(1), Verdict.PENDING), 0.01)
    instants = [instant for instant, happened in follow(courier, 1.1) if happened.sends]
    assert instants == pytest.approx([0.26, 0.51, 0.76, 1.01])
    courier.answered(SECOND, answer(claim_of(1), Verdict.KEPT), 1.1)
    assert follow(courier, 10.0) == []


def test_an_answer_to_an_older_claim_ends_nothing() -> None:
    courier = courier_with(SECOND)
    courier.send(claim_of(1, sequence=2), 0.0)
    courier.answered(SECOND, answer(claim_of(1), claimed=1), 0.01)
    courier.answered(THIRD, answer(claim_of(1, sequence=2)), 0.01)
    assert len(courier) == 1


def test_a_newer_claim_replaces_the_older_one_without_a_word() -> None:
    courier = courier_with(SECOND)
    courier.send(claim_of(1), 0.0)
    assert courier.send(claim_of(1, sequence=2), 1.0).unanswered == ()
    rounds = follow(courier, 10.0)
    assert {claim.sequence for _, happened in rounds for _, claim in happened.sends} == {2}
    assert [happened.unanswered for _, happened in rounds if happened.unanswered] == [
        (ClaimUnanswered(SECOND, station(1), 2),)
    ]


def test_a_dropped_claim_is_not_repeated_nor_reported() -> None:
    courier = courier_with(SECOND)
    courier.send(claim_of(1), 0.0)
    courier.drop(station(1))
    courier.drop(station(2))
    assert follow(courier, 10.0) == []


def test_a_peer_that_is_removed_is_reported_once_and_a_new_one_is_asked() -> None:
    courier = courier_with(SECOND)
    courier.send(claim_of(1), 0.0)
    happened = courier.set_peers((THIRD,), 0.01)
    assert happened == Round(((THIRD, claim_of(1)),), (ClaimUnanswered(SECOND, station(1), 1),))
    assert [happened.unanswered for _, happened in follow(courier, 10.0) if happened.unanswered] == [
        (ClaimUnanswered(THIRD, station(1), 1),)
    ]


def test_without_peers_nothing_is_outstanding() -> None:
    assert Courier().send(claim_of(1), 0.0) == Round()


def test_the_oldest_claims_give_way_and_are_reported() -> None:
    courier = courier_with(SECOND)
    reported = [courier.send(claim_of(number), 0.0).unanswered for number in range(CLAIMS_MAXIMUM + 2)]
    assert [unanswered for unanswered in reported if unanswered] == [
        (ClaimUnanswered(SECOND, station(0), 1),),
        (ClaimUnanswered(SECOND, station(1), 1),),
    ]
    assert (len(courier), courier.evicted) == (CLAIMS_MAXIMUM, 2)


def test_the_pairs_of_claims_and_peers_are_bounded() -> None:
    peers = [IPv6Address((0xFD44 << 112) + number) for number in range(255)]
    courier = courier_with(*peers)
    tracemalloc.start()
    for number in range(1000):
        courier.send(claim_of(number), 0.0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert courier.waits <= WAITS_MAXIMUM
    assert held < 6_000_000


def test_a_tick_does_a_bounded_piece_of_work() -> None:
    courier = courier_with(SECOND, THIRD)
    for number in range(1000):
        courier.send(claim_of(number), 0.0)
    happened = courier.tick(0.02)
    assert SENDS_PER_TICK <= len(happened.sends) < SENDS_PER_TICK + 2
    assert courier.next_wakeup == pytest.approx(0.02)
    sends = len(happened.sends)
    while courier.next_wakeup is not None and courier.next_wakeup <= 0.02 + 1e-9:
        sends += len(courier.tick(0.02 + 1e-9).sends)
    assert sends == 2000


def test_stale_wakeups_do_not_pile_up() -> None:
    courier = courier_with(SECOND)
    for sequence in range(1, 5000):
        courier.send(claim_of(1, sequence=sequence), 0.0)
    assert len(courier._wakeups) <= 128


def test_what_is_outstanding_is_told_newest_first() -> None:
    courier = courier_with(FIRST)
    assert courier.outstanding(FIRST, 0.0) == ()
    courier.send(claim_of(1), 0.0)
    courier.send(claim_of(2), 0.0)
    assert courier.outstanding(FIRST, 0.0) == (claim_of(2), claim_of(1))
