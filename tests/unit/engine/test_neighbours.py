"""Neighbour states to host routes: draft-barth-homenet-wifi-roaming-00, RFC 4861 §7.3, and what is never announced."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from engine_scene import (
    A1,
    A2,
    AN_IPV4,
    LAPTOP,
    ME,
    OWN_MAC,
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
from roamroute.admission import Admission
from roamroute.effects import Announce, Effect, Forget, Note, Probe, Watch, Withdraw
from roamroute.engine import Engine
from roamroute.policy import Policy
from roamroute.testing.playbook import ANY, Playbook, wait
from roamroute.values import Address, Mac, Neighbour, Nud


@pytest.mark.parametrize("nud", [Nud.REACHABLE, Nud.STALE, Nud.DELAY, Nud.PROBE])
def test_a_living_state_wants_a_host_route(nud: Nud) -> None:
    play = new_play()
    play >> neighbour(nud=nud)
    play << announce()
    play.nothing_more()


def test_ipv4_neighbours_get_host_routes_too() -> None:
    play = new_play()
    play >> neighbour(AN_IPV4)
    play << announce(AN_IPV4)
    assert str(play.engine.wanted[AN_IPV4]) == "10.44.7.1/32"


@pytest.mark.parametrize("nud", [Nud.NONE, Nud.INCOMPLETE, Nud.FAILED])
def test_a_state_without_life_wants_nothing(nud: Nud) -> None:
    play = new_play()
    play >> neighbour(nud=nud, mac=None)
    play.nothing_more()


def test_a_final_failure_withdraws_at_once() -> None:
    play = new_play()
    play.play(neighbour())
    play >> neighbour(nud=Nud.FAILED)
    play << withdraw(because="neighbour unreachability detection failed")
    play.nothing_more()


@pytest.mark.parametrize("nud", [Nud.STALE, Nud.DELAY, Nud.PROBE, Nud.REACHABLE])
def test_changes_between_living_states_say_nothing(nud: Nud) -> None:
    play = new_play()
    play.play(neighbour())
    play >> neighbour(nud=nud)
    play.nothing_more()


def test_incomplete_does_not_withdraw() -> None:
    play = new_play()
    play.play(neighbour())
    play >> neighbour(nud=Nud.INCOMPLETE, mac=None)
    play.nothing_more()


@pytest.mark.parametrize(
    "never",
    [
        pytest.param(neighbour(ip_address("ff02::1")), id="multicast"),
        pytest.param(neighbour(ip_address("fd44:0:0:2::1")), id="outside the roaming prefixes"),
        pytest.param(neighbour(ip_address("10.45.0.1")), id="outside, IPv4"),
        pytest.param(neighbour(ip_address("fd44:0:0:1::")), id="subnet-router anycast"),
        pytest.param(neighbour(ip_address("10.44.0.0")), id="the IPv4 network itself"),
        pytest.param(neighbour(ip_address("10.44.255.255")), id="IPv4 broadcast"),
        pytest.param(neighbour(link="eth0"), id="another interface"),
        pytest.param(neighbour(mac=OWN_MAC), id="our own MAC"),
        pytest.param(neighbour(mac=Mac("33:33:00:00:00:01")), id="a group MAC"),
        pytest.param(neighbour(nud=Nud.PERMANENT), id="PERMANENT"),
        pytest.param(neighbour(nud=Nud.NOARP), id="NOARP"),
        pytest.param(neighbour(is_foreign_made=True), id="NTF_PROXY or NTF_EXT_LEARNED"),
    ],
)
def test_never_announced(never: events.NeighbourChanged) -> None:
    play = new_play(ignoring=(Watch,))
    play >> never
    play >> events.NeighboursResynced(frozenset({WLAN, WLAN1}), (never.neighbour,))
    play.nothing_more()
    assert not play.engine.wanted


def test_a_link_local_address_is_never_announced_but_its_host_is_looked_at() -> None:
    play = new_play()
    play >> neighbour(ip_address("fe80::1234"))
    play << Watch(WLAN, PHONE, "only its link-local address is known")
    play >> neighbour(ip_address("fe80::1234"), nud=Nud.STALE)
    play.nothing_more()
    assert not play.engine.wanted


def test_own_addresses_and_those_of_peers_are_never_announced() -> None:
    play = new_play()
    play >> events.OwnAddressesChanged(frozenset({A1}), frozenset())
    play >> neighbour(A1)
    play >> events.AddressSeen(WLAN, PHONE, A1)
    play.nothing_more()


def test_an_address_that_becomes_our_own_is_withdrawn() -> None:
    play = new_play()
    play.play(neighbour(A1), neighbour(A2))
    play >> events.OwnAddressesChanged(frozenset({A1}), frozenset())
    play << withdraw(A1, because="the address or MAC belongs to a router")
    play.nothing_more()


def test_an_entry_that_becomes_permanent_is_withdrawn() -> None:
    play = new_play()
    play.play(neighbour())
    play >> neighbour(nud=Nud.PERMANENT)
    play << withdraw()


def test_a_pruned_entry_is_asked_for_while_its_route_stays() -> None:
    play = new_play()
    play.play(neighbour(nud=Nud.STALE))
    play >> events.NeighbourRemoved(WLAN, A1)
    play << Probe(WLAN, A1, PHONE, because="its entry was removed from the neighbour table")
    play >> neighbour(nud=Nud.PROBE)
    play >> neighbour(nud=Nud.REACHABLE)
    play.nothing_more()
    assert A1 in play.engine.wanted


def test_a_pruned_entry_that_does_not_answer_is_withdrawn() -> None:
    play = new_play()
    play.play(neighbour(nud=Nud.STALE), events.NeighbourRemoved(WLAN, A1), neighbour(nud=Nud.PROBE))
    play >> neighbour(nud=Nud.FAILED)
    play << withdraw()


def test_the_removal_of_a_failed_entry_means_nothing() -> None:
    play = new_play()
    play.play(connected(), neighbour(), neighbour(nud=Nud.FAILED))
    play >> events.NeighbourRemoved(WLAN, A1)
    play.nothing_more()


def test_the_removal_of_a_shadow_on_another_link_means_nothing() -> None:
    play = new_play()
    play.play(neighbour())
    play >> events.NeighbourRemoved(WLAN1, A1)
    play >> neighbour(nud=Nud.FAILED, link=WLAN1)
    play.nothing_more()


def test_a_probe_of_which_the_kernel_says_nothing_counts_as_failed() -> None:
    play = new_play()
    play.play(neighbour(nud=Nud.STALE), events.NeighbourRemoved(WLAN, A1))
    play >> wait(3.99)
    play >> wait(0.02)
    play << withdraw(because="no word from the kernel on a probe")


def test_a_failure_that_is_older_than_our_probe_does_not_count() -> None:
    """The kernel deletes in two messages, FAILED and the removal; a host may be back before they are read."""
    play = new_play()
    play.play(connected(), *answers(), events.StationLeft(connected().station))
    play >> connected()
    play << (announce(), Probe(WLAN, A1, PHONE, because=ANY))
    play >> neighbour(nud=Nud.FAILED)
    play >> events.NeighbourRemoved(WLAN, A1)
    play >> neighbour(nud=Nud.PROBE)
    play >> neighbour(nud=Nud.REACHABLE)
    play.nothing_more()
    assert A1 in play.engine.wanted


# -- another link of the same machine


def test_a_move_between_our_own_links_replaces_the_route_and_withdraws_nothing() -> None:
    play = new_play()
    play.play(neighbour())
    play >> neighbour(link=WLAN1)
    play << (Forget(WLAN, A1, because=ANY), announce(link=WLAN1))
    play.nothing_more()
    assert play.engine.wanted[A1].link == WLAN1


def test_a_stale_sighting_on_another_link_is_asked_before_it_is_followed() -> None:
    play = new_play()
    play.play(neighbour())
    play >> neighbour(nud=Nud.STALE, link=WLAN1)
    play << Probe(WLAN1, A1, PHONE, because=ANY)
    play >> neighbour(nud=Nud.PROBE, link=WLAN1)
    play >> neighbour(nud=Nud.FAILED, link=WLAN1)
    play.nothing_more()
    assert play.engine.wanted[A1].link == WLAN


def test_an_association_on_another_of_our_links_moves_the_addresses_with_it() -> None:
    play = new_play()
    play.play(connected(), *answers())
    play >> connected(link=WLAN1)
    play << (Forget(WLAN, A1, because=ANY), announce(link=WLAN1), Probe(WLAN1, A1, PHONE, because=ANY))
    play >> events.StationLeft(connected(link=WLAN).station)
    play >> neighbour(nud=Nud.STALE, link=WLAN)
    play.nothing_more()
    assert play.engine.wanted[A1].link == WLAN1


# -- links


def test_a_lost_link_takes_its_routes_and_no_others() -> None:
    play = new_play()
    play.play(neighbour(A1), neighbour(A2, mac=LAPTOP, link=WLAN1))
    play >> events.LinkLost(WLAN)
    play << withdraw(A1, because="interface wlan0 is gone")
    play.nothing_more()


def test_stations_of_a_link_that_was_down_are_asked_for_when_it_is_back() -> None:
    """hostapd does not tell again who is associated when only the bridge above it was down."""
    play = new_play()
    play.play(connected(), *answers(), events.LinkLost(WLAN))
    play >> events.NeighboursResynced(frozenset({WLAN, WLAN1}), ())
    play << (Probe(WLAN, A1, PHONE, because=ANY), ANY)
    for each in answers():
        play.play(each)
    assert A1 in play.engine.wanted


def test_a_station_that_sleeps_when_its_link_is_back_is_asked_again() -> None:
    play = new_play()
    play.play(connected(), *answers(), events.LinkLost(WLAN))
    play >> events.NeighboursResynced(frozenset({WLAN, WLAN1}), ())
    play << (Probe(WLAN, A1, PHONE, because=ANY), ANY)
    for _ in range(2):
        play >> neighbour(nud=Nud.PROBE)
        play >> wait(3.0)
        play >> neighbour(nud=Nud.FAILED)
        play >> wait(2.5)
        play << Probe(WLAN, A1, PHONE, because=ANY)
    play.play(*answers())
    assert A1 in play.engine.wanted


def test_hosts_that_no_association_vouches_for_are_looked_for_where_they_were() -> None:
    play = new_play()
    play.play(neighbour(A1), neighbour(A2, mac=LAPTOP, link=WLAN1), events.LinkLost(WLAN))
    play >> events.NeighboursResynced(frozenset({WLAN, WLAN1}), (neighbour(A2, mac=LAPTOP, link=WLAN1).neighbour,))
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play.play(*answers())
    assert A1 in play.engine.wanted


def test_thousands_of_hosts_are_all_asked_for_when_their_link_is_back() -> None:
    """More than questions may be open at the same time."""
    play = new_play()
    hosts = {address(number): Mac(f"02:00:5e:44:{number >> 8:02x}:{number & 255:02x}") for number in range(1, 3001)}
    for each, host in hosts.items():
        play.play(neighbour(each, Nud.REACHABLE, host))
    play.play(events.LinkLost(WLAN))
    assert not play.engine.wanted
    asked = play.engine.handle(events.NeighboursResynced(frozenset({WLAN, WLAN1}), ()), play.now)
    end = play.now + 60.0
    while play.now < end:
        for effect in asked:
            if isinstance(effect, Probe):
                for event in answers(effect.address, effect.mac):
                    play.engine.handle(event, play.now)
        due = play.engine.next_wakeup
        play.now = end if due is None else min(max(due, play.now), end)
        asked = play.engine.tick(play.now)
    assert len(play.engine.wanted) == 3000


# -- resynchronisation


def dump(*neighbours: events.NeighbourChanged, links: frozenset[str] = frozenset({WLAN, WLAN1})) -> events.Event:
    return events.NeighboursResynced(links, tuple(each.neighbour for each in neighbours))


def fresh_play(me: bool = False) -> Playbook:
    prefixes = new_play().engine._admission.prefixes
    return Playbook(Engine(Admission((WLAN, WLAN1), prefixes), Policy(), me=ME if me else None))


@pytest.mark.parametrize("me", [False, True])
def test_the_first_resync_announces_everything_at_once(me: bool) -> None:
    play = fresh_play(me)
    play >> dump(neighbour(A1), neighbour(A2, Nud.STALE))
    play << (announce(A1, because="in the neighbour cache"), announce(A2))
    play.nothing_more()


def test_at_a_start_an_entry_that_is_only_being_asked_is_announced_when_it_answers() -> None:
    """We may have asked who asked for another's address: killed in that moment, we find it in PROBE, and no route."""
    play = fresh_play()
    play >> dump(neighbour(A1, Nud.PROBE), neighbour(A2, Nud.PROBE))
    play << (Probe(WLAN, A1, PHONE, because=ANY), Probe(WLAN, A2, PHONE, because=ANY))
    play >> neighbour(A1, Nud.FAILED)
    play >> neighbour(A2)
    play << announce(A2)
    play.nothing_more()
    assert A1 not in play.engine.entries


