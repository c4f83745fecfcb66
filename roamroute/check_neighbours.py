"""Has the kernel's neighbour table room for the configured number of stations, and are its times fit for sleepers?

And is ARP answered for clients elsewhere?

For `roamroute check`, and for the daemon, which says the same in its log when it starts. It does not refuse to start:
a table that is too small hurts when many stations are here, an access point that announces nobody hurts at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from roamroute.config import Config
from roamroute.errors import MachineUnfit
from roamroute.export import Finding
from roamroute.linux import machine
from roamroute.linux.table_watch import NeighbourTables
from roamroute.sysctl import RETRANS_S, is_answering_arp, neighbour_table, stale_time_s, sysctl_key, versions
from roamroute.wire.neighbour_tables import LinkTimes

_REMEDY = "roamroute config sysctl -c FILE > /etc/sysctl.d/90-roamroute.conf; sysctl --system"
_HOST_REMEDY = f"{_REMEDY} (in the initial network namespace: the table is the whole machine's)"


def check_neighbours(config: Config) -> tuple[Finding, ...]:
    """What is right and wrong with the tables and with the times of the roaming links. Raises: MachineUnfit."""
    return tuple(judge(config, machine.neighbour_tables(), machine.link_indexes(config.roaming.interfaces)))


def shortcomings(config: Config) -> Iterator[str]:
    """Lines for the log of a daemon that starts."""
    try:
        findings = check_neighbours(config)
    except MachineUnfit as error:
        yield f'neighbour tables cannot be looked at because="{error}"'
        return
    for finding in findings:
        if finding.level in ("warning", "error"):
            yield f'{finding.subject}: {finding.text} remedy="{finding.remedy}"'


def judge(config: Config, read: NeighbourTables, links: Mapping[int, str]) -> Iterator[Finding]:
    """The findings about what was `read`; `links`: the roaming interfaces by index."""
    for version in versions(config) if config.roaming.interfaces else ():
        yield from _check_room(config, read, version)
        for (of, index), times in sorted(read.times.items()):
            if of == version and index in links:
                yield from _check_times(config, times, version, links[index])
                yield from _check_collection(config, read, times, version, links[index])
    if 4 in versions(config):
        for link in config.roaming.interfaces:
            yield from _check_proxy_arp(link, is_answering_arp(config))


def _check_room(config: Config, read: NeighbourTables, version: int) -> Iterator[Finding]:
    subject = f"ipv{version} neighbour table"
    table, needed = read.tables.get(version), neighbour_table(config)
    if table is None:
        yield Finding("unknown", subject, "the kernel does not tell of it")
        return
    if table.hard_limit < needed.hard_limit or table.keep < needed.keep:
        text = (
            f"room for {table.hard_limit} entries, {table.keep} of them kept when stale; "
            f"{config.neighbours.stations} stations need {needed.hard_limit} and {needed.keep}"
        )
        yield Finding("error", subject, text, _HOST_REMEDY)
    elif table.soft_limit < needed.soft_limit:
        text = f"stale entries are thrown out at once above {table.soft_limit} (gc_thresh2), not {needed.soft_limit}"
        yield Finding("warning", subject, text, _HOST_REMEDY)
    else:
        yield Finding("ok", subject, f"has room for {table.hard_limit} entries, {table.entries} are there")


def _check_times(config: Config, times: LinkTimes, version: int, link: str) -> Iterator[Finding]:
    prefix = f"net.ipv{version}.neigh.{sysctl_key(link)}"
    round_s = times.unicast_solicitations * times.retrans_ms / 1000
    if times.retrans_ms < 1000 * RETRANS_S or times.unicast_solicitations < 2:
        text = (
            f"ipv{version}: {times.unicast_solicitations} solicitations {times.retrans_ms} ms apart are too few or too "
            "fast for stations that sleep: they would be taken for dead"
        )
        remedy = f"sysctl -w {prefix}.retrans_time_ms=1000 {prefix}.ucast_solicit=3"
        yield Finding("warning", link, text, remedy)
    elif round_s >= config.policy.trial_s:
        text = (
            f"ipv{version}: the kernel asks for {round_s:g} s ({times.unicast_solicitations} solicitations "
            f"{times.retrans_ms} ms apart), but roamroute takes a host for dead after policy.trial_s = "
            f"{config.policy.trial_s:g} s"
        )
        remedy = f"sysctl -w {prefix}.retrans_time_ms=1000 {prefix}.ucast_solicit=3"
        yield Finding("error", link, text, remedy)


def _check_collection(
    config: Config, read: NeighbourTables, times: LinkTimes, version: int, link: str
) -> Iterator[Finding]:
    table, stale_s = read.tables.get(version), stale_time_s(config)
    if table is None or table.keep >= neighbour_table(config).keep or times.stale_ms >= 1000 * stale_s:
        return  # so many as are configured are not collected at all
    text = (
        f"ipv{version}: above {table.keep} entries (gc_thresh1) neighbours are collected {times.stale_ms / 1000:g} s "
        f"after their last answer; to probe so many takes up to {stale_s // 2} s"
    )
    key = f"net.ipv{version}.neigh.{sysctl_key(link)}.gc_stale_time"
    yield Finding("warning", link, text, f"sysctl -w {key}={stale_s}")


def _check_proxy_arp(link: str, is_wanted: bool) -> Iterator[Finding]:
    is_on = machine.answers_arp_for_others(link)
    if is_on is None or is_on is is_wanted:
        return
    text = (
        "IPv4 clients with a netmask ask for each other by ARP, and nobody answers for those elsewhere"
        if is_wanted
        else "the kernel answers ARP for clients elsewhere: one that has just roamed finds a conflict with itself"
    )
    yield Finding("warning", link, text, f"sysctl -w net.ipv4.conf.{sysctl_key(link)}.proxy_arp={int(is_wanted)}")
