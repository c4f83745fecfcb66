"""The segment identifiers of an access point, derived from what all of them know: nothing is configured or told.

An access point takes encapsulated packets for its hosts under an address of its own in the first IPv6 roaming prefix.
Its host route goes to the mesh in the same way as a client's, so every routing daemon carries it already. The last 64
bits are a tag, 32 bits that mark all segments of the mesh, then 31 bits of a digest of the mesh address, then one bit
for the kind. No client gets such an address: `admission` refuses the tag. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network

from roamroute.values import PeerId, Prefix, Segments

TAG = 0x726F616D
"""ASCII "roam"; bits 64 to 95 of an address. The "u" bit of the interface identifier is set, as for one that somebody
assigned: chance gives it to one of 2**32 temporary addresses, which is then refused with a note."""

_DIGEST_BITS = 31  # 256 access points: two of them agree once in 65,000 meshes; `config` then offers another prefix


def segment_prefix(prefixes: Iterable[Prefix]) -> IPv6Network | None:
    """The /96 in which all segments lie: in the first IPv6 roaming prefix that is a /64 or shorter; else None."""
    for prefix in prefixes:
        if isinstance(prefix, IPv6Network) and prefix.prefixlen <= 64:
            return IPv6Network((int(prefix.network_address) | TAG << 32, 96))
    return None


def segments_of(peer: PeerId, prefixes: Iterable[Prefix]) -> Segments:
    """The segments of the access point with this mesh address; empty ones where no roaming prefix has room.

    The one for IPv4 exists when a roaming prefix is IPv4.
    """
    known = tuple(prefixes)
    within = segment_prefix(known)
    if within is None:
        return Segments()
    digest = int.from_bytes(hashlib.blake2b(peer.packed, digest_size=4, person=b"roamroute sids").digest(), "big")
    first = int(within.network_address) | digest >> (32 - _DIGEST_BITS) << 1
    has_ipv4 = any(prefix.version == 4 for prefix in known)
    return Segments(ipv6=IPv6Address(first), ipv4=IPv6Address(first | 1) if has_ipv4 else None)
