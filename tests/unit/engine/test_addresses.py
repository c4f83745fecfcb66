"""Several addresses per host: limits, memory, conflicts, and addresses that only a packet has named."""

from __future__ import annotations

from ipaddress import ip_address

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
    left,
    neighbour,
    new_play,
    withdraw,
)

from roamroute import events
from roamroute.effects import Announce, Forget, Note, Probe, Unwatch, Watch
from roamroute.policy import Policy
from roamroute.testing.playbook import ANY, wait
from roamroute.values import Mac, Nud


def test_sixteen_addresses_of_one_host_are_announced_by_default() -> None:
    play = new_play()
    play.play(*(neighbour(address(number)) for number in range(1, 17)))
    assert len(play.engine.wanted) == 16


def test_the_least_recently_confirmed_address_makes_room_for_a_new_one() -> None:
    play = new_play(Policy(addresses_per_host=3))
    play.play(neighbour(A1), neighbour(A2), neighbour(A3))
    play.play(wait(1.0), *answers(A1), wait(1.0), *answers(A3))
    play >> neighbour(address(4))
    play << Note(f"addresses-per-host {PHONE}", because=ANY)
    play << withdraw(A2, because="the host has too many addresses")
    play << announce(address(4))
    play.nothing_more()


def test_an_address_that_never_answered_goes_before_one_that_did() -> None:
    play = new_play(Policy(addresses_per_host=2))
    play.play(neighbour(A1), wait(1.0), neighbour(A2, Nud.STALE))
    play >> neighbour(A3)
    assert [effect.route.address for effect in play.skim(Announce)] == [A3]
    assert set(play.engine.wanted) == {A1, A3}


def test_the_limit_of_one_host_does_not_touch_another() -> None:
    play = new_play(Policy(addresses_per_host=1))
    play.play(neighbour(A1), neighbour(A2, mac=LAPTOP))
    assert set(play.engine.wanted) == {A1, A2}


def test_a_host_that_makes_addresses_without_end_is_not_followed() -> None:
    """Each would be a route that every router of the mesh learns and forgets."""
    play = new_play(Policy(new_addresses_per_s=0.1))
    flood = [address(0x1000 + number) for number in range(1000)]
    came = []
    for number, each in enumerate(flood):
        play.now += 0.01
        came += play.engine.handle(neighbour(each, Nud.STALE), play.now)
        assert not (number == 500 and len(play.engine.wanted) > 16)
    announced = [effect for effect in came if isinstance(effect, Announce)]
    assert len(announced) == 32, "twice its addresses"
    forgotten = [effect.address for effect in came if isinstance(effect, Forget)]
    assert forgotten[-1] == flood[-1], "the kernel need not keep them either"
    assert len(forgotten) == 1000 - len(announced)
    assert {effect.key for effect in came if isinstance(effect, Note)} == {
        f"addresses-per-host {PHONE}",
        f"new-addresses {PHONE}",
    }
    play.play(neighbour(A1, mac=LAPTOP))
    assert A1 in play.engine.wanted, "others are not touched"


def test_packets_of_such_a_host_are_not_asked_about() -> None:
    play = new_play(Policy(addresses_per_host=1, new_addresses_per_s=0.1))
    play.play(neighbour(A1), neighbour(A2), neighbour(A3))
    play >> events.AddressSeen(WLAN, PHONE, address(0x200))
    play.nothing_more()
    play >> wait(20.0)
    play >> events.AddressSeen(WLAN, PHONE, address(0x200))
    play << Probe(WLAN, address(0x200), PHONE, because=ANY)


def test_addresses_that_a_host_had_before_are_not_new() -> None:
    play = new_play(Policy(addresses_per_host=1, new_addresses_per_s=0.001))
    for _ in range(20):
        play >> connected()
        play.skim(object)
        play.play(*answers())
        assert A1 in play.engine.wanted
        play.play(left(), wait(1.0))
        play.skim(object)


def test_above_the_total_new_addresses_are_refused_and_those_that_are_here_stay() -> None:
    play = new_play(Policy(addresses_total=2))
    play.play(neighbour(A1), neighbour(A2, mac=LAPTOP))
    play >> neighbour(A3, mac=Mac("02:00:5e:44:00:03"))
    play << Note("addresses-total", because=ANY)
    play.nothing_more()
    assert set(play.engine.wanted) == {A1, A2}


