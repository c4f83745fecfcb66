"""nl80211 and the generic netlink controller: layouts of linux/nl80211.h, and any bytes at all."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roamroute.errors import MalformedInput
from roamroute.values import mac
from roamroute.wire import generic, netlink, nl80211
from roamroute.wire.netlink import Message, attribute

PHONE = mac("02:00:00:00:00:01")
PHONE_BYTES = bytes.fromhex("020000000001")

# Recorded from Linux 6.1 with mac80211_hwsim (tools/wifi-lab); of the dump the first attributes of STA_INFO.
NEW_STATION = bytes.fromhex("13010000 08000300 04000000 0a000600 020000000000 0000 08002e00 01000000 04001500")
DUMPED_INFO = bytes.fromhex(
    "08001000 01000000 08000100 18010000 0c002a00 002c01a0 00000000 08000200 17020000 08000300 99010000 04002100"
    "0c001700 17020000 00000000 0c002700 00000000 00000000 05000700 e2000000 14000800 08000500 0a000000 06000100"
    "0a000000 18000f00 04000300 05000400 02000000 06000500 64000000 0c001100 fe000000 a6000000"
)
DUMPED = NEW_STATION.removesuffix(bytes.fromhex("04001500")) + attribute(21, DUMPED_INFO)


def message(body: bytes) -> Message:
    (found,) = netlink.split(netlink.encode(30, 0, 1, body))
    return found


def test_a_notification_does_not_say_whether_the_station_is_authorised() -> None:
    station = nl80211.decode_station(message(NEW_STATION))
    assert station == nl80211.StationMessage(nl80211.CMD_NEW_STATION, 4, mac("02:00:00:00:00:00"), None)


def test_a_dump_says_that_the_station_is_authorised() -> None:
    station = nl80211.decode_station(message(DUMPED))
    assert station == nl80211.StationMessage(nl80211.CMD_NEW_STATION, 4, mac("02:00:00:00:00:00"), True)


@pytest.mark.parametrize(
    ("mask", "flags", "is_authorised"), [(0b10, 0b10, True), (0b10, 0, False), (0, 0b10, False), (0xEE, 0xAC, False)]
)
def test_a_flag_counts_only_where_the_mask_says_that_it_is_known(mask: int, flags: int, is_authorised: bool) -> None:
    info = attribute(21, attribute(17, struct.pack("=II", mask, flags)))
    body = bytes((nl80211.CMD_NEW_STATION, 0, 0, 0)) + attribute(3, struct.pack("=I", 3)) + attribute(6, PHONE_BYTES)
    station = nl80211.decode_station(message(body + info))
    assert station is not None
    assert station.is_authorised is is_authorised


def test_other_commands_are_not_about_stations() -> None:
    assert nl80211.decode_station(message(b"\x22\x01\0\0")) is None


def test_a_station_without_a_name_is_malformed() -> None:
    with pytest.raises(MalformedInput, match="without interface or MAC"):
        nl80211.decode_station(message(bytes((nl80211.CMD_DEL_STATION, 0, 0, 0))))


def test_one_station_is_asked_for_by_interface_and_mac() -> None:
    assert nl80211.station_request(4, PHONE) == bytes.fromhex("11000000 08000300 04000000 0a000600 020000000001 0000")
    assert nl80211.station_request(4) == bytes.fromhex("11000000 08000300 04000000")


def test_a_family_tells_its_number_and_its_groups() -> None:
    groups = b"".join(
        attribute(place, attribute(2, struct.pack("=I", number)) + attribute(1, name + b"\0"))
        for place, (name, number) in enumerate(((b"config", 5), (b"mlme", 8)), 1)
    )
    body = bytes((1, 2, 0, 0)) + attribute(2, b"nl80211\0") + attribute(1, struct.pack("=H", 30)) + attribute(7, groups)
    assert generic.decode_family(message(body)) == generic.Family("nl80211", 30, {"config": 5, "mlme": 8})


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_one_named_error(body: bytes) -> None:
    for decode in (nl80211.decode_station, generic.decode_family):
        with contextlib.suppress(MalformedInput):
            decode(message(body))
