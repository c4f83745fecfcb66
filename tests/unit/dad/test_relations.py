"""What is learnt of which links and peers are on one layer 2, and who has asked for an address."""

from __future__ import annotations

from dad_scene import OTHER_TARGET, PEER1, PEER3, PHONE, TARGET, T

from roamroute.dad.askers import ASKED_S, Askers
from roamroute.dad.relations import (
    HOLD_JOINED_S,
    HOLD_LINK_S,
    HOLD_PEER_S,
    JOINED_S,
    Relation,
    Relations,
)
from roamroute.testing.air import ROAMING_PREFIX
from roamroute.values import Mac


def test_nothing_is_known_at_first() -> None:
    relations = Relations()
    assert relations.between("wlan0", PEER1, T) is Relation.UNKNOWN
    assert relations.hold_s("wlan0", PEER1, T) == HOLD_PEER_S
    assert relations.hold_s("wlan0", "wlan1", T) == HOLD_LINK_S


def test_what_is_not_heard_in_time_says_that_they_are_apart() -> None:
    relations = Relations()
    relations.missed("wlan0", PEER1, T)
    assert relations.between("wlan0", PEER1, T + 10 * JOINED_S) is Relation.APART
    assert relations.hold_s("wlan0", PEER1, T) == 0.0
    assert relations.between("wlan0", PEER3, T) is Relation.UNKNOWN
    assert relations.between("wlan1", PEER1, T) is Relation.UNKNOWN


def test_one_copy_heard_says_that_they_are_joined_and_one_loss_undoes_nothing() -> None:
    relations = Relations()
    relations.missed("wlan0", PEER1, T)
    relations.joined("wlan0", PEER1, T + 1)
    relations.missed("wlan0", PEER1, T + 2)
    assert relations.between("wlan0", PEER1, T + 2) is Relation.JOINED
    assert relations.hold_s("wlan0", PEER1, T + 2) == HOLD_JOINED_S


def test_an_old_proof_is_made_again() -> None:
    relations = Relations()
    relations.joined("wlan0", PEER1, T)
    assert relations.between("wlan0", PEER1, T + JOINED_S + 1) is Relation.UNKNOWN


def test_two_links_are_to_each_other_what_they_are() -> None:
    relations = Relations()
    relations.joined("wlan1", "wlan0", T)
    assert relations.between("wlan0", "wlan1", T) is Relation.JOINED
    relations.missed("wlan9", "eth0", T)
    assert relations.between("eth0", "wlan9", T) is Relation.APART


def test_relations_stay_bounded() -> None:
    relations = Relations()
    for number in range(3000):
        relations.missed("wlan0", ROAMING_PREFIX[number], T)
        relations.joined("wlan1", ROAMING_PREFIX[number], T)
    assert relations.between("wlan0", ROAMING_PREFIX[0], T) is Relation.UNKNOWN
    assert relations.between("wlan0", ROAMING_PREFIX[2999], T) is Relation.APART
    assert relations.between("wlan1", ROAMING_PREFIX[0], T) is Relation.UNKNOWN


def test_who_has_asked_waits_for_three_seconds() -> None:
    askers = Askers(100)
    askers.add(TARGET, "wlan0", PHONE, T)
    askers.add(TARGET, PEER1, Mac("02:00:00:00:00:09"), T + 1)
    assert askers.on("wlan0", TARGET, T + ASKED_S) == [PHONE]
    assert askers.on("wlan0", TARGET, T + ASKED_S + 0.1) == []
    assert askers.peers(TARGET, T + ASKED_S + 0.1) == [PEER1]
    assert askers.on("wlan0", OTHER_TARGET, T) == []


def test_of_very_many_who_ask_for_one_address_the_last_sixteen_are_known() -> None:
    askers = Askers(100)
    for number in range(20):
        askers.add(TARGET, "wlan0", Mac(f"02:00:00:00:00:{number:02x}"), T)
    assert askers.on("wlan0", TARGET, T) == [Mac(f"02:00:00:00:00:{number:02x}") for number in range(4, 20)]
