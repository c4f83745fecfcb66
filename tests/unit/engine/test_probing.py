"""When a neighbour is probed, how often, and what a silence means: schedule, jitter, budgets, sleeping stations."""

from __future__ import annotations

import pytest
from engine_scene import (
    A1,
    A2,
    A3,
    LAPTOP,
    PHONE,
    WLAN,
    WLAN1,
    address,
    announce,
    answers,
    connected,
    neighbour,
    new_play,
    withdraw,
)

from roamroute import events
from roamroute.effects import Note, Probe, Watch
from roamroute.policy import Policy
from roamroute.schedule import Budget, Timetable
from roamroute.testing.playbook import ANY, Playbook, wait
from roamroute.values import Mac, Neighbour, Nud

KERNEL_GC_STALE_S = 60.0  # Linux 6.18: so long after its last confirmation a STALE entry may be pruned


def probes(play: Playbook) -> list[Probe]:
    return play.skim(Probe)


def test_a_stale_entry_is_probed_in_its_time() -> None:
    play = new_play()
    play.play(neighbour(nud=Nud.STALE))
    began = play.now
    while not (asked := probes(play)):
        play._do(wait(0.5))
    assert asked == [Probe(WLAN, A1, PHONE, "stale")]
    assert 45.0 * 0.75 - 0.5 <= play.now - began <= 45.5


@pytest.mark.parametrize("reachable_s", [15.0, 30.0, 45.0])  # the kernel draws it: half to one and a half of 30 s
def test_where_the_kernel_collects_a_stale_entry_is_probed_before_it_may_be_pruned(reachable_s: float) -> None:
    play = new_play()
    play.play(events.CollectionChanged(((WLAN, 6, KERNEL_GC_STALE_S), (WLAN, 4, 1.0))), neighbour())
    confirmed = play.now
    play >> wait(reachable_s)
    play >> neighbour(nud=Nud.STALE)
    assert play.wait_for(Probe, at_most=45.0) == [Probe(WLAN, A1, PHONE, "stale")]
    assert play.now - confirmed <= KERNEL_GC_STALE_S - 9.0


def test_when_the_kernel_begins_to_collect_what_is_due_too_late_is_due_earlier() -> None:
    play = new_play()
    play.play(neighbour(A1), neighbour(A2, mac=LAPTOP, link=WLAN1))
    play >> wait(30.0)
    play.play(neighbour(A1, nud=Nud.STALE), neighbour(A2, nud=Nud.STALE, mac=LAPTOP, link=WLAN1))
    play >> wait(5.0)
    play >> events.CollectionChanged(((WLAN, 6, 20.0),))
    play >> wait(0.0)
    play << Probe(WLAN, A1, PHONE, "stale")
    play.nothing_more()  # the other link's times are longer


def test_where_the_kernel_collects_no_more_the_schedule_is_the_usual_one() -> None:
    play = new_play()
    play.play(events.CollectionChanged(((WLAN, 6, 20.0),)), events.CollectionChanged(()), neighbour())
    play >> wait(40.0)
    play >> neighbour(nud=Nud.STALE)
    play >> wait(33.0)
    play.nothing_more()


def test_hosts_that_went_stale_together_are_not_probed_together() -> None:
    play = new_play()
    for number in range(100):
        play.play(neighbour(address(number + 1), Nud.STALE, Mac(f"02:00:5e:44:01:{number:02x}")))
    seconds = {}
    for second in range(46):
        play._do(wait(1.0))
        seconds[second] = len(probes(play))
    assert sum(seconds.values()) == 100
    assert max(seconds.values()) <= 25
    assert len([count for count in seconds.values() if count]) >= 9


def test_the_route_stays_while_the_probe_is_out() -> None:
    play = new_play()
    play.play(neighbour(nud=Nud.STALE))
    play.wait_for(Probe, at_most=45.0)
    play >> neighbour(nud=Nud.PROBE)
    play >> wait(3.0)
    play.nothing_more()
    assert A1 in play.engine.wanted
    play >> neighbour(nud=Nud.FAILED)
    play << withdraw()


def test_an_answer_postpones_the_next_probe() -> None:
    play = new_play()
    play.play(neighbour(nud=Nud.STALE))
    play.wait_for(Probe, at_most=45.0)
    play.play(*answers())
    play >> wait(1000.0)
    play.nothing_more()  # REACHABLE: the kernel will say when it is not any more
    play >> neighbour(nud=Nud.STALE)
    assert play.wait_for(Probe, at_most=45.0) == [Probe(WLAN, A1, PHONE, "stale")]


def test_each_stale_period_is_probed_anew() -> None:
    play = new_play()
    for _ in range(3):
        play.play(neighbour(nud=Nud.STALE))
        assert play.wait_for(Probe, at_most=45.0) == [Probe(WLAN, A1, PHONE, "stale")]
        play.play(*answers())


