"""Router advertisements by zebra: the part of `roamroute config frr` for `[ra] sender = "frr"`.

What FRR 8.4.4 and 10.3 were seen to send with it is in docs/howto-nd.md. zebra lets the kernel choose the source
address, and knows one interval, not a range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from roamroute.values import AdvertisedRouter


def advertisements(router: AdvertisedRouter, interfaces: Sequence[str]) -> Iterator[str]:
    """An interface's block for each client link, with what must be known about it as comments."""
    yield "!"
    yield f"! Router advertisements. zebra lets the kernel choose their source: {router.source} must be the only"
    yield "! link-local address of each client link:"
    yield "! ip link set LINK addrgenmode none; ip -6 address flush dev LINK scope link"
    yield f"! ip -6 address add {router.source}/64 dev LINK nodad"
    yield "! zebra answers a solicitation by multicast, which wakes all stations, and none within 3 s of the last. It"
    yield "! does not tell a station as soon as it is connected, nor withdraw the router while roamroute is drained."
    if router.pref64 is not None:
        yield f"! FRR 8.4.4 and 10.3 have no PREF64: {router.pref64} is not said."
    for link in interfaces:
        yield f"interface {link}"
        yield from (f" {line}" for line in _lines(router))
        yield "exit"


def _lines(router: AdvertisedRouter) -> Iterator[str]:
    yield f"ipv6 nd ra-interval {math.ceil(router.interval_max_s)}"
    yield f"ipv6 nd ra-lifetime {router.lifetime_s}"
    yield "no ipv6 nd managed-config-flag"
    yield "no ipv6 nd other-config-flag"
    yield "no ipv6 nd ra-fast-retrans"
    yield f"ipv6 nd ra-hop-limit {router.hop_limit}"
    if router.reachable_time_ms:
        yield f"ipv6 nd reachable-time {router.reachable_time_ms}"
    yield f"ipv6 nd ra-retrans-interval {router.retrans_timer_ms}"
    if router.mtu_bytes is not None:
        yield f"ipv6 nd mtu {router.mtu_bytes}"
    for each in router.prefixes:
        yield f"ipv6 nd prefix {each.prefix} {each.valid_lifetime_s} {each.preferred_lifetime_s} off-link"
    for address in router.rdnss:
        yield f"ipv6 nd rdnss {address} {router.rdnss_lifetime_s}"
    for name in router.dnssl:
        yield f"ipv6 nd dnssl {name} {router.rdnss_lifetime_s}"
    yield "no ipv6 nd suppress-ra"