def test_when_an_address_has_gone_there_is_room_again() -> None:
    play = new_play(Policy(addresses_total=1))
    play.play(neighbour(A1), neighbour(A1, Nud.FAILED))
    play >> neighbour(A2, mac=LAPTOP)
    play << announce(A2)


def test_a_forged_flood_of_neighbours_stays_within_the_limits() -> None:
    policy = Policy(addresses_per_host=4, addresses_total=64, hosts_remembered=50)
    play = new_play(policy)
    play.play(neighbour(A1, mac=LAPTOP))
    for number in range(5000):
        play.play(neighbour(address(0x10000 + number), Nud.STALE, Mac(f"02:66:00:00:{number % 200:02x}:00")))
    assert len(play.engine.wanted) <= 64
    assert len(play.engine.hosts) <= 50


def test_a_host_that_is_being_made_is_not_the_one_to_be_forgotten() -> None:
    play = new_play(Policy(hosts_remembered=2))
    play.play(connected(PHONE), connected(LAPTOP))
    third = Mac("02:00:5e:44:00:03")
    play >> neighbour(A3, mac=third)
    assert A3 in play.engine.wanted
    assert third in play.engine.hosts
    play.skip()


# -- leaving and coming back


def test_a_station_that_leaves_takes_all_its_addresses_at_once() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), *answers(A2), neighbour(A3, mac=LAPTOP))
    play >> left()
    play << (withdraw(A1, because="station left"), Forget(WLAN, A1, because=ANY))
    play << (withdraw(A2), Forget(WLAN, A2, because=ANY))
    play.nothing_more()


def test_the_end_of_an_association_counts_also_when_its_begin_was_not_told() -> None:
    play = new_play()
    play.play(neighbour(A1))
    play >> left()
    play << (withdraw(A1), Forget(WLAN, A1, because=ANY))


def test_a_station_that_comes_back_is_announced_before_it_sends_a_packet() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), *answers(A2), left())
    play >> connected()
    play << (announce(A1, because="station connected, address remembered"), announce(A2))
    play << (Probe(WLAN, A1, PHONE, because=ANY), Probe(WLAN, A2, PHONE, because=ANY))
    play.nothing_more()


def test_a_remembered_address_that_does_not_answer_is_withdrawn_and_forgotten() -> None:
    play = new_play(Policy(sleep_rounds=1, watch_after_association_s=0.0))
    play.play(connected(), *answers(A1), left(), connected())
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.FAILED)
    play << withdraw(A1)
    play << Watch(WLAN, PHONE, because=ANY)
    play.play(left())
    play >> connected()
    play << Watch(WLAN, PHONE, because=ANY)
    play.nothing_more()


def test_a_binding_has_a_lifetime() -> None:
    play = new_play(Policy(binding_lifetime_s=100.0))
    play.play(connected(), *answers(A1), left(), wait(101.0))
    play >> connected()
    play << Watch(WLAN, PHONE, because="station connected, no address known")
    play.nothing_more()


def test_an_unassociated_host_that_failed_is_remembered_too() -> None:
    play = new_play()
    play.play(neighbour(A1), neighbour(A1, Nud.FAILED))
    play >> connected()
    play << (announce(A1), Probe(WLAN, A1, PHONE, because=ANY))


def test_bindings_are_bounded_by_forgetting_the_hosts_not_seen_for_longest() -> None:
    play = new_play(Policy(hosts_remembered=3))
    hosts = [Mac(f"02:00:5e:44:00:{number:02x}") for number in range(5)]
    for number, host in enumerate(hosts):
        play.play(connected(host), *answers(address(number + 1), host), left(host))
    assert set(play.engine.hosts) == set(hosts[2:])


def test_an_address_belongs_to_the_binding_of_one_host() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), left())
    play.play(connected(LAPTOP), *answers(A1, LAPTOP))
    play >> connected(PHONE)
    play << Watch(WLAN, PHONE, because=ANY)
    play.nothing_more()


def test_reauthentication_is_not_a_leave() -> None:
    play = new_play()
    play.play(connected(), *answers(A1))
    play >> left(is_reauthenticating=True)
    play >> wait(0.1)
    play >> connected()
    play >> wait(10.0)
    play.nothing_more()
    assert A1 in play.engine.wanted


