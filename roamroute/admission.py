"""Which neighbour may ever become a host route. Pure.

A host route exists only for an address inside a roaming prefix, learnt on a roaming interface from a neighbour that is
not us, not a router of the mesh, not link-local, not multicast, not PERMANENT or NOARP; and not for a segment, the
address under which an access point takes encapsulated packets.
"""

from __future__ import annotations

from collections.abc import Iterable

from roamroute.segments import segment_prefix
from roamroute.values import Address, Mac, Neighbour, Nud, Prefix, is_group_mac

_NEVER = Nud.NOARP | Nud.PERMANENT


class Admission:
    """The filter in front of the engine; `own_addresses` and `own_macs` follow the machine."""

    def __init__(self, links: Iterable[str], prefixes: Iterable[Prefix]) -> None:
        self.links = frozenset(links)
        self.prefixes = tuple(prefixes)
        self.own_addresses: frozenset[Address] = frozenset()
        self.own_macs: frozenset[Mac] = frozenset()
        # Integer comparison: ipaddress's `address in network` costs 1.1 µs, this 0.2 µs (Python 3.11).
        self._ranges = tuple(
            (prefix.version, int(prefix.network_address), int(prefix.broadcast_address)) for prefix in self.prefixes
        )
        segments = segment_prefix(self.prefixes)
        self._segments = (0, 0) if segments is None else (int(segments[0]), int(segments[-1]))

    def admits_address(self, address: Address) -> bool:
        """True when a host route for `address` may exist at all here."""
        value = int(address)
        if not any(version == address.version and low <= value <= high for version, low, high in self._ranges):
            return False
        return (
            address not in self.own_addresses
            and not address.is_multicast
            and not address.is_link_local
            and not address.is_unspecified
            and not address.is_loopback
            and not self._is_reserved(address)
        )

    def is_segment(self, address: Address) -> bool:
        """True for the segments of all access points, those that are not there included."""
        low, high = self._segments
        return address.version == 6 and low <= int(address) <= high and low > 0

    def _is_reserved(self, address: Address) -> bool:
        # The subnet-router anycast address (RFC 4291 §2.6.1) belongs to all routers of the link; an IPv4 network's own
        # and broadcast address (RFC 1122 §3.2.1.3) to nobody.
        if self.is_segment(address):
            return True
        for prefix in self.prefixes:
            if prefix.version == address.version and prefix.prefixlen < prefix.max_prefixlen - 1:
                if address == prefix.network_address:
                    return True
                if address.version == 4 and address == prefix.broadcast_address:
                    return True
        return False

    def admits(self, link: str, address: Address, mac: Mac) -> bool:
        """True when `address` of `mac` on `link` may become a host route."""
        return (
            link in self.links and mac not in self.own_macs and not is_group_mac(mac) and self.admits_address(address)
        )

    def is_discovered(self, neighbour: Neighbour) -> bool:
        """True when the entry came from neighbour discovery, whatever it is for."""
        return not neighbour.is_foreign_made and not neighbour.nud & _NEVER

    def admits_neighbour(self, neighbour: Neighbour) -> bool:
        """True for a neighbour entry that came from discovery on a roaming interface (its MAC may be absent)."""
        return (
            self.is_discovered(neighbour)
            and neighbour.link in self.links
            and (neighbour.mac is None or (neighbour.mac not in self.own_macs and not is_group_mac(neighbour.mac)))
            and self.admits_address(neighbour.address)
        )