def test_at_a_start_an_entry_that_is_being_asked_is_announced_where_an_earlier_run_left_its_route() -> None:
    play = fresh_play()
    play.engine.announced_before = frozenset({A1})
    play >> dump(neighbour(A1, Nud.PROBE))
    play << announce(A1, because="in the neighbour cache")
    play.nothing_more()


def test_after_a_start_every_entry_is_confirmed_soon() -> None:
    play = fresh_play()
    play.play(dump(neighbour(A1), neighbour(A2, Nud.STALE)))
    play >> wait(5.0)
    play << (Probe(WLAN, A1, PHONE, because=ANY), Probe(WLAN, A2, PHONE, because=ANY))


def test_a_resync_asks_for_what_is_not_there_any_more_and_withdraws_it_when_nobody_answers() -> None:
    """A collection takes the living too, and a burst of removals is what the kernel's messages get lost in."""
    play = new_play()
    play.play(neighbour(A1), neighbour(A2))
    play >> dump(neighbour(A1))
    play << Probe(WLAN, A2, PHONE, because="not in the neighbour cache any more")
    play.nothing_more()
    assert A2 in play.engine.wanted
    play >> neighbour(A2, nud=Nud.PROBE)
    play >> neighbour(A2, nud=Nud.FAILED)
    play << withdraw(A2)


