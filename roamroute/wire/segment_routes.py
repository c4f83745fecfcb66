"""Routes that encapsulate packets towards a segment, routes that take them there, and the tunnel's source address.

Pure: values to bytes and back. Layouts: linux/rtnetlink.h (RTA_ENCAP), linux/lwtunnel.h, linux/seg6_iptunnel.h,
linux/seg6_local.h, linux/seg6_genl.h; the segment routing header is RFC 8754 §2. Behaviours: RFC 8986 §4.6 (End.DT6),
§4.5 (End.DX4), §5.1 (H.Encaps), §5.2 (H.Encaps.Red).
"""

from __future__ import annotations

import enum
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from roamroute.errors import MalformedInput
from roamroute.values import Address
from roamroute.wire import generic, netlink
from roamroute.wire.netlink import Message, attribute, attributes

GENERIC_FAMILY = "SEG6"
_CMD_SET_TUNSRC, _CMD_GET_TUNSRC, _ATTR_DST = 3, 4, 1

_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_PRIORITY, _RTA_TABLE = 1, 2, 4, 6, 15
_RTA_ENCAP_TYPE, _RTA_ENCAP, _RTA_EXPIRES = 21, 22, 23
_ENCAP_SEG6, _ENCAP_SEG6_LOCAL = 5, 7
_SEG6_IPTUNNEL_SRH = 1
_LOCAL_ACTION, _LOCAL_TABLE, _LOCAL_NH4, _LOCAL_COUNTERS = 1, 3, 4, 10
_ACTION_END_DX4, _ACTION_END_DT6 = 6, 7
_COUNTER_PACKETS, _COUNTER_BYTES, _COUNTER_ERRORS = 2, 3, 4

_ROUTE = struct.Struct("=BBBBBBBBI")
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_TUNNEL = struct.Struct("=iBBBBBxH")  # mode; next header, length, type, segments left, last entry, tag
_ROUTING_TYPE_SEGMENTS = 4


class Mode(enum.IntEnum):
    """How packets are encapsulated (linux/seg6_iptunnel.h)."""

    ENCAP = 1
    """With a segment routing header: 64 octets more."""
    ENCAP_RED = 3
    """Without: 40 octets more for one segment. Since Linux 6.0."""


class Counters(NamedTuple):
    """What a segment has taken."""

    packets: int = 0
    octets: int = 0
    errors: int = 0


class SegmentEntry(NamedTuple):
    """A route as the kernel tells it, with what we ask of its encapsulation; None where it has none of that kind."""

    family: int
    destination: Address | None
    prefix_length: int
    source: Address | None
    source_length: int
    table: int
    protocol: int
    kind: int
    metric: int
    ifindex: int | None
    segment: IPv6Address | None
    """Where packets are sent to (encap seg6)."""
    counters: Counters | None
    """Of a segment here (encap seg6local)."""


def forward_body(
    address: Address,
    segment: IPv6Address | None,
    index: int | None,
    *,
    table: int,
    protocol: int,
    metric: int,
    mode: Mode = Mode.ENCAP_RED,
    expires_s: int = 0,
) -> bytes:
    """The body of a message about a route that encapsulates what goes to `address`.

    Without `segment` and `index`: for a deletion. `expires_s`: the kernel forgets it then (IPv6 only); 0: never.
    `index`: any interface that is up; the packet leaves where the route to the segment says.
    """
    is_ipv6 = address.version == 6
    family, length, scope = (netlink.AF_INET6, 128, 0) if is_ipv6 else (netlink.AF_INET, 32, netlink.RT_SCOPE_LINK)
    body = _route(family, length, 0, table, protocol, scope, netlink.RTN_UNICAST)
    body += attribute(_RTA_DST, address.packed) + attribute(_RTA_PRIORITY, _U32.pack(metric))
    if index is not None:
        body += attribute(_RTA_OIF, _U32.pack(index))
    if segment is not None:
        # One segment, so it is the last entry, number 0, and none is left after it; the header has 2 units of 8 octets.
        header = _TUNNEL.pack(mode, 0, 2, _ROUTING_TYPE_SEGMENTS, 0, 0, 0) + segment.packed
        body += attribute(_RTA_ENCAP, attribute(_SEG6_IPTUNNEL_SRH, header))
        body += attribute(_RTA_ENCAP_TYPE, _U16.pack(_ENCAP_SEG6))
    if expires_s and is_ipv6:
        body += attribute(_RTA_EXPIRES, _U32.pack(expires_s))
    return body + attribute(_RTA_TABLE, _U32.pack(table))


def decapsulate6_action(table: int) -> bytes:
    """End.DT6: take IPv6 out, and look the inner destination up in `table` and in no other."""
    action = attribute(_LOCAL_ACTION, _U32.pack(_ACTION_END_DT6)) + attribute(_LOCAL_TABLE, _U32.pack(table))
    return action + _counting()


def decapsulate4_action(next_hop: IPv4Address) -> bytes:
    """End.DX4: take IPv4 out, and look `next_hop` up by the rules; 0.0.0.0 stands for the inner destination."""
    action = attribute(_LOCAL_ACTION, _U32.pack(_ACTION_END_DX4)) + attribute(_LOCAL_NH4, next_hop.packed)
    return action + _counting()


