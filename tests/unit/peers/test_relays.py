"""What hosts say during duplicate address detection, as the channel carries it."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address

import pytest
from peers_network import FIRST, SECOND, THIRD, Network, claim_of, said_of

from roamroute.peers import relays
from roamroute.peers.allowance import Allowance
from roamroute.peers.codec import MESSAGES_BYTES_MAXIMUM, OURS, Capability, DadRelayed, decode_messages
from roamroute.peers.relays import Hearing, Parcel, Relays, Reliability
from roamroute.values import DadKind, DadMessage, PeerId

PROXY = OURS | Capability.DAD


@pytest.fixture
def network() -> Network:
    made = Network(FIRST, SECOND, THIRD, capabilities=PROXY)
    made.settle()
    made.sent.clear()
    return made


def lose(lost: Callable[[PeerId, PeerId], bool]) -> Callable[[PeerId, PeerId, bytes], list[float]]:
    return lambda source, destination, _: [] if lost(source, destination) else [0.005]


def counters(network: Network, address: PeerId) -> dict[str, int]:
    return {
        name.removeprefix("dad_"): count
        for name, count in network.nodes[address].exchange.counters.items()
        if name.startswith("dad_") and count
    }


def sent_by(network: Network, address: PeerId) -> Counter[PeerId]:
    return Counter(destination for _, source, destination, _ in network.sent if source == address)


def test_every_peer_is_told_at_once_and_acknowledges(network: Network) -> None:
    network.relay(network.nodes[FIRST], said_of(1))
    assert sent_by(network, FIRST) == {SECOND: 1, THIRD: 1}
    network.run(3.0)
    assert sent_by(network, FIRST) == {SECOND: 1, THIRD: 1}
    assert [network.nodes[peer].said for peer in (SECOND, THIRD)] == [[(FIRST, said_of(1))]] * 2
    assert counters(network, FIRST) == {"sent": 2}
    assert network.nodes[FIRST].exchange._relays.next_wakeup is None


def test_only_those_that_are_named_are_told(network: Network) -> None:
    network.relay(network.nodes[FIRST], said_of(1, DadKind.ADVERTISEMENT), peers=[THIRD, FIRST])
    network.run(3.0)
    assert sent_by(network, FIRST) == {THIRD: 1}
    assert network.nodes[THIRD].said == [(FIRST, said_of(1, DadKind.ADVERTISEMENT))]


def test_what_was_lost_is_repeated_for_a_second_at_most(network: Network) -> None:
    network.fate = lose(lambda _, destination: destination == SECOND)
    started = network.now
    network.relay(network.nodes[FIRST], said_of(1), peers=[SECOND])
    network.run(5.0)
    times = [at - started for at, source, _, _ in network.sent if source == FIRST]
    assert times[0] == 0.0
    assert times[1] == pytest.approx(0.02)
    assert len(times) == 16
    assert times[-1] < 1.0
    assert counters(network, FIRST) == {"sent": 1, "repeated": len(times) - 1, "unacknowledged": 1}


def test_the_first_repetition_waits_for_the_round_trip() -> None:
    network = Network(FIRST, SECOND, delay_s=0.02, capabilities=PROXY)
    network.settle()
    network.sent.clear()
    network.relay(network.nodes[FIRST], said_of(1))
    network.run(3.0)
    assert sent_by(network, FIRST) == {SECOND: 1}


def test_a_copy_is_acknowledged_again_and_told_once(network: Network) -> None:
    lost = iter([True, True, False])
    network.fate = lose(lambda source, _: source == SECOND and next(lost, False))
    network.relay(network.nodes[FIRST], said_of(1), peers=[SECOND])
    network.run(3.0)
    assert network.nodes[SECOND].said == [(FIRST, said_of(1))]
    assert counters(network, SECOND) == {"received": 1, "copies": 2}
    assert counters(network, FIRST) == {"sent": 1, "repeated": 2}


def test_what_is_there_at_once_shares_datagrams(network: Network) -> None:
    messages = [said_of(number) for number in range(200)]
    network.relay(network.nodes[FIRST], *messages, peers=[SECOND])
    assert sent_by(network, FIRST) == {SECOND: 10}
    network.run(1.0)
    assert [message for _, message in network.nodes[SECOND].said] == messages
    assert sent_by(network, SECOND) == {FIRST: 10}


def test_repetitions_share_datagrams_as_well(network: Network) -> None:
    lost = iter([True] * 10)
    network.fate = lose(lambda source, _: source == FIRST and next(lost, False))
    network.relay(network.nodes[FIRST], *(said_of(number) for number in range(200)), peers=[SECOND])
    network.run(1.0)
    assert len(network.nodes[SECOND].said) == 200
    assert sent_by(network, FIRST) == {SECOND: 20}


def test_a_peer_whose_proxy_is_off_is_told_nothing() -> None:
    network = Network(FIRST, capabilities=PROXY)
    network.capabilities = OURS
    network.start(SECOND)
    network.settle()
    network.sent.clear()
    network.relay(network.nodes[FIRST], said_of(1))
    network.run(2.0)
    assert network.sent == []
    assert counters(network, FIRST) == {}


def test_what_such_a_peer_says_all_the_same_is_ignored() -> None:
    network = Network(FIRST, SECOND)
    network.settle()
    network.nodes[SECOND].exchange._pairings[FIRST]._current.capabilities = PROXY  # type: ignore[union-attr]
    network.relay(network.nodes[SECOND], said_of(1))
    network.run(2.0)
    assert network.nodes[FIRST].said == []
    assert counters(network, FIRST) == {"refused": 16}


def test_a_peer_that_starts_within_the_second_is_told(network: Network) -> None:
    network.nodes.pop(THIRD)
    network.run(60.0)
    network.relay(network.nodes[FIRST], said_of(1))
    network.run(0.3)
    network.start(THIRD)
    network.run(0.2)
    assert network.nodes[THIRD].said == [(FIRST, said_of(1))]


def test_a_peer_that_starts_later_is_not(network: Network) -> None:
    network.nodes.pop(THIRD)
    network.run(60.0)
    network.relay(network.nodes[FIRST], said_of(1))
    network.run(1.0)
    network.start(THIRD)
    network.settle()
    assert network.nodes[THIRD].said == []


def test_a_peer_that_restarts_is_told_in_its_new_session_at_once(network: Network) -> None:
    network.run(1.0)
    network.fate = lambda *_: []
    network.start(SECOND)  # its greetings are lost
    network.fate = lambda *_: [0.005]
    network.relay(network.nodes[FIRST], said_of(1), peers=[SECOND])
    took = network.run(1.0, lambda: bool(network.nodes[SECOND].said))
    assert took <= 0.03  # the message, hello, hello, hello and ping, the message again
    network.run(1.0)
    network.relay(network.nodes[SECOND], said_of(2), peers=[FIRST])  # its tokens start anywhere
    network.run(1.0)
    assert network.nodes[FIRST].said == [(SECOND, said_of(2))]


def test_a_peer_whose_session_has_ended_with_its_key_is_told_in_the_next(network: Network) -> None:
    new_key = bytes(range(32, 64))
    for node in network.nodes.values():
        network.perform(node, node.exchange.set_keys([new_key], network.now))
    network.relay(network.nodes[FIRST], said_of(1))
    network.run(0.2)
    assert [network.nodes[peer].said for peer in (SECOND, THIRD)] == [[(FIRST, said_of(1))]] * 2


def test_a_peer_that_restarts_may_begin_with_a_lesser_token(network: Network) -> None:
    network.nodes[SECOND].exchange._relays._tokens = itertools.count(10**9)
    network.relay(network.nodes[SECOND], said_of(1), peers=[FIRST])
    network.run(1.0)
    network.start(SECOND).exchange._relays._tokens = itertools.count(1)
    network.settle()
    network.relay(network.nodes[SECOND], said_of(2), peers=[FIRST])
    network.run(0.1)
    assert network.nodes[FIRST].said == [(SECOND, said_of(1)), (SECOND, said_of(2))]


def test_a_peer_that_is_none_any_more_is_told_no_more(network: Network) -> None:
    first = network.nodes[FIRST]
    network.fate = lambda *_: []
    network.relay(first, said_of(1))
    network.perform(first, first.exchange.set_peers([FIRST, SECOND], network.now))
    network.sent.clear()
    network.run(1.0)
    assert set(sent_by(network, FIRST)) == {SECOND}


def test_after_a_message_above_the_allowance_no_more_is_read_for_a_while(network: Network) -> None:
    network.relay(network.nodes[SECOND], *(said_of(number) for number in range(550)), peers=[FIRST])
    network.perform(network.nodes[SECOND], network.nodes[SECOND].exchange.tick(network.now))
    network.run(0.05)
    assert len(network.nodes[FIRST].said) == relays.HEARD_BURST
    network.run(0.3)
    assert len(network.nodes[FIRST].said) == 550


def test_a_dead_peer_costs_nothing_once_it_is_lost(network: Network) -> None:
    network.nodes.pop(THIRD)
    network.run(60.0)
    network.sent.clear()
    network.relay(network.nodes[FIRST], said_of(1), peers=[THIRD])
    assert network.sent == []


def test_a_claim_goes_before_what_is_due(network: Network) -> None:
    first = network.nodes[FIRST]
    network.fate = lose(lambda _, destination: destination == SECOND)
    network.relay(first, *(said_of(number) for number in range(200)), peers=[SECOND])
    network.claim(first, claim_of(1))
    network.run(0.02 - 1e-9)
    network.now += 0.001
    datagrams = first.exchange.tick(network.now).datagrams
    session = first.exchange._pairings[SECOND]._current
    assert session is not None
    assert len(datagrams) > 10
    lengths = [len(datagram) for peer, datagram in datagrams if peer == SECOND]
    assert lengths[0] < 150 < min(lengths[1:-1])


def test_a_peer_gone_mad_is_heard_within_its_allowance(network: Network) -> None:
    mad, victim = network.nodes[SECOND], network.nodes[FIRST]
    mad.exchange._relays._allowance = Allowance(1e9, 1e9)
    for number in range(0, 4000, 200):
        network.relay(mad, *(said_of(number + offset) for offset in range(200)), peers=[FIRST])
    network.run(0.1)
    assert relays.HEARD_BURST <= len(victim.said) <= relays.HEARD_BURST + 0.2 * relays.HEARD_PER_S
    assert counters(network, FIRST)["refused"] > 100
    network.relay(network.nodes[THIRD], said_of(9000), peers=[FIRST])
    network.claim(mad, claim_of(1, SECOND))
    network.run(0.1)
    assert victim.said.count((THIRD, said_of(9000))) == 1
    assert victim.claims == [claim_of(1, SECOND)]
    network.run(2.0)
    assert len(victim.said) <= relays.HEARD_BURST + 2.5 * relays.HEARD_PER_S


@pytest.mark.parametrize("length", [1, 5, 7, 38, 62])
def test_a_nonce_that_cannot_be_goes_nowhere(network: Network, length: int) -> None:
    message = DadMessage(DadKind.SOLICITATION, said_of(1).target, said_of(1).mac, bytes(length))
    network.relay(network.nodes[FIRST], message)
    network.run(1.0)
    assert network.sent == []
    assert counters(network, FIRST) == {"unsent": 1}


def test_one_message_in_five_lost_delays_but_loses_nothing(network: Network) -> None:
    chance = random.Random(7)
    network.fate = lambda *_: [] if chance.random() < 0.2 else [0.005 + chance.random() / 200]
    for number in range(1000):
        network.relay(network.nodes[FIRST], said_of(number))
        network.run(0.02)
    network.run(1.0)
    for peer in (SECOND, THIRD):
        assert Counter(message.mac for _, message in network.nodes[peer].said) == Counter(
            said_of(number).mac for number in range(1000)
        )


class TestRelays:
    """The bookkeeping alone."""

    @staticmethod
    def peers(*peers: PeerId) -> list[tuple[PeerId, float | None]]:
        return [(peer, 0.01) for peer in peers]

    def tokens(self, parcels: tuple[Parcel, ...]) -> list[int]:
        return [
            message.token
            for parcel in parcels
            for message in decode_messages(parcel.messages, parcel.peer)
            if isinstance(message, DadRelayed)
        ]

    @pytest.mark.parametrize(
        ("reliability", "copies"), [(Reliability.PLAIN, 1), (Reliability.REPEATED, relays.REPEATED_COPIES)]
    )
    def test_without_acknowledgements_there_is_a_fixed_number_of_copies(
        self, reliability: Reliability, copies: int
    ) -> None:
        carried = Relays(0, reliability)
        carried.send(said_of(1), self.peers(SECOND), (), 0.0)
        sent = len(carried.turn(0.0))
        while (due := carried.next_wakeup) is not None:
            sent += len(carried.turn(due))
        assert (sent, len(carried), carried.unacknowledged) == (copies, 0, 0)

    def test_what_is_acknowledged_is_not_sent_again(self) -> None:
        carried = Relays(5)
        for number in range(3):
            carried.send(said_of(number), self.peers(SECOND, THIRD), (), 0.0)
        assert len(carried.turn(0.0)) == 2
        carried.acknowledge(SECOND, [5, 7, 99])
        again = carried.turn(0.02)
        assert [(parcel.peer, parcel.count, parcel.new) for parcel in again] == [(SECOND, 1, 0), (THIRD, 3, 0)]
        assert len(carried) == 4

    def test_the_oldest_is_given_up_when_there_are_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relays, "PAIRS_MAXIMUM", 10)
        carried = Relays(0)
        for number in range(12):
            carried.send(said_of(number), self.peers(SECOND), (), 0.0)
        assert (len(carried), carried.evicted) == (10, 2)
        assert self.tokens(carried.turn(0.0)) == list(range(2, 12))

    def test_a_turn_is_bounded_and_new_messages_come_first(self) -> None:
        carried = Relays(0)
        for number in range(300):
            carried.send(said_of(number), self.peers(SECOND), (), 0.0)
        carried.turn(0.0)
        for number in range(300, 900):
            carried.send(said_of(number), self.peers(SECOND), (), 0.02)
        first = self.tokens(carried.turn(0.02))
        assert first == list(range(300, 300 + relays.PAIRS_PER_TURN))
        assert carried.next_wakeup is not None
        assert carried.next_wakeup <= 0.02
        assert set(self.tokens(carried.turn(0.02))) == set(range(300)) | set(range(812, 900))

    def test_the_budget_delays_and_what_is_too_late_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relays, "GATHERED_BYTES", 500.0)
        carried = Relays(0)
        carried._allowance = Allowance(1000.0, 1000.0)
        for number in range(100):
            carried.send(said_of(number), self.peers(SECOND), (), 0.0)
        now, sent = 0.0, 0
        while (due := carried.next_wakeup) is not None and due < 2.0:
            now = max(due, now)
            sent += sum(len(parcel.messages) for parcel in carried.turn(now))
        assert 1000 <= sent <= 2100
        assert len(carried) == 0
        assert carried.unacknowledged == 100

    def test_what_waits_for_the_budget_shares_datagrams(self) -> None:
        """300 messages a second to 49 peers are more than the budget if each goes alone."""
        carried = Relays(0)
        others = [IPv6Address(int(SECOND) + number) for number in range(49)]
        sent: dict[int, float] = {}
        parcels = 0
        for number in range(450):
            now = number / 300
            carried.send(said_of(number), self.peers(*others), (), now)
            while (due := carried.next_wakeup) is not None and due <= now + 1 / 300:
                turn = carried.turn(max(now, due))
                parcels += len(turn)
                for parcel in turn:
                    tokens = self.tokens((parcel,))
                    sent.update((token, max(now, due)) for token in tokens)
                    carried.acknowledge(parcel.peer, tokens)
        assert max(at - token / 300 for token, at in sent.items()) < 0.1
        assert carried.unacknowledged == 0
        assert parcels < 450 * 49 / 2

    def test_a_pair_has_one_repetition_due_however_often_a_session_comes_to_stand(self) -> None:
        carried = Relays(0)
        carried.send(said_of(1), self.peers(SECOND), (), 0.0)
        carried.turn(0.0)
        for _ in range(5):
            carried.come(SECOND, 0.001)
        assert self.tokens(carried.turn(0.001)) == [0]
        assert carried.turn(0.01) == ()

    def test_repetitions_that_are_due_within_two_milliseconds_go_together(self) -> None:
        carried = Relays(0)
        for number in range(3):
            carried.send(said_of(number), self.peers(SECOND), (), number / 1000)
            carried.turn(number / 1000)
        assert self.tokens(carried.turn(0.02)) == [0, 1, 2]

    def test_what_a_peer_has_missed_is_sent_to_it_once(self) -> None:
        carried = Relays(0)
        carried.send(said_of(1), (), (SECOND,), 0.0)
        assert carried.turn(0.0) == ()
        carried.come(SECOND, 0.1)
        assert self.tokens(carried.turn(0.1)) == [0]
        carried.acknowledge(SECOND, [0])
        carried.come(SECOND, 0.2)
        assert carried.turn(0.2) == ()

    def test_parcels_fit_into_a_datagram(self) -> None:
        carried = Relays(0)
        for number in range(100):
            message = DadMessage(
                DadKind.SOLICITATION, said_of(1).target, said_of(1).mac, bytes((0, 6, 14, 22, 30)[number % 5])
            )
            carried.send(message, self.peers(SECOND), (), 0.0)
        parcels = carried.turn(0.0)
        assert sum(parcel.count for parcel in parcels) == 100
        assert max(len(parcel.messages) for parcel in parcels) <= MESSAGES_BYTES_MAXIMUM
        assert max(parcel.count for parcel in parcels) <= 32

    def test_a_token_far_below_the_greatest_is_refused(self) -> None:
        carried = Relays(0)
        assert carried.hear(SECOND, 10_000, 0.0) is Hearing.TAKEN
        assert carried.hear(SECOND, 10_000 - relays.TOKENS_KNOWN + 1, 0.0) is Hearing.TAKEN
        assert carried.hear(SECOND, 10_000 - relays.TOKENS_KNOWN, 0.0) is Hearing.REFUSED
        assert carried.hear(SECOND, 10_000, 0.0) is Hearing.COPY
        assert carried.hear(THIRD, 10_000, 0.0) is Hearing.TAKEN

    def test_a_peer_that_left_leaves_nothing(self) -> None:
        carried = Relays(0)
        carried.send(said_of(1), self.peers(SECOND, THIRD), (), 0.0)
        carried.leave(SECOND)
        assert [parcel.peer for parcel in carried.turn(0.0)] == [THIRD]
        assert len(carried) == 1


def test_acknowledgements_of_a_datagram_share_one() -> None:
    network = Network(FIRST, SECOND, capabilities=PROXY)
    network.settle()
    network.sent.clear()
    network.relay(network.nodes[FIRST], *(said_of(number) for number in range(15)))
    network.run(0.1)
    ((_, _, _, datagram),) = [sent for sent in network.sent if sent[1] == SECOND]
    assert len(datagram) == 20 + 3 + 3 + 15 * 8 + 16
