"""What an access point tells a station of its gateway unasked: a Neighbour Advertisement, an ARP announcement.

Pure. Both are sent to the station's own MAC: the address at layer 3 is the group that the RFC names, the one at layer 2
is the station's, so nobody else's air and battery is spent, and no access point's multicast rate limits it.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from roamroute.values import Mac
from roamroute.wire.frames import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6

_ICMPV6, _NEIGHBOUR_ADVERTISEMENT, _TARGET_LINK_LAYER_ADDRESS = 58, 136, 2
_ROUTER_AND_OVERRIDE = 0xA0000000
_ALL_NODES = IPv6Address("ff02::1").packed


def neighbour_advertisement(source: Mac, station: Mac, target: IPv6Address) -> bytes:
    """An unsolicited NA for a router's link-local `target`, which is also its source (RFC 4861 §4.4, §7.2.6).

    Router and override flags are set: a station that holds another MAC for the address takes this one.
    """
    hardware = _packed(source)
    body = struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _ROUTER_AND_OVERRIDE) + target.packed
    body += struct.pack("!BB", _TARGET_LINK_LAYER_ADDRESS, 1) + hardware
    pseudo = target.packed + _ALL_NODES + struct.pack("!II", len(body), _ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255) + target.packed + _ALL_NODES
    return _packed(station) + hardware + struct.pack("!H", ETH_P_IPV6) + header + body


def arp_announcement(source: Mac, station: Mac, address: IPv4Address) -> bytes:
    """An ARP announcement: a request from `address` for itself (RFC 5227 §3)."""
    hardware = _packed(source)
    body = struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, 1) + hardware + address.packed + bytes(6) + address.packed
    return _packed(station) + hardware + struct.pack("!H", ETH_P_ARP) + body


def _packed(mac: Mac) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _checksum(data: bytes) -> int:
    """RFC 1071: the complement of the sum in ones' complement; `data` has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
