"""When router advertisements are sent, by the sections of RFC 4861 and RFC 7772."""

from __future__ import annotations

import itertools
from ipaddress import IPv6Address, IPv6Network

import attrs
import pytest

from roamroute import ra
from roamroute.ra import Advertise, Advertiser
from roamroute.values import AdvertisedPrefix, AdvertisedRouter, Instant, Mac

ROUTER = AdvertisedRouter(
    source=IPv6Address("fe80::1"),
    lifetime_s=9000,
    prefixes=(AdvertisedPrefix(IPv6Network("fd44:0:0:1::/64"), 86400, 14400),),
)
UNUSABLE = attrs.evolve(ROUTER, lifetime_s=0)
STATION = Mac("02:00:00:00:00:02")
SOURCE = IPv6Address("fe80::2")
UNSPECIFIED = IPv6Address("::")


def advertiser(*, links: tuple[str, ...] = ("wlan0",), needs_route: bool = False, up: bool = True) -> Advertiser:
    made = Advertiser(links, ROUTER, needs_route=needs_route, seed=1)
    if up:
        for link in links:
            made.link_up(link, 0.0)
    return made


def run_until(made: Advertiser, end: Instant) -> list[tuple[Instant, Advertise]]:
    """Everything that becomes due, with its time."""
    told: list[tuple[Instant, Advertise]] = []
    while made.next_wakeup is not None and made.next_wakeup <= end:
        now = made.next_wakeup
        told += [(now, each) for each in made.tick(now)]
    return told


def to_all(told: list[tuple[Instant, Advertise]]) -> list[Instant]:
    return [now for now, each in told if each.station is None]


# -- RFC 4861 §6.2.4: unsolicited, to all nodes -----------------------------------------------------------------------


def test_a_link_is_silent_until_it_is_up() -> None:
    made = advertiser(up=False)
    assert made.next_wakeup is None
    assert made.solicited("wlan0", STATION, SOURCE, 1.0) == []
    assert made.connected("wlan0", STATION, 1.0) == []


def test_a_link_that_comes_up_is_told_at_once() -> None:
    made = advertiser(up=False)
    assert made.link_up("wlan0", 0.0) == [Advertise("wlan0", ROUTER)]


def test_a_link_that_is_up_already_is_not_told_again() -> None:
    assert advertiser().link_up("wlan0", 100.0) == []


def test_a_link_that_is_not_ours_is_nothing() -> None:
    made = advertiser()
    assert made.link_up("eth0", 0.0) == []
    assert made.connected("eth0", STATION, 0.0) == []
    assert made.solicited("eth0", STATION, SOURCE, 0.0) == []
    made.link_lost("eth0")


def test_three_follow_each_other_within_16_seconds_and_then_they_are_rare() -> None:
    times = [0.0, *to_all(run_until(advertiser(), 40_000.0))]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[:2] == [16.0, 16.0]
    assert all(450.0 <= pause <= 1800.0 for pause in pauses[2:])
    assert len(set(pauses[2:])) == len(pauses[2:]), "at random, so that routers do not fall into step"


def test_with_a_short_interval_the_first_ones_are_not_further_apart_than_the_others() -> None:
    router = attrs.evolve(ROUTER, interval_min_s=3.0, interval_max_s=4.0)
    made = Advertiser(("wlan0",), router)
    made.link_up("wlan0", 0.0)
    times = [0.0, *to_all(run_until(made, 60.0))]
    assert all(3.0 <= after - before <= 4.0 for before, after in itertools.pairwise(times))


def test_the_time_of_one_link_is_not_that_of_another() -> None:
    made = advertiser(links=("wlan0", "wlan1"))
    times = [(now, each.link) for now, each in run_until(made, 5000.0)]
    assert {now for now, link in times if link == "wlan0"} != {now for now, link in times if link == "wlan1"}


# -- RFC 4861 §6.2.6: no two within MIN_DELAY_BETWEEN_RAS --------------------------------------------------------------


def test_a_link_that_flaps_is_told_every_three_seconds_at_most() -> None:
    made = advertiser()
    times = [0.0]
    for step in range(1, 100):
        now = step * 0.5
        made.link_lost("wlan0")
        times += [now for _ in made.link_up("wlan0", now)]
        times += to_all(run_until(made, now + 0.4))
    assert all(after - before >= ra.MIN_DELAY_S for before, after in itertools.pairwise(times))
    assert len(times) > 10


def test_what_was_due_on_a_link_that_is_lost_is_not_sent() -> None:
    made = advertiser()
    made.connected("wlan0", STATION, 1.0)
    made.link_lost("wlan0")
    assert run_until(made, 100.0) == []


# -- RFC 4861 §6.2.6, RFC 7772 §5.1: solicited, to the one that asked ----------------------------------------------