def test_ten_thousand_stale_entries_never_exceed_the_budget() -> None:
    policy = Policy(probes_per_second=100.0, probe_burst=50)
    play = new_play(policy)
    for number in range(10_000):
        host = Mac(f"02:00:5f:{number >> 16 & 0xFF:02x}:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}")
        play.engine.handle(neighbour(address(number + 1), Nud.STALE, host), play.now)
    times: list[float] = []
    end = play.now + 160.0
    while (due := play.engine.next_wakeup) is not None and due <= end:
        play.now = max(play.now, due)
        for effect in play.engine.tick(play.now):
            if isinstance(effect, Probe):
                times.append(play.now)
                for event in answers(effect.address, effect.mac):
                    play.engine.handle(event, play.now)
    assert len(times) == 10_000
    for first, when in enumerate(times):
        within = sum(1 for other in times[first : first + 200] if other < when + 1.0)
        assert within <= 151, f"{within} probes in the second after {when}"


def test_urgent_probes_have_a_budget_of_their_own() -> None:
    play = new_play(Policy(urgent_probes_per_second=10.0))
    for number in range(1, 40):
        play.play(neighbour(address(number), Nud.STALE, Mac(f"02:00:5e:44:01:{number:02x}")))
    began = play.now
    for number in range(1, 40):
        play._do(events.MacForgotten(Mac(f"02:00:5e:44:01:{number:02x}"), WLAN))
    assert len(probes(play)) <= 3
    play._do(wait(1.0))
    assert len(probes(play)) <= 11
    play._do(wait(3.0))
    assert play.now - began == 4.0


def test_a_probe_that_waits_for_its_budget_is_not_a_failure() -> None:
    play = new_play(Policy(urgent_probes_per_second=1.0))
    for number in range(1, 31):
        play.engine.handle(neighbour(address(number), Nud.STALE, Mac(f"02:00:5e:44:01:{number:02x}")), play.now)
    for number in range(1, 31):
        play._do(events.NeighbourRemoved(WLAN, address(number)))
    for _ in range(100):
        play._do(wait(0.5))
        for asked in probes(play):
            play.play(*answers(asked.address, asked.mac))
    assert len(play.engine.wanted) == 30


def test_a_full_probe_queue_is_told_and_is_not_a_failure() -> None:
    play = new_play(Policy(urgent_probes_per_second=1.0, addresses_total=5000))
    hosts = [Mac(f"02:00:5e:44:{number >> 8:02x}:{number & 255:02x}") for number in range(1, 4200)]
    for number, host in enumerate(hosts, start=1):
        play.engine.handle(neighbour(address(number), Nud.STALE, host), play.now)
    came = [effect for host in hosts for effect in play.engine.handle(events.MacForgotten(host, WLAN), play.now)]
    assert any(isinstance(effect, Note) and effect.key == "probe-queue" for effect in came)
    play.play(wait(3.0))
    assert len(play.engine.wanted) == 4199


def test_a_probe_of_a_host_that_has_gone_meanwhile_is_not_sent() -> None:
    play = new_play(Policy(urgent_probes_per_second=1.0))
    play.play(neighbour(A2, Nud.STALE, LAPTOP), events.NeighbourRemoved(WLAN, A2))
    play.play(neighbour(nud=Nud.STALE), events.NeighbourRemoved(WLAN, A1), neighbour(nud=Nud.FAILED))
    play >> wait(3.0)
    assert all(effect.address != A1 for effect in probes(play))


def test_one_address_is_not_probed_twice_at_the_same_time() -> None:
    play = new_play()
    play.play(neighbour(nud=Nud.STALE))
    play >> events.NeighbourRemoved(WLAN, A1)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play >> events.ForeignRouteSeen(A1, "router")
    play >> events.MacForgotten(PHONE, WLAN)
    play.nothing_more()


# -- sleeping stations


def fail_a_round(play: Playbook) -> None:
    play.play(neighbour(nud=Nud.PROBE), wait(3.07))
    play >> neighbour(nud=Nud.FAILED)


def test_an_associated_station_is_asked_several_rounds_before_it_goes() -> None:
    play = new_play(Policy(sleep_rounds=3, sleep_pause_s=1.0))
    play.play(connected(), *answers(), neighbour(nud=Nud.STALE))
    play.wait_for(Probe, at_most=45.0)
    for _ in range(2):
        fail_a_round(play)
        play.nothing_more()
        play >> wait(0.99)
        play >> wait(0.01)
        play << Probe(WLAN, A1, PHONE, because=ANY)
    fail_a_round(play)
    play << (withdraw(), Watch(WLAN, PHONE, because=ANY))
    play.nothing_more()


def test_a_sleeper_that_wakes_up_keeps_its_route_and_its_rounds() -> None:
    play = new_play(Policy(sleep_rounds=2))
    play.play(connected(), *answers())
    for _ in range(5):
        fail_a_round(play)
        play >> wait(1.0)
        play << Probe(WLAN, A1, PHONE, because=ANY)
        play.play(*answers())
    assert A1 in play.engine.wanted


