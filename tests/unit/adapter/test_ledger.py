"""What an adapter keeps: wanted, exported, foreign, installed."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from roamroute.adapter.ledger import Ledger
from roamroute.delta import Delta
from roamroute.events import Event, ForeignRouteLost, ForeignRouteSeen
from roamroute.export import ExporterContext, FibChange, KernelNumbers
from roamroute.values import Address, HostRoute

A, B, C = (ip_address(f"fd44:0:0:1::{last}") for last in "abc")
ON_WLAN0 = HostRoute(A, "wlan0")
ON_WLAN1 = HostRoute(A, "wlan1")


class Kept(Ledger):
    """A ledger with a clock that can be turned and events that can be read."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.events: list[Event] = []
        prefixes = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
        context = ExporterContext(("wlan0", "wlan1"), prefixes, KernelNumbers(), self.events.append, lambda *_: None)
        super().__init__(context, clock=lambda: self.now)


def routes(*addresses: Address) -> tuple[HostRoute, ...]:
    return tuple(HostRoute(address, "wlan0") for address in addresses)


def test_a_withdrawal_of_what_has_moved_on_takes_nothing() -> None:
    ledger = Kept()
    ledger.publish(Delta(announced=(ON_WLAN0,)))
    ledger.publish(Delta(announced=(ON_WLAN1,)))
    ledger.publish(Delta(withdrawn=(ON_WLAN0,)))
    assert ledger.wanted == {A: ON_WLAN1}
    ledger.publish(Delta(withdrawn=(ON_WLAN1,)))
    assert ledger.wanted == {}


def test_only_what_is_wanted_is_exported() -> None:
    ledger = Kept()
    assert not ledger.confirm(A, True)
    ledger.publish_all(routes(A, B))
    assert ledger.confirm(A, True)
    assert not ledger.confirm(A, True), "that is no news"
    assert ledger.exported == {A}
    assert ledger.confirm_exactly((B, C))
    assert not ledger.confirm_exactly((B,))
    assert ledger.exported == {B}
    ledger.publish(Delta(withdrawn=routes(B)))
    assert ledger.exported == frozenset()


def test_a_route_is_missed_after_a_while_and_until_it_is_confirmed() -> None:
    ledger = Kept()
    ledger.publish_all(routes(A))
    ledger.now += 2
    ledger.publish(Delta(announced=routes(A, B)))
    ledger.now += 1
    assert ledger.missing(3) == [A]
    ledger.confirm(A, True)
    ledger.now += 2
    assert ledger.missing(3) == [B]
    ledger.confirm(A, False)
    assert ledger.missing(3) == [A, B]


def test_a_route_that_moves_to_another_link_has_its_time_again() -> None:
    ledger = Kept()
    ledger.publish(Delta(announced=(ON_WLAN0,)))
    ledger.now += 5
    ledger.publish(Delta(announced=(ON_WLAN1,)))
    assert ledger.missing(3) == []


def test_an_address_is_foreign_while_one_place_shows_it() -> None:
    ledger = Kept()
    ledger.heard("socket", A, None)
    assert ledger.events == []
    ledger.heard("socket", A, "router 1")
    ledger.fib_changed(FibChange(foreign={A: "kernel route"}))
    ledger.heard("socket", A, None)
    assert ledger.foreign.keys() == {A}
    ledger.fib_changed(FibChange(lost=frozenset({A})))
    assert ledger.events == [ForeignRouteSeen(A, "router 1"), ForeignRouteSeen(A, "kernel route"), ForeignRouteLost(A)]
    assert not ledger.foreign


def test_another_origin_is_news_and_the_same_is_not() -> None:
    ledger = Kept()
    for origin in ("router 1", "router 1", "router 2"):
        ledger.heard("socket", A, origin)
    assert ledger.events == [ForeignRouteSeen(A, "router 1"), ForeignRouteSeen(A, "router 2")]


def test_the_whole_of_one_place_leaves_the_others_alone() -> None:
    ledger = Kept()
    ledger.heard("fib", C, "kernel route")
    ledger.heard_exactly("socket", {A: "router 1", B: "router 1"})
    del ledger.events[:]
    ledger.heard_exactly("socket", {B: "router 1"})
    assert ledger.events == [ForeignRouteLost(A)]
    assert ledger.foreign.keys() == {B, C}


def test_the_host_routes_inside_the_roaming_prefixes_are_roaming() -> None:
    ledger = Kept()
    assert [
        text
        for text in (
            "fd44:0:0:1::a/128",
            "10.44.0.1/32",
            "fd44:0:0:1::/64",
            "fd44:0:0:2::a/128",
            "10.44.0.0/24",
            "::/0",
        )
        if ledger.is_roaming(ip_network(text))
    ] == ["fd44:0:0:1::a/128", "10.44.0.1/32"]


def test_what_the_daemon_installed_is_what_the_fib_shows() -> None:
    ledger = Kept()
    ledger.fib_changed(FibChange(installed=frozenset({A, B})))
    ledger.fib_changed(FibChange(installed=frozenset({C}), removed=frozenset({A})))
    assert ledger.installed == {B, C}
    assert ledger.events == []


def test_what_is_installed_and_not_wanted_is_left_over() -> None:
    ledger = Kept()
    ledger.publish_all(routes(A, B))
    ledger.fib_changed(FibChange(installed=frozenset({A, B})))
    assert not ledger.has_left_over
    ledger.publish_all(routes(B))
    assert ledger.has_left_over
    ledger.fib_changed(FibChange(removed=frozenset({A})))
    assert not ledger.has_left_over
    ledger.fib_changed(FibChange(installed=frozenset({A})))
    assert ledger.has_left_over
    ledger.publish_all(routes(A, B))
    assert not ledger.has_left_over


def test_what_is_exported_and_not_in_the_fib_is_uninstalled() -> None:
    ledger = Kept()
    ledger.publish_all(routes(A, B))
    assert not ledger.is_uninstalled(A)
    ledger.confirm_exactly((A, B))
    ledger.fib_changed(FibChange(installed=frozenset({B})))
    assert [ledger.is_uninstalled(each) for each in (A, B)] == [True, False]


@given(
    st.lists(st.tuples(st.sampled_from(("socket", "fib")), st.sampled_from((A, B)), st.none() | st.sampled_from("12")))
)
def test_the_events_add_up_to_what_is_foreign(heard: list[tuple[str, Address, str | None]]) -> None:
    ledger = Kept()
    foreign: set[Address] = set()
    for place, address, origin in heard:
        ledger.heard(place, address, origin)
    for event in ledger.events:
        if isinstance(event, ForeignRouteSeen):
            foreign.add(event.address)
        elif isinstance(event, ForeignRouteLost):
            foreign.remove(event.address)
    assert foreign == ledger.foreign.keys()
