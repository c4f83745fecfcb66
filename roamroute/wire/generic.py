"""Generic netlink's own header, and its controller, which tells a family's number by its name (linux/genetlink.h).

Pure: bytes in, values out, and back. The frame around it is `roamroute.wire.netlink`.
"""

from __future__ import annotations

import struct
import sys
from typing import NamedTuple

from roamroute.errors import MalformedInput
from roamroute.wire.netlink import Message, attribute, attributes

NETLINK_GENERIC = 16
"""The netlink protocol, for the socket (linux/netlink.h)."""
GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_CTRL_FAMILY_ID, _CTRL_FAMILY_NAME, _CTRL_MCAST_GROUPS = 1, 2, 7
_CTRL_GROUP_NAME, _CTRL_GROUP_ID = 1, 2

_HEADER = struct.Struct("=BBH")  # command, version, reserved
_U32 = struct.Struct("=I")


class Family(NamedTuple):
    """A generic netlink family: the message type it was given in this boot, and its multicast groups."""

    name: str
    number: int
    groups: dict[str, int]


def header(command: int, version: int = 0) -> bytes:
    """What stands before the attributes of a message of any family."""
    return _HEADER.pack(command, version, 0)


def attributes_at(message: Message) -> int:
    """Where the attributes of a message begin. Raises: MalformedInput."""
    if message.end - message.start < _HEADER.size:
        raise MalformedInput("netlink: generic message too short")
    return message.start + _HEADER.size


def families_request() -> bytes:
    """The body of a dump request to `GENL_ID_CTRL`."""
    return header(_CTRL_CMD_GETFAMILY, 1)


def family_request(name: str) -> bytes:
    """The body of a request to `GENL_ID_CTRL` for one family; ENOENT where there is none (the kernel may load it)."""
    return header(_CTRL_CMD_GETFAMILY, 1) + attribute(_CTRL_FAMILY_NAME, name.encode() + b"\0")


def decode_family(message: Message) -> Family:
    """Read one answer to `families_request` or `family_request`. Raises: MalformedInput."""
    name, number, groups = "", 0, {}
    data = message.data
    for kind, offset, length in attributes(data, attributes_at(message), message.end):
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


def _text(payload: bytes) -> str:
    return payload.split(b"\0", 1)[0].decode("utf-8", "replace")