def test_who_is_not_associated_has_one_round() -> None:
    play = new_play()
    play.play(neighbour())
    fail_a_round(play)
    play << withdraw()


def test_who_is_associated_on_another_link_has_one_round() -> None:
    play = new_play()
    play.play(neighbour(A1, link=WLAN), connected(link=WLAN))
    play.play(neighbour(A2, link=WLAN, mac=LAPTOP), neighbour(A2, Nud.FAILED))
    assert A2 not in play.engine.wanted
    assert A1 in play.engine.wanted


def test_a_foreign_route_makes_us_ask_at_once_and_one_failure_is_enough() -> None:
    play = new_play()
    play.play(connected(), *answers())
    play >> events.ForeignRouteSeen(A1, "fe80::1%eth0")
    play << Probe(WLAN, A1, PHONE, because="also announced by fe80::1%eth0")
    fail_a_round(play)
    play << (withdraw(), ANY)


def test_a_foreign_route_does_not_take_a_host_that_answers() -> None:
    play = new_play(Policy(sleep_rounds=3))
    play.play(connected(), *answers(), events.ForeignRouteSeen(A1, "router"), *answers())
    play >> wait(1.0)
    fail_a_round(play)  # the doubt is over: it may sleep again
    play.nothing_more()
    assert A1 in play.engine.wanted


def test_a_foreign_route_that_goes_takes_the_doubt_with_it() -> None:
    play = new_play()
    play.play(connected(), *answers(), events.ForeignRouteSeen(A1, "router"), events.ForeignRouteLost(A1))
    fail_a_round(play)
    play.nothing_more()
    assert not play.engine.foreign


def test_foreign_routes_for_others_are_only_kept() -> None:
    play = new_play()
    play >> events.ForeignRouteSeen(A3, "router")
    play.nothing_more()
    assert dict(play.engine.foreign) == {A3: "router"}


# -- the end of a host


def test_probing_after_a_start_covers_states_that_the_kernel_does_not_question() -> None:
    play = new_play()
    play >> events.NeighboursResynced(frozenset({"wlan2"}), (Neighbour("wlan2", A1, Nud.REACHABLE, PHONE),))
    play.nothing_more()  # not a roaming interface


def test_announce_comes_before_its_probe() -> None:
    play = new_play()
    play.play(connected(), *answers(), events.StationLeft(connected().station))
    play >> connected()
    play << announce()
    play << Probe(WLAN, A1, PHONE, because=ANY)


# -- timers


def test_a_timetable_keeps_the_last_time_of_each_key() -> None:
    table: Timetable[str] = Timetable()
    table.set("early", 1.0)
    table.set("late", 3.0)
    table.set("early", 2.0)
    assert table.next_due == 2.0
    assert list(table.pop_due(2.5)) == ["early"]
    table.cancel("late")
    assert table.next_due is None
    assert list(table.pop_due(9.0)) == []


def test_a_key_set_again_to_the_same_time_is_due_once() -> None:
    table: Timetable[str] = Timetable()
    table.set("key", 1.0)
    table.cancel("key")
    table.set("key", 1.0)
    assert list(table.pop_due(1.0)) == ["key"]


def test_a_timetable_does_not_grow_by_replacing() -> None:
    table: Timetable[int] = Timetable()
    for turn in range(10_000):
        table.set(turn % 10, float(turn))
    assert len(table._heap) <= 64 + 4 * 10


def test_a_budget_gives_its_burst_and_then_its_rate() -> None:
    budget = Budget(rate=10.0, burst=3)
    assert [budget.take(5.0) for _ in range(4)] == [True, True, True, False]
    assert budget.next_token_at(5.0) == 5.1
    assert budget.take(5.1)
    assert not budget.take(5.1)
    assert [budget.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_a_budget_knows_when_several_may_go() -> None:
    budget = Budget(rate=10.0, burst=3)
    for _ in range(3):
        budget.take(5.0)
    assert abs(budget.next_token_at(5.0, 2) - 5.2) < 1e-9
    assert abs(budget.next_token_at(5.0, 100) - 5.3) < 1e-9


def test_routine_probes_go_out_together_so_that_we_wake_up_seldom() -> None:
    play = new_play()
    for number in range(1, 1001):
        host = Mac(f"02:00:5f:00:{number >> 8:02x}:{number & 0xFF:02x}")
        play.engine.handle(neighbour(address(number), Nud.STALE, host), play.now)
    wakeups, end = 0, play.now + 45.0
    while (due := play.engine.next_wakeup) is not None and due <= end:
        play.now = max(play.now, due)
        wakeups += 1
        for asked in play.engine.tick(play.now):
            assert isinstance(asked, Probe)
            for event in answers(asked.address, asked.mac):
                play.engine.handle(event, play.now)
    assert wakeups <= 12 / 0.25 + 5
