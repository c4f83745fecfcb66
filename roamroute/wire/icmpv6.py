"""Messages of IPv6 neighbour discovery, taken out of packets and put into frames: RFC 4861.

Pure. `dissect` makes the checks of RFC 4861 §6.1 and §7.1 that do not need the whole message's meaning, but for the
checksum: `verify` makes that one, for those who hold the whole message.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from roamroute.errors import MalformedInput
from roamroute.wire import ethernet
from roamroute.wire.checksum import internet_checksum

ICMPV6 = 58
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 133, 134, 135, 136
SOURCE_LINK_LAYER_ADDRESS, TARGET_LINK_LAYER_ADDRESS = 1, 2
SOLICITED_FLAG = 0x40
"""Of an NA, in the octet behind the checksum."""

UNSPECIFIED = bytes(16)
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
ALL_ROUTERS = bytes.fromhex("ff020000000000000000000000000002")
HEADER_BYTES = 40

PROXY_FLOW_LABEL = 0x44DAD
"""Marks the solicitations and advertisements that an access point hands out on behalf of a host elsewhere, so that
another one on the same layer 2 does not take them for a host's own. Hosts send neighbour discovery without a flow
label."""

_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")
_HOP_LIMIT = 255
_FIXED_BYTES = {
    ROUTER_SOLICITATION: 8,
    ROUTER_ADVERTISEMENT: 16,
    NEIGHBOUR_SOLICITATION: 24,
    NEIGHBOUR_ADVERTISEMENT: 24,
}


class DiscoveryMessage(NamedTuple):
    """`fixed`: the message up to its options. `options`: each with its type and what follows its length."""

    kind: int
    source: bytes
    destination: bytes
    flow_label: int
    fixed: bytes
    options: tuple[tuple[int, bytes], ...]
    whole: bytes

    @property
    def target(self) -> bytes:
        """The sixteen octets of the target; of NS and NA only."""
        return self.fixed[8:24]

    def option(self, kind: int) -> bytes | None:
        """What the first option of this type says; it is 6, 14, 22, ... octets."""
        return next((payload for found, payload in self.options if found == kind), None)

    def names_other_hardware(self, kind: int, hardware: bytes) -> bool:
        """Whether it has a link-layer address option that says something else than `hardware`: a proxy's word."""
        named = self.option(kind)
        return named is not None and named[:6] != hardware


def is_discovery(packet: bytes) -> bool:
    """Whether an IPv6 packet is RS, RA, NS or NA, without an extension header before it."""
    return len(packet) > HEADER_BYTES and packet[6] == ICMPV6 and packet[HEADER_BYTES] in _FIXED_BYTES


def dissect(packet: bytes) -> DiscoveryMessage:
    """Read an IPv6 packet for which `is_discovery`; octets behind its end are padding.

    Raises: MalformedInput.
    """
    if packet[0] >> 4 != 6:
        raise MalformedInput("ipv6: not version 6")
    length = packet[4] << 8 | packet[5]
    if length > len(packet) - HEADER_BYTES:
        raise MalformedInput("icmpv6: message cut short")
    if packet[7] != _HOP_LIMIT:
        raise MalformedInput(f"icmpv6: hop limit {packet[7]}: the message was forwarded (RFC 4861 §6.1, §7.1)")
    kind = packet[HEADER_BYTES]
    size = _FIXED_BYTES[kind]
    if length < size:
        raise MalformedInput(f"icmpv6: {length} octets, needs {size} (RFC 4861 §6.1, §7.1)")
    whole = packet[HEADER_BYTES : HEADER_BYTES + length]
    if whole[1] != 0:
        raise MalformedInput(f"icmpv6: code {whole[1]} (RFC 4861 §6.1, §7.1)")
    flow_label = (packet[1] & 0xF) << 16 | packet[2] << 8 | packet[3]
    options = _options(whole[size:])
    message = DiscoveryMessage(kind, packet[8:24], packet[24:40], flow_label, whole[:size], options, whole)
    if message.source[0] == 0xFF:
        raise MalformedInput("ipv6: the source is a group address (RFC 4291 §2.7)")
    _check_ends(message)
    return message


