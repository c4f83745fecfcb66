"""A station that connects is told where its gateway is, after everything else that a connection causes."""

from __future__ import annotations

from engine_scene import LAPTOP, ME, PHONE, PREFIXES, WLAN

from roamroute import events
from roamroute.admission import Admission
from roamroute.effects import AdvertiseGateway
from roamroute.engine import Engine
from roamroute.policy import Policy
from roamroute.values import Mac, Station


def gateway_told(policy: Policy, station: Station) -> list[AdvertiseGateway]:
    engine = Engine(Admission((WLAN,), PREFIXES), policy, me=ME)
    effects = engine.handle(events.StationConnected(station), 1.0)
    told = [effect for effect in effects if isinstance(effect, AdvertiseGateway)]
    assert told == effects[len(effects) - len(told) :]
    return told


def test_a_station_that_connects_is_told() -> None:
    assert [(told.link, told.mac) for told in gateway_told(Policy(), Station(PHONE, WLAN))] == [(WLAN, PHONE)]


def test_not_on_links_of_others_nor_to_groups() -> None:
    assert not gateway_told(Policy(), Station(PHONE, "eth7"))
    assert not gateway_told(Policy(), Station(Mac("33:33:00:00:00:01"), WLAN))


def test_it_can_be_switched_off() -> None:
    assert not gateway_told(Policy(is_advertising_gateway=False), Station(PHONE, WLAN))


def test_a_station_that_came_unseen_is_told_but_not_those_of_the_first_list() -> None:
    engine = Engine(Admission((WLAN,), PREFIXES), Policy(), me=ME)

    def told(*macs: Mac) -> list[Mac]:
        listed = events.StationsResynced(frozenset({WLAN}), tuple(Station(mac, WLAN) for mac in macs))
        return [effect.mac for effect in engine.handle(listed, 1.0) if isinstance(effect, AdvertiseGateway)]

    assert told(PHONE) == []
    assert told(PHONE, LAPTOP) == [LAPTOP]
    assert told(PHONE, LAPTOP) == []
