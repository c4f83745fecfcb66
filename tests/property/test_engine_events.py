"""One engine and any events whatever: nothing raises, everything stays bounded, wanted is what was said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from roamroute import events
from roamroute.admission import Admission
from roamroute.delta import coalesce, difference, fold
from roamroute.effects import Announce, Effect, Forget, Forward, Probe, SendAnswer, SendClaim, ShareHint, Withdraw
from roamroute.engine import Engine
from roamroute.policy import Handover, Policy
from roamroute.segments import segment_prefix, segments_of
from roamroute.testing.invariants import broken_invariants
from roamroute.testing.strategies import LINKS, PEERS, PREFIXES, histories
from roamroute.values import (
    Address,
    Answer,
    Basis,
    Claim,
    HostRoute,
    Mac,
    Neighbour,
    Nud,
    PeerId,
    Seconds,
    Station,
    Verdict,
)

SMALL = Policy(
    stale_probe_after_s=10.0,
    addresses_per_host=3,
    addresses_total=6,
    hosts_remembered=4,
    probes_per_second=4.0,
    probe_burst=2,
    urgent_probes_per_second=8.0,
    denial_s=10.0,
    binding_lifetime_s=100.0,
    hints_per_peer=2,
    forwards_total=3,
    oscillation_moves=3,
)
ROUTINE = ("stale", "its entry was removed from the neighbour table", "not in the neighbour cache any more")
SEGMENTS = segment_prefix(PREFIXES) or ip_network("::/128")
History = Sequence[tuple[Seconds, events.Event]]
EXAMPLES = int(os.environ.get("ROAMROUTE_EXAMPLES", 300))
bounded = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
who = st.sampled_from([PEERS[1], None])


class Run:
    """Feeds a history to an engine, ticks in between, and looks after every call."""

    def __init__(self, me: PeerId | None, policy: Policy = SMALL) -> None:
        handover = Handover() if me is None else Handover(segments=segments_of(me, PREFIXES))
        self.engine = Engine(Admission(LINKS, PREFIXES), policy, me=me, seed=1, handover=handover)
        self.now = 1000.0
        self.came: list[tuple[float, Effect]] = []
        self.wanted: dict[Address, HostRoute] = {}

    def take(self, effects: list[Effect]) -> None:
        self.came += [(self.now, effect) for effect in effects]
        fold(self.wanted, effects)
        assert self.wanted == dict(self.engine.wanted)
        assert list(broken_invariants(self.engine)) == []

    def wait(self, delay: Seconds) -> None:
        end = self.now + delay
        turns = 0
        while (due := self.engine.next_wakeup) is not None and due <= end:
            self.now = max(self.now, due)
            self.take(self.engine.tick(self.now))
            turns += 1
            assert turns < 10_000, "the engine wants to be woken for ever"
        self.now = end

    def play(self, history: History) -> None:
        for delay, event in history:
            self.wait(delay)
            self.take(self.engine.handle(event, self.now))


PHONE, LAPTOP = Mac("02:00:5e:44:00:01"), Mac("02:00:5e:44:00:02")
A1 = ip_address("fd44:0:0:1::101")


def stale(mac: Mac = PHONE) -> Neighbour:
    return Neighbour("wlan0", A1, Nud.STALE, mac)


@given(histories(), who)
@example(  # the timer of the answers was due for ever: an address that no claim names was waited for
    [
        (0.0, events.PeerJoined(PEERS[0])),
        (0.0, events.NeighboursResynced(frozenset(LINKS), ())),
        (0.0, events.StationConnected(Station(PHONE, "wlan0"))),
        (0.4, events.NeighbourChanged(Neighbour("wlan0", ip_address("fd44:0:0:1::102"), Nud.STALE, PHONE))),
        (0.0, events.NeighboursResynced(frozenset(LINKS), (stale(),))),
        (40.0, events.Resumed()),
    ],
    PEERS[1],
)
@bounded
def test_anything_may_come(history: History, me: PeerId | None) -> None:
    run = Run(me)
    run.play(history)
    run.wait(1000.0)
    for _, effect in run.came:
        assert effect.because.strip()
        assert "\n" not in effect.because
        if isinstance(effect, Announce | Withdraw):
            assert effect.route.link in LINKS
            assert any(effect.route.address in prefix for prefix in PREFIXES)
        if isinstance(effect, SendClaim):
            assert 0 < effect.claim.sequence < 2**32
            assert effect.claim.peer == me
            assert len(effect.claim.addresses) <= 32
        if isinstance(effect, SendAnswer):
            assert len(effect.answer.addresses) <= 32
            assert effect.peer != me
        if isinstance(effect, ShareHint):
            assert effect.hint.peer == me
            assert len(effect.hint.addresses) <= SMALL.addresses_per_host
        if isinstance(effect, Forward):
            assert effect.peer != me
            assert effect.segment in SEGMENTS


@given(histories(), who)
@bounded
def test_probes_never_exceed_their_budgets(history: History, me: PeerId | None) -> None:
    run = Run(me)
    run.play(history)
    run.wait(100.0)
    for is_routine, rate, burst in ((True, 4.0, 2), (False, 8.0, 2)):
        times = [when for when, each in run.came if isinstance(each, Probe) and (each.because in ROUTINE) is is_routine]
        for first, begin in enumerate(times):
            for count, end in enumerate(times[first:], start=1):
                assert count <= burst + rate * (end - begin) + 1e-3


@given(histories(), who)
@bounded
def test_everything_withdrawn_leaves_nothing(history: History, me: PeerId | None) -> None:
    run = Run(me)
    run.play(history)
    for link in LINKS:
        run.take(run.engine.handle(events.LinkLost(link), run.now))
    assert not run.wanted
    assert not run.engine._book.entries


@given(histories(), who)
@bounded
def test_a_drain_leaves_nothing_and_its_end_brings_back_what_is_here(history: History, me: PeerId | None) -> None:
    run = Run(me)
    run.play([*history, (0.0, events.Resumed())])
    before = dict(run.wanted)
    run.play([(0.0, events.Drained())])
    assert not run.wanted
    run.play([(0.0, events.Resumed())])
    assert run.wanted == before


@given(histories())
@bounded
def test_a_resync_never_claims(history: History) -> None:
    run = Run(PEERS[1])
    run.play(history)
    for event in (
        events.StationsResynced(frozenset(LINKS), tuple(Station(mac, "wlan0") for mac in (PHONE, LAPTOP))),
        events.NeighboursResynced(frozenset(LINKS), (stale(), stale(LAPTOP))),
    ):
        run.came.clear()
        run.take(run.engine.handle(event, run.now))
        assert not [each for _, each in run.came if isinstance(each, SendClaim)]


@given(histories())
@bounded
def test_what_a_peer_holds_is_not_announced_here(history: History) -> None:
    run = Run(PEERS[1])
    run.play(history)
    number = run.engine.hosts[PHONE].sequence + 1 if PHONE in run.engine.hosts else 1
    if number >= 2**32:
        return

    def answer_to(number: int) -> Answer:
        run.came.clear()
        claim = Claim(PHONE, number, PEERS[3], basis=Basis.ASSOCIATION)
        run.take(run.engine.handle(events.HostClaimed(claim), run.now))
        (sent,) = [each for _, each in run.came if isinstance(each, SendAnswer)]
        return sent.answer

    answer = answer_to(number)
    if answer.verdict is Verdict.REFUSED:  # a station that connected before the peer was heard of is defended, once
        answer = answer_to(answer.sequence + 1)
    assert answer.verdict is Verdict.ACCEPTED
    assert not run.engine.hosts[PHONE].entries
    run.take(run.engine.handle(events.NeighboursResynced(frozenset(LINKS), (stale(),)), run.now))
    assert A1 not in run.wanted or run.engine._book.entries[A1].mac != PHONE


@given(histories(), histories())
@bounded
def test_a_silent_neighbour_does_not_stay(before: History, after: History) -> None:
    """No event about a host, no answer to any probe: in the end it is not announced, whatever else happens."""
    run = Run(None)
    run.play(before)
    deaf = [(delay, event) for delay, event in after if isinstance(event, events.ForeignRouteSeen | events.PeerLost)]
    run.play(deaf)
    # The kernel has settled everything that it had begun: REACHABLE does not last, probing ends.
    for address, entry in list(run.engine._book.entries.items()):
        if entry.nud in (Nud.REACHABLE, Nud.DELAY):
            run.take(run.engine.handle(events.NeighbourChanged(_neighbour(entry.link, address, entry.mac)), run.now))
        elif entry.nud is Nud.PROBE:
            failed = Neighbour(entry.link, address, Nud.FAILED)
            run.take(run.engine.handle(events.NeighbourChanged(failed), run.now))
    run.wait(300.0)
    assert not run.wanted


@given(histories(), who)
@bounded
def test_effects_agree_with_their_difference(history: History, me: PeerId | None) -> None:
    run = Run(me)
    before: dict[Address, HostRoute] = {}
    for delay, event in history:
        run.wait(delay)
        before = dict(run.wanted)
        effects = run.engine.handle(event, run.now)
        run.take(effects)
        net = coalesce(effects)
        after = dict(before)
        for route in net.withdrawn:
            after.pop(route.address, None)
        after.update({route.address: route for route in net.announced})
        assert after == run.wanted
        change = difference(before, run.wanted)
        assert set(change.announced) <= set(net.announced)
        assert {route.address for route in change.withdrawn} <= {route.address for route in net.withdrawn}


@given(histories(), who)
@bounded
def test_the_same_seed_gives_the_same_effects(history: History, me: PeerId | None) -> None:
    one, other = Run(me), Run(me)
    one.play(history)
    other.play(history)
    assert one.came == other.came


@given(histories())
@bounded
def test_a_neighbour_is_forgotten_only_where_it_was_wanted_or_known(history: History) -> None:
    run = Run(None)
    known: set[tuple[str, Address]] = set()
    for delay, event in history:
        run.wait(delay)
        effects = run.engine.handle(event, run.now)
        for effect in effects:
            if isinstance(effect, Forget):
                assert (effect.link, effect.address) in known
        run.take(effects)
        known = {(entry.link, entry.address) for entry in run.engine._book.entries.values()}


def _neighbour(link: str, address: Address, mac: Mac) -> Neighbour:
    return Neighbour(link, address, Nud.STALE, mac)