def test_reauthentication_that_does_not_come_to_an_end_is_a_leave() -> None:
    play = new_play()
    play.play(connected(), *answers(A1))
    play >> left(is_reauthenticating=True)
    play >> wait(1.99)
    play >> wait(0.02)
    play << (withdraw(A1), Forget(WLAN, A1, because=ANY))


def test_back_within_ten_milliseconds_the_old_failure_does_not_hurt() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), left(), wait(0.01), connected())
    play >> neighbour(A1, Nud.FAILED)  # of our own Forget
    play >> events.NeighbourRemoved(WLAN, A1)
    for each in answers(A1):
        play >> each
    play.nothing_more()
    assert A1 in play.engine.wanted


def test_what_the_kernel_said_before_it_forgot_does_not_bring_an_address_back() -> None:
    """Netlink is a queue: the answer to a probe may be read after the station has left."""
    play = new_play()
    play.play(connected(), *answers(A1), left())
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.REACHABLE)
    play >> neighbour(A1, Nud.STALE)
    play >> neighbour(A1, Nud.FAILED)
    play >> events.NeighbourRemoved(WLAN, A1)
    play.nothing_more()
    assert not play.engine.wanted


def test_a_probe_that_crossed_the_forgetting_does_not_bring_an_address_back() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), left(), events.NeighbourRemoved(WLAN, A1))
    play >> neighbour(A1, Nud.PROBE)
    play >> wait(3.07)
    play >> neighbour(A1, Nud.FAILED)
    play.nothing_more()


def test_what_the_kernel_says_after_it_forgot_is_new() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), left(), events.NeighbourRemoved(WLAN, A1))
    play >> neighbour(A1, Nud.STALE)
    play << announce(A1)


def test_a_deletion_of_which_the_kernel_does_not_tell_is_not_waited_for() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), left(), wait(0.3))
    play >> neighbour(A1, Nud.STALE)
    play << announce(A1)


def test_stations_resynced_retracts_who_is_not_there() -> None:
    play = new_play()
    play.play(connected(PHONE), *answers(A1), connected(LAPTOP), *answers(A2, LAPTOP))
    play >> events.StationsResynced(frozenset({WLAN}), (connected(LAPTOP).station,))
    play << (withdraw(A1, because="station left"), Forget(WLAN, A1, because=ANY))
    play.nothing_more()


def test_stations_resynced_says_nothing_about_other_links() -> None:
    play = new_play()
    play.play(connected(PHONE), *answers(A1))
    play >> events.StationsResynced(frozenset({WLAN1}), ())
    play.nothing_more()


def test_unassociated_hosts_are_announced_only_if_the_policy_says_so() -> None:
    play = new_play(Policy(is_announcing_unassociated=False, watch_after_association_s=0.0))
    play >> neighbour(A1)
    play.nothing_more()
    play.play(connected(LAPTOP))
    play >> neighbour(A2, mac=LAPTOP)
    play << (announce(A2), Unwatch(WLAN, LAPTOP, because=ANY))


# -- conflicts


def test_the_owner_is_asked_before_another_mac_gets_its_address() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), connected(LAPTOP))
    play >> neighbour(A1, Nud.STALE, LAPTOP)
    play << Note(f"conflict {A1}", because=ANY)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play.nothing_more()


def test_an_owner_that_answers_keeps_its_address() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), connected(LAPTOP))
    for _ in range(10):
        play.play(neighbour(A1, Nud.STALE, LAPTOP), neighbour(A1, Nud.REACHABLE, LAPTOP))
        for each in answers(A1, PHONE):
            play >> each
        play.nothing_more()
    assert play.engine.hosts[PHONE].entries.keys() == {A1}
    assert A1 in play.engine.wanted


def test_when_the_owner_is_silent_the_rival_is_asked_and_gets_the_address() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), connected(LAPTOP), neighbour(A1, Nud.STALE, LAPTOP))
    play >> neighbour(A1, Nud.PROBE, PHONE)
    play >> neighbour(A1, Nud.FAILED)
    play << (withdraw(A1), Watch(WLAN, PHONE, because=ANY), Probe(WLAN, A1, LAPTOP, because=ANY))
    play >> neighbour(A1, Nud.PROBE, LAPTOP)
    play >> neighbour(A1, Nud.REACHABLE, LAPTOP)
    play << announce(A1)
    assert play.engine.hosts[LAPTOP].entries.keys() == {A1}
    play.skip()


