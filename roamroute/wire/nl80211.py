"""nl80211 and the generic netlink controller as far as stations need them: who is associated, and is it authorised.

Pure: bytes in, values out, and back; no socket. Any bytes give values or `MalformedInput`. Layouts are
linux/genetlink.h and linux/nl80211.h; the frame around them is `roamroute.wire.netlink`.
"""

from __future__ import annotations

import struct
import sys
from typing import NamedTuple

from roamroute.errors import MalformedInput
from roamroute.values import Mac
from roamroute.wire.netlink import Message, attribute, attributes

FAMILY_NAME = "nl80211"
STATION_GROUP = "mlme"
"""The multicast group of NEW_STATION and DEL_STATION."""

# linux/genetlink.h
GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_CTRL_FAMILY_ID, _CTRL_FAMILY_NAME, _CTRL_MCAST_GROUPS = 1, 2, 7
_CTRL_GROUP_NAME, _CTRL_GROUP_ID = 1, 2

# linux/nl80211.h
CMD_GET_STATION = 17
CMD_NEW_STATION = 19
CMD_DEL_STATION = 20
_ATTR_IFINDEX, _ATTR_MAC, _ATTR_STA_INFO = 3, 6, 21
_STA_INFO_STA_FLAGS = 17
_STA_FLAG_AUTHORIZED = 1

_GENERIC = struct.Struct("=BBH")  # command, version, reserved
_U32 = struct.Struct("=I")
_FLAG_UPDATE = struct.Struct("=II")  # mask: which flags are known; set: which of them are set


class Family(NamedTuple):
    """A generic netlink family: the message type it was given in this boot, and its multicast groups."""

    name: str
    number: int
    groups: dict[str, int]


class StationMessage(NamedTuple):
    """NEW_STATION or DEL_STATION, as a notification or in a dump.

    `is_authorised` is None where the message does not say: notifications never do (Linux 6.1, 6.18 net/mac80211
    sta_info.c fill in nothing but the generation).
    """

    command: int
    ifindex: int
    mac: Mac
    is_authorised: bool | None


def families_request() -> bytes:
    """The body of a dump request to `GENL_ID_CTRL`."""
    return _GENERIC.pack(_CTRL_CMD_GETFAMILY, 1, 0)


def station_request(ifindex: int, mac: Mac | None = None) -> bytes:
    """The body of a request to the family: one station, or with a dump all stations of the interface."""
    body = _GENERIC.pack(CMD_GET_STATION, 0, 0) + attribute(_ATTR_IFINDEX, _U32.pack(ifindex))
    return body if mac is None else body + attribute(_ATTR_MAC, bytes.fromhex(mac.replace(":", "")))


def decode_family(message: Message) -> Family:
    """Read one answer to `families_request`. Raises: MalformedInput."""
    name, number, groups = "", 0, {}
    data = message.data
    for kind, offset, length in attributes(data, _body(message), message.end):
        if kind == _CTRL_FAMILY_NAME:
            name = _text(data[offset + 4 : offset + length])
        elif kind == _CTRL_FAMILY_ID and length >= 6:
            number = int.from_bytes(data[offset + 4 : offset + 6], sys.byteorder)
        elif kind == _CTRL_MCAST_GROUPS:
            for _, group, size in attributes(data, offset + 4, offset + length):
                group_name, group_number = "", 0
                for inner, at, inner_size in attributes(data, group + 4, group + size):
                    if inner == _CTRL_GROUP_NAME:
                        group_name = _text(data[at + 4 : at + inner_size])
                    elif inner == _CTRL_GROUP_ID and inner_size == 8:
                        group_number = _U32.unpack_from(data, at + 4)[0]
                groups[group_name] = group_number
    return Family(name, number, groups)


def decode_station(message: Message) -> StationMessage | None:
    """Read a message of the family; None when it is about something else. Raises: MalformedInput."""
    data, start = message.data, _body(message)
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


def _body(message: Message) -> int:
    if message.end - message.start < _GENERIC.size:
        raise MalformedInput("netlink: generic message too short")
    return message.start + _GENERIC.size


def _text(payload: bytes) -> str:
    return payload.split(b"\0", 1)[0].decode("utf-8", "replace")
