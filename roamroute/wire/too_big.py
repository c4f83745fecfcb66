"""A router's word that an encapsulated packet was too big, passed on to the sender of the inner one: RFC 2473 §8.

Pure: bytes to bytes. ICMPv6 Packet Too Big is RFC 4443 §3.2, ICMP "fragmentation needed" RFC 1191 §4.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

import attrs

from roamroute.errors import MalformedInput
from roamroute.values import Address
from roamroute.wire.checksum import internet_checksum
from roamroute.wire.netlink import address_of

ICMPV6_PACKET_TOO_BIG = 2
_ICMP_UNREACHABLE, _FRAGMENTATION_NEEDED = 3, 4
_IPV4, _IPV6, _ROUTING, _ICMP, _ICMPV6 = 4, 41, 43, 1, 58
_HEADER_BYTES = 40
_LEAST_MTU = {6: 1280, 4: 68}  # RFC 8200 §5, RFC 791
_MOST_QUOTED = {6: 1280 - 40 - 8, 4: 576 - 20 - 8}  # RFC 4443 §2.4 (c), RFC 1812 §4.3.2.3
_ICMPV6_ERRORS = range(128)
_ICMP_QUERIES = frozenset({0, 8, 13, 14})


@attrs.frozen
class TooBig:
    """What became of a packet of ours: `packet` is the beginning of the inner one, which may have `mtu_bytes`."""

    source: IPv6Address
    segment: IPv6Address
    sender: Address
    destination: Address
    mtu_bytes: int
    packet: bytes


def parse(message: bytes) -> TooBig | None:
    """Read an ICMPv6 message, without its IPv6 header; None where nobody is to be told (RFC 4443 §2.4 (e)).

    Raises: MalformedInput.
    """
    if len(message) < 8 + _HEADER_BYTES:
        raise MalformedInput("packet too big: shorter than the header that it must quote")
    if message[0] != ICMPV6_PACKET_TOO_BIG:
        return None
    (mtu,) = struct.unpack_from("!I", message, 4)
    outer = message[8:]
    kind, offset = outer[6], _HEADER_BYTES
    if kind == _ROUTING and len(outer) >= _HEADER_BYTES + 2:
        kind, offset = outer[_HEADER_BYTES], _HEADER_BYTES + 8 * (outer[_HEADER_BYTES + 1] + 1)
    packet = outer[offset:]
    if kind == _IPV6 and len(packet) >= _HEADER_BYTES:
        sender, destination = address_of(packet[8:24]), address_of(packet[24:40])
        is_error = packet[6] == _ICMPV6 and (len(packet) <= 40 or packet[40] in _ICMPV6_ERRORS)
    elif kind == _IPV4 and len(packet) >= 20:
        sender, destination = address_of(packet[12:16]), address_of(packet[16:20])
        header_bytes = 4 * (packet[0] & 0xF)
        is_error = packet[9] == _ICMP and (len(packet) <= header_bytes or packet[header_bytes] not in _ICMP_QUERIES)
        is_error = is_error or bool(struct.unpack_from("!H", packet, 6)[0] & 0x1FFF)  # not the first fragment
    else:
        raise MalformedInput(f"packet too big: no inner packet of a kind we know (next header {kind})")
    if is_error or sender.is_multicast or sender.is_unspecified or sender.is_loopback:
        return None
    room = max(mtu - offset, _LEAST_MTU[sender.version])
    return TooBig(IPv6Address(outer[8:24]), IPv6Address(outer[24:40]), sender, destination, room, packet)


def compose(told: TooBig) -> bytes:
    """The ICMP message for `told.sender`, of its family. ICMPv6's checksum is left to the kernel, which knows our
    address."""
    version = told.sender.version
    quoted = told.packet[: _MOST_QUOTED[version]]
    if version == 6:
        return struct.pack("!BBHI", ICMPV6_PACKET_TOO_BIG, 0, 0, told.mtu_bytes) + quoted
    header = (_ICMP_UNREACHABLE, _FRAGMENTATION_NEEDED, 0, 0, min(told.mtu_bytes, 0xFFFF))
    checksum = internet_checksum(struct.pack("!BBHHH", *header) + quoted)
    return struct.pack("!BBHHH", *header[:2], checksum, *header[3:]) + quoted