# -- a table that is too small


def test_a_probe_for_which_the_kernel_has_no_room_says_nothing_about_the_host() -> None:
    play = new_play()
    play.play(neighbour(nud=Nud.STALE), events.NeighbourRemoved(WLAN, A1))
    for _ in range(20):
        play >> events.ProbesRefused((A1,))
        play >> wait(5.0)
        play << Probe(WLAN, A1, PHONE, because="stale")
    assert A1 in play.engine.wanted
    play.play(neighbour(nud=Nud.PROBE))
    play >> neighbour(nud=Nud.FAILED)
    play << withdraw()


def test_a_question_for_which_the_kernel_has_no_room_may_be_asked_again_at_once() -> None:
    play = new_play()
    play >> events.AddressSeen(WLAN, PHONE, A1)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play >> events.ProbesRefused((A1,))
    play >> events.AddressSeen(WLAN, PHONE, A1)
    play << Probe(WLAN, A1, PHONE, because=ANY)


def test_a_thousand_removals_at_once_stay_within_the_routine_budget() -> None:
    play = new_play(Policy(probes_per_second=100.0, probe_burst=50))
    hosts = {address(number): Mac(f"02:00:5e:44:{number >> 8:02x}:{number & 255:02x}") for number in range(1, 1001)}
    for each, host in hosts.items():
        play.play(neighbour(each, Nud.STALE, host))
    came = [effect for each in hosts for effect in play.engine.handle(events.NeighbourRemoved(WLAN, each), play.now)]
    assert len([effect for effect in came if isinstance(effect, Probe)]) == 50
    assert len(play.engine.wanted) == 1000


