"""Which stations are authorised, from notifications that do not say it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roamroute.events import Event, StationConnected, StationLeft, StationsResynced
from roamroute.linux.stations import REAUTHENTICATION_WAIT_S, Associations, Key, Nl80211Source
from roamroute.values import Station, mac

PHONE = Key(4, mac("02:00:00:00:00:01"))
LAPTOP = Key(4, mac("02:00:00:00:00:02"))
PHONE_HERE = Station(PHONE.mac, "br0")


@pytest.fixture
def associations() -> Associations:
    return Associations()


@pytest.fixture
def connected(associations: Associations) -> Associations:
    associations.appeared(PHONE, "br0", 0.0)
    associations.looked(PHONE, True, 0.1)
    return associations


def test_a_station_that_authenticates_is_not_connected(associations: Associations) -> None:
    assert associations.appeared(PHONE, "br0", 0.0) == []


def test_it_is_looked_at_within_5_ms(associations: Associations) -> None:
    associations.appeared(PHONE, "br0", 0.0)
    assert associations.next_wakeup == pytest.approx(0.005)
    assert associations.due(0.005) == [PHONE]


def test_it_is_connected_when_it_is_authorised(associations: Associations) -> None:
    associations.appeared(PHONE, "br0", 0.0)
    assert associations.looked(PHONE, False, 0.005) == []
    assert associations.looked(PHONE, True, 0.010) == [StationConnected(PHONE_HERE)]


def test_once_connected_it_is_not_looked_at_again(connected: Associations) -> None:
    assert connected.next_wakeup is None
    assert connected.due(1e9) == []
    assert connected.looked(PHONE, True, 1e9) == []


def test_a_station_that_takes_long_is_looked_at_less_and_less_but_always(associations: Associations) -> None:
    associations.appeared(PHONE, "br0", 0.0)
    looks, now = 0, 0.0
    while now < 60.0:
        assert associations.next_wakeup is not None
        assert associations.next_wakeup - now <= 1.0
        now = associations.next_wakeup
        associations.looked(PHONE, False, now)
        looks += 1
    assert looks < 130


def test_a_station_that_has_gone_when_looked_at_is_forgotten(associations: Associations) -> None:
    associations.appeared(PHONE, "br0", 0.0)
    assert associations.looked(PHONE, None, 0.005) == []
    assert associations.next_wakeup is None


def test_a_station_that_left_is_reported_after_the_wait(connected: Associations) -> None:
    assert connected.vanished(PHONE, 1.0) == []
    assert connected.next_wakeup == pytest.approx(1.0 + REAUTHENTICATION_WAIT_S)
    assert connected.tick(1.0 + REAUTHENTICATION_WAIT_S) == [StationLeft(PHONE_HERE)]
    assert connected.tick(2.0) == []


def test_a_ghost_that_authenticates_anew_has_not_left(connected: Associations) -> None:
    connected.vanished(PHONE, 1.0)
    assert connected.appeared(PHONE, "br0", 1.0001) == [StationLeft(PHONE_HERE, is_reauthenticating=True)]
    assert connected.tick(2.0) == []
    assert connected.looked(PHONE, True, 2.0) == [StationConnected(PHONE_HERE)]


def test_a_second_authentication_without_a_removal_is_the_same(connected: Associations) -> None:
    assert connected.appeared(PHONE, "br0", 1.0) == [StationLeft(PHONE_HERE, is_reauthenticating=True)]


def test_a_station_that_was_never_authorised_leaves_without_a_word(associations: Associations) -> None:
    associations.appeared(PHONE, "br0", 0.0)
    assert associations.vanished(PHONE, 0.01) == []
    assert associations.tick(1.0) == []


def test_the_removal_of_a_stranger_is_nothing(associations: Associations) -> None:
    assert associations.vanished(LAPTOP, 0.0) == []


def test_a_resync_holds_the_authorised_and_goes_on_looking_at_the_others(associations: Associations) -> None:
    present = [(PHONE, "br0", True), (LAPTOP, "br0", False)]
    assert associations.resynced(frozenset({"br0"}), present, 0.0) == StationsResynced(
        frozenset({"br0"}), (PHONE_HERE,)
    )
    assert associations.due(0.01) == [LAPTOP]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([PHONE, LAPTOP]),
            st.sampled_from(["appeared", "vanished", "authorised", "waiting", "absent"]),
            st.floats(0.0, 0.1),
        )
    )
)
def test_connections_and_departures_of_a_station_alternate(steps: list[tuple[Key, str, float]]) -> None:
    associations = Associations()
    here: set[Station] = set()
    now = 0.0

    def take(events: list[Event]) -> None:
        for event in events:
            match event:
                case StationConnected(station=station):
                    assert station not in here
                    here.add(station)
                case StationLeft(station=station):
                    here.remove(station)
                case _:
                    raise AssertionError(event)

    for key, what, wait in steps:
        now += wait
        take(associations.tick(now))
        match what:
            case "appeared":
                take(associations.appeared(key, "br0", now))
            case "vanished":
                take(associations.vanished(key, now))
            case _:
                take(associations.looked(key, {"authorised": True, "waiting": False, "absent": None}[what], now))
    for key in (PHONE, LAPTOP):
        take(associations.vanished(key, now))
    take(associations.tick(now + 1))
    assert not here
    assert associations.next_wakeup is None


def test_a_port_of_a_roaming_bridge_stands_for_the_bridge(tmp_path: Path) -> None:
    for name in ("br0", "wlan0", "wlan1", "wlan2"):
        (tmp_path / name).mkdir()
    (tmp_path / "wlan0" / "master").symlink_to("../br0")
    (tmp_path / "wlan2" / "master").symlink_to("../br1")
    source = Nl80211Source(["br0", "wlan1"], lambda events: None, lambda level, line: None, tmp_path)
    assert [source.roaming_link(name) for name in ("br0", "wlan0", "wlan1", "wlan2", "eth0")] == [
        "br0",
        "br0",
        "wlan1",
        None,
        None,
    ]
