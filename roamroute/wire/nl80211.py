"""nl80211 as far as stations need it: who is associated, and is it authorised.

Pure: bytes in, values out, and back; no socket. Any bytes give values or `MalformedInput`. Layouts are
linux/nl80211.h; the frame around them is `roamroute.wire.generic`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from roamroute.errors import MalformedInput
from roamroute.values import Mac
from roamroute.wire import generic
from roamroute.wire.netlink import Message, attribute, attributes

FAMILY_NAME = "nl80211"
STATION_GROUP = "mlme"
"""The multicast group of NEW_STATION and DEL_STATION."""

# linux/nl80211.h
CMD_GET_STATION = 17
CMD_NEW_STATION = 19
CMD_DEL_STATION = 20
_ATTR_IFINDEX, _ATTR_MAC, _ATTR_STA_INFO = 3, 6, 21
_STA_INFO_STA_FLAGS = 17
_STA_FLAG_AUTHORIZED = 1

_U32 = struct.Struct("=I")
_FLAG_UPDATE = struct.Struct("=II")  # mask: which flags are known; set: which of them are set


class StationMessage(NamedTuple):
    """NEW_STATION or DEL_STATION, as a notification or in a dump.

    `is_authorised` is None where the message does not say: notifications never do (Linux 6.1, 6.18 net/mac80211
    sta_info.c fill in nothing but the generation).
    """

    command: int
    ifindex: int
    mac: Mac
    is_authorised: bool | None


def station_request(ifindex: int, mac: Mac | None = None) -> bytes:
    """The body of a request to the family: one station, or with a dump all stations of the interface."""
    body = generic.header(CMD_GET_STATION) + attribute(_ATTR_IFINDEX, _U32.pack(ifindex))
    return body if mac is None else body + attribute(_ATTR_MAC, bytes.fromhex(mac.replace(":", "")))


def decode_station(message: Message) -> StationMessage | None:
    """Read a message of the family; None when it is about something else. Raises: MalformedInput."""
    data, start = message.data, generic.attributes_at(message)
    command = data[message.start]
    if command not in (CMD_NEW_STATION, CMD_DEL_STATION):
        return None
    ifindex, mac, is_authorised = None, None, None
    for kind, offset, length in attributes(data, start, message.end):
        if kind == _ATTR_IFINDEX and length == 8:
            ifindex = _U32.unpack_from(data, offset + 4)[0]
        elif kind == _ATTR_MAC and length == 10:
            mac = Mac(data[offset + 4 : offset + 10].hex(":"))
        elif kind == _ATTR_STA_INFO:
            for inner, at, size in attributes(data, offset + 4, offset + length):
                if inner == _STA_INFO_STA_FLAGS and size == 12:
                    mask, flags = _FLAG_UPDATE.unpack_from(data, at + 4)
                    is_authorised = bool(mask & flags & (1 << _STA_FLAG_AUTHORIZED))
    if ifindex is None or mac is None:
        raise MalformedInput("nl80211: a station message without interface or MAC")
    return StationMessage(command, ifindex, mac, is_authorised)
