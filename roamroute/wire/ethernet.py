"""The header of an Ethernet frame without a VLAN tag. Pure."""

from __future__ import annotations

import struct

from roamroute.errors import MalformedInput
from roamroute.values import Mac

HEADER_BYTES = 14
ETH_P_ALL = 0x0003
ETH_P_IP = 0x0800
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
PACKET_OUTGOING = 4
"""linux/if_packet.h: what this machine sends."""
BROADCAST = b"\xff" * 6


def dissect(frame: bytes) -> tuple[int, bytes]:
    """What a frame carries (one of the ETH_P_*, for instance), and the six octets of its sender.

    Raises: MalformedInput when it is cut short, or sent by a group.
    """
    if len(frame) < HEADER_BYTES:
        raise MalformedInput(f"ethernet: frame of {len(frame)} bytes")
    if frame[6] & 1:
        raise MalformedInput("ethernet: the source is a group address")
    return frame[12] << 8 | frame[13], frame[6:12]


def header(destination: bytes, source: bytes, kind: int) -> bytes:
    """The fourteen octets."""
    return destination + source + struct.pack("!H", kind)


def octets(mac: Mac) -> bytes:
    """The six octets of an address."""
    return bytes.fromhex(mac.replace(":", ""))


def group_of(address: bytes) -> bytes:
    """The link-layer group of an IPv6 group of sixteen octets (RFC 2464 §7)."""
    return b"\x33\x33" + address[12:]
