"""The nouns of roamroute: addresses, neighbours, host routes, claims.

Every value is frozen and hashable. Nothing here knows a clock, a socket or the kernel; the numbers that come from
kernel headers are named with their source. See docs/design.md for the words.
"""

from __future__ import annotations

import enum
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NewType

import attrs

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

Instant = float
"""Monotonic seconds; only differences mean something."""
Seconds = float
"""A duration."""

Mac = NewType("Mac", str)
"""A link-layer address, lower case with colons: `02:00:5e:44:00:01`."""
PeerId = IPv6Address | IPv4Address
"""A peer is named by its mesh address (`[peers] address`); claims of equal number are ordered by its numeric value."""

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def mac(text: str) -> Mac:
    """Normalise a link-layer address.

    Raises: ValueError when `text` is not six octets in hexadecimal with colons.
    """
    lowered = text.lower()
    if not _MAC.fullmatch(lowered):
        raise ValueError(f"not a MAC address: {text!r}")
    return Mac(lowered)


def is_group_mac(address: Mac) -> bool:
    """True for multicast and broadcast link-layer addresses (IEEE 802: the I/G bit)."""
    return bool(int(address[:2], 16) & 1)


def is_interface_name(name: str) -> bool:
    """True for what Linux takes as the name of an interface (dev_valid_name, net/core/dev.c) and no file misreads."""
    if not 0 < len(name.encode()) < 16 or name in (".", ".."):
        return False
    return name.isprintable() and not any(character in '/:"\\' or character.isspace() for character in name)


class Nud(enum.IntEnum):
    """States of neighbour unreachability detection, RFC 4861 §7.3.2; the numbers are linux/neighbour.h's NUD_*."""

    NONE = 0x00
    INCOMPLETE = 0x01
    REACHABLE = 0x02
    STALE = 0x04
    DELAY = 0x08
    PROBE = 0x10
    FAILED = 0x20
    NOARP = 0x40
    PERMANENT = 0x80

    @property
    def is_alive(self) -> bool:
        """True where draft-barth-homenet-wifi-roaming-00 wants a host route."""
        return self in _ALIVE


_ALIVE = frozenset({Nud.REACHABLE, Nud.STALE, Nud.DELAY, Nud.PROBE})


@attrs.frozen
class Neighbour:
    """One entry of the kernel's neighbour table.

    `mac` is None where the kernel has none (INCOMPLETE, FAILED). `is_foreign_made` is true for entries that did not
    come from neighbour discovery on this link: NTF_PROXY or NTF_EXT_LEARNED (linux/neighbour.h).
    """

    link: str
    address: Address
    nud: Nud
    mac: Mac | None = None
    is_foreign_made: bool = False


@attrs.frozen
class Station:
    """An authenticated 802.11 station: associated and authorised on `link` (the roaming interface, not the BSS)."""

    mac: Mac
    link: str


@attrs.frozen
class HostRoute:
    """A route for one address, out of one client link.

    `is_lingering`: the host has moved on, and what still arrives is sent on to it; the route stays for a while, so that
    nobody is without one while the new one spreads.
    """

    address: Address
    link: str
    is_lingering: bool = False

    @property
    def prefix_length(self) -> int:
        """128 for IPv6, 32 for IPv4."""
        return self.address.max_prefixlen

    def __str__(self) -> str:
        return f"{self.address}/{self.address.max_prefixlen}"


class Basis(enum.Enum):
    """What a claim rests on. An association is proof; neighbour discovery alone is evidence that a holder may test."""

    ASSOCIATION = 1
    NEIGHBOUR = 2


class Verdict(enum.Enum):
    """A peer's answer to a claim."""

    ACCEPTED = 1
    """The peer withdrew (or never held) the host; `addresses` are those it knew."""
    REFUSED = 2
    """The peer knows a greater (sequence, peer) for the host: `sequence` and `holder` say which."""
    KEPT = 3
    """The claim rested on neighbour discovery only, and the host still answers at its holder."""
    PENDING = 4
    """The peer is probing; ask again."""


@attrs.frozen
class Segments:
    """Where an access point takes encapsulated packets for its hosts: SRv6 segment identifiers (RFC 8986 §3.1).

    `ipv6` decapsulates IPv6 (End.DT6), `ipv4` decapsulates IPv4 (End.DX4); None where it takes none.
    """

    ipv6: IPv6Address | None = None
    ipv4: IPv6Address | None = None

    def for_address(self, address: Address) -> IPv6Address | None:
        """The segment for packets to `address`."""
        return self.ipv6 if address.version == 6 else self.ipv4

    def __bool__(self) -> bool:
        return self.ipv6 is not None or self.ipv4 is not None