def verify(message: DiscoveryMessage) -> None:
    """Check the checksum. Linux fills it in by itself in every discovery message, before any device could be asked to.

    Raises: MalformedInput.
    """
    if internet_checksum(_pseudo_header(message.source, message.destination, len(message.whole)) + message.whole):
        raise MalformedInput("icmpv6: wrong checksum (RFC 4861 §6.1, §7.1)")


def compose(
    hardware_destination: bytes,
    hardware_source: bytes,
    source: bytes,
    destination: bytes,
    message: bytes,
    *,
    flow_label: int = 0,
) -> bytes:
    """The frame that carries `message`, whose checksum (octets 2 and 3) is filled in."""
    checksum = internet_checksum(_pseudo_header(source, destination, len(message)) + message)
    return b"".join(
        (
            ethernet.header(hardware_destination, hardware_source, ethernet.ETH_P_IPV6),
            struct.pack("!IHBB", 6 << 28 | flow_label, len(message), ICMPV6, _HOP_LIMIT),
            source,
            destination,
            message[:2],
            struct.pack("!H", checksum),
            message[4:],
        )
    )


def option(kind: int, payload: bytes) -> bytes:
    """An option; `payload` has 6, 14, 22, ... octets."""
    return struct.pack("!BB", kind, (len(payload) + 2) // 8) + payload


def solicited_node(address: bytes) -> bytes:
    """The group in which everybody listens who has this address (RFC 4291 §2.7.1)."""
    return _SOLICITED_NODE + address[13:]


def _check_ends(message: DiscoveryMessage) -> None:
    """The checks that differ between the kinds."""
    is_unspecified = message.source == UNSPECIFIED
    if message.kind == ROUTER_ADVERTISEMENT:
        if message.source[0] != 0xFE or message.source[1] & 0xC0 != 0x80:
            raise MalformedInput("icmpv6: a router's source is not link-local (RFC 4861 §6.1.2)")
        return
    if message.kind == NEIGHBOUR_ADVERTISEMENT:
        if message.destination[0] == 0xFF and message.fixed[4] & SOLICITED_FLAG:
            raise MalformedInput("icmpv6: a solicited advertisement to a group (RFC 4861 §7.1.2)")
        if is_unspecified:
            raise MalformedInput("icmpv6: an advertisement without a source (RFC 4861 §4.4)")
    elif is_unspecified and message.option(SOURCE_LINK_LAYER_ADDRESS) is not None:
        raise MalformedInput(
            "icmpv6: solicitation without a source but with its link-layer address (RFC 4861 §6.1.1, §7.1.1)"
        )
    if message.kind == ROUTER_SOLICITATION:
        return
    if message.target[0] == 0xFF:
        raise MalformedInput("icmpv6: the target is a group address (RFC 4861 §7.1)")
    if (
        message.kind == NEIGHBOUR_SOLICITATION
        and is_unspecified
        and message.destination != solicited_node(message.target)
    ):
        raise MalformedInput("icmpv6: duplicate detection not to the target's solicited-node group (RFC 4861 §7.1.1)")


def _options(rest: bytes) -> tuple[tuple[int, bytes], ...]:
    found = []
    while rest:
        size = rest[1] * 8 if len(rest) >= 8 else 0
        if size == 0 or size > len(rest):
            raise MalformedInput("icmpv6: option with a bad length (RFC 4861 §4.6)")
        found.append((rest[0], rest[2:size]))
        rest = rest[size:]
    return tuple(found)


def _pseudo_header(source: bytes, destination: bytes, length: int) -> bytes:
    """RFC 8200 §8.1."""
    return source + destination + struct.pack("!II", length, ICMPV6)
