"""What the kernel's tables and switches must be for the configured number of stations. Pure text and arithmetic."""

from __future__ import annotations

import attrs

from roamroute.config import Config

_OTHERS = 128  # mesh neighbours and the rest of the machine: the kernel's own default for gc_thresh1


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
            f"net.{name}.neigh.default.gc_thresh1 = {table.keep}",
            f"net.{name}.neigh.default.gc_thresh2 = {table.soft_limit}",
            f"net.{name}.neigh.default.gc_thresh3 = {table.hard_limit}",
        ]
    if 4 in versions(config):
        lines.append("# an address that moved may leave by another interface than the one its packets came in by")
        lines += [f"net.ipv4.conf.{sysctl_key(link)}.rp_filter = 0" for link in config.roaming.interfaces]
        if config.peers is not None and config.handover.forwarding:
            lines.append("# so may what a peer sends on: on each mesh link too, net.ipv4.conf.LINK.rp_filter = 2 or 0")
        lines.append("# clients must not be told to talk to each other directly: each has its own host route")
        lines += [f"net.ipv4.conf.{sysctl_key(link)}.send_redirects = 0" for link in config.roaming.interfaces]
    return "\n".join(lines) + "\n"


def sysctl_key(link: str) -> str:
    """An interface's name as sysctl(8) takes it: in a name with dots a slash stands for the dot."""
    return link.replace(".", "/")