def test_what_a_returning_host_had_and_another_has_now_is_asked_of_the_other() -> None:
    play = new_play()
    play.play(connected(), *answers(A1), left())
    play.engine._book.hosts[PHONE].binding[A1] = play.now
    play.play(neighbour(A1, mac=LAPTOP))
    play.engine._book.hosts[PHONE].binding[A1] = play.now
    play >> connected(PHONE)
    play << (Probe(WLAN, A1, LAPTOP, because=ANY), Watch(WLAN, PHONE, because=ANY))
    play.nothing_more()


# -- addresses that a packet named


def test_a_station_without_known_addresses_is_watched_until_one_is_confirmed() -> None:
    play = new_play()
    play >> connected()
    play << Watch(WLAN, PHONE, because=ANY)
    play >> events.AddressSeen(WLAN, PHONE, A1)
    play << Probe(WLAN, A1, PHONE, because="seen in a packet")
    play >> neighbour(A1, Nud.PROBE)
    play.nothing_more()  # a candidate, not a fact
    play >> neighbour(A1, Nud.REACHABLE)
    play << (announce(A1), Unwatch(WLAN, PHONE, because=ANY))
    play.nothing_more()


def test_a_candidate_that_does_not_answer_is_nothing() -> None:
    play = new_play()
    play.play(connected(), events.AddressSeen(WLAN, PHONE, A1))
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.FAILED)
    play.nothing_more()
    assert not play.engine.wanted


def test_a_candidate_is_asked_once_however_many_packets_name_it() -> None:
    play = new_play()
    play.play(connected(), events.AddressSeen(WLAN, PHONE, A1))
    for _ in range(100):
        play >> events.AddressSeen(WLAN, PHONE, A1)
    play >> events.AddressSeen(WLAN, LAPTOP, A1)
    play.nothing_more()


def test_an_unanswered_candidate_may_be_asked_again_later() -> None:
    play = new_play()
    play.play(connected(), events.AddressSeen(WLAN, PHONE, A1), wait(5.1))
    play >> events.AddressSeen(WLAN, PHONE, A1)
    play << Probe(WLAN, A1, PHONE, because=ANY)


def test_one_hosts_forged_packets_do_not_keep_another_from_being_asked() -> None:
    play = new_play()
    play.play(*(events.AddressSeen(WLAN, LAPTOP, address(number)) for number in range(1, 3000)))
    play.play(wait(1.0))
    play >> events.AddressSeen(WLAN, PHONE, A1 + 0x100000)
    play << Probe(WLAN, A1 + 0x100000, PHONE, because=ANY)


def test_a_packet_that_names_an_address_outside_the_prefixes_is_nothing() -> None:
    play = new_play()
    play >> events.AddressSeen(WLAN, PHONE, address(1) + 2**70)
    play >> events.AddressSeen("eth0", PHONE, A1)
    play.nothing_more()


LINK_LOCAL = ip_address("fe80::5eff:fe44:1")


def test_a_host_of_which_only_the_link_local_address_is_known_is_watched() -> None:
    """It cached the gateway before we started: it sends data, and no neighbour discovery but from that address."""
    play = new_play()
    play >> neighbour(LINK_LOCAL)
    play << Watch(WLAN, PHONE, because="only its link-local address is known")
    play >> neighbour(LINK_LOCAL, Nud.STALE)
    play.nothing_more()
    play >> events.AddressSeen(WLAN, PHONE, A1)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play.play(neighbour(A1, Nud.PROBE))
    play >> neighbour(A1)
    play << (announce(A1), Unwatch(WLAN, PHONE, because=ANY))


def test_a_host_with_a_known_address_is_not_watched_for_its_link_local_one() -> None:
    play = new_play()
    play.play(neighbour(A1, Nud.STALE))
    play >> neighbour(LINK_LOCAL)
    play >> events.NeighboursResynced(
        frozenset({WLAN}), (neighbour(LINK_LOCAL).neighbour, neighbour(A1, Nud.STALE).neighbour)
    )
    play.nothing_more()


