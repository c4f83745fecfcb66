"""Router Advertisements: RFC 4861 §4.2, RDNSS and DNSSL (RFC 8106), PREF64 (RFC 8781).

Pure. An option that is too short or too long for its kind is ignored, as these RFCs want it (RFC 8106 §5.3.1,
RFC 8781 §5); one whose length does not fit the message makes the whole message malformed (RFC 4861 §6.1.2).
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, IPv6Network

import attrs

from roamroute.values import PREF64_LENGTHS, AdvertisedPrefix, AdvertisedRouter, Mac
from roamroute.wire import ethernet, icmpv6
from roamroute.wire.icmpv6 import DiscoveryMessage

ALL_NODES = IPv6Address(icmpv6.ALL_NODES)
MAX_PACKET_BYTES = 1280
"""The least MTU of IPv6 (RFC 8200 §5): an advertisement arrives in one packet on every link, and may not be fragmented
(RFC 6980)."""
MAX_LIFETIME_S = 65535
"""Of a router (RFC 8319 §4)."""
PREF64_LIFETIME_UNIT_S = 8
MAX_PREF64_LIFETIME_S = 8191 * PREF64_LIFETIME_UNIT_S

_MANAGED, _OTHER = 0x80, 0x40
_ON_LINK, _AUTONOMOUS = 0x80, 0x40
_PREFIX_INFORMATION, _MTU, _RDNSS, _DNSSL, _PREF64 = 3, 5, 25, 31, 38
_PREFIX = struct.Struct("!BBII4x16s")  # behind the length: prefix length, flags, valid, preferred, reserved, prefix
_PREFERENCES = {0b00: "medium", 0b01: "high", 0b11: "low"}  # RFC 4191 §2.1; 0b10 is to be read as medium


@attrs.frozen
class HeardPrefix:
    """A Prefix Information Option, as it says."""

    prefix: IPv6Network
    is_on_link: bool
    is_autonomous: bool
    valid_lifetime_s: int
    preferred_lifetime_s: int


@attrs.frozen
class HeardRouter:
    """What a router said of itself: `mac` sent the frame, `source` the packet. None and (): it did not say.

    0 in `hop_limit`, `reachable_time_ms` and `retrans_timer_ms` is "unspecified by this router".
    """

    mac: Mac
    source: IPv6Address
    lifetime_s: int
    hop_limit: int = 0
    is_managed: bool = False
    is_other: bool = False
    preference: str = "medium"
    reachable_time_ms: int = 0
    retrans_timer_ms: int = 0
    prefixes: tuple[HeardPrefix, ...] = ()
    mtu_bytes: int | None = None
    rdnss: tuple[IPv6Address, ...] = ()
    rdnss_lifetime_s: int | None = None
    dnssl: tuple[str, ...] = ()
    dnssl_lifetime_s: int | None = None
    pref64: IPv6Network | None = None
    pref64_lifetime_s: int | None = None


def read(sender: Mac, message: DiscoveryMessage) -> HeardRouter:
    """What a Router Advertisement says, which `icmpv6.dissect` has checked."""
    hop_limit, flags, lifetime_s, reachable_ms, retrans_ms = struct.unpack_from("!BBHII", message.fixed, 4)
    prefixes: list[HeardPrefix] = []
    rdnss: list[IPv6Address] = []
    dnssl: list[str] = []
    mtu: int | None = None
    rdnss_lifetime_s: int | None = None
    dnssl_lifetime_s: int | None = None
    pref64: tuple[IPv6Network, int] | None = None
    for kind, payload in message.options:
        if kind == _PREFIX_INFORMATION and len(payload) == 30 and payload[0] <= 128:
            prefixes.append(_read_prefix(payload))
        elif kind == _MTU and len(payload) == 6:
            mtu = int.from_bytes(payload[2:], "big")
        elif kind == _RDNSS and len(payload) >= 22 and len(payload) % 16 == 6:
            rdnss += [IPv6Address(payload[at : at + 16]) for at in range(6, len(payload), 16)]
            rdnss_lifetime_s = int.from_bytes(payload[2:6], "big")
        elif kind == _DNSSL and len(payload) >= 14:
            dnssl += _read_names(payload[6:])
            dnssl_lifetime_s = int.from_bytes(payload[2:6], "big")
        elif kind == _PREF64 and len(payload) == 14 and pref64 is None:
            pref64 = _read_pref64(payload)
    return HeardRouter(
        mac=sender,
        source=IPv6Address(message.source),
        lifetime_s=lifetime_s,
        hop_limit=hop_limit,
        is_managed=bool(flags & _MANAGED),
        is_other=bool(flags & _OTHER),
        preference=_PREFERENCES.get(flags >> 3 & 0b11, "medium"),
        reachable_time_ms=reachable_ms,
        retrans_timer_ms=retrans_ms,
        prefixes=tuple(prefixes),
        mtu_bytes=mtu,
        rdnss=tuple(rdnss),
        rdnss_lifetime_s=rdnss_lifetime_s,
        dnssl=tuple(dnssl),
        dnssl_lifetime_s=dnssl_lifetime_s,
        pref64=None if pref64 is None else pref64[0],
        pref64_lifetime_s=None if pref64 is None else pref64[1],
    )


def router_advertisement(
    source: Mac, station: Mac | None, router: AdvertisedRouter, *, destination: IPv6Address = ALL_NODES
) -> bytes:
    """The advertisement to one station or (None) to all; at layer 3 it goes to `destination`.

    Raises: ValueError when a value does not fit its field, or all of them into `MAX_PACKET_BYTES`.
    """
    hardware = ethernet.octets(source)
    try:
        message = struct.pack(
            "!BBHBBHII",
            *(icmpv6.ROUTER_ADVERTISEMENT, 0, 0, router.hop_limit, 0, router.lifetime_s),
            *(router.reachable_time_ms, router.retrans_timer_ms),
        )
        message += icmpv6.option(icmpv6.SOURCE_LINK_LAYER_ADDRESS, hardware) + _options(router)
    except struct.error as error:
        raise ValueError(f"router advertisement: {error}") from error
    if icmpv6.HEADER_BYTES + len(message) > MAX_PACKET_BYTES:
        size = icmpv6.HEADER_BYTES + len(message)
        raise ValueError(f"router advertisement: {size} octets, a packet takes {MAX_PACKET_BYTES}")
    group = ethernet.group_of(icmpv6.ALL_NODES)
    to = group if station is None else ethernet.octets(station)
    return icmpv6.compose(to, hardware, router.source.packed, destination.packed, message)


def _options(router: AdvertisedRouter) -> bytes:
    options = b"".join(_prefix_option(prefix) for prefix in router.prefixes)
    if router.mtu_bytes is not None:
        options += icmpv6.option(_MTU, struct.pack("!HI", 0, router.mtu_bytes))
    if router.rdnss:
        servers = b"".join(server.packed for server in router.rdnss)
        options += icmpv6.option(_RDNSS, struct.pack("!HI", 0, router.rdnss_lifetime_s) + servers)
    if router.dnssl:
        names = b"".join(_name(name) for name in router.dnssl)
        names += bytes(-len(names) % 8)
        options += icmpv6.option(_DNSSL, struct.pack("!HI", 0, router.rdnss_lifetime_s) + names)
    if router.pref64 is not None:
        options += _pref64_option(router.pref64, router.pref64_lifetime_s)
    return options


def _prefix_option(prefix: AdvertisedPrefix) -> bytes:
    lifetimes = prefix.valid_lifetime_s, prefix.preferred_lifetime_s
    packed = prefix.prefix.network_address.packed
    return icmpv6.option(_PREFIX_INFORMATION, _PREFIX.pack(prefix.prefix.prefixlen, _AUTONOMOUS, *lifetimes, packed))


def _pref64_option(prefix: IPv6Network, lifetime_s: int) -> bytes:
    """RFC 8781 §4. The lifetime is rounded up to its unit (§4.1)."""
    if prefix.prefixlen not in PREF64_LENGTHS:
        raise ValueError(f"PREF64: a prefix of {prefix.prefixlen} bits (RFC 8781 §4)")
    units = -(-lifetime_s // PREF64_LIFETIME_UNIT_S)
    if not 0 <= lifetime_s <= MAX_PREF64_LIFETIME_S:
        raise ValueError(f"PREF64: a lifetime of {lifetime_s} s, at most {MAX_PREF64_LIFETIME_S} (RFC 8781 §4)")
    code = PREF64_LENGTHS.index(prefix.prefixlen)
    return icmpv6.option(_PREF64, struct.pack("!H12s", units << 3 | code, prefix.network_address.packed[:12]))


def _name(name: str) -> bytes:
    """A domain name as labels (RFC 1035 §3.1), never compressed (RFC 8106 §5.2)."""
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"DNSSL: {name!r} has a label of no or more than 63 octets")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _read_prefix(payload: bytes) -> HeardPrefix:
    length, flags, valid_s, preferred_s, packed = _PREFIX.unpack(payload)
    # The bits behind the prefix are reserved and to be ignored (RFC 4861 §4.6.2).
    prefix = IPv6Network((packed, length), strict=False)
    return HeardPrefix(prefix, bool(flags & _ON_LINK), bool(flags & _AUTONOMOUS), valid_s, preferred_s)


def _read_pref64(payload: bytes) -> tuple[IPv6Network, int] | None:
    (scaled,) = struct.unpack_from("!H", payload)
    if scaled & 0b111 >= len(PREF64_LENGTHS):
        return None  # RFC 8781 §4: to be ignored
    prefix = IPv6Network((payload[2:14] + bytes(4), PREF64_LENGTHS[scaled & 0b111]), strict=False)
    return prefix, (scaled >> 3) * PREF64_LIFETIME_UNIT_S


def _read_names(rest: bytes) -> list[str]:
    """The names up to the padding; none of an option in which one is cut short."""
    names: list[str] = []
    labels: list[str] = []
    while rest:
        size = rest[0]
        if size > 63 or size >= len(rest) + (size == 0):
            return []
        if size == 0:
            if not labels:
                break
            names.append(".".join(labels))
            labels = []
        else:
            # Anybody may have written it, and it will stand on a terminal.
            labels.append(rest[1 : 1 + size].decode("latin-1").encode("unicode_escape").decode("ascii"))
        rest = rest[1 + size :]
    return names if not labels else []
