"""One event, one line."""

from __future__ import annotations

from ipaddress import ip_address

from roamroute.discovery import DadHeard
from roamroute.effects import Announce, SendClaim, Withdraw
from roamroute.events import NeighbourChanged, NeighboursResynced, StationConnected
from roamroute.logs import RepeatedWarnings, fields_of, line_of
from roamroute.values import Basis, Claim, DadKind, DadMessage, HostRoute, Neighbour, Nud, Station, mac

MAC = mac("02:00:00:00:00:01")
ADDRESS = ip_address("2001:db8::1")


def test_a_withdrawal_reads_as_the_house_style_says() -> None:
    effect = Withdraw(HostRoute(ADDRESS, "wlan0"), "station left")
    assert line_of(effect) == 'withdraw route=2001:db8::1/128 link=wlan0 because="station left"'


def test_an_event_shows_its_nested_values_flat() -> None:
    event = NeighbourChanged(Neighbour("wlan0", ADDRESS, Nud.REACHABLE, MAC))
    assert line_of(event) == f"neighbour-changed link=wlan0 address={ADDRESS} nud=reachable mac={MAC}"
    assert line_of(StationConnected(Station(MAC, "wlan0"))) == f"station-connected mac={MAC} link=wlan0"


def test_a_claim_names_its_basis_in_words() -> None:
    effect = SendClaim(Claim(MAC, 7, ip_address("fd44::1"), Basis.ASSOCIATION), "station connected")
    assert fields_of(effect)["basis"] == "association"
    assert "sequence=7" in line_of(effect)


def test_a_long_list_is_shown_by_its_length() -> None:
    neighbours = tuple(Neighbour("wlan0", ADDRESS + number, Nud.STALE, MAC) for number in range(9))
    assert line_of(NeighboursResynced(frozenset({"wlan0"}), neighbours)) == (
        'neighbours-resynced links=wlan0 neighbours="9 items"'
    )


def test_every_effect_shows_its_cause() -> None:
    assert 'because="a b"' in line_of(Announce(HostRoute(ADDRESS, "wlan0"), "a b"))


def test_a_repeated_warning_is_counted_not_repeated() -> None:
    warnings = RepeatedWarnings(every_s=60.0)
    assert warnings.admit("full", "table full", 0.0) == "table full"
    assert [warnings.admit("full", "table full", float(second)) for second in range(1, 60)] == [None] * 59
    assert warnings.admit("other", "else", 30.0) == "else"
    assert warnings.admit("full", "table full", 61.0) == "table full (59 times more since)"


def test_the_memory_of_warnings_is_bounded() -> None:
    warnings = RepeatedWarnings(keys=10)
    for number in range(100):
        warnings.admit(str(number), "line", float(number))
    assert len(warnings._seen) <= 10


def test_what_a_host_has_said_does_not_hide_what_the_line_is() -> None:
    heard = DadHeard("wlan0", DadMessage(DadKind.SOLICITATION, ADDRESS, MAC, b"nonce"))
    assert "kind" not in fields_of(heard)
    assert line_of(heard) == f"dad-heard link=wlan0 said=solicitation target={ADDRESS} mac={MAC} nonce=6e6f6e6365"
