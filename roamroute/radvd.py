"""`roamroute config radvd`: the radvd.conf by which radvd sends the router advertisements that [ra] describes.

Pure text, for radvd 2.19. It answers a solicitation at once and by unicast, as ours does. What it cannot do stands in
the text, for whoever runs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from roamroute.config import Config
from roamroute.errors import ConfigError
from roamroute.values import AdvertisedRouter


def radvd_fragment(config: Config) -> str:
    """A whole radvd.conf for the client links.

    Raises: ConfigError without `[ra]`.
    """
    section = config.ra
    if section is None:
        raise ConfigError(('ra: is missing: add a table [ra] with sender = "radvd"',))
    lines = [
        "# Made by `roamroute config radvd` for radvd 2.19 and later: /etc/radvd.conf; then: systemctl restart radvd",
    ]
    if section.sender != "radvd":
        lines.append(
            f'# [ra] sender is "{section.sender}": with radvd as well, clients hear two. Set sender = "radvd".'
        )
    lines += [
        "# What radvd does not do: tell a station as soon as it is connected (it waits until the station asks), and",
        "# withdraw itself while roamroute is drained (stop radvd then: it says good-bye). It warns of the lifetimes",
        "# of RDNSS and DNSSL, as if two intervals were the most; RFC 8106 wants three and more.",
    ]
    router = section.router(config.roaming.prefixes)
    for link in config.roaming.interfaces:
        lines += ["", f"interface {link} {{", *(f"  {line}" for line in _options(router)), "};"]
    return "\n".join(lines) + "\n"


def _options(router: AdvertisedRouter) -> Iterator[str]:
    yield "AdvSendAdvert on;"
    yield "IgnoreIfMissing on;"
    yield f"AdvRASrcAddress {{ {router.source}; }};"
    yield "AdvRASolicitedUnicast on;"
    yield f"MinRtrAdvInterval {math.floor(router.interval_min_s)};"
    yield f"MaxRtrAdvInterval {math.ceil(router.interval_max_s)};"
    yield f"AdvDefaultLifetime {router.lifetime_s};"
    yield "AdvManagedFlag off;"
    yield "AdvOtherConfigFlag off;"
    yield f"AdvCurHopLimit {router.hop_limit};"
    yield f"AdvReachableTime {router.reachable_time_ms};"
    yield f"AdvRetransTimer {router.retrans_timer_ms};"
    if router.mtu_bytes is not None:
        yield f"AdvLinkMTU {router.mtu_bytes};"
    for each in router.prefixes:
        yield f"prefix {each.prefix} {{"
        yield "  AdvAutonomous on;"
        yield "  AdvOnLink off;"
        yield f"  AdvValidLifetime {each.valid_lifetime_s};"
        yield f"  AdvPreferredLifetime {each.preferred_lifetime_s};"
        yield "};"
    if router.rdnss:
        servers = " ".join(map(str, router.rdnss))
        yield f"RDNSS {servers} {{ AdvRDNSSLifetime {router.rdnss_lifetime_s}; FlushRDNSS off; }};"
    if router.dnssl:
        domains = " ".join(router.dnssl)
        yield f"DNSSL {domains} {{ AdvDNSSLLifetime {router.rdnss_lifetime_s}; FlushDNSSL off; }};"
    if router.pref64 is not None:
        yield "# PREF64 needs radvd 2.20; 2.19 refuses the line. With 2.20 take the # away:"
        yield f"# nat64prefix {router.pref64} {{ AdvValidLifetime {router.pref64_lifetime_s}; }};"