def test_a_solicitation_is_answered_at_once_to_whom_it_came_from() -> None:
    assert advertiser().solicited("wlan0", STATION, SOURCE, 1.0) == [Advertise("wlan0", ROUTER, STATION, SOURCE)]


def test_one_without_a_source_is_answered_to_the_station_alone() -> None:
    assert advertiser().solicited("wlan0", STATION, UNSPECIFIED, 1.0) == [Advertise("wlan0", ROUTER, STATION)]


def test_one_from_a_global_address_is_not_answered_to_it() -> None:
    told = advertiser().solicited("wlan0", STATION, IPv6Address("2001:db8::2"), 1.0)
    assert told == [Advertise("wlan0", ROUTER, STATION)]


def test_an_answer_does_not_move_what_goes_to_all() -> None:
    asked, quiet = advertiser(), advertiser()
    asked.solicited("wlan0", STATION, SOURCE, 1.0)
    assert to_all(run_until(asked, 5000.0)) == to_all(run_until(quiet, 5000.0))


def test_a_station_that_asks_all_the_time_is_answered_twice_a_second_at_most() -> None:
    made = advertiser()
    answered = sum(len(made.solicited("wlan0", STATION, SOURCE, step * 0.01)) for step in range(10_000))
    assert answered <= ra.ANSWERS_BURST + 100.0 * ra.ANSWERS_PER_STATION_S + 1
    assert made.counters["refused"] == 10_000 - answered


def test_a_flood_of_stations_is_answered_within_the_total_limit_and_in_bounded_memory() -> None:
    made = advertiser()
    answered = 0
    for number in range(10_000):
        station = Mac(f"02:00:00:00:{number >> 8:02x}:{number & 0xFF:02x}")
        answered += len(made.solicited("wlan0", station, SOURCE, number * 0.001))
    assert answered <= ra.ANSWERS_TOTAL_BURST + 10.0 * ra.ANSWERS_PER_S + 1
    assert len(made._answers) <= ra.STATIONS_REMEMBERED


def test_200_stations_that_arrive_at_once_are_all_told() -> None:
    made = advertiser()
    for number in range(200):
        assert made.connected("wlan0", Mac(f"02:00:00:00:00:{number:02x}"), 5.0)


def test_a_flood_of_solicitations_takes_nothing_from_who_connects() -> None:
    made = advertiser()
    for number in range(600):
        made.solicited("wlan0", Mac(f"02:00:00:00:{number >> 8:02x}:{number & 0xFF:02x}"), SOURCE, 5.0)
    assert made.connected("wlan0", STATION, 5.1) == [Advertise("wlan0", ROUTER, STATION)]


def test_connections_beyond_what_an_access_point_can_have_are_counted() -> None:
    made = advertiser()
    told = sum(len(made.connected("wlan0", Mac(f"02:00:00:00:{n >> 8:02x}:{n & 0xFF:02x}"), 5.0)) for n in range(2100))
    assert told == ra.CONNECTIONS_BURST
    assert made.counters["refused"] == 2100 - told


# -- a station that has connected ----------------------------------------------------------------------------------


def test_a_station_is_told_when_it_has_connected_and_twice_more() -> None:
    made = advertiser()
    assert made.connected("wlan0", STATION, 5.0) == [Advertise("wlan0", ROUTER, STATION)]
    repeats = [(round(now, 3), each) for now, each in run_until(made, 6.0)]
    assert repeats == [(5.02, Advertise("wlan0", ROUTER, STATION)), (5.1, Advertise("wlan0", ROUTER, STATION))]


def test_a_station_that_connects_anew_has_one_row_of_repeats() -> None:
    made = advertiser()
    made.connected("wlan0", STATION, 5.0)
    made.connected("wlan0", STATION, 5.01)
    assert [round(now, 3) for now, _ in run_until(made, 6.0)] == [5.03, 5.11]


def test_the_repeats_of_several_stations_do_not_displace_each_other() -> None:
    made = advertiser()
    stations = [Mac(f"02:00:00:00:00:{number:02x}") for number in range(10)]
    for number, station in enumerate(stations):
        made.connected("wlan0", station, 5.0 + number * 0.005)
    told = [each.station for _, each in run_until(made, 6.0)]
    assert {station: told.count(station) for station in stations} == dict.fromkeys(stations, 2)


# -- RFC 4861 §6.2.5: not to be used any more -------------------------------------------------------------------------


def test_a_drained_router_says_so_three_times_and_then_rarely() -> None:
    made = advertiser()
    assert made.drained(100.0) == [Advertise("wlan0", UNUSABLE)]
    told = run_until(made, 2000.0)
    assert {each.router for _, each in told} == {UNUSABLE}
    assert to_all(told)[:2] == [103.0, 106.0]
    assert all(now >= 450.0 for now in to_all(told)[2:])
    assert (made.lifetime_s, made.reason) == (0, "drained")


