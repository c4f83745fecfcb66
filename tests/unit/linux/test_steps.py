"""The steps between what is installed and what is wanted, carried out on a FIB of our own making."""

from __future__ import annotations

import errno
from ipaddress import ip_address, ip_network

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roamroute.export import FibNeeds, KernelNumbers, Kick
from roamroute.linux.kick import APART_S, Kicker
from roamroute.linux.pace import LEFT_FOR_CHANGES, PAUSE_S, PORTION, Pacer
from roamroute.linux.repeats import Repeats
from roamroute.linux.steps import Action, Belief, Found, Step
from roamroute.values import Address, HostRoute, Seconds
from roamroute.wire import netlink

NUMBERS = KernelNumbers()
PREFIXES = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
PARKING = FibNeeds(parks=True, parked_limit=8, parked_for_s=60.0)
HOSTS = [ip_address(f"fd44:0:0:1::{number}") for number in range(1, 6)]
RESERVED = ip_address("100::44")
A = HostRoute(HOSTS[0], "wlan0")
B = HostRoute(HOSTS[1], "wlan0")


class Fib:
    """The kernel's routes: (address, metric) -> those beside each other, the first of which is found."""

    def __init__(self) -> None:
        self.routes: dict[tuple[Address, int], list[tuple[int, str | None]]] = {}

    def carry_out(self, step: Step) -> int:
        """As net/ipv6/ip6_fib.c and net/ipv4/fib_trie.c do; return the errno."""
        key, route = (step.address, step.metric), (step.protocol, step.link)
        here = self.routes.setdefault(key, [])
        if step.kind == netlink.RTM_DELROUTE:
            if route not in here:
                return errno.ESRCH
            here.remove(route)
            return 0
        if here and step.flags & netlink.NLM_F_EXCL:
            return errno.EEXIST
        if here and step.flags & netlink.NLM_F_REPLACE:
            here[0] = route
            return 0
        if not step.flags & netlink.NLM_F_CREATE:
            return errno.ENOENT
        here.append(route)
        return 0

    def has(self, address: Address) -> bool:
        return any(each for (at, _), each in self.routes.items() if at == address)

    def live(self) -> set[tuple[Address, str, int, int]]:
        return {
            (address, link, protocol, metric)
            for (address, metric), each in self.routes.items()
            for protocol, link in each
            if protocol in (NUMBERS.protocol, NUMBERS.lingering_protocol) and link is not None
        }

    def dump(self) -> list[Found]:
        return [
            Found(address, link, protocol, metric)
            for (address, metric), each in self.routes.items()
            for protocol, link in each
        ]


def carry_out(fib: Fib, belief: Belief, steps: list[Step]) -> None:
    for step in steps:
        if fib.carry_out(step) and step.action not in (Action.HIDE, Action.DELETE):
            belief.undo(step)


def form(route: HostRoute, needs: FibNeeds) -> tuple[int, int]:
    """Protocol and metric that a live route should have."""
    protocol = NUMBERS.lingering_protocol if needs.demotes and route.is_lingering else NUMBERS.protocol
    has_metric = needs.lingering_metric is not None and route.is_lingering
    return protocol, needs.lingering_metric if has_metric and needs.lingering_metric else NUMBERS.metric


DEMOTING = FibNeeds(demotes=True)
WITH_METRIC = FibNeeds(lingering_metric=9)
SETTLING = attrs.evolve(PARKING, dormant_after_s=0.2)

changes = st.lists(
    st.tuples(st.sampled_from(HOSTS), st.sampled_from(["wlan0", "wlan1", None]), st.booleans(), st.integers(0, 90)),
    max_size=30,
)


