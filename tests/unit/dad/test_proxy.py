"""Who hears what the DAD proxy is told and hears: one rule a test."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from dad_scene import (
    LAPTOP,
    NONCE,
    OTHER_TARGET,
    OWN,
    PEER1,
    PEER3,
    PHONE,
    PREFIXES,
    TABLET,
    TARGET,
    Scene,
    T,
    answer,
    question,
)

from roamroute.dad import Defend, HandOut, Relay
from roamroute.dad.relations import HOLD_JOINED_S, HOLD_LINK_S, HOLD_PEER_S
from roamroute.segments import segments_of

# -- what a host here says ---------------------------------------------------------------------------------------------


def test_a_question_heard_is_told_to_all_peers() -> None:
    assert Scene().heard(question(nonce=NONCE), T) == [Relay(question(nonce=NONCE))]


def test_an_answer_heard_is_told_to_all_peers() -> None:
    assert Scene().heard(answer(), T) == [Relay(answer())]


def test_hosts_that_hear_each_other_get_no_copies() -> None:
    scene = Scene(on={"wlan0": [PHONE, LAPTOP]})
    assert scene.heard(question(), T) == [Relay(question())]


def test_isolated_hosts_get_copies_by_unicast_and_the_sender_none() -> None:
    scene = Scene(is_isolated=True, on={"wlan0": [PHONE, LAPTOP, TABLET]})
    assert scene.heard(question(), T) == [Relay(question()), HandOut("wlan0", question(), (LAPTOP, TABLET))]


def test_the_known_holder_is_asked_before_all_others() -> None:
    scene = Scene(is_isolated=True, on={"wlan0": [PHONE, LAPTOP, TABLET]})
    scene.knowledge.holds[TARGET] = ("wlan0", TABLET)
    assert scene.heard(question(), T)[1:] == [
        HandOut("wlan0", question(), (TABLET,)),
        HandOut("wlan0", question(), (LAPTOP,)),
    ]


def test_an_answer_of_an_isolated_host_goes_to_those_who_have_asked() -> None:
    scene = Scene(is_isolated=True, on={"wlan0": [PHONE, LAPTOP, TABLET]})
    scene.heard(question(), T)
    assert scene.heard(answer(LAPTOP), T + 0.01) == [
        Relay(answer(LAPTOP)),
        HandOut("wlan0", answer(LAPTOP), (PHONE,)),
    ]


def test_of_two_isolated_hosts_that_ask_at_once_the_first_hears_the_second() -> None:
    scene = Scene(is_isolated=True, mode="targeted", on={"wlan0": [PHONE, LAPTOP]})
    assert scene.heard(question(PHONE), T) == []
    assert scene.heard(question(LAPTOP), T + 0.3) == [HandOut("wlan0", question(LAPTOP), (PHONE,))]


def test_the_second_question_of_one_run_is_told_again() -> None:
    scene = Scene()
    scene.heard(question(nonce=NONCE), T)
    assert scene.heard(question(nonce=NONCE), T + 1.0) == [Relay(question(nonce=NONCE))]


def test_a_question_that_is_repeated_at_once_is_told_again() -> None:
    scene, other = Scene(), Scene()
    scene.heard(question(), T)
    assert scene.heard(question(), T + 0.005) == [Relay(question())]
    other.meet()
    other.told(question(), T)
    assert other.told(question(), T + 0.005) == [HandOut("wlan0", question())]


def test_an_answer_that_is_repeated_at_once_is_told_once() -> None:
    scene, other = Scene(), Scene()
    scene.heard(answer(), T)
    assert scene.heard(answer(), T + 0.005) == []
    other.meet()
    other.told(answer(), T)
    assert other.told(answer(), T + 0.005) == []


def test_an_answer_to_a_new_question_is_told_however_soon() -> None:
    scene = Scene()
    scene.meet()
    scene.told(question(PHONE), T)
    assert scene.heard(answer(LAPTOP), T + 0.001) == [Relay(answer(LAPTOP))]
    scene.told(question(TABLET), T + 0.02, PEER3)
    assert scene.heard(answer(LAPTOP), T + 0.021) == [Relay(answer(LAPTOP))]
    assert scene.heard(answer(LAPTOP), T + 0.022) == []  # the holder was asked by group and by unicast


@pytest.mark.parametrize(
    "target",
    ["fd44:0:0:2::1", "fe80::1", "fd44:0:0:1::", "10.44.0.0", "10.44.255.255", "10.45.0.1", "ff02::1"],
)
def test_what_is_no_hosts_address_in_a_roaming_prefix_is_left_alone(target: str) -> None:
    address = IPv4Address(target) if "." in target else IPv6Address(target)
    scene = Scene(on={"wlan0": [LAPTOP]}, is_isolated=True)
    assert scene.heard(question(target=address), T) == []
    assert scene.told(question(target=address), T) == []
    assert scene.counters.refused_outside == 2
    assert scene.proxy.next_wakeup is None


def test_an_ipv4_probe_takes_the_same_way() -> None:
    probe = question(target=IPv4Address("10.44.7.1"))
    assert Scene().heard(probe, T) == [Relay(probe)]


def test_a_link_that_does_not_roam_is_left_alone() -> None:
    assert Scene("wlan0").heard(question(), T, "eth9") == []


def test_a_frame_of_ours_that_comes_back_goes_nowhere() -> None:
    scene = Scene()
    assert scene.heard(question(OWN), T) == []
    assert scene.counters.refused_own == 1


def test_a_nonce_in_the_name_of_another_is_an_echo() -> None:
    scene = Scene()
    scene.heard(question(PHONE, nonce=NONCE), T)
    assert scene.heard(question(LAPTOP, nonce=NONCE), T + 0.01) == []
    assert scene.told(question(TABLET, nonce=NONCE), T + 0.02) == []
    assert scene.counters.refused_echo == 2


def test_who_says_that_it_has_an_address_does_not_wait_for_answers() -> None:
    scene = Scene(is_isolated=True, on={"wlan0": [PHONE, LAPTOP]})
    scene.heard(answer(LAPTOP), T)
    assert scene.heard(answer(PHONE), T + 1) == [Relay(answer(PHONE))]


def test_questions_and_answers_are_counted_apart() -> None:
    scene = Scene()
    for number in range(3):
        scene.heard(question(), T + number)
        scene.told(question(LAPTOP), T + number)
    scene.heard(answer(), T + 4)
    scene.told(answer(LAPTOP), T + 4)
    counters = scene.counters
    assert (counters.heard_solicitations, counters.heard_advertisements) == (3, 1)
    assert (counters.told_solicitations, counters.told_advertisements) == (3, 1)


# -- what a peer tells -------------------------------------------------------------------------------------------------


def test_what_a_peer_tells_goes_to_the_group_on_each_link_at_once() -> None:
    scene = Scene("wlan0", "wlan1")
    scene.meet()
    assert scene.told(question(nonce=NONCE), T) == [
        HandOut("wlan0", question(nonce=NONCE)),
        HandOut("wlan1", question(nonce=NONCE)),
    ]
    assert scene.told(answer(), T) == [HandOut("wlan0", answer()), HandOut("wlan1", answer())]


def test_what_a_peer_tells_is_never_told_on() -> None:
    scene = Scene()
    scene.meet()
    effects = scene.told(question(), T) + scene.told(answer(LAPTOP), T) + scene.proxy.tick(T + 10)
    assert not [effect for effect in effects if isinstance(effect, Relay)]


def test_the_first_word_of_a_peer_waits_for_the_link_to_hear_it_itself() -> None:
    scene = Scene()
    assert scene.told(question(), T) == []
    assert scene.proxy.next_wakeup == T + HOLD_PEER_S
    assert scene.proxy.tick(T + HOLD_PEER_S) == [HandOut("wlan0", question())]


def test_what_the_link_hears_while_the_word_of_it_waits_is_not_handed_out() -> None:
    scene = Scene()
    scene.told(question(), T)
    scene.heard(question(), T + 0.001)
    assert scene.proxy.next_wakeup is None
    assert scene.told(question(LAPTOP), T + 5) == []  # they are joined: from now on it waits longer
    assert scene.proxy.next_wakeup == T + 5 + HOLD_JOINED_S


def test_what_the_link_has_heard_is_not_handed_out() -> None:
    scene = Scene()
    scene.meet()
    scene.heard(question(), T)
    assert scene.told(question(), T + 0.003) == []
    assert scene.told(question(LAPTOP), T + 5) == []
    assert scene.proxy.next_wakeup == T + 5 + HOLD_JOINED_S


def test_where_a_peer_is_joined_what_was_not_heard_goes_to_all_but_its_sender() -> None:
    scene = Scene(on={"wlan0": [TABLET]})
    scene.meet()
    scene.heard(question(), T)
    scene.told(question(), T + 0.003)
    scene.told(question(LAPTOP), T + 5)
    assert scene.proxy.tick(T + 5 + HOLD_JOINED_S) == [HandOut("wlan0", question(LAPTOP), (TABLET,))]


def test_two_peers_that_have_heard_the_same_make_one_copy() -> None:
    scene = Scene()
    scene.meet(PEER1)
    scene.meet(PEER3)
    assert scene.told(question(), T, PEER1) == [HandOut("wlan0", question())]
    assert scene.told(question(), T + 0.01, PEER3) == []


def test_two_peers_that_have_heard_the_same_make_one_copy_also_while_the_first_waits() -> None:
    scene = Scene()
    assert scene.told(question(), T, PEER1) + scene.told(question(), T + 0.001, PEER3) == []
    assert scene.proxy.tick(T + 1) == [HandOut("wlan0", question())]


def test_a_question_heard_here_a_second_ago_is_not_what_a_peer_has_heard_now() -> None:
    scene = Scene(on={"wlan0": [LAPTOP]})
    scene.meet()
    scene.heard(question(nonce=NONCE), T)
    assert scene.told(question(nonce=NONCE), T + 1) == [HandOut("wlan0", question(nonce=NONCE), (LAPTOP,))]


def test_a_link_that_hears_what_has_just_been_handed_out_is_joined_with_its_origin() -> None:
    scene = Scene()
    scene.meet()
    scene.told(question(), T)
    scene.heard(question(), T + 0.01)
    assert scene.told(question(LAPTOP), T + 5) == []
    assert scene.proxy.next_wakeup == T + 5 + HOLD_JOINED_S


def test_a_host_that_has_roamed_to_us_does_not_hear_its_own_late_question() -> None:
    scene = Scene(on={"wlan0": [PHONE, LAPTOP]})
    scene.meet()
    assert scene.told(question(PHONE), T) == [HandOut("wlan0", question(PHONE), (LAPTOP,))]


def test_a_host_that_has_just_spoken_here_is_here_whatever_associations_say() -> None:
    scene = Scene(on={"wlan0": [LAPTOP]})
    scene.meet()
    scene.heard(question(PHONE, OTHER_TARGET), T)
    assert scene.told(question(PHONE), T + 1.0) == [HandOut("wlan0", question(PHONE), (LAPTOP,))]


def test_a_host_that_has_roamed_to_us_does_not_hear_its_own_late_answer() -> None:
    scene = Scene(on={"wlan0": [PHONE, LAPTOP]})
    scene.meet()
    scene.told(question(LAPTOP), T)
    assert scene.told(answer(PHONE), T) == []
    scene.heard(question(LAPTOP), T + 1)
    assert scene.told(answer(PHONE), T + 1.01) == [HandOut("wlan0", answer(PHONE), (LAPTOP,))]


def test_the_known_holder_is_asked_by_unicast_too() -> None:
    scene = Scene(on={"wlan0": [LAPTOP, TABLET]})
    scene.meet()
    scene.knowledge.holds[TARGET] = ("wlan0", LAPTOP)
    assert scene.told(question(), T) == [HandOut("wlan0", question()), HandOut("wlan0", question(), (LAPTOP,))]


def test_the_known_holder_is_asked_on_its_own_link() -> None:
    scene = Scene("wlan0", "wlan1", on={"wlan1": [LAPTOP]})
    scene.meet()
    scene.knowledge.holds[TARGET] = ("wlan1", LAPTOP)
    assert scene.told(question(), T) == [
        HandOut("wlan0", question()),
        HandOut("wlan1", question()),
        HandOut("wlan1", question(), (LAPTOP,)),
    ]


def test_the_known_holder_need_not_hear_of_another() -> None:
    scene = Scene(on={"wlan0": [LAPTOP]})
    scene.meet()
    scene.knowledge.holds[TARGET] = ("wlan0", LAPTOP)
    assert scene.told(answer(PHONE), T) == [HandOut("wlan0", answer(PHONE))]


def test_who_has_asked_is_answered_by_unicast_too() -> None:
    scene = Scene(on={"wlan0": [PHONE]})
    scene.meet()
    scene.heard(question(), T)
    assert scene.told(answer(LAPTOP), T + 0.01) == [
        HandOut("wlan0", answer(LAPTOP)),
        HandOut("wlan0", answer(LAPTOP), (PHONE,)),
    ]


# -- two links of one access point -------------------------------------------------------------------------------------


def test_the_other_link_gets_its_first_copy_after_a_wait_and_by_unicast() -> None:
    scene = Scene("wlan0", "wlan1", on={"wlan0": [PHONE], "wlan1": [LAPTOP]})
    assert scene.heard(question(), T) == [Relay(question())]
    assert scene.proxy.tick(T + HOLD_LINK_S) == [HandOut("wlan1", question(), (LAPTOP,))]
    later = question(nonce=NONCE)
    assert scene.heard(later, T + 1) == [Relay(later), HandOut("wlan1", later)]


def test_a_frame_that_both_links_hear_is_told_once_and_handed_out_on_neither() -> None:
    scene = Scene("wlan0", "wlan1", on={"wlan0": [PHONE, LAPTOP]})
    effects = scene.heard(question(), T, "wlan0") + scene.heard(question(), T + 0.001, "wlan1")
    assert effects + scene.proxy.tick(T + 1) == [Relay(question())]


def test_an_answer_goes_to_those_on_the_other_link_who_have_asked() -> None:
    scene = Scene("wlan0", "wlan1", on={"wlan0": [LAPTOP], "wlan1": [PHONE]})
    scene.heard(question(LAPTOP, OTHER_TARGET), T - 50)
    scene.proxy.tick(T - 49)
    assert scene.heard(answer(LAPTOP), T - 20) == [Relay(answer(LAPTOP))]
    scene.heard(question(PHONE), T, "wlan1")
    assert scene.heard(answer(LAPTOP), T + 0.01) == [Relay(answer(LAPTOP)), HandOut("wlan1", answer(LAPTOP), (PHONE,))]


# -- targeted ----------------------------------------------------------------------------------------------------------


def test_targeted_asks_nobody_about_an_address_that_nobody_has() -> None:
    scene = Scene("wlan0", "wlan1", mode="targeted", is_isolated=True, on={"wlan0": [PHONE, LAPTOP], "wlan1": [TABLET]})
    assert scene.heard(question(), T) + scene.proxy.tick(T + 1) == []


def test_targeted_asks_the_peer_that_announces_the_address() -> None:
    scene = Scene(mode="targeted")
    scene.knowledge.announces[TARGET] = PEER3
    assert scene.heard(question(), T) == [Relay(question(), (PEER3,))]


def test_targeted_asks_the_holder_on_its_link_alone() -> None:
    scene = Scene("wlan0", "wlan1", mode="targeted", on={"wlan0": [PHONE], "wlan1": [LAPTOP]})
    scene.knowledge.holds[TARGET] = ("wlan1", LAPTOP)
    assert scene.heard(question(), T) + scene.proxy.tick(T + 1) == [HandOut("wlan1", question(), (LAPTOP,))]


def test_targeted_hands_what_a_peer_tells_to_the_holder_alone() -> None:
    scene = Scene(mode="targeted", on={"wlan0": [LAPTOP, TABLET]})
    scene.meet()
    scene.knowledge.holds[TARGET] = ("wlan0", LAPTOP)
    assert scene.told(question(), T) == [HandOut("wlan0", question(), (LAPTOP,))]


def test_targeted_asks_the_group_where_a_peer_believes_in_a_holder_that_is_not_known() -> None:
    scene = Scene(mode="targeted", on={"wlan0": [LAPTOP]})
    scene.meet()
    assert scene.told(question(), T) == [HandOut("wlan0", question())]


def test_targeted_answers_those_who_have_asked_within_three_seconds() -> None:
    scene = Scene(mode="targeted", on={"wlan0": [LAPTOP]})
    scene.meet()
    scene.told(question(), T)
    assert scene.heard(answer(LAPTOP), T + 0.01) == [Relay(answer(LAPTOP), (PEER1,))]
    assert scene.heard(answer(LAPTOP), T + 3.5) == []


def test_targeted_tells_the_announcer_of_questions_alone() -> None:
    scene = Scene(mode="targeted")
    scene.knowledge.announces[TARGET] = PEER3
    assert scene.heard(answer(), T) == []


def test_targeted_drops_an_answer_that_nobody_waits_for() -> None:
    scene = Scene(mode="targeted", on={"wlan0": [LAPTOP]})
    scene.meet()
    assert scene.told(answer(TABLET), T) == []
    assert scene.counters.unasked == 1


# -- addresses of ours -------------------------------------------------------------------------------------------------


def test_an_address_of_ours_is_defended_and_nobody_else_is_asked() -> None:
    scene = Scene("wlan0", is_isolated=True, on={"wlan0": [PHONE, LAPTOP]})
    scene.knowledge.own_addresses = frozenset({TARGET})
    assert scene.heard(question(), T) == [Defend("wlan0", TARGET, PHONE)]


def test_an_address_of_ours_outside_the_roaming_prefixes_is_not_our_affair() -> None:
    scene = Scene()
    scene.knowledge.own_addresses = frozenset({IPv6Address("fe80::1")})
    assert scene.heard(question(target=IPv6Address("fe80::1")), T) == []


def test_a_segment_of_any_access_point_is_defended() -> None:
    segment = segments_of(PEER3, PREFIXES).ipv6
    assert segment is not None
    assert Scene().heard(question(target=segment), T) == [Defend("wlan0", segment, PHONE)]


def test_a_segment_that_a_peers_host_asks_for_the_peer_defends() -> None:
    segment = segments_of(PEER3, PREFIXES).ipv6
    assert segment is not None
    scene = Scene()
    assert scene.told(question(target=segment), T) == []
    assert scene.proxy.next_wakeup is None


def test_a_peers_host_that_asks_for_an_address_of_ours_is_answered_through_the_peer() -> None:
    scene = Scene()
    scene.knowledge.own_addresses = frozenset({TARGET})
    assert scene.told(question(), T) == [Relay(answer(OWN), (PEER1,))]


def test_a_peers_defence_is_handed_out_though_all_access_points_have_one_mac() -> None:
    scene = Scene(on={"wlan0": [PHONE]})
    scene.meet()
    assert scene.told(answer(OWN), T) == [HandOut("wlan0", answer(OWN))]
    assert scene.told(question(OWN), T) == []


def test_a_host_that_says_it_has_an_address_of_ours_is_not_passed_on() -> None:
    scene = Scene()
    scene.knowledge.own_addresses = frozenset({TARGET})
    assert scene.heard(answer(), T) == []
    assert scene.told(answer(), T) == []
    assert scene.counters.refused_own == 2
