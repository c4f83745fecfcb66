"""rtnetlink messages as values: neighbours, routes, links, addresses, and the errors that answer a request.

Pure: bytes in, values out, and back; no socket. Any bytes give values or `MalformedInput`. Why not a library: see
docs/linux-facts.md, "Why our own codec" (a factor of 15 to 40 in time, measured).

Layouts are linux/netlink.h, linux/rtnetlink.h, linux/neighbour.h, linux/if_link.h and linux/if_addr.h; numbers are in
the byte order of the machine. Attributes that nobody here asks for are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from roamroute.errors import MalformedInput
from roamroute.values import Address, Mac

# linux/netlink.h
NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_OVERRUN = 4
NLM_F_REQUEST = 0x01
NLM_F_MULTI = 0x02
NLM_F_ACK = 0x04
NLM_F_DUMP_INTR = 0x10
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300

# linux/rtnetlink.h
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26
RTM_NEWNEIGH = 28
RTM_DELNEIGH = 29
RTM_GETNEIGH = 30
RTN_UNICAST = 1
RTN_UNREACHABLE = 7
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_TABLE_COMPAT = 252
RTNH_F_UNUSABLE = 0x1 | 0x10
"""RTNH_F_DEAD, RTNH_F_LINKDOWN: the interface is down, or has no carrier."""
RTPROT_REDIRECT = 1
RTPROT_KERNEL = 2

# linux/neighbour.h
NTF_SELF = 0x02
NTF_MASTER = 0x04
NTF_PROXY = 0x08
NTF_EXT_LEARNED = 0x10
NTF_ROUTER = 0x80

# linux/if.h
IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000

AF_UNSPEC = 0
AF_INET = 2
AF_BRIDGE = 7
AF_INET6 = 10

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK: without NLA_F_NESTED and NLA_F_NET_BYTEORDER

_NDA_DST, _NDA_LLADDR, _NDA_MASTER = 1, 2, 9
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 10, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_BR_MCAST_SNOOPING = 1, 2, 23
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


class Message(NamedTuple):
    """One netlink message: its header, and where its body lies in `data`."""

    kind: int
    flags: int
    sequence: int
    port: int
    data: bytes
    start: int
    end: int


class NeighbourEntry(NamedTuple):
    """The body of RTM_NEWNEIGH and RTM_DELNEIGH. `address` is None for AF_BRIDGE, `mac` where the kernel has none."""

    family: int
    ifindex: int
    state: int
    flags: int
    address: Address | None
    mac: Mac | None
    master: int | None


class RouteEntry(NamedTuple):
    """The body of RTM_NEWROUTE and RTM_DELROUTE. `destination` is None for a default route."""

    family: int
    prefix_length: int
    destination: Address | None
    table: int
    protocol: int
    kind: int
    ifindex: int | None
    metric: int
    gateway: Address | None
    flags: int = 0
    """RTM_F_* and RTNH_F_*; of a route with several ways those of the first way are not among them."""


class LinkEntry(NamedTuple):
    """The body of RTM_NEWLINK and RTM_DELLINK. With family AF_BRIDGE it speaks of a bridge port, not of the link."""

    family: int
    ifindex: int
    flags: int
    name: str
    mac: Mac | None
    master: int | None
    kind: str
    has_snooping: bool | None = None
    """Multicast snooping, of a bridge."""


class AddressEntry(NamedTuple):
    """The body of RTM_NEWADDR and RTM_DELADDR."""

    ifindex: int
    prefix_length: int
    address: Address


def split(datagram: bytes) -> Iterator[Message]:
    """The messages of one datagram, in order; several fit into one.

    Raises: MalformedInput when a length does not fit; what came before it has been yielded.
    """
    offset, size = 0, len(datagram)
    while offset < size:
        if size - offset < 16:
            raise MalformedInput(f"netlink: {size - offset} bytes are no message header")
        length, kind, flags, sequence, port = _HEADER.unpack_from(datagram, offset)
        if length < 16 or offset + length > size:
            raise MalformedInput(f"netlink: message of {length} bytes in a datagram with {size - offset} left")
        yield Message(kind, flags, sequence, port, datagram, offset + 16, offset + length)
        offset += (length + 3) & ~3


def decode_error(message: Message) -> int:
    """The errno that NLMSG_ERROR (or the body of NLMSG_DONE) carries; 0 is an acknowledgement."""
    if message.end - message.start < 4:
        if message.kind == NLMSG_DONE:
            return 0
        raise MalformedInput("netlink: error message without a number")
    number: int = _I32.unpack_from(message.data, message.start)[0]
    return -number


def interface_of(message: Message) -> int:
    """The interface index of a neighbour message, without decoding the rest.

    Raises: MalformedInput when the body is too short.
    """
    if message.end - message.start < 12:
        raise MalformedInput("netlink: neighbour message too short")
    index: int = _I32.unpack_from(message.data, message.start + 4)[0]
    return index


def decode_neighbour(message: Message) -> NeighbourEntry:
    """Read the body of a neighbour message. Raises: MalformedInput."""
    data, end = message.data, message.end
    offset = message.start + 12
    if offset > end:
        raise MalformedInput("netlink: neighbour message too short")
    family, index, state, flags, _ = _NEIGHBOUR.unpack_from(data, message.start)
    address: Address | None = None
    mac: Mac | None = None
    master: int | None = None
    while end - offset >= 4:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise MalformedInput(f"netlink: attribute of {length} bytes in {end - offset}")
        if kind == _NDA_DST and family != AF_BRIDGE:
            address = address_of(data[offset + 4 : offset + length])
        elif kind == _NDA_LLADDR:
            if length == 10:
                mac = Mac(data[offset + 4 : offset + 10].hex(":"))
        elif kind == _NDA_MASTER:
            master = _u32(data, offset, length)
        offset += (length + 3) & ~3
    return NeighbourEntry(family, index, state, flags, address, mac, master)


def decode_route(message: Message) -> RouteEntry:
    """Read the body of a route message. Raises: MalformedInput."""
    data = message.data
    if message.end - message.start < 12:
        raise MalformedInput("netlink: route message too short")
    family, prefix_length, _, _, table, protocol, _, kind, flags = _ROUTE.unpack_from(data, message.start)
    destination: Address | None = None
    gateway: Address | None = None
    index: int | None = None
    metric = 0
    for attribute, offset, length in attributes(data, message.start + 12, message.end):
        match attribute:
            case 1:  # RTA_DST
                destination = address_of(data[offset + 4 : offset + length])
            case 4:  # RTA_OIF
                index = _u32(data, offset, length)
            case 5:  # RTA_GATEWAY
                gateway = address_of(data[offset + 4 : offset + length])
            case 6:  # RTA_PRIORITY
                metric = _u32(data, offset, length)
            case 15:  # RTA_TABLE
                table = _u32(data, offset, length)
            case 18:  # RTA_VIA: a gateway of the other family, behind two octets that name it
                gateway = address_of(data[offset + 6 : offset + length])
            case _:
                pass
    if prefix_length > (128 if family == AF_INET6 else 32):
        raise MalformedInput(f"netlink: prefix length {prefix_length} in family {family}")
    return RouteEntry(family, prefix_length, destination, table, protocol, kind, index, metric, gateway, flags)


def decode_link(message: Message) -> LinkEntry:
    """Read the body of a link message. Raises: MalformedInput."""
    data = message.data
    if message.end - message.start < 16:
        raise MalformedInput("netlink: link message too short")
    family, _, index, flags, _ = _LINK.unpack_from(data, message.start)
    name, mac, master, kind, has_snooping = "", None, None, "", None
    for attribute, offset, length in attributes(data, message.start + 16, message.end):
        if attribute == _IFLA_ADDRESS and length == 10:
            mac = Mac(data[offset + 4 : offset + 10].hex(":"))
        elif attribute == _IFLA_IFNAME:
            name = _text(data[offset + 4 : offset + length])
        elif attribute == _IFLA_MASTER:
            master = _u32(data, offset, length)
        elif attribute == _IFLA_LINKINFO:
            for inner, at, size in attributes(data, offset + 4, offset + length):
                if inner == _IFLA_INFO_KIND:
                    kind = _text(data[at + 4 : at + size])
                elif inner == _IFLA_INFO_DATA and kind == "bridge":  # the kernel puts the kind first
                    has_snooping = _bridge_snooping(data, at + 4, at + size)
    return LinkEntry(family, index, flags, name, mac, master, kind, has_snooping)


def decode_address(message: Message) -> AddressEntry | None:
    """Read the body of an address message; None when it carries no address we know. Raises: MalformedInput."""
    data = message.data
    if message.end - message.start < 8:
        raise MalformedInput("netlink: address message too short")
    family, prefix_length, _, _, index = _ADDRESS.unpack_from(data, message.start)
    if family not in (AF_INET, AF_INET6):
        return None
    local: Address | None = None
    remote: Address | None = None
    for attribute, offset, length in attributes(data, message.start + 8, message.end):
        # On a point-to-point link IFA_ADDRESS is the far end's; IFA_LOCAL, where present, is ours (linux/if_addr.h).
        if attribute == _IFA_ADDRESS:
            remote = address_of(data[offset + 4 : offset + length])
        elif attribute == _IFA_LOCAL:
            local = address_of(data[offset + 4 : offset + length])
    ours = local or remote
    return None if ours is None else AddressEntry(index, prefix_length, ours)


def encode(kind: int, flags: int, sequence: int, body: bytes, port: int = 0) -> bytes:
    """One message with its header, padded to four bytes so that another can follow."""
    return _HEADER.pack(16 + len(body), kind, flags, sequence, port) + body + bytes(-len(body) & 3)


def encode_dump(kind: int, sequence: int, body: bytes) -> bytes:
    """A request for all objects of one kind; `body` is the fixed part and, with strict checking, the filter."""
    return encode(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, body)


def neighbour_body(
    index: int,
    address: Address | None,
    mac: Mac | None,
    state: int,
    *,
    flags: int = 0,
    family: int | None = None,
    master: int | None = None,
) -> bytes:
    """The body of a neighbour message. `family` is that of the address unless given (AF_BRIDGE)."""
    if family is None:
        family = AF_INET6 if address is None or address.version == 6 else AF_INET
    body = _NEIGHBOUR.pack(family, index, state, flags, 0)
    if address is not None:
        body += attribute(_NDA_DST, address.packed)
    if mac is not None:
        body += attribute(_NDA_LLADDR, bytes.fromhex(mac.replace(":", "")))
    if master is not None:
        body += attribute(_NDA_MASTER, _U32.pack(master))
    return body


_ROUTE6 = struct.Struct("=BBBBBBBBIHH16sHHIHHI")
_ROUTE4 = struct.Struct("=BBBBBBBBIHH4sHHIHHI")


def host_route_body(address: Address, index: int, *, protocol: int, metric: int, table: int) -> bytes:
    """The body of a message about a unicast host route out of one link, without a gateway.

    The exact protocol, metric, table and interface stand in it, so that a deletion can hit no other route.
    """
    short_table = table if table < 256 else RT_TABLE_COMPAT
    if address.version == 6:
        body = _ROUTE6.pack(
            *(AF_INET6, 128, 0, 0, short_table, protocol, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0),
            *(20, _RTA_DST, address.packed, 8, _RTA_OIF, index, 8, _RTA_PRIORITY, metric),
        )
    else:
        body = _ROUTE4.pack(
            *(AF_INET, 32, 0, 0, short_table, protocol, RT_SCOPE_LINK, RTN_UNICAST, 0),
            *(8, _RTA_DST, address.packed, 8, _RTA_OIF, index, 8, _RTA_PRIORITY, metric),
        )
    return body if table < 256 else body + attribute(_RTA_TABLE, _U32.pack(table))


def unreachable_route_body(address: Address, *, protocol: int, metric: int, table: int) -> bytes:
    """The body of a message about a host route that answers "unreachable"; it needs no link."""
    family, length = (AF_INET6, 128) if address.version == 6 else (AF_INET, 32)
    short_table = table if table < 256 else RT_TABLE_COMPAT
    body = _ROUTE.pack(family, length, 0, 0, short_table, protocol, RT_SCOPE_UNIVERSE, RTN_UNREACHABLE, 0)
    body += attribute(_RTA_DST, address.packed) + attribute(_RTA_PRIORITY, _U32.pack(metric))
    return body if table < 256 else body + attribute(_RTA_TABLE, _U32.pack(table))


def route_filter_body(family: int, *, table: int = 0, protocol: int = 0) -> bytes:
    """The body of a dump request for routes; with NETLINK_GET_STRICT_CHK the kernel sends only what matches."""
    body = _ROUTE.pack(family, 0, 0, 0, 0 if table > 255 else table, protocol, 0, 0, 0)
    return body + attribute(_RTA_TABLE, _U32.pack(table)) if table else body


def link_body(family: int = AF_UNSPEC, index: int = 0) -> bytes:
    """The body of a request about links."""
    return _LINK.pack(family, 0, index, 0, 0)


def address_body(family: int = AF_UNSPEC, index: int = 0) -> bytes:
    """The body of a request about addresses."""
    return _ADDRESS.pack(family, 0, 0, 0, index)


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) & 3)


def join(messages: Iterable[bytes]) -> bytes:
    """Many messages for one send."""
    return b"".join(messages)


def _bridge_snooping(data: bytes, offset: int, end: int) -> bool | None:
    for attribute, at, size in attributes(data, offset, end):
        if attribute == _IFLA_BR_MCAST_SNOOPING and size >= 5:
            return data[at + 4] != 0
    return None


def attributes(data: bytes, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The attributes between two offsets: (type, offset, length with the header of four). Raises: MalformedInput."""
    while end - offset >= 4:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise MalformedInput(f"netlink: attribute of {length} bytes in {end - offset}")
        yield kind & _TYPE_MASK, offset, length
        offset += (length + 3) & ~3


def address_of(payload: bytes) -> Address:
    """The address that these 4 or 16 octets are. Raises: MalformedInput."""
    if len(payload) == 16:
        return IPv6Address(payload)
    if len(payload) == 4:
        return IPv4Address(payload)
    raise MalformedInput(f"netlink: address of {len(payload)} bytes")


def _u32(data: bytes, offset: int, length: int) -> int:
    if length != 8:
        raise MalformedInput(f"netlink: 32-bit attribute of {length} bytes")
    number: int = _U32.unpack_from(data, offset + 4)[0]
    return number


def _text(payload: bytes) -> str:
    return payload.split(b"\0", 1)[0].decode("utf-8", "replace")