def test_who_connects_to_or_asks_a_drained_router_is_told_not_to_use_it() -> None:
    made = advertiser()
    made.drained(100.0)
    assert made.connected("wlan0", STATION, 101.0) == [Advertise("wlan0", UNUSABLE, STATION)]
    assert made.solicited("wlan0", STATION, SOURCE, 101.0) == [Advertise("wlan0", UNUSABLE, STATION, SOURCE)]


def test_a_drain_right_after_an_advertisement_waits_for_its_turn() -> None:
    made = advertiser()
    assert made.drained(1.0) == []
    assert to_all(run_until(made, 12.0)) == [3.0, 6.0, 9.0]


def test_a_second_drain_is_nothing_new() -> None:
    made = advertiser()
    made.drained(100.0)
    assert made.drained(110.0) == []


def test_after_a_drain_the_first_ones_come_as_at_the_start() -> None:
    made = advertiser()
    made.drained(100.0)
    run_until(made, 200.0)
    assert made.resumed(200.0) == [Advertise("wlan0", ROUTER)]
    assert to_all(run_until(made, 240.0)) == [216.0, 232.0]
    assert made.reason == ""


def test_the_last_words_are_for_all_and_for_each_station_and_nothing_follows() -> None:
    made = advertiser(links=("wlan0", "wlan1"))
    made.link_lost("wlan1")
    told = made.stopped([("wlan0", STATION), ("wlan1", Mac("02:00:00:00:00:03"))])
    assert told == [Advertise("wlan0", UNUSABLE), Advertise("wlan0", UNUSABLE, STATION)]
    assert made.next_wakeup is None
    assert made.connected("wlan0", STATION, 200.0) == []
    assert made.link_up("wlan0", 200.0) == []
    assert made.resumed(200.0) == []


# -- routes that are needed -----------------------------------------------------------------------------------------


def test_until_the_routes_are_known_nothing_is_said() -> None:
    made = advertiser(needs_route=True)
    assert made.next_wakeup is None
    assert made.connected("wlan0", STATION, 1.0) == []
    assert made.route_changed(True, 2.0) == [Advertise("wlan0", ROUTER)]


def test_a_router_that_never_had_the_route_says_so() -> None:
    made = advertiser(needs_route=True)
    assert made.route_changed(False, 2.0) == [Advertise("wlan0", UNUSABLE)]
    assert made.reason == "no route"


def test_a_lost_route_withdraws_the_router_after_some_seconds() -> None:
    made = advertiser(needs_route=True)
    made.route_changed(True, 0.0)
    run_until(made, 100.0)
    assert made.route_changed(False, 100.0) == []
    assert made.lifetime_s == 9000
    told = run_until(made, 112.0)
    assert [(now, each.router.lifetime_s) for now, each in told] == [(105.0, 0), (108.0, 0), (111.0, 0)]


def test_what_is_due_at_the_moment_of_the_loss_knows_of_it() -> None:
    made = advertiser(needs_route=True)
    made.route_changed(True, 0.0)
    made.route_changed(False, 11.0)
    told = run_until(made, 20.0)
    assert [(now, each.router.lifetime_s) for now, each in told] == [(16.0, 0), (19.0, 0)]


def test_a_route_that_comes_back_in_time_changes_nothing() -> None:
    made = advertiser(needs_route=True)
    made.route_changed(True, 0.0)
    made.route_changed(False, 100.0)
    assert made.route_changed(True, 104.0) == []
    assert {each.router for _, each in run_until(made, 5000.0)} == {ROUTER}


def test_a_route_that_comes_back_later_brings_the_router_back() -> None:
    made = advertiser(needs_route=True)
    made.route_changed(True, 0.0)
    made.route_changed(False, 100.0)
    run_until(made, 200.0)
    assert made.route_changed(True, 200.0) == [Advertise("wlan0", ROUTER)]


@pytest.mark.parametrize("order", ["drain first", "route first"])
def test_a_drained_router_without_a_route_comes_back_when_both_have(order: str) -> None:
    made = advertiser(needs_route=True)
    made.route_changed(True, 0.0)
    made.drained(100.0)
    made.route_changed(False, 100.0)
    run_until(made, 200.0)
    if order == "drain first":
        assert made.resumed(200.0) == []
        assert made.route_changed(True, 210.0) == [Advertise("wlan0", ROUTER)]
    else:
        assert made.route_changed(True, 200.0) == []
        assert made.resumed(210.0) == [Advertise("wlan0", ROUTER)]


def test_what_was_sent_is_counted_by_its_reason() -> None:
    made = advertiser()
    made.connected("wlan0", STATION, 1.0)
    made.solicited("wlan0", STATION, SOURCE, 1.0)
    run_until(made, 2.0)
    assert made.counters == {"multicast": 1, "connected": 3, "solicited": 1}
