"""ARP for IPv4 on Ethernet: RFC 826. Pure."""

from __future__ import annotations

import struct
from typing import NamedTuple

from roamroute.errors import MalformedInput
from roamroute.wire import ethernet

REQUEST, REPLY = 1, 2
UNSPECIFIED = bytes(4)
PROXY_MARK = b"roamroute ap proxy"
"""Behind the packet, where an Ethernet frame is padded to its least length and nobody looks: an access point sent it on
behalf of a host elsewhere, and another one on the same layer 2 must not take it for a host's own."""
_PACKET_BYTES = 28
_ETHERNET_IPV4 = struct.pack("!HHBB", 1, ethernet.ETH_P_IP, 6, 4)


class ArpPacket(NamedTuple):
    """Hardware addresses are six octets, protocol addresses four."""

    operation: int
    sender_hardware: bytes
    sender: bytes
    target_hardware: bytes
    target: bytes

    @property
    def is_probe(self) -> bool:
        """It asks for the address that its sender means to take (RFC 5227 §2.1)."""
        return self.operation == REQUEST and self.sender == UNSPECIFIED


def dissect(packet: bytes) -> ArpPacket | None:
    """Read what follows the Ethernet header; None for another hardware or protocol.

    Raises: MalformedInput.
    """
    if len(packet) < _PACKET_BYTES:
        raise MalformedInput(f"arp: {len(packet)} bytes")
    if packet[:6] != _ETHERNET_IPV4:
        return None
    return ArpPacket(packet[6] << 8 | packet[7], packet[8:14], packet[14:18], packet[18:24], packet[24:28])


def is_proxys(packet: bytes) -> bool:
    """Whether what follows the Ethernet header bears `PROXY_MARK`."""
    return packet[_PACKET_BYTES : _PACKET_BYTES + len(PROXY_MARK)] == PROXY_MARK


def compose(destination: bytes, packet: ArpPacket) -> bytes:
    """The frame, sent by the hardware that the packet names as its sender's; the caller may add `PROXY_MARK`."""
    body = _ETHERNET_IPV4 + struct.pack("!H6s4s6s4s", *packet)
    return ethernet.header(destination, packet.sender_hardware, ethernet.ETH_P_ARP) + body
