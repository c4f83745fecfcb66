"""The log of hints: who is told what, when, how often, and what it costs."""

from __future__ import annotations

import tracemalloc
from ipaddress import IPv6Address

import pytest
from peers_network import FIRST, SECOND, THIRD, claim_of, station

from roamroute.peers import codec, hints
from roamroute.peers.hints import Batch, HintLog
from roamroute.values import Hint, PeerId


def hint_of(number: int, *hosts: int, sequence: int = 1) -> Hint:
    addresses = tuple(IPv6Address((0xFD44 << 112) + host) for host in hosts or (number,))
    return Hint(station(number), sequence, FIRST, addresses)


def log_for(*peers: PeerId) -> HintLog:
    log = HintLog(1000)
    for peer in peers:
        log.join(peer, 0.0)
    log.tick(0.0)
    return log


def told(batch: Batch) -> tuple[list[Hint], int]:
    """What is in a batch: its hints and its token."""
    *shared, end = codec.decode_messages(batch.messages, FIRST)
    assert isinstance(end, codec.HintsSent)
    return [hint for hint in shared if isinstance(hint, Hint)], end.token


def acknowledge(log: HintLog, batch: Batch, now: float) -> None:
    log.acknowledge(batch.peer, told(batch)[1], now)


def settle(log: HintLog, now: float, until: float) -> list[tuple[float, Batch]]:
    """Tick whenever it is due and acknowledge everything at once."""
    sent = []
    while (due := log.next_wakeup) is not None and due <= until:
        now = max(now, due)
        for batch in log.tick(now):
            sent.append((now, batch))
            acknowledge(log, batch, now)
    return sent


def test_a_change_is_told_to_every_peer_after_a_moment() -> None:
    log = log_for(SECOND, THIRD)
    log.share(hint_of(1), 1.0)
    assert log.tick(1.2) == ()
    batches = log.tick(log.next_wakeup or 0.0)
    assert [(batch.peer, told(batch)[0]) for batch in batches] == [(SECOND, [hint_of(1)]), (THIRD, [hint_of(1)])]
    assert log.next_wakeup == pytest.approx(1.25 + hints.REPETITIONS_S[0])


def test_addresses_that_come_one_after_another_go_together() -> None:
    log = log_for(SECOND)
    for count in range(1, 5):
        log.share(hint_of(1, *range(count)), 1.0 + count / 20)
    ((instant, batch),) = settle(log, 1.0, 10.0)
    assert instant == pytest.approx(1.45)
    assert told(batch)[0] == [hint_of(1, 0, 1, 2, 3)]
    assert log.next_wakeup is None


def test_a_batch_is_repeated_ever_more_rarely_until_it_is_acknowledged() -> None:
    log = log_for(SECOND)
    log.share(hint_of(1), 0.0)
    instants, batches = [], []
    while (due := log.next_wakeup) is not None and due < 30.0:
        for batch in log.tick(due):
            instants.append(due)
            batches.append(batch)
    assert instants[:6] == pytest.approx([0.25, 0.40, 0.55, 0.85, 1.15, 1.75])
    assert instants[-1] - instants[-2] == pytest.approx(hints.REPETITIONS_S[-1])
    assert len({batch.messages for batch in batches}) == 1
    assert [batch.is_repetition for batch in batches] == [False, *[True] * (len(batches) - 1)]
    acknowledge(log, batches[-1], 30.0)
    assert log.tick(30.0) == ()
    assert log.next_wakeup is None
    assert log.unacknowledged(SECOND) == 0


def test_an_acknowledgement_of_something_else_ends_nothing() -> None:
    log = log_for(SECOND)
    log.share(hint_of(1), 0.0)
    (batch,) = log.tick(0.25)
    log.acknowledge(SECOND, told(batch)[1] + 1, 0.3)
    log.acknowledge(THIRD, told(batch)[1], 0.3)
    assert log.unacknowledged(SECOND) == 1


def test_what_changes_under_way_is_told_afterwards() -> None:
    log = log_for(SECOND)
    log.share(hint_of(1), 0.0)
    (batch,) = log.tick(0.25)
    log.share(hint_of(1, 7), 0.3)
    acknowledge(log, batch, 0.4)
    assert log.unacknowledged(SECOND) == 1
    ((_, later),) = settle(log, 0.4, 10.0)
    assert told(later)[0] == [hint_of(1, 7)]


def test_the_same_again_is_not_told() -> None:
    log = log_for(SECOND)
    log.share(hint_of(1, 1, 2), 0.0)
    settle(log, 0.0, 10.0)
    log.share(hint_of(1, 2, 1), 10.0)
    assert log.next_wakeup is None
    log.share(hint_of(1, 1, 2, sequence=2), 10.0)
    assert len(settle(log, 10.0, 20.0)) == 1


def test_a_host_without_addresses_is_told_too() -> None:
    log = log_for(SECOND)
    empty = Hint(station(1), 3, FIRST)
    log.share(empty, 0.0)
    ((_, batch),) = settle(log, 0.0, 10.0)
    assert told(batch)[0] == [empty]


def test_what_is_not_shared_any_more_is_told_to_nobody() -> None:
    log = log_for(SECOND)
    log.share(hint_of(1), 0.0)
    log.share(hint_of(2), 0.0)
    log.unshare(station(1))
    log.unshare(station(3))
    ((_, batch),) = settle(log, 0.0, 10.0)
    assert told(batch)[0] == [hint_of(2)]
    log.unshare(station(2))
    log.join(THIRD, 10.0)
    assert settle(log, 10.0, 20.0) == []
    assert log.next_wakeup is None


