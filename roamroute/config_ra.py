"""`[ra]` of the configuration: what router advertisements say (RFC 4861 §6.2.1), who sends them, and what contradicts.

The defaults suit Wi-Fi with clients on batteries: a station is told at its connection, so that what goes to all nodes
is rare, and lifetimes outlast several such advertisements that a sleeping station has missed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from typing import Literal

import attrs

from roamroute.values import PREF64_LENGTHS, AdvertisedPrefix, AdvertisedRouter, Prefix, Seconds

SLAAC_PREFIX_LENGTH = 64
"""An address is a prefix and an interface identifier of 64 bits (RFC 4291 §2.5.1, RFC 4862 §5.5.3 d)."""
INFINITE_S = 2**32 - 1
PREF64_LIFETIME_LIMIT_S = 65528
"""13 bits of 8 s each."""
_LIMIT_S = 65535
"""Of the router lifetime and of the interval, RFC 8319 §4. …"""
_OLD_INTERVAL_LIMIT_S, _OLD_LIFETIME_LIMIT_S = 1800, 9000
"""… RFC 4861 §6.2.1: radvd 2.19 (which says so only when it runs), BIRD 2.0.12 to 3.1 and FRR 8.4.4 and 10.3."""
_LEAST_INTERVAL_S: Seconds = 3.0
_LEAST_MTU_BYTES = 1280
_ADVERTISEMENT_LIMIT_BYTES = _LEAST_MTU_BYTES - 40
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)


@attrs.frozen
class RaSection:
    """`[ra]`: router advertisements on the client links. With this table, even an empty one, they are sent."""

    sender: Literal["roamroute", "radvd", "bird", "frr"] = "roamroute"
    """Who sends them; of another than "roamroute" we only print the configuration, and check what it sends."""
    source: IPv6Address = IPv6Address("fe80::1")
    """The clients' gateway: the same on every access point, so that a client that moves keeps its default router."""
    router_lifetime_s: int = 9000
    """Five of the rarest advertisements to all: Wi-Fi does not repeat a lost one, and in the end a client is without a
    way out. 9000 s is the most that RFC 4861 allows; RFC 8319 allows 65535. A dead access point needs no short
    lifetime: its stations leave it, and the next one answers for the same address. 0: no default router at all."""
    needs_route: tuple[IPv6Network, ...] = ()
    """This router is withdrawn (lifetime 0) while it has a route to none of these, such as ["::/0"]. Not by default:
    where the mesh has one way out, its loss is everywhere, another access point is no better, and what is in the mesh
    would be lost to the clients as well. It helps clients that have another network to turn to, and split meshes."""
    valid_lifetime_s: int = 86400
    """Of addresses in the roaming prefixes. A day: a device that was away for a night keeps its address."""
    preferred_lifetime_s: int = 14400
    """Until new connections use another address, if there is one. The prefix never changes by moving."""
    rdnss: tuple[IPv6Address, ...] = ()
    """DNS resolvers (RFC 8106); with NAT64 those that do DNS64."""
    dnssl: tuple[str, ...] = ()
    """DNS search list."""
    mtu_bytes: int | None = None
    """1460 where mesh links of 1500 bytes send on packets of hosts that have moved (docs/howto-handover.md)."""
    pref64: IPv6Network | None = None
    """The prefix of the NAT64 (RFC 8781), such as "64:ff9b::/96"."""
    retrans_timer_ms: int = 0
    """Between two solicitations of a client, and how long it awaits duplicates of a new address. 0: its own, 1 s."""
    reachable_time_ms: int = 0
    """How long a client takes its gateway for reachable without asking. 0: its own, 30 s."""
    hop_limit: int = 64
    """What clients put into their packets; 0: their own."""
    interval_min_s: Seconds = 450.0
    """Between two advertisements to all nodes of a link, at random from this …"""
    interval_max_s: Seconds = 1800.0
    """… to this: 3 an hour; at 7 an hour a telephone loses 2 % of its standby time (RFC 7772 §4)."""

    def router(self, prefixes: tuple[Prefix, ...]) -> AdvertisedRouter:
        """What is said for these roaming prefixes, of which those that are no IPv6 /64 are left out."""
        three_intervals_s = round(3 * self.interval_max_s)
        return AdvertisedRouter(
            source=self.source,
            lifetime_s=self.router_lifetime_s,
            prefixes=tuple(
                AdvertisedPrefix(prefix, self.valid_lifetime_s, self.preferred_lifetime_s)
                for prefix in prefixes
                if isinstance(prefix, IPv6Network) and prefix.prefixlen == SLAAC_PREFIX_LENGTH
            ),
            hop_limit=self.hop_limit,
            reachable_time_ms=self.reachable_time_ms,
            retrans_timer_ms=self.retrans_timer_ms,
            mtu_bytes=self.mtu_bytes,
            rdnss=self.rdnss,
            dnssl=self.dnssl,
            rdnss_lifetime_s=max(three_intervals_s, self.router_lifetime_s),  # RFC 8106 §5.1: at least three intervals
            pref64=self.pref64,
            pref64_lifetime_s=min(-(-three_intervals_s // 8) * 8, PREF64_LIFETIME_LIMIT_S),  # RFC 8781 §4.1
            interval_min_s=self.interval_min_s,
            interval_max_s=self.interval_max_s,
        )


def ra_contradictions(section: RaSection, interfaces: tuple[str, ...], prefixes: tuple[Prefix, ...]) -> Iterator[str]:
    """Every wrong value, and what does not go with `[roaming]`, each with its dotted path."""
    if not interfaces:
        yield "ra: without a client link (roaming.interfaces) there is nobody to tell; leave the table out"
    if all(prefix.version == 4 for prefix in prefixes):
        yield "ra: router advertisements are for IPv6, and no roaming prefix is; leave the table out"
    for prefix in prefixes:
        if prefix.version == 6 and prefix.prefixlen != SLAAC_PREFIX_LENGTH:
            yield f"ra: clients make themselves addresses in a /64 only, and roaming.prefixes has {prefix}"
    if not section.source.is_link_local or section.source.scope_id is not None:
        yield f'ra.source: must be a link-local address (RFC 4861 §4.2), such as "fe80::1", not {section.source}'
    yield from _routes(section)
    yield from _times(section)
    yield from _resolvers(section)
    if section.mtu_bytes is not None and not _LEAST_MTU_BYTES <= section.mtu_bytes <= 65535:
        yield f"ra.mtu_bytes: must be {_LEAST_MTU_BYTES} to 65535 (RFC 8200 §5), not {section.mtu_bytes}"
    if not 0 <= section.hop_limit <= 255:
        yield f"ra.hop_limit: must be 0 to 255, not {section.hop_limit}"
    if section.pref64 is not None and section.pref64.prefixlen not in PREF64_LENGTHS:
        lengths = ", ".join(map(str, PREF64_LENGTHS))
        yield f"ra.pref64: the length must be one of {lengths} (RFC 8781 §4), not {section.pref64.prefixlen}"
    size = _size_bytes(section, sum(prefix.version == 6 for prefix in prefixes))
    if size > _ADVERTISEMENT_LIMIT_BYTES:
        yield (
            f"ra: an advertisement of {size} octets would be fragmented, and a fragment is ignored (RFC 6980): "
            f"at most {_ADVERTISEMENT_LIMIT_BYTES}; shorten dnssl or rdnss"
        )


def _routes(section: RaSection) -> Iterator[str]:
    if section.needs_route and section.sender != "roamroute":
        how = ' (BIRD has "trigger" for this)' if section.sender == "bird" else ""
        yield f'ra.needs_route: with sender = "{section.sender}" we cannot withdraw the router{how}; leave it out'
    if section.needs_route and section.router_lifetime_s == 0:
        yield "ra.needs_route: with router_lifetime_s = 0 there is nothing to withdraw"


def _times(section: RaSection) -> Iterator[str]:
    longest_s, shortest_s = section.interval_max_s, section.interval_min_s
    interval_limit_s, lifetime_limit_s, why = _LIMIT_S, _LIMIT_S, "RFC 8319 §4"
    if section.sender != "roamroute":
        interval_limit_s, lifetime_limit_s = _OLD_INTERVAL_LIMIT_S, _OLD_LIFETIME_LIMIT_S
        why = f"{section.sender} does not know RFC 8319"
    if not 4 <= longest_s <= interval_limit_s:
        yield f"ra.interval_max_s: must be 4 to {interval_limit_s} ({why}), not {longest_s:g}"
    elif not _LEAST_INTERVAL_S <= shortest_s <= 0.75 * longest_s:
        yield (
            f"ra.interval_min_s: must be {_LEAST_INTERVAL_S:g} to three quarters of interval_max_s "
            f"({0.75 * longest_s:g}; RFC 4861 §6.2.1), not {shortest_s:g}"
        )
    if section.router_lifetime_s and not longest_s <= section.router_lifetime_s <= lifetime_limit_s:
        yield (
            f"ra.router_lifetime_s: must be 0, or interval_max_s ({longest_s:g}) to {lifetime_limit_s} ({why}), "
            f"not {section.router_lifetime_s}"
        )
    for name in ("valid_lifetime_s", "preferred_lifetime_s"):
        value = getattr(section, name)
        if not longest_s <= value <= INFINITE_S and not (value == 0 and name == "preferred_lifetime_s"):
            none = "0 (no new connections), or " if name == "preferred_lifetime_s" else ""
            yield (
                f"ra.{name}: must be {none}interval_max_s ({longest_s:g}) to {INFINITE_S} (for ever), or the addresses "
                f"would end between two advertisements, not {value}"
            )
    if section.preferred_lifetime_s > section.valid_lifetime_s >= longest_s:
        yield "ra.preferred_lifetime_s: must not be more than valid_lifetime_s (RFC 4862 §5.5.3 c)"
    for name, least, most, default in (
        ("retrans_timer_ms", 100, 60_000, "1 s"),
        ("reachable_time_ms", 1000, 3_600_000, "30 s"),
    ):
        value = getattr(section, name)
        if value and not least <= value <= most:
            yield f"ra.{name}: must be 0 (the client's own, {default}), or {least} to {most} ms, not {value}"


def _resolvers(section: RaSection) -> Iterator[str]:
    for position, address in enumerate(section.rdnss):
        if address.is_multicast or address.is_unspecified or address.is_loopback:
            yield f"ra.rdnss[{position}]: {address} is no resolver's address"
        elif address.scope_id is not None:
            yield f"ra.rdnss[{position}]: {address} names an interface of this machine; leave out what follows the %"
    for position, name in enumerate(section.dnssl):
        if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
            yield (
                f"ra.dnssl[{position}]: {name!r} is not a domain name (labels of 1 to 63 letters, digits and hyphens, "
                "without a dot at the end; RFC 1035 §2.3.1)"
            )
    for key, values in (("rdnss", section.rdnss), ("dnssl", section.dnssl)):
        if len(set(values)) != len(values):
            yield f"ra.{key}: something is named twice"


def _size_bytes(section: RaSection, prefixes: int) -> int:
    """Of the ICMPv6 message, with every option: RFC 4861 §4.2 and §4.6, RFC 8106 §5, RFC 8781 §4."""
    size = 16 + 8 + 32 * prefixes
    size += 8 if section.mtu_bytes is not None else 0
    size += 8 + 16 * len(section.rdnss) if section.rdnss else 0
    size += 8 + -(-sum(len(name) + 2 for name in section.dnssl) // 8) * 8 if section.dnssl else 0
    return size + (16 if section.pref64 is not None else 0)