@attrs.frozen
class Claim:
    """`peer` says: the host `mac` is on my link now.

    `sequence` is the host's mobility sequence number (RFC 7432 §7.7), 1..2**32-1. `addresses` are addresses that the
    claimant wants to announce and that it has not yet had confirmed by the peers. `segments`: where the claimant takes
    what still arrives for the host elsewhere; a peer of an older version names none. `age_s`: so long ago, when the
    claim is sent, the station associated or last proved that it is there; None when that is not known.
    """

    mac: Mac
    sequence: int
    peer: PeerId
    basis: Basis
    addresses: tuple[Address, ...] = ()
    segments: Segments = Segments()
    age_s: Seconds | None = attrs.field(default=None, eq=False)

    @property
    def order(self) -> tuple[int, int, int]:
        """Claims for one host are totally ordered by this; the greatest holds the host."""
        return (self.sequence, self.peer.version, int(self.peer))


@attrs.frozen
class Answer:
    """The answer to the claim (`mac`, `claimed`): `sequence` and `holder` are what the answering peer now believes.

    `addresses`: what the answering peer knew of the host. `denied`: those of the claim's addresses that another host
    holds at the answering peer and still answers for. `age_s`: that of the claim by which `holder` has the host, when
    the answer is sent; None when that is not known.
    """

    mac: Mac
    claimed: int
    verdict: Verdict
    sequence: int
    holder: PeerId | None = None
    addresses: tuple[Address, ...] = ()
    denied: tuple[Address, ...] = ()
    age_s: Seconds | None = attrs.field(default=None, eq=False)


@attrs.frozen
class Hint:
    """`peer` says, ahead of any roam: I hold the host `mac` by the claim `sequence`, and these are its addresses.

    It is not asked for and takes nothing from anybody; it lets the next access point do without asking. It replaces the
    one before; without addresses it says that none is known any more.
    """

    mac: Mac
    sequence: int
    peer: PeerId
    addresses: tuple[Address, ...] = ()

    @property
    def order(self) -> tuple[int, int, int]:
        """Comparable with `Claim.order`."""
        return (self.sequence, self.peer.version, int(self.peer))


@attrs.frozen
class HandoverReport:
    """The former holder tells the claimant how the handover of `mac` went, after the claim `sequence` had come.

    Seconds after the claim's arrival; None: has not happened (yet). `withdrawn_s`: our host routes are out of the FIB;
    `forwarded_s`: the first packet was sent on to the claimant; `converged_s`: our routing daemon knows the new way;
    `diverted_s`: what still arrives is sent on to the claimant from now on.
    """

    mac: Mac
    sequence: int
    withdrawn_s: Seconds | None = None
    forwarded_s: Seconds | None = None
    converged_s: Seconds | None = None
    diverted_s: Seconds | None = None


class DadKind(enum.Enum):
    """What a host says of an address during duplicate address detection; the numbers are the peers' channel's."""

    SOLICITATION = 1
    """It asks whether anybody has it: an NS from the unspecified address (RFC 4862 §5.4.2), an ARP probe
    (RFC 5227 §2.1.1)."""
    ADVERTISEMENT = 2
    """It says that it has it: an NA to all-nodes, an ARP announcement, the ARP reply to a probe."""


@attrs.frozen
class DadMessage:
    """What the host `mac` says of `target`, as the DAD proxy carries it: nothing of the frame but this.

    `nonce`: the value of the Nonce option (RFC 3971 §5.3.2) by which a host knows its own solicitation again
    (RFC 7527), passed on as it came and never made up; empty where there is none.
    """

    kind: DadKind
    target: Address
    mac: Mac
    nonce: bytes = b""


PREF64_LENGTHS = (96, 64, 56, 48, 40, 32)
"""Of a NAT64 prefix (RFC 6052 §2.2); the place is the code of the length in PREF64 (RFC 8781 §4)."""


@attrs.frozen
class AdvertisedPrefix:
    """A Prefix Information Option (RFC 4861 §4.6.2), A=1 and L=0: addresses are made in it, and nobody is on-link."""

    prefix: IPv6Network
    valid_lifetime_s: int
    preferred_lifetime_s: int


@attrs.frozen
class AdvertisedRouter:
    """All that our router advertisements say, whoever sends them (RFC 4861 §4.2); M=0, O=0.

    `source`: the fixed link-local address. 0 in `retrans_timer_ms`, `reachable_time_ms` and `hop_limit` is "unspecified
    by this router"; `mtu_bytes` None: no option. `rdnss_lifetime_s` is for both RDNSS and DNSSL (RFC 8106);
    `pref64` (RFC 8781) has one of `PREF64_LENGTHS`.
    """

    source: IPv6Address
    lifetime_s: int
    prefixes: tuple[AdvertisedPrefix, ...]
    hop_limit: int = 64
    reachable_time_ms: int = 0
    retrans_timer_ms: int = 0
    mtu_bytes: int | None = None
    rdnss: tuple[IPv6Address, ...] = ()
    dnssl: tuple[str, ...] = ()
    rdnss_lifetime_s: int = 0
    pref64: IPv6Network | None = None
    pref64_lifetime_s: int = 0
    interval_min_s: float = 450.0
    """Between two unsolicited advertisements to all nodes (RFC 4861 §6.2.1 MinRtrAdvInterval)."""
    interval_max_s: float = 1800.0
    """RFC 7772 §4: few multicast advertisements, so that batteries last."""
