"""Router advertisements by BIRD's radv protocol: the part of `roamroute config bird` for `[ra] sender = "bird"`.

What BIRD 2.0.12, 2.17 and 3.1 were seen to send with it is in docs/howto-nd.md. BIRD takes the prefixes from the
addresses of the interface, and its own source address from the device protocol.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from roamroute.values import PREF64_LENGTHS, AdvertisedRouter

NAME = "roamroute_ra"
_PREF64_OPTION = 38


def device(router: AdvertisedRouter | None, interfaces: Sequence[str]) -> Iterator[str]:
    """The device protocol; it says which of the link-local addresses of an interface is BIRD's own."""
    if router is None:
        yield "protocol device { }"
        return
    yield "protocol device {"
    for link in interfaces:
        yield f'  interface "{link}" {{ preferred {router.source}; }};'
    yield "}"


def radv(router: AdvertisedRouter, interfaces: Sequence[str]) -> Iterator[str]:
    """The radv protocol, with what must be known about it as comments."""
    links = ", ".join(f'"{link}"' for link in interfaces)
    yield "# Router advertisements. BIRD announces a prefix only where an interface has an address in it: add one to"
    yield "# each client link, the same on all access points, without a route:"
    for each in router.prefixes:
        address = f"{each.prefix.network_address + 1}/{each.prefix.prefixlen}"
        yield f"#   ip -6 address add {address} dev LINK nodad noprefixroute"
    yield "# BIRD does not say its link-layer address (a client asks for it once), nor tell a station as soon as it is"
    yield "# connected (it waits until the station asks), nor withdraw the router while roamroute is drained. With"
    yield "# `ipv6 { export where net = ::/0; }; trigger ::/0;` it withdraws the router when BIRD has no default route."
    yield f"protocol radv {NAME} {{"
    yield f"  interface {links} {{"
    yield from (f"    {line}" for line in _options(router))
    yield "  };"
    yield "}"


def _options(router: AdvertisedRouter) -> Iterator[str]:
    yield "solicited ra unicast yes;"
    yield f"min ra interval {math.floor(router.interval_min_s)};"
    yield f"max ra interval {math.ceil(router.interval_max_s)};"
    yield f"default lifetime {router.lifetime_s};"
    yield "managed no;"
    yield "other config no;"
    yield f"current hop limit {router.hop_limit};"
    yield f"reachable time {router.reachable_time_ms};"
    yield f"retrans timer {router.retrans_timer_ms};"
    if router.mtu_bytes is not None:
        yield f"link mtu {router.mtu_bytes};"
    for each in router.prefixes:
        yield f"prefix {each.prefix} {{"
        yield "  autonomous yes;"
        yield "  onlink no;"
        yield f"  valid lifetime {each.valid_lifetime_s};"
        yield f"  preferred lifetime {each.preferred_lifetime_s};"
        yield "};"
    yield "prefix ::/0 { skip; };"
    if router.rdnss:
        servers = " ".join(f"ns {address};" for address in router.rdnss)
        yield f"rdnss {{ {servers} lifetime {router.rdnss_lifetime_s}; }};"
    if router.dnssl:
        domains = " ".join(f'domain "{name}";' for name in router.dnssl)
        yield f"dnssl {{ {domains} lifetime {router.rdnss_lifetime_s}; }};"
    if router.pref64 is not None:
        yield f"# PREF64 {router.pref64}: BIRD 2.0.12 refuses this line; with 2.17 and 3.1 take the # away."
        yield f"# custom option type {_PREF64_OPTION} value hex:{_pref64_hexadecimal(router)};"


def _pref64_hexadecimal(router: AdvertisedRouter) -> str:
    """What follows type and length: the lifetime in units of 8 s, the code of the length, 96 bits (RFC 8781 §4)."""
    assert router.pref64 is not None
    head = router.pref64_lifetime_s & ~7 | PREF64_LENGTHS.index(router.pref64.prefixlen)
    return (head.to_bytes(2, "big") + router.pref64.network_address.packed[:12]).hex(":")