def test_a_resync_says_nothing_about_links_it_does_not_cover() -> None:
    play = new_play()
    play.play(neighbour(A1))
    play >> dump(links=frozenset({WLAN1}))
    play.nothing_more()


def test_a_resync_keeps_what_is_being_asked() -> None:
    play = new_play()
    play.play(neighbour(nud=Nud.STALE), events.NeighbourRemoved(WLAN, A1))
    play >> dump()
    play.nothing_more()


def test_a_failed_entry_in_a_resync_is_not_one_more_failure_of_a_sleeper() -> None:
    play = new_play()
    play.play(connected(), *answers(), neighbour(nud=Nud.PROBE), neighbour(nud=Nud.FAILED))
    for _ in range(5):
        play >> dump(neighbour(nud=Nud.FAILED))
    play.nothing_more()
    assert A1 in play.engine.wanted


def test_repeating_a_resync_says_nothing() -> None:
    play = fresh_play()
    play.play(dump(neighbour(A1), neighbour(A2, Nud.STALE)))
    play >> dump(neighbour(A1), neighbour(A2, Nud.STALE))
    play.nothing_more()


# -- causes


def test_every_effect_has_a_cause() -> None:
    play = new_play(Policy(addresses_per_host=1))
    came: list[Effect] = play.play(
        connected(),
        *answers(A1),
        neighbour(A2),
        neighbour(A2, Nud.STALE, LAPTOP),
        events.Drained(),
        events.Resumed(),
        events.StationLeft(connected().station),
        events.LinkLost(WLAN),
    )
    assert {type(effect) for effect in came} >= {Announce, Withdraw, Probe, Forget, Note}
    assert all(len(effect.because.split()) >= 2 or effect.because == "stale" for effect in came)


def test_announcements_are_not_repeated() -> None:
    play = new_play()
    play.play(neighbour())
    for nud in (Nud.STALE, Nud.DELAY, Nud.PROBE, Nud.REACHABLE, Nud.STALE):
        play >> neighbour(nud=nud)
    play.nothing_more()


@pytest.mark.parametrize("which", [A1, AN_IPV4])
def test_withdraw_names_the_route_that_was_announced(which: Address) -> None:
    play = new_play()
    play.play(neighbour(which))
    play >> events.NeighbourChanged(Neighbour(WLAN, which, Nud.FAILED))
    play << withdraw(which)
