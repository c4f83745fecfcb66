"""The one packet filter that we need, for nf_tables: what comes in by some interfaces for one prefix is dropped.

Pure: values to bytes and back. Layouts: linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h; numbers in attributes
are big-endian there. Messages come in a batch that is carried out as a whole or not at all.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv6Network

from roamroute.values import Prefix
from roamroute.wire.netlink import AF_INET6, NLM_F_CREATE, Message, attribute, attributes

NETLINK_NETFILTER = 12
TABLE = "roamroute_guard"
CHAIN = "segments"

_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
BATCH_BEGIN, BATCH_END = 16, 17
_NEWTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _NEWRULE = (_SUBSYSTEM << 8 | number for number in (0, 2, 3, 4, 6))
GET_CHAIN = _GETCHAIN
_PREROUTING, _PRIORITY_RAW = 0, -300
_NESTED = 0x8000
_CHAIN_USE = 6
_META_IIFNAME, _NETWORK_HEADER, _REGISTER = 6, 1, 1
_IPV6_DESTINATION = 24  # octets into the header


def batch(bodies: Sequence[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The messages with what must stand around them: (type, flags, body)."""
    around = struct.pack("!BBH", 0, 0, _SUBSYSTEM)
    return [(BATCH_BEGIN, 0, around), *bodies, (BATCH_END, 0, around)]


def replace_filter(interfaces: Sequence[str], to: IPv6Network) -> list[tuple[int, int, bytes]]:
    """The messages that make the filter, whatever is there under its name. `to`: a multiple of 8 bits long."""
    chain = _text(1, TABLE) + _text(3, CHAIN)
    hook = attribute(1, _number(_PREROUTING)) + attribute(2, _number(_PRIORITY_RAW))
    chain += attribute(4 | _NESTED, hook) + _text(7, "filter")
    make = (_NEWTABLE, NLM_F_CREATE, _HEADER + _text(1, TABLE))  # what is not there cannot be deleted
    rules = [(_NEWRULE, NLM_F_CREATE, _HEADER + _rule(interface, to)) for interface in interfaces]
    return [make, *delete_filter(), make, (_NEWCHAIN, NLM_F_CREATE, _HEADER + chain), *rules]


def delete_filter() -> list[tuple[int, int, bytes]]:
    """The message that deletes the filter: ENOENT where there is none."""
    return [(_DELTABLE, 0, _HEADER + _text(1, TABLE))]


def filter_request() -> bytes:
    """The body of a request (`GET_CHAIN`) for what `decode_rule_count` reads; ENOENT where the filter is not there."""
    return _HEADER + _text(1, TABLE) + _text(3, CHAIN)


def decode_rule_count(message: Message) -> int:
    """How many rules the filter has. Raises: MalformedInput."""
    for kind, offset, length in attributes(message.data, message.start + len(_HEADER), message.end):
        if kind == _CHAIN_USE and length == 8:
            return int.from_bytes(message.data[offset + 4 : offset + 8], "big")
    return 0


_HEADER = struct.pack("!BBH", AF_INET6, 0, 0)


def _rule(interface: str, to: Prefix) -> bytes:
    octets = to.prefixlen // 8
    register = attribute(1, _number(_REGISTER))
    wanted = to.network_address.packed[:octets]
    offset, length = attribute(3, _number(_IPV6_DESTINATION)), attribute(4, _number(octets))
    verdict = attribute(2 | _NESTED, attribute(1, _number(0)))  # NF_DROP
    expressions = (
        ("meta", register + attribute(2, _number(_META_IIFNAME))),
        ("cmp", _equals(interface.encode().ljust(16, b"\0"))),
        ("payload", register + attribute(2, _number(_NETWORK_HEADER)) + offset + length),
        ("cmp", _equals(wanted)),
        ("counter", b""),
        ("immediate", attribute(1, _number(0)) + attribute(2 | _NESTED, verdict)),
    )
    elements = (_text(1, name) + attribute(2 | _NESTED, data) for name, data in expressions)
    listed = b"".join(attribute(1 | _NESTED, element) for element in elements)
    return _text(1, TABLE) + _text(2, CHAIN) + attribute(4 | _NESTED, listed)


def _equals(value: bytes) -> bytes:
    return attribute(1, _number(_REGISTER)) + attribute(2, _number(0)) + attribute(3 | _NESTED, attribute(1, value))


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _number(number: int) -> bytes:
    return struct.pack("!i", number)
