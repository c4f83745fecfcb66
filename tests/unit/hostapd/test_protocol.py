"""hostapd's control interface: what it says is read as recorded; what a disconnection means follows from its source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roamroute.errors import MalformedInput
from roamroute.hostapd.protocol import (
    Connected,
    Disabled,
    Disconnected,
    Enabled,
    HostapdEvent,
    Reply,
    Skipped,
    StationRecord,
    Terminating,
    means_left,
    read_datagram,
    read_fields,
    read_station,
)
from roamroute.values import Mac

DATA = Path(__file__).resolve().parents[2] / "data" / "hostapd"
MAC = Mac("02:00:00:00:07:00")
RADIO_MAC = Mac("02:00:00:00:00:00")


def transcript(name: str) -> list[tuple[str, str]]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [(kind, text) for kind, text in map(json.loads, lines)]


def received(name: str, after: str) -> list[HostapdEvent | Reply]:
    """What hostapd sent after the note that contains `after`, up to the next note."""
    messages: list[HostapdEvent | Reply] = []
    is_there = False
    for kind, text in transcript(name):
        if kind == "#":
            is_there = after in text
        elif kind == "<" and is_there:
            messages.append(read_datagram(text.encode()))
    assert messages
    return messages


def record_after(name: str, after: str) -> StationRecord | None:
    """The first station reply after that note."""
    replies = [message.text for message in received(name, after) if isinstance(message, Reply)]
    return read_station(next(text for text in replies if text.startswith("02:") or text == "FAIL"))


@pytest.mark.parametrize("name", sorted(path.name for path in DATA.glob("*.jsonl")))
def test_everything_recorded_is_understood(name: str) -> None:
    asked = ""
    for kind, text in transcript(name):
        if kind == ">":
            asked = text
        elif kind == "<":
            message = read_datagram(text.encode())
            if isinstance(message, Reply):
                if asked.startswith("STA") and asked != "STATUS":
                    record = read_station(message.text)
                    assert record is None or record.mac in (MAC, RADIO_MAC)
            elif isinstance(message, Skipped):
                assert message.name.startswith(("CTRL-EVENT-EAP-", "EAPOL-4WAY-HS-COMPLETED"))


def test_the_recorded_life_of_a_station() -> None:
    events = [
        message
        for kind, text in transcript("wired-2.10.jsonl")
        if kind == "<" and not isinstance(message := read_datagram(text.encode()), Reply | Skipped)
    ]
    assert events == [
        Connected(MAC),
        Disconnected(MAC),
        Connected(MAC),
        Disconnected(MAC),
        Connected(MAC),
        Disconnected(MAC),
        Disabled(),
        Enabled(),
        Connected(MAC),
        Disconnected(MAC),
        Disabled(),
        Terminating(),
    ]


def test_a_key_identifier_and_an_interface_name_may_stand_around_an_event() -> None:
    first, second = received("by-hand.jsonl", "key identifier")
    assert (first, second) == (Connected(MAC), Connected(Mac("02:00:00:00:07:01")))


def test_only_the_flag_says_that_a_station_is_authorized() -> None:
    record = record_after("nl80211-2.10-ap1.jsonl", "connects to ap1")
    assert record is not None
    assert record.is_authorized
    assert record.connected_s == 0
    polled = record_after("by-hand.jsonl", "bracket")
    assert polled is not None
    assert polled.flags == {"AUTH", "ASSOC", "AUTHORIZED", "PENDING_POLL", "WMM"}
    assert polled.connected_s == 37


def judgements(name: str) -> dict[str, set[bool]]:
    """For each note of a transcript, whether the stations that hostapd disconnected after it had left."""
    found: dict[str, set[bool]] = {}
    note, is_open = "", False
    for kind, text in transcript(name):
        if kind == "#":
            note, is_open = text, False
            continue
        message = read_datagram(text.encode())
        if kind == "<" and isinstance(message, Disconnected):
            is_open = True
        elif kind == "<" and isinstance(message, Reply) and is_open and message.text != "OK":
            found.setdefault(note, set()).add(means_left(read_station(message.text), 0))
            is_open = False
    return found


def test_a_ghost_that_comes_back_on_a_real_radio_has_not_left() -> None:
    assert judgements("nl80211-2.10-ap1.jsonl") == {
        "the client roams to ap1": {False},
        "ap1: DISASSOCIATE by somebody (with a frame)": {True},
    }
    assert judgements("nl80211-2.10-ap2.jsonl") == {
        "the client roams to ap2": {False},
        "the ghost on ap2 is removed: DEAUTHENTICATE tx=0": {True},
        "the client says good-bye (wpa_supplicant DISCONNECT)": {True},
        "REASSOCIATE at the same access point": {False},
        "REATTACH": {False},
        "removed by tx=0 while really there, then it sends data": {True},
    }


def test_what_a_disconnection_means_on_a_wire() -> None:
    assert judgements("wired-2.10.jsonl") == {
        "its port is closed and opened again: it authenticates anew": {False},
        "it logs off": {True},
        "it is removed without a frame on the air": {True},
    }


def test_a_logoff_counts_once() -> None:
    record = StationRecord(MAC, frozenset(), "NULLFUNC POLL", logoffs=3)
    assert means_left(record, 2)
    assert not means_left(record, 3)


def test_a_station_that_is_back_already_has_not_left() -> None:
    assert not means_left(StationRecord(MAC, frozenset({"AUTHORIZED"}), "REMOVE"), 0)


@pytest.mark.parametrize("reply", ["", "FAIL"])
def test_no_further_station(reply: str) -> None:
    assert read_station(reply) is None


@pytest.mark.parametrize("reply", ["OK", "UNKNOWN COMMAND", "02:00:00:00:07:00\naid=1", "02:00:00:00:07\nflags="])
def test_what_is_no_station_is_one_named_error(reply: str) -> None:
    with pytest.raises(MalformedInput):
        read_station(reply)


@pytest.mark.parametrize(
    "datagram",
    [b"<3>AP-STA-CONNECTED", b"<3>AP-STA-CONNECTED x", b"<3>AP-STA-DISCONNECTED 02:00:00:00:07", bytes(4097)],
)
def test_an_event_without_its_station_is_one_named_error(datagram: bytes) -> None:
    with pytest.raises(MalformedInput):
        read_datagram(datagram)


def test_fields_may_contain_an_equals_sign() -> None:
    assert read_fields("state=ENABLED\nssid[0]=a=b\nnonsense\nstate=other") == {"state": "ENABLED", "ssid[0]": "a=b"}
