"""What an access point tells a station of its gateway unasked: a Neighbour Advertisement, an ARP announcement.

Pure. Both are sent to the station's own MAC: the address at layer 3 is the group that the RFC names, the one at layer 2
is the station's, so nobody else's air and battery is spent, and no access point's multicast rate limits it.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from roamroute.values import Mac
from roamroute.wire import arp, ethernet, icmpv6
from roamroute.wire.arp import ArpPacket

_ROUTER_AND_OVERRIDE = 0xA0000000


def neighbour_advertisement(source: Mac, station: Mac, target: IPv6Address) -> bytes:
    """An unsolicited NA for a router's link-local `target`, which is also its source (RFC 4861 §4.4, §7.2.6).

    Router and override flags are set: a station that holds another MAC for the address takes this one.
    """
    hardware = ethernet.octets(source)
    message = struct.pack("!BBHI", icmpv6.NEIGHBOUR_ADVERTISEMENT, 0, 0, _ROUTER_AND_OVERRIDE) + target.packed
    message += icmpv6.option(icmpv6.TARGET_LINK_LAYER_ADDRESS, hardware)
    return icmpv6.compose(ethernet.octets(station), hardware, target.packed, icmpv6.ALL_NODES, message)


def arp_announcement(source: Mac, station: Mac, address: IPv4Address) -> bytes:
    """An ARP announcement: a request from `address` for itself (RFC 5227 §3)."""
    packet = ArpPacket(arp.REQUEST, ethernet.octets(source), address.packed, bytes(6), address.packed)
    return arp.compose(ethernet.octets(station), packet)