def test_in_a_resync_link_local_addresses_come_last() -> None:
    play = new_play()
    play >> events.NeighboursResynced(
        frozenset({WLAN}), (neighbour(LINK_LOCAL).neighbour, neighbour(A1, Nud.STALE).neighbour)
    )
    play << announce(A1)
    play.nothing_more()


def test_who_tells_nothing_is_not_watched_for_ever() -> None:
    play = new_play()
    play.play(neighbour(LINK_LOCAL))
    play >> wait(59.9)
    play >> wait(0.2)
    play << Unwatch(WLAN, PHONE, because="nothing was learnt")
    play >> neighbour(LINK_LOCAL)
    play << Watch(WLAN, PHONE, because=ANY)


def test_an_associated_station_without_addresses_is_watched_on() -> None:
    play = new_play()
    play.play(connected())
    play >> wait(60.1)
    play << Watch(WLAN, PHONE, because="still here, no address known")


def test_a_bridge_that_learns_a_mac_makes_us_look_for_the_host() -> None:
    play = new_play()
    play.play(neighbour(A1), neighbour(A1, Nud.FAILED))
    play >> events.MacLearned(PHONE, WLAN, "eth3")
    play << (Watch(WLAN, PHONE, because=ANY), Probe(WLAN, A1, PHONE, because=ANY))
    for each in answers(A1):
        play.play(each)
    assert A1 in play.engine.wanted


def test_a_bridge_that_forgets_a_mac_makes_us_ask() -> None:
    play = new_play()
    play.play(neighbour(A1))
    play >> events.MacForgotten(PHONE, WLAN)
    play << Probe(WLAN, A1, PHONE, because="the bridge forgot its MAC")


# -- the operator


def test_a_drain_withdraws_everything_and_holds() -> None:
    play = new_play()
    play.play(neighbour(A1), neighbour(A2))
    play >> events.Drained()
    play << (withdraw(A1, because="drained by the operator"), withdraw(A2))
    play >> neighbour(A3)
    play >> connected()
    play.nothing_more()
    assert play.engine.is_drained
    assert not play.engine.wanted


def test_the_end_of_a_drain_announces_what_is_here_now() -> None:
    play = new_play()
    play.play(neighbour(A1), neighbour(A2), events.Drained(), neighbour(A1, Nud.FAILED), neighbour(A3))
    play >> events.Resumed()
    play << (announce(A2, because="resumed by the operator"), announce(A3))
    play.nothing_more()


def test_draining_twice_says_nothing_more() -> None:
    play = new_play()
    play.play(neighbour(A1), events.Drained())
    play >> events.Drained()
    play.nothing_more()
    play.play(events.Resumed())
    play >> events.Resumed()
    play.nothing_more()


def test_a_station_that_moves_to_another_link_of_ours_is_watched_there() -> None:
    play = new_play()
    play.play(connected(link=WLAN))
    play >> connected(link=WLAN1)
    play << Unwatch(WLAN, PHONE, because=ANY)
    play << Watch(WLAN1, PHONE, because=ANY)


# -- a look at the data of every station that has just come


def test_the_data_of_a_station_that_comes_back_is_looked_at_for_a_while() -> None:
    play = new_play(Policy(watch_after_association_s=2.0), ignoring=(Probe,))
    play.play(connected(), *answers(A1), left())
    play >> connected()
    play << (announce(A1), Watch(WLAN, PHONE, because="station connected, it may have a new address"))
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1)
    play >> wait(1.9)
    play >> wait(0.2)
    play << Unwatch(WLAN, PHONE, because="its addresses are known")
    play.nothing_more()


def test_an_address_that_is_known_soon_does_not_end_the_look_at_a_new_station() -> None:
    play = new_play(Policy(watch_after_association_s=2.0))
    play >> connected()
    play << Watch(WLAN, PHONE, because=ANY)
    play.play(*answers(A1))
    play >> events.AddressSeen(WLAN, PHONE, A2)
    play << Probe(WLAN, A2, PHONE, because=ANY)
    play.play(neighbour(A2, Nud.PROBE))
    play >> neighbour(A2)
    play << announce(A2)
    play >> wait(2.1)
    play << Unwatch(WLAN, PHONE, because=ANY)
    play.nothing_more()