@given(
    changes,
    st.integers(0, 60),
    st.sampled_from([FibNeeds(), DEMOTING, WITH_METRIC, attrs.evolve(DEMOTING, lingering_metric=9)]),
    st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_the_fib_follows_what_is_wanted_and_a_new_start_finds_it(
    run: list[tuple[Address, str | None, bool, int]], crash_at: int, lingering: FibNeeds, linger: list[bool]
) -> None:
    """Announce, linger, withdraw (None), with and without parking; a crash after any message; then adoption."""
    fib, belief, now = Fib(), Belief(NUMBERS, PREFIXES), 0.0
    wanted: dict[Address, HostRoute] = {}
    sent = 0
    for (address, link, parks, pause), is_lingering in zip(run, linger, strict=False):
        now += pause
        needs = attrs.evolve(
            SETTLING, parks=parks, demotes=lingering.demotes, lingering_metric=lingering.lingering_metric
        )
        had = address in belief.installed
        if link is None:
            wanted.pop(address, None)
            steps = belief.withdraw([HostRoute(address, "wlan0")], needs, now)
        else:
            wanted[address] = HostRoute(address, link, is_lingering)
            steps = belief.announce([wanted[address]], needs)
        for step in steps:
            assert fib.carry_out(step) == 0
            sent += 1
            if link is not None and had:
                assert fib.has(address), "a route that stays is never away"
            if sent == crash_at:
                belief = Belief(NUMBERS, PREFIXES)
                extra = belief.adopt(fib.dump(), now, needs)
                carry_out(fib, belief, [step for step in extra if step.metric == NUMBERS.metric])
                present = dict(belief.installed)
                lost = [route for at, route in present.items() if at not in wanted]
                missing = [route for at, route in wanted.items() if present.get(at) != route]
                carry_out(fib, belief, belief.announce(missing, needs))
                carry_out(fib, belief, belief.unpark([at for at in belief.parked if at in wanted]))
                carry_out(fib, belief, belief.withdraw(lost, needs, now))
                rest = [step for step in extra if step.metric != NUMBERS.metric]
                carry_out(fib, belief, belief.without_live(rest))
                break
        now += pause % 3 * 0.1
        carry_out(fib, belief, belief.settle(needs, now))
        released, _forced = belief.release(needs, now, lambda _route: True)
        carry_out(fib, belief, released)
        assert set(wanted.values()) == set(belief.installed.values())
        assert fib.live() == {(route.address, route.link, *form(route, needs)) for route in wanted.values()}
        for protocol, is_dormant in ((NUMBERS.withdrawing_protocol, False), (NUMBERS.dormant_protocol, True)):
            there = {at for (at, _), each in fib.routes.items() if (protocol, None) in each}
            assert there == {at for at, parked in belief.parked.items() if parked.is_dormant is is_dormant}
        assert not set(belief.parked) & set(wanted)
        assert len(belief.parked) <= PARKING.parked_limit
        hidden = [found for found in fib.dump() if found.protocol == NUMBERS.hidden_protocol]
        assert hidden == []


@given(changes)
def test_others_routes_are_never_touched(run: list[tuple[Address, str | None, bool, int]]) -> None:
    fib, belief = Fib(), Belief(NUMBERS, PREFIXES)
    for address in HOSTS:
        fib.routes[address, 1024] = [(42, "mesh0")]
    fib.routes[HOSTS[0], NUMBERS.metric] = [(99, "mesh0")]
    for address, link, parks, _pause in run:
        if link is None:
            steps = belief.withdraw([HostRoute(address, "wlan0")], attrs.evolve(PARKING, parks=parks), 0.0)
        else:
            steps = belief.announce([HostRoute(address, link)])
        carry_out(fib, belief, steps)
    carry_out(fib, belief, belief.clear())
    assert {(at, metric): each for (at, metric), each in fib.routes.items() if each} == {
        **{(address, 1024): [(42, "mesh0")] for address in HOSTS},
        (HOSTS[0], NUMBERS.metric): [(99, "mesh0")],
    }


def test_a_lingering_route_is_demoted_in_place_and_comes_back_so() -> None:
    fib, belief = Fib(), Belief(NUMBERS, PREFIXES)
    carry_out(fib, belief, belief.announce([A], DEMOTING))
    lingering = attrs.evolve(A, is_lingering=True)
    (step,) = belief.announce([lingering], DEMOTING)
    assert (step.action, step.protocol, step.flags & netlink.NLM_F_REPLACE) == (Action.MOVE, 148, netlink.NLM_F_REPLACE)
    carry_out(fib, belief, [step])
    assert belief.announce([lingering], DEMOTING) == []
    (step,) = belief.announce([A], DEMOTING)
    assert step.protocol == NUMBERS.protocol
    carry_out(fib, belief, [step, *belief.announce([lingering], DEMOTING)])
    carry_out(fib, belief, belief.withdraw([lingering], FibNeeds(), 0.0))
    assert not fib.has(A.address)


def test_a_lingering_route_with_another_metric_stands_before_the_other_goes_and_so_on_the_way_back() -> None:
    fib, belief = Fib(), Belief(NUMBERS, PREFIXES)
    carry_out(fib, belief, belief.announce([A], WITH_METRIC))
    lingering = attrs.evolve(A, is_lingering=True)
    for route, new, old in ((lingering, 9, 8), (A, 8, 9)):
        steps = belief.announce([route], WITH_METRIC)
        assert [(step.action, step.metric) for step in steps] == [(Action.MOVE, new), (Action.DELETE, old)]
        carry_out(fib, belief, steps)
        assert fib.live() == {(A.address, "wlan0", 144, new)}
        assert belief.metric(A.address) == new
    carry_out(fib, belief, belief.announce([lingering], WITH_METRIC))
    carry_out(fib, belief, belief.withdraw([lingering], PARKING, 0.0))
    assert fib.live() == set()
    assert set(belief.parked) == {A.address}


def test_where_the_daemon_does_not_demote_lingering_sends_nothing() -> None:
    belief = Belief(NUMBERS, PREFIXES)
    belief.announce([A])
    lingering = attrs.evolve(A, is_lingering=True)
    assert belief.announce([lingering]) == []
    assert belief.installed == {A.address: lingering}
    (step,) = belief.withdraw([lingering], FibNeeds(), 0.0)
    assert step.protocol == NUMBERS.protocol


def test_a_route_that_vanished_with_its_link_is_parked_when_it_is_withdrawn() -> None:
    belief = Belief(NUMBERS, PREFIXES)
    belief.announce([A, B])
    belief.drop_link("wlan0")
    steps = belief.withdraw([A], PARKING, 0.0)
    assert [(step.action, step.link) for step in steps] == [(Action.PARK, None)]
    assert belief.withdraw([A], PARKING, 0.0) == []


def test_above_the_limit_the_oldest_quarter_goes_at_once() -> None:
    belief = Belief(NUMBERS, PREFIXES)
    routes = [HostRoute(ip_address(f"fd44:0:0:1::{number:x}"), "wlan0") for number in range(1, 10)]
    for route in routes:
        belief.announce([route])
        belief.withdraw([route], PARKING, 0.0)
    steps, forced = belief.release(PARKING, 1.0, lambda route: route == routes[0])
    assert [step.address for step in steps] == [route.address for route in routes[:2]]
    assert forced == 1
    assert list(belief.parked) == [route.address for route in routes[2:]]


def test_a_parked_route_becomes_dormant_when_its_withdrawal_is_known() -> None:
    belief = Belief(NUMBERS, PREFIXES)
    belief.announce([A, B])
    belief.withdraw([A], SETTLING, 10.0)
    belief.withdraw([B], SETTLING, 10.1)
    assert belief.next_due(SETTLING) == 10.2
    assert belief.settle(SETTLING, 10.1) == []
    (step,) = belief.settle(SETTLING, 10.2)
    assert (step.address, step.protocol, step.link) == (A.address, NUMBERS.dormant_protocol, None)
    assert belief.settle(SETTLING, 10.2) == []
    assert belief.next_due(SETTLING) == pytest.approx(10.3)
    steps = belief.announce([A])
    assert [(each.action, each.protocol) for each in steps] == [
        (Action.ANNOUNCE, NUMBERS.protocol),
        (Action.HIDE, NUMBERS.hidden_protocol),
        (Action.DELETE, NUMBERS.hidden_protocol),
    ]
    belief.settle(SETTLING, 99.0)
    assert belief.next_due(SETTLING) is None
    (deletion,) = belief.release(SETTLING, 99.0, lambda _route: True)[0]
    assert (deletion.address, deletion.protocol) == (B.address, NUMBERS.dormant_protocol)


def test_nothing_becomes_dormant_where_nobody_asks_for_it() -> None:
    belief = Belief(NUMBERS, PREFIXES)
    belief.announce([A])
    belief.withdraw([A], PARKING, 10.0)
    assert belief.settle(PARKING, 99.0) == []
    assert belief.next_due(PARKING) == 10.0 + PARKING.parked_for_s


def test_dormant_routes_are_adopted_as_such() -> None:
    belief = Belief(NUMBERS, PREFIXES)
    worst = NUMBERS.parked_metric
    found = [
        Found(HOSTS[0], None, NUMBERS.dormant_protocol, worst),
        Found(HOSTS[1], None, NUMBERS.withdrawing_protocol, worst),
    ]
    assert belief.adopt(found, 5.0) == []
    assert [(at, parked.is_dormant) for at, parked in belief.parked.items()] == [(HOSTS[0], True), (HOSTS[1], False)]


def test_reserved_routes_are_told_from_parked_ones_by_their_prefix() -> None:
    belief = Belief(NUMBERS, PREFIXES)
    live, parked = NUMBERS.protocol, NUMBERS.withdrawing_protocol
    worst = NUMBERS.parked_metric
    extra = belief.adopt([Found(RESERVED, None, live, worst), Found(HOSTS[0], None, parked, worst)], 5.0)
    assert extra == []
    assert belief.reserved == {RESERVED: live}
    assert list(belief.parked) == [HOSTS[0]]


class Timers:
    """A loop of our own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, object, Timers.Handle]] = []

    class Handle:
        is_cancelled = False

        def cancel(self) -> None:
            self.is_cancelled = True

    def later(self, delay_s: Seconds, call: object) -> Timers.Handle:
        handle = Timers.Handle()
        self.due.append((self.now + delay_s, call, handle))
        return handle

    def clock(self) -> float:
        return self.now

    def turn(self, until_s: Seconds) -> None:
        end = self.now + until_s
        while due := [each for each in self.due if each[0] <= end]:
            first = min(due, key=lambda each: each[0])
            self.due.remove(first)
            self.now = max(self.now, first[0])
            if not first[2].is_cancelled:
                first[1]()  # type: ignore[operator]
        self.now = end


def kicker(timers: Timers) -> tuple[Kicker, list[tuple[float, list[tuple[str, int]]]]]:
    heard: list[tuple[float, list[tuple[str, int]]]] = []

    def send(steps: list[Step]) -> None:
        heard.append((round(timers.now - 100.0, 4), [(step.action.value, step.protocol) for step in steps]))

    return Kicker(Belief(NUMBERS, PREFIXES), send, timers.later, timers.clock), heard


def test_one_kick_serves_all_changes_of_a_burst() -> None:
    timers = Timers()
    kick, heard = kicker(timers)
    plan = Kick((RESERVED,), rounds=2)
    assert [step.protocol for step in kick.follow(plan)] == [145, 144, 145]  # made, then changed twice
    assert kick.follow(plan) == []
    assert kick.follow(plan) == []
    timers.turn(1.0)
    assert heard == [(APART_S, [("kick", 144), ("kick", 145)])]
    assert len(kick.follow(plan)) == 2


def test_a_change_during_a_kick_with_pauses_is_served_by_another() -> None:
    timers = Timers()
    kick, heard = kicker(timers)
    plan = Kick((RESERVED,), rounds=2, pause_s=0.003)
    assert len(kick.follow(plan)) == 1
    timers.turn(0.004)
    assert kick.follow(plan) == []
    timers.turn(1.0)
    assert [len(steps) for _, steps in heard] == [1, 1, 1, 1]
    assert heard[0][0] == 0.003
    assert heard[1][0] == 0.006


def test_without_a_loop_a_kick_is_done_at_once() -> None:
    belief = Belief(NUMBERS, PREFIXES)
    kick = Kicker(belief, lambda _steps: None, lambda _delay, _call: None, lambda: 0.0)
    assert len(kick.follow(Kick((RESERVED,), rounds=3, pause_s=0.01))) == 4
    steps = kick.follow(Kick((ip_address("100::45"),), pause_s=0.01, deletes=True))
    assert [step.kind for step in steps] == [netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE]
    assert {step.action for step in steps} == {Action.KICK}  # so that neither overtakes the other
    assert kick.follow(None) == []


@given(st.lists(st.tuples(st.integers(0, 3 * PORTION), st.integers(0, 30)), max_size=6))
def test_paced_steps_keep_their_order_and_their_rate(bursts: list[tuple[int, int]]) -> None:
    timers = Timers()
    sent: list[tuple[float, Step]] = []
    pacer = Pacer(lambda steps: sent.extend((timers.now, step) for step in steps), timers.later, timers.clock)
    steps = [Belief(NUMBERS, PREFIXES).announce([A])[0] for _ in range(sum(size for size, _ in bursts))]
    rest = list(steps)
    for size, pause_ms in bursts:
        before = len(sent)
        pacer.send(rest[:size], is_paced=True)
        if before == len(steps) - len(rest) and size and (not sent or timers.now - sent[-1][0] >= PAUSE_S):
            assert len(sent) - before >= min(size, PORTION) or before, "the first portion waits for nothing"
        del rest[:size]
        timers.turn(pause_ms / 1000)
    timers.turn(10.0)
    assert [step for _, step in sent] == steps
    times = [at for at, _ in sent]
    for start in range(len(times)):
        # two windows may touch: at most two portions in any stretch shorter than a pause
        assert sum(times[start] <= at < times[start] + PAUSE_S - 1e-6 for at in times[start:]) <= 2 * PORTION


def test_a_real_change_overtakes_the_rest_of_a_kick() -> None:
    timers = Timers()
    sent: list[Step] = []
    pacer = Pacer(sent.extend, timers.later, timers.clock)
    belief = Belief(NUMBERS, PREFIXES)
    flips = [step for _ in range(3 * PORTION) for step in belief.flip([RESERVED])]
    pacer.send([*belief.announce([A]), *flips], is_paced=True)
    assert len(sent) == PORTION - LEFT_FOR_CHANGES
    pacer.send(belief.announce([B]), is_paced=True)
    assert sent[-1].address == B.address
    assert len(sent) == PORTION - LEFT_FOR_CHANGES + 1
    timers.turn(1.0)
    assert [step for step in sent if step.action is Action.KICK] == flips


def test_kicks_that_are_large_are_further_apart_than_they_take_to_send() -> None:
    timers = Timers()
    kick, heard = kicker(timers)
    plan = Kick((RESERVED,), rounds=1000)
    kick.follow(plan)
    for _ in range(100):
        timers.turn(0.01)
        kick.follow(plan)
    assert sum(len(steps) for _, steps in heard) <= 1.0 / PAUSE_S * (PORTION - LEFT_FOR_CHANGES)


def test_what_is_not_paced_goes_behind_what_waits() -> None:
    timers = Timers()
    sent: list[Step] = []
    pacer = Pacer(sent.extend, timers.later, timers.clock)
    first, second = (Belief(NUMBERS, PREFIXES).announce([route])[0] for route in (A, B))
    pacer.send([first] * (PORTION + 1), is_paced=True)
    assert len(sent) == PORTION
    pacer.send([second], is_paced=False)
    assert sent[-2:] == [first, second]
    pacer.send([first] * (PORTION * 2), is_paced=True)
    pacer.discard()
    timers.turn(1.0)
    assert len(sent) <= 2 * PORTION + 2


@pytest.mark.parametrize("count", [1, 5])
def test_a_repeated_warning_is_counted(count: int) -> None:
    lines: list[str] = []
    now = [0.0]
    repeats = Repeats(lambda level, line: lines.append(f"{level}: {line}"), quiet_s=60, clock=lambda: now[0])
    for _ in range(count):
        repeats.tell("warning", "loss", "lost")
    repeats.tell("warning", "other", "else")
    now[0] = 61.0
    repeats.tell("warning", "loss", "lost")
    last = "warning: lost" if count == 1 else "warning: lost (and 4 times more since)"
    assert lines == ["warning: lost", "warning: else", last]
