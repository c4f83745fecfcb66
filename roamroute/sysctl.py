"""What the kernel's tables and switches must be for the configured number of stations. Pure text and arithmetic."""

from __future__ import annotations

import math

import attrs

from roamroute.config import Config
from roamroute.values import Seconds

_OTHERS = 128  # mesh neighbours and the rest of the machine: the kernel's own default for gc_thresh1
REACHABLE_S: Seconds = 30.0
"""RFC 4861 §10 REACHABLE_TIME, which the kernel multiplies by 0.5 to 1.5."""
BRIDGED_REACHABLE_S: Seconds = 10.0
"""The same where bridges carry the Wi-Fi: nobody tells that a station has gone, so it is asked more often. 1,000 hosts
that are sent packets cost at most 200 solicitations a second, those that are not sent any none."""
RETRANS_S: Seconds = 1.0
"""RFC 4861 §10 RETRANS_TIMER. A sleeping station answers after its listen interval (10 beacons: 1.02 s) at latest."""
UNICAST_SOLICITATIONS = 3
"""RFC 4861 §10 MAX_UNICAST_SOLICIT: one round of the kernel then lasts 3 s, which `policy.trial_s` leaves room for."""


@attrs.frozen
class NeighbourTable:
    """gc_thresh1, 2 and 3 (linux/neighbour.h, Documentation/networking/ip-sysctl.rst).

    Below the first nothing is ever collected; above the third new neighbours are not learnt.
    """

    keep: int
    soft_limit: int
    hard_limit: int


def neighbour_table(config: Config) -> NeighbourTable:
    """Room for every station with all its addresses and its link-local one."""
    section = config.neighbours
    entries = section.stations * (section.addresses_per_station + 1) + _OTHERS
    # The factors are the kernel's own between its defaults 128, 512 and 1024.
    return NeighbourTable(keep=entries, soft_limit=2 * entries, hard_limit=4 * entries)


def stale_time_s(config: Config) -> int:
    """gc_stale_time: twice the longest time between two confirmations of an address that is only probed.

    It counts from the last confirmation (Linux 6.18), so the time in REACHABLE is part of it, and the wait for the
    budget when all are due. It matters only above gc_thresh1.
    """
    policy = config.policy
    waits_s = neighbour_table(config).keep / policy.probes_per_second
    return max(60, math.ceil(2 * (1.5 * REACHABLE_S + policy.stale_probe_after_s + waits_s)))


def versions(config: Config) -> tuple[int, ...]:
    """The IP versions of the roaming prefixes, 6 first."""
    return tuple(sorted({prefix.version for prefix in config.roaming.prefixes}, reverse=True))


def sysctl_fragment(config: Config) -> str:
    """The text of `roamroute config sysctl`: a file for /etc/sysctl.d."""
    table = neighbour_table(config)
    section = config.neighbours
    lines = [
        "# for roamroute: put this into /etc/sysctl.d/90-roamroute.conf, then: sysctl --system",
        f"# {section.stations} stations x ({section.addresses_per_station} + 1 link-local) + {_OTHERS} others",
    ]
    for version in versions(config):
        name = f"ipv{version}"
        forwarding = "net.ipv6.conf.all.forwarding" if version == 6 else "net.ipv4.ip_forward"
        lines += [
            f"{forwarding} = 1",
            "# up to the first nothing is collected, above the second what is stale, above the third nobody is learnt",
            f"net.{name}.neigh.default.gc_thresh1 = {table.keep}",
            f"net.{name}.neigh.default.gc_thresh2 = {table.soft_limit}",
            f"net.{name}.neigh.default.gc_thresh3 = {table.hard_limit}",
        ]
    for version in versions(config):
        lines += _link_times(config, f"net.ipv{version}.neigh")
    if 4 in versions(config):
        lines.append("# an address that moved may leave by another interface than the one its packets came in by")
        lines += [f"net.ipv4.conf.{sysctl_key(link)}.rp_filter = 0" for link in config.roaming.interfaces]
        if config.peers is not None and config.handover.forwarding:
            lines.append("# so may what a peer sends on: on each mesh link too, net.ipv4.conf.LINK.rp_filter = 2 or 0")
        lines.append("# clients must not be told to talk to each other directly: each has its own host route")
        links = ["all", *map(sysctl_key, config.roaming.interfaces)]  # either is enough for the kernel to send them
        lines += [f"net.ipv4.conf.{link}.send_redirects = 0" for link in links]
        lines += _proxy_arp(config)
    return "\n".join(lines) + "\n"


def _link_times(config: Config, prefix: str) -> list[str]:
    links = [sysctl_key(link) for link in config.roaming.interfaces]
    stale = stale_time_s(config)
    is_dumb = config.policy.is_following_bridges
    reachable, unicast = (BRIDGED_REACHABLE_S, 2) if is_dumb else (REACHABLE_S, UNICAST_SOLICITATIONS)
    lines = [
        "# above gc_thresh1 a neighbour is collected so long after its last answer: it is probed twice before that",
        *(f"{prefix}.{link}.gc_stale_time = {stale}" for link in ("default", *links)),
        "# a station that sleeps answers within a second or two: three solicitations a second apart, not faster",
        *(f"{prefix}.{link}.retrans_time_ms = {1000 * RETRANS_S:.0f}" for link in links),
        *(f"{prefix}.{link}.ucast_solicit = {unicast}" for link in links),
        "# so long what has answered is not asked (times 0.5 to 1.5): shorter costs air, longer finds the dead late",
        *(f"{prefix}.{link}.base_reachable_time_ms = {1000 * reachable:.0f}" for link in links),
    ]
    if is_dumb:
        lines += [
            "# the last of three goes to all: a switch on the way may still send those before where the station was",
            *(f"{prefix}.{link}.mcast_resolicit = 1" for link in links),
            "# what has not been heard for that time and is sent packets is asked a second later, not five",
            *(f"{prefix}.{link}.delay_first_probe_time = 1" for link in links),
        ]
    return lines


def is_answering_arp(config: Config) -> bool:
    """Whether the kernel should answer ARP for clients of other access points (proxy_arp)."""
    return 4 in versions(config) and config.stations.source != "none"


def _proxy_arp(config: Config) -> list[str]:
    """Clients with a netmask ask for each other by ARP; the access point answers, and routes.

    Probes (RFC 5227) it does not answer (Linux 6.18 arp_process), but a client's announcement of its own address, as
    long as its route leads elsewhere: a conflict for the client. Where associations are told, the route is ours before
    the client speaks; where they are not, ARP is better not answered.
    """
    if not is_answering_arp(config):
        return ["# ARP for clients elsewhere is not answered: who has just roamed would find a conflict with itself"]
    lines = ["# a client asks for one of another access point by ARP: we answer, at once, and route"]
    for link in map(sysctl_key, config.roaming.interfaces):
        lines += [f"net.ipv4.conf.{link}.proxy_arp = 1", f"net.ipv4.neigh.{link}.proxy_delay = 0"]
    if config.dad.isolated:
        lines.append("# and for one of this access point that does not hear it (ap_isolate)")
        lines += [f"net.ipv4.conf.{sysctl_key(link)}.proxy_arp_pvlan = 1" for link in config.roaming.interfaces]
    return lines


def sysctl_key(link: str) -> str:
    """An interface's name as sysctl(8) takes it: in a name with dots a slash stands for the dot."""
    return link.replace(".", "/")