def segment_body(
    segment: IPv6Address,
    source: IPv6Address | None,
    index: int | None,
    action: bytes | None,
    *,
    table: int,
    protocol: int,
    metric: int,
) -> bytes:
    """The body of a message about a route that takes encapsulated packets for `segment` from `source` (None: from all).

    Without `index` and `action`: for a deletion. A route with a source needs CONFIG_IPV6_SUBTREES.
    """
    source_length = 128 if source is not None else 0
    body = _route(netlink.AF_INET6, 128, source_length, table, protocol, 0, netlink.RTN_UNICAST)
    body += attribute(_RTA_DST, segment.packed) + attribute(_RTA_PRIORITY, _U32.pack(metric))
    if source is not None:
        body += attribute(_RTA_SRC, source.packed)
    if index is not None:
        body += attribute(_RTA_OIF, _U32.pack(index))
    if action is not None:
        body += attribute(_RTA_ENCAP, action) + attribute(_RTA_ENCAP_TYPE, _U16.pack(_ENCAP_SEG6_LOCAL))
    return body + attribute(_RTA_TABLE, _U32.pack(table))


def decode_segment_route(message: Message) -> SegmentEntry:
    """Read a route with its encapsulation. Raises: MalformedInput."""
    data = message.data
    if message.end - message.start < _ROUTE.size:
        raise MalformedInput("netlink: route message too short")
    family, length, source_length, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(data, message.start)
    addresses: dict[int, Address] = {}
    numbers: dict[int, int] = {}
    encapsulation, encapsulation_type = (0, 0), 0
    for attribute_kind, offset, size in attributes(data, message.start + _ROUTE.size, message.end):
        if attribute_kind in (_RTA_DST, _RTA_SRC):
            addresses[attribute_kind] = netlink.address_of(data[offset + 4 : offset + size])
        elif attribute_kind in (_RTA_OIF, _RTA_PRIORITY, _RTA_TABLE) and size == 8:
            numbers[attribute_kind] = _U32.unpack_from(data, offset + 4)[0]
        elif attribute_kind == _RTA_ENCAP:
            encapsulation = (offset + 4, offset + size)
        elif attribute_kind == _RTA_ENCAP_TYPE and size == 6:
            encapsulation_type = _U16.unpack_from(data, offset + 4)[0]
    return SegmentEntry(
        *(family, addresses.get(_RTA_DST), length, addresses.get(_RTA_SRC), source_length),
        *(numbers.get(_RTA_TABLE, table), protocol, kind, numbers.get(_RTA_PRIORITY, 0), numbers.get(_RTA_OIF)),
        _segment(data, *encapsulation) if encapsulation_type == _ENCAP_SEG6 else None,
        _counters(data, *encapsulation) if encapsulation_type == _ENCAP_SEG6_LOCAL else None,
    )


def source_request() -> bytes:
    """The body of a request to the family SEG6 for the source address of encapsulated packets."""
    return generic.header(_CMD_GET_TUNSRC, 1)


def source_change(address: IPv6Address) -> bytes:
    """The body of a request to set it; `::` leaves the choice to the kernel."""
    return generic.header(_CMD_SET_TUNSRC, 1) + attribute(_ATTR_DST, address.packed)


def decode_source(message: Message) -> IPv6Address:
    """Read the answer to `source_request`. Raises: MalformedInput."""
    for kind, offset, length in attributes(message.data, generic.attributes_at(message), message.end):
        if kind == _ATTR_DST and length == 20:
            return IPv6Address(message.data[offset + 4 : offset + 20])
    raise MalformedInput("seg6: an answer without an address")


def _route(family: int, length: int, source_length: int, table: int, protocol: int, scope: int, kind: int) -> bytes:
    short_table = table if table < 256 else netlink.RT_TABLE_COMPAT
    return _ROUTE.pack(family, length, source_length, 0, short_table, protocol, scope, kind, 0)


def _counting() -> bytes:
    zero = _U64.pack(0)  # the kernel wants all three
    counters = (_COUNTER_PACKETS, _COUNTER_BYTES, _COUNTER_ERRORS)
    return attribute(_LOCAL_COUNTERS, b"".join(attribute(kind, zero) for kind in counters))


def _segment(data: bytes, start: int, end: int) -> IPv6Address | None:
    for kind, offset, length in attributes(data, start, end):
        if kind == _SEG6_IPTUNNEL_SRH and length >= 4 + _TUNNEL.size + 16:
            return IPv6Address(data[offset + 4 + _TUNNEL.size : offset + 20 + _TUNNEL.size])
    return None


def _counters(data: bytes, start: int, end: int) -> Counters:
    found: dict[int, int] = {}
    for kind, offset, length in attributes(data, start, end):
        if kind == _LOCAL_COUNTERS:
            for counter, at, size in attributes(data, offset + 4, offset + length):
                if size == 12:
                    found[counter] = _U64.unpack_from(data, at + 4)[0]
    return Counters(found.get(_COUNTER_PACKETS, 0), found.get(_COUNTER_BYTES, 0), found.get(_COUNTER_ERRORS, 0))