def test_a_peer_that_joins_is_told_everything_at_once_and_the_others_nothing() -> None:
    log = log_for(SECOND)
    for number in range(100):
        log.share(hint_of(number), 0.0)
    settle(log, 0.0, 10.0)
    for _ in range(2):  # it restarts
        log.join(THIRD, 10.0)
        assert log.unacknowledged(THIRD) == 100
        sent = settle(log, 10.0, 20.0)
        assert {batch.peer for _, batch in sent} == {THIRD}
        assert [hint for _, batch in sent for hint in told(batch)[0]] == [hint_of(number) for number in range(100)]
        assert sent[-1][0] == 10.0


def test_a_peer_that_has_left_costs_nothing() -> None:
    log = log_for(SECOND)
    log.share(hint_of(1), 0.0)
    log.leave(SECOND)
    log.leave(THIRD)
    assert settle(log, 0.0, 10.0) == []
    assert log.next_wakeup is None
    assert log.unacknowledged(SECOND) == 1


def test_a_claim_that_said_the_same_spares_the_hint() -> None:
    log = log_for(SECOND, THIRD)
    claim = claim_of(1)
    log.share(Hint(claim.mac, claim.sequence, FIRST, claim.addresses), 0.0)
    log.claim_accepted(SECOND, claim)
    log.claim_accepted(FIRST, claim)
    ((_, batch),) = settle(log, 0.0, 10.0)
    assert (batch.peer, log.spared) == (THIRD, 1)
    log.share(Hint(claim.mac, claim.sequence, FIRST, ()), 10.0)
    settle(log, 10.0, 20.0)
    log.share(Hint(claim.mac, claim.sequence, FIRST, claim.addresses), 20.0)  # what the claim said is over
    assert {batch.peer for _, batch in settle(log, 20.0, 30.0)} == {SECOND, THIRD}


@pytest.mark.parametrize("different", [claim_of(1, sequence=2), claim_of(2)])
def test_a_claim_that_said_something_else_does_not(different: object) -> None:
    log = log_for(SECOND)
    log.share(hint_of(1), 0.0)
    assert isinstance(different, type(claim_of(1)))
    log.claim_accepted(SECOND, different)
    assert len(settle(log, 0.0, 10.0)) == 1


def test_a_claim_in_the_middle_of_a_batch_is_spared_too() -> None:
    log = log_for(SECOND)
    for number in range(3):
        log.share(hint_of(number), 0.0)
    log.claim_accepted(SECOND, claim_of(1))
    ((_, batch),) = settle(log, 0.0, 10.0)
    assert told(batch)[0] == [hint_of(0), hint_of(2)]
    assert log.spared == 1


def test_5000_hosts_are_paced() -> None:
    log = log_for()
    for number in range(5000):
        log.share(hint_of(number, *range(3)), 0.0)
    log.join(SECOND, 100.0)
    sent = settle(log, 100.0, 1000.0)
    assert len({hint.mac for _, batch in sent for hint in told(batch)[0]}) == 5000
    assert all(len(batch.messages) <= codec.MESSAGES_BYTES_MAXIMUM for _, batch in sent)
    octets = [(instant, len(batch.messages) + 84) for instant, batch in sent]
    for instant, _ in octets:
        within = sum(size for when, size in octets if instant <= when < instant + 1.0)
        assert within <= hints.BURST_BYTES + hints.BYTES_PER_S
    assert sent[-1][0] - 100.0 == pytest.approx(sum(size for _, size in octets) / hints.BYTES_PER_S, rel=0.1)


def test_a_peer_that_acknowledges_nothing_does_not_hold_up_the_others() -> None:
    log = log_for(SECOND, THIRD)
    for number in range(1000):
        log.share(hint_of(number), 0.0)
    now, batches = 0.25, 0
    while (due := log.next_wakeup) is not None and due < 60.0:
        now = max(now, due)
        for batch in log.tick(now):
            if batch.peer == THIRD:
                acknowledge(log, batch, now)
            else:
                batches += 1
    assert (log.unacknowledged(SECOND), log.unacknowledged(THIRD)) == (1000, 0)
    assert batches < 20


def test_one_change_is_told_to_50_peers_at_once() -> None:
    peers = [IPv6Address((0xFD44 << 112) + number) for number in range(50)]
    log = log_for(*peers)
    log.share(hint_of(1, 1, 2, 3), 0.0)
    sent = settle(log, 0.0, 10.0)
    assert {batch.peer for _, batch in sent} == set(peers)
    assert sent[-1][0] == pytest.approx(0.25, abs=1e-3)


def test_a_tick_does_a_bounded_piece_of_work() -> None:
    peers = [IPv6Address((0xFD44 << 112) + number) for number in range(50)]
    log = log_for(*peers)
    log.share(hint_of(1), 0.0)
    assert len(log.tick(0.25)) == hints.BATCHES_PER_TICK
    assert log.next_wakeup == 0.25


def test_memory_is_that_of_the_hosts_and_the_peers() -> None:
    peers = [IPv6Address((0xFD44 << 112) + number) for number in range(256)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    log = log_for(*peers)
    for sequence in range(1, 4):
        for number in range(1000):
            log.share(hint_of(number, *range(3), sequence=sequence), 0.0)
    for peer in peers:
        for number in range(100):
            log.claim_accepted(peer, claim_of(number))
    for tick in range(100):
        log.tick(1.0 + tick)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 1000 * 1000 + 256 * 40_000
