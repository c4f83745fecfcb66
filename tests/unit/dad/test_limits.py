"""What the DAD proxy refuses: floods of stations and of peers, stations that stand in everybody's way, what is late."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from dad_scene import LAPTOP, OWN, PEER1, PEER3, PHONE, TABLET, TARGET, Scene, T, answer, question

from roamroute.dad import HandOut, Limits, Relay
from roamroute.dad.counters import DadCounters
from roamroute.dad.fan_out import FanOut
from roamroute.dad.recent import Recent
from roamroute.values import Address, Mac


def target(number: int) -> Address:
    return IPv6Address(int(TARGET) + number)


def station(number: int) -> Mac:
    return Mac(f"06:00:00:00:{number >> 8:02x}:{number & 255:02x}")


def test_a_station_that_solicits_a_thousand_targets_is_cut_off_after_its_burst() -> None:
    scene = Scene(limits=Limits(station_burst=64, station_rate=4))
    told = sum(len(scene.heard(question(target=target(number)), T)) for number in range(1000))
    assert told == 64
    assert scene.counters.refused_station_limit == 1000 - 64


def test_a_station_that_was_cut_off_may_go_on_slowly() -> None:
    scene = Scene(limits=Limits(station_burst=2, station_rate=4))
    for number in range(10):
        scene.heard(question(target=target(number)), T)
    assert scene.heard(question(target=target(99)), T + 0.3) == [Relay(question(target=target(99)))]


def test_a_flood_of_questions_leaves_the_station_its_answers() -> None:
    scene = Scene(limits=Limits(station_burst=2))
    for number in range(10):
        scene.heard(question(target=target(number)), T)
    assert scene.heard(answer(), T) == [Relay(answer())]


def test_one_stations_flood_does_not_count_against_the_others() -> None:
    scene = Scene(on={"wlan0": [PHONE, LAPTOP]}, limits=Limits(station_burst=5, known_burst=10))
    for number in range(1000):
        scene.heard(question(PHONE, target(number)), T)
    assert scene.heard(question(LAPTOP), T) == [Relay(question(LAPTOP))]


def test_invented_senders_do_not_use_up_what_the_known_have() -> None:
    scene = Scene(on={"wlan0": [PHONE]}, limits=Limits(unknown_burst=20))
    for number in range(1000):
        scene.heard(question(station(number), target(number)), T)
    assert scene.counters.relayed == 20
    assert scene.heard(question(PHONE), T) == [Relay(question(PHONE))]


def test_a_peer_gone_mad_does_not_fill_the_air_and_the_others_are_heard() -> None:
    scene = Scene(limits=Limits(peer_burst=50))
    scene.meet(PEER1)
    scene.meet(PEER3)
    out = [scene.told(question(station(number), target(number)), T) for number in range(1000)]
    assert sum(map(len, out)) == 50
    assert scene.counters.refused_peer_limit == 1000 - 50
    assert scene.told(question(LAPTOP), T, PEER3) == [HandOut("wlan0", question(LAPTOP))]


def test_all_peers_together_do_not_fill_the_air_either() -> None:
    scene = Scene(limits=Limits(told_burst=5))
    for number in range(1, 11):
        scene.told(question(station(number), target(number)), T, IPv6Address(number))
    assert scene.counters.refused_peer_limit == 5


def test_a_station_that_claims_every_address_is_not_believed_for_long() -> None:
    scene = Scene(limits=Limits(targets_per_station=16))
    told = [number for number in range(50) if scene.heard(answer(PHONE, target(number)), T + number)]
    assert told == list(range(16))
    assert scene.counters.refused_target_limit == 34
    assert scene.heard(answer(PHONE, target(3)), T + 60) == [Relay(answer(PHONE, target(3)))]  # one of the 16


def test_a_station_that_contests_every_question_is_not_believed_for_long() -> None:
    scene = Scene(limits=Limits(targets_per_station=16))
    contested = 0
    for number in range(50):
        scene.heard(question(LAPTOP, target(number)), T + number)
        contested += bool(scene.heard(question(PHONE, target(number)), T + number + 0.01))
    assert contested == 16


def test_a_peers_station_is_held_to_the_same() -> None:
    scene = Scene(limits=Limits(targets_per_station=16))
    scene.meet()
    assert sum(bool(scene.told(answer(PHONE, target(number)), T + number)) for number in range(50)) == 16


def test_who_borrows_a_mac_elsewhere_takes_nothing_from_its_owner() -> None:
    scene = Scene(limits=Limits(targets_per_station=2, station_burst=5))
    scene.meet()
    for number in range(10):
        scene.heard(answer(PHONE, target(number)), T)
    scene.heard(question(LAPTOP, target(20)), T + 0.1)
    assert scene.told(answer(PHONE, target(20)), T + 0.2) == [HandOut("wlan0", answer(PHONE, target(20)), (LAPTOP,))]


def test_a_peer_that_announces_an_address_is_believed_of_it() -> None:
    scene = Scene(limits=Limits(targets_per_station=2))
    scene.meet()
    for number in range(5):
        scene.knowledge.announces[target(number)] = PEER1
        assert scene.told(answer(PHONE, target(number)), T + number)
        scene.told(answer(LAPTOP, target(number)), T + number, PEER3)
    assert scene.counters.refused_target_limit == 3


def test_what_a_station_says_on_one_link_is_not_counted_on_another() -> None:
    scene = Scene("wlan0", "wlan1", limits=Limits(station_burst=2))
    for number in range(5):
        scene.heard(question(target=target(number)), T, "wlan0")
    assert Relay(question(target=target(9))) in scene.heard(question(target=target(9)), T, "wlan1")


def test_a_host_with_many_host_routes_is_always_believed() -> None:
    scene = Scene(limits=Limits(targets_per_station=2))
    for number in range(10):
        scene.knowledge.holds[target(number)] = ("wlan0", PHONE)
        assert scene.heard(answer(PHONE, target(number)), T + number)


def test_that_another_holds_an_address_speaks_for_nobody_else() -> None:
    scene = Scene(limits=Limits(targets_per_station=2))
    for number in range(5):
        scene.knowledge.holds[target(number)] = ("wlan0", LAPTOP)
        scene.heard(answer(PHONE, target(number)), T + number)
    assert scene.counters.refused_target_limit == 3


def test_a_host_that_asks_again_for_its_own_address_contests_nothing() -> None:
    scene = Scene(limits=Limits(targets_per_station=1))
    for number in range(5):
        assert scene.heard(question(PHONE, target(number)), T + number)
        assert scene.heard(question(PHONE, target(number)), T + number + 0.5)
    assert scene.counters.refused_target_limit == 0


def test_our_own_addresses_are_defended_a_bounded_number_of_times() -> None:
    scene = Scene(limits=Limits(defended_burst=5))
    scene.knowledge.own_addresses = frozenset({TARGET})
    effects = [scene.heard(question(station(number)), T) for number in range(100)]
    assert sum(map(len, effects)) == 5
    effects = [scene.told(question(station(number)), T + 0.2) for number in range(100)]
    assert sum(map(len, effects)) == 4  # 20 a second


def test_a_group_address_is_no_sender() -> None:
    scene = Scene()
    assert scene.told(question(Mac("33:33:00:00:00:01")), T) == []
    assert scene.counters.refused_own == 1


def test_without_a_mac_of_ours_nothing_is_defended_elsewhere() -> None:
    scene = Scene()
    scene.knowledge.own_addresses, scene.knowledge.own_macs = frozenset({TARGET}), frozenset()
    assert scene.told(question(), T) == []
    assert scene.knowledge.own_macs != frozenset({OWN})


# -- copies to single stations -----------------------------------------------------------------------------------------

MANY = tuple(map(station, range(100)))


def test_copies_to_many_go_out_in_portions() -> None:
    fan_out = FanOut(Limits(unicast_portion=16, unicast_pause_s=0.005), DadCounters())
    sent = fan_out.add("wlan0", question(), MANY, frozenset(), T)
    assert [len(each.stations or ()) for each in sent] == [16]
    times = []
    while fan_out.next_wakeup is not None:
        times.append(fan_out.next_wakeup)
        sent += fan_out.tick(times[-1])
    assert times == pytest.approx([T + 0.005 * number for number in range(1, 7)])
    assert [mac for each in sent for mac in each.stations or ()] == list(MANY)


def test_the_spared_get_none() -> None:
    fan_out = FanOut(Limits(), DadCounters())
    (sent,) = fan_out.add("wlan0", question(), MANY[:4], {MANY[1]}, T)
    assert sent.stations == (MANY[0], MANY[2], MANY[3])


def test_a_tick_before_its_time_does_nothing() -> None:
    fan_out = FanOut(Limits(), DadCounters())
    fan_out.add("wlan0", question(), MANY, frozenset(), T)
    assert fan_out.tick(T + 0.001) == []


def test_nobody_gets_no_copies() -> None:
    fan_out = FanOut(Limits(), DadCounters())
    assert fan_out.add("wlan0", question(), (), frozenset(), T) == []
    assert fan_out.next_wakeup is None


def test_what_the_budget_does_not_hold_follows_as_it_fills() -> None:
    fan_out = FanOut(Limits(unicast_rate=100, unicast_burst=4), DadCounters())
    sent = fan_out.add("wlan0", question(), MANY[:10], frozenset(), T)
    assert fan_out.next_wakeup == pytest.approx(T + 0.01)
    assert fan_out.tick(T + 0.009) == []
    now = T
    while fan_out.next_wakeup is not None:
        now = fan_out.next_wakeup
        sent += fan_out.tick(now)
    assert [len(each.stations or ()) for each in sent] == [4, 1, 1, 1, 1, 1, 1]
    assert now == pytest.approx(T + 0.06)


def test_what_could_not_be_sent_in_time_is_not_begun() -> None:
    counters = DadCounters()
    fan_out = FanOut(Limits(unicast_rate=100, unicast_burst=100, unicast_late_s=0.8), counters)
    for _ in range(10):
        fan_out.add("wlan0", question(), MANY, frozenset(), T)
    now = T
    while fan_out.next_wakeup is not None:
        now = max(now, fan_out.next_wakeup)
        fan_out.tick(now)
    assert now - T <= 0.8
    assert counters.unicast_frames == 100
    assert counters.late == 900


def test_what_a_late_tick_finds_too_old_is_given_up() -> None:
    counters = DadCounters()
    fan_out = FanOut(Limits(unicast_late_s=0.8), counters)
    fan_out.add("wlan0", question(), MANY, frozenset(), T)
    fan_out.add("wlan1", question(), MANY[:3], frozenset(), T + 0.5)
    assert fan_out.tick(T + 1.0) == [HandOut("wlan1", question(), MANY[:3])]
    assert counters.late == 100 - 2 * 16


def test_known_holders_are_asked_outside_the_budget() -> None:
    limits = Limits(unicast_rate=1, unicast_burst=1)
    scene = Scene(is_isolated=True, on={"wlan0": [PHONE, LAPTOP, TABLET]}, limits=limits)
    for number in range(5):
        scene.knowledge.holds[target(number)] = ("wlan0", TABLET)
        effects = scene.heard(question(target=target(number)), T)
        assert HandOut("wlan0", question(target=target(number)), (TABLET,)) in effects


# -- memories ----------------------------------------------------------------------------------------------------------


def test_a_memory_forgets_what_is_old_and_the_oldest_of_too_many() -> None:
    memory: Recent[str, int] = Recent(2.0, 2)
    memory.put("a", 1, T)
    memory.put("b", 2, T + 1)
    memory.put("a", 3, T + 1.5)
    memory.put("c", 4, T + 1.6)
    assert [memory.get(key, T + 1.6) for key in "abc"] == [3, None, 4]
    assert memory.get("a", T + 2.0, 0.4) is None
    assert memory.get("a", T + 3.6) is None
    memory.put("d", 5, T + 10)
    assert len(memory) == 1


def test_memories_stay_bounded_under_any_flood() -> None:
    limits = Limits(messages_remembered=100, stations_remembered=50, targets_remembered=30)
    scene = Scene("wlan0", "wlan1", limits=limits)
    proxy = scene.proxy
    for number in range(3000):
        now = T + number / 1000
        scene.heard(question(station(number), target(number), nonce=number.to_bytes(6, "big")), now)
        scene.told(answer(station(number), target(number)), now, IPv6Address(number + 1))
    assert max(len(proxy._heard), len(proxy._handed), len(proxy._nonces)) <= 100
    assert max(len(proxy._present), len(proxy._quotas._stations), len(proxy._quotas._targets)) <= 50
    assert len(proxy._askers._asked) <= 30
    assert len(proxy._held) <= 100
    assert len(proxy._quotas._peers) <= 1024
