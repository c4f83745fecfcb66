"""What `roamroute check` looks at in FRR: do its daemons run, and does their configuration carry our host routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

import attrs

from roamroute.errors import DaemonGone, DaemonRefused, MalformedInput
from roamroute.export import ExporterContext, Finding
from roamroute.values import Prefix
from roamroute_frr import answers
from roamroute_frr.config import MAIN_TABLE
from roamroute_frr.confirmation import TAG
from roamroute_frr.running import Redistribution, Running, Verdict, host_routes, read_running
from roamroute_frr.settings import Settings
from roamroute_frr.vtysh import Vtysh

FRAGMENT = "roamroute config frr > /tmp/roamroute-frr.conf; vtysh -f /tmp/roamroute-frr.conf; vtysh -c 'write memory'"
OLDEST = (8, 0)
NEWEST_TRIED = (10, 3)
MIN_ARRIVAL_MS = 1000
"""OSPF's own (RFC 2328 appendix B)."""
CARRIERS = {"ospf": (("ospf", 4), ("ospf6", 6)), "ibgp": (("bgp", 4), ("bgp", 6))}
"""Per routing: which protocol carries which version of IP."""
DAEMON = {"ospf": "ospfd", "ospf6": "ospf6d", "bgp": "bgpd"}
NEIGHBOURS = {
    ("ospf", 4): "show ip ospf neighbor",
    ("ospf6", 6): "show ipv6 ospf6 neighbor",
    ("bgp", 4): "show bgp ipv4 unicast summary json",
    ("bgp", 6): "show bgp ipv6 unicast summary json",
}
BABELD = (
    "FRR's own babeld cannot carry host routes: it never tells its neighbours that a kernel route was deleted, and "
    "takes no notice when a route gets worse (babeld/xroute.c, FRR 8.4.4 and 10.3): after a roam the old access point "
    "would keep the host"
)
BABELD_REMEDY = (
    'run the babeld of babeld.org with exporter = "babeld", or ospf6d or bgpd of FRR: roamroute config frr; see '
    "docs/howto-frr.md"
)


@attrs.frozen
class Seen:
    """What FRR answered; `neighbours`: how many are up, by protocol and version of IP."""

    version: str
    daemons: frozenset[str]
    running: Running
    neighbours: Mapping[tuple[str, int], int] = attrs.field(factory=dict)


async def check(settings: Settings, context: ExporterContext) -> Iterable[Finding]:
    """Every finding about FRR, good and bad."""
    shell = Vtysh(settings.command)
    try:
        seen = await _look(shell)
    except (DaemonGone, DaemonRefused, MalformedInput) as error:
        vtysh = " ".join(settings.command)
        remedy = (
            f"systemctl start frr; then try: {vtysh} -c 'show version' (as root, or in the group frrvty). If it shows "
            f"nothing a daemon hangs; {vtysh} -d ospf6d -c 'show version' asks one only"
        )
        return [Finding("error", "frr", str(error), remedy)]
    finally:
        await shell.close()
    return list(findings(seen, settings, context))


async def _look(shell: Vtysh) -> Seen:
    """Raises: DaemonGone; DaemonRefused; MalformedInput."""
    version = answers.version(await shell.ask("show version"))
    running_daemons = answers.daemons(await shell.ask("show daemons"))
    running = read_running(await shell.ask("show running-config"))
    neighbours: dict[tuple[str, int], int] = {}
    for (protocol, ip), line in NEIGHBOURS.items():
        if DAEMON[protocol] not in running_daemons or protocol not in running.routers:
            continue
        if protocol == "bgp":
            neighbours[protocol, ip] = answers.bgp_established(_summary(await shell.json(line)))
        else:
            neighbours[protocol, ip] = len(re.findall(r"\bFull/", await shell.ask(line)))
    return Seen(version, running_daemons, running, neighbours)


def _summary(answer: Any) -> Any:
    """FRR 8 and 10 leave the address family out where one was asked for; others name it."""
    if isinstance(answer, dict) and len(answer) == 1:
        (inner,) = answer.values()
        return inner
    return answer


def findings(seen: Seen, settings: Settings, context: ExporterContext) -> Iterator[Finding]:
    """What is to be said of an FRR that answered. Pure."""
    yield from _version(seen)
    if settings.injects:
        yield from _injection(seen)
    yield from _zebra(seen, settings, context)
    for version in sorted({prefix.version for prefix in context.prefixes}):
        yield from _carriers(seen, settings, context, version)


def _version(seen: Seen) -> Iterator[Finding]:
    numbers = tuple(int(number) for number in re.findall(r"\d+", seen.version)[:2])
    if len(numbers) < 2:
        yield Finding("warning", "frr", "does not say its version", "vtysh -c 'show version'")
    elif numbers < OLDEST:
        text = (
            f"FRR {seen.version} is not supported: before 8.0 ospf6d has neither answers in JSON nor `ipv6 ospf6 area`"
        )
        yield Finding("error", "frr", text, "install FRR 8.4 or newer (Debian 12 and 13 have 8.4 and 10.3)")
    elif numbers > NEWEST_TRIED:
        yield Finding("warning", "frr", f"FRR {seen.version} is newer than what roamroute was tried with")
    else:
        yield Finding("ok", "frr", f"FRR {seen.version}")


def _zebra(seen: Seen, settings: Settings, context: ExporterContext) -> Iterator[Finding]:
    if "zebra" not in seen.daemons:
        yield Finding(
            "error", "frr zebra", "zebra is not running: nothing reaches or leaves the kernel", _start("zebra")
        )
    if not settings.injects and context.kernel.table != MAIN_TABLE:
        text = (
            f"kernel.table is {context.kernel.table}, and zebra reads table {MAIN_TABLE} only (it has no `ipv6 "
            "import-table`: FRRouting/frr #10396)"
        )
        yield Finding("error", "frr kernel table", text, f"[kernel] table = {MAIN_TABLE}")


def _injection(seen: Seen) -> Iterator[Finding]:
    if "staticd" not in seen.daemons:
        text = 'staticd is not running: mode "inject" has nobody to give its routes to'
        yield Finding("error", "frr staticd", text, _start("staticd"))
    if int((re.findall(r"\d+", seen.version) or ["0"])[0]) >= 9 and "mgmtd" not in seen.daemons:
        text = 'mgmtd is not running: from FRR 9 on it takes the static routes that mode "inject" makes'
        yield Finding("error", "frr mgmtd", text, _start("mgmtd"))


def _start(daemon: str) -> str:
    return f"{daemon}=yes in /etc/frr/daemons, and systemctl restart frr (Debian starts zebra, mgmtd, staticd always)"


def _carriers(seen: Seen, settings: Settings, context: ExporterContext, version: int) -> Iterator[Finding]:
    """Somebody must carry the host routes of this version of IP."""
    source = "static" if settings.injects else "kernel"
    wanted = [
        protocol
        for routing, pairs in CARRIERS.items()
        if settings.routing in ("", routing)
        for protocol, carried in pairs
        if carried == version
    ]
    carrying = [
        (protocol, redistribution)
        for protocol in wanted
        if (redistribution := seen.running.redistribution(protocol, version, source)) is not None
    ]
    babel = seen.running.redistribution("babel", version, source)
    if babel is not None and "babeld" in seen.daemons:
        level = "error" if not carrying else "warning"
        yield Finding(level, "frr babeld", f"{BABELD} ({babel.text} for IPv{version})", BABELD_REMEDY)
    if not carrying:
        yield from _nobody(seen, wanted, version, source)
    for protocol, redistribution in carrying:
        yield from _carrier(seen, settings, context, protocol, redistribution)


def _nobody(seen: Seen, wanted: list[str], version: int, source: str) -> Iterator[Finding]:
    configured = [protocol for protocol in wanted if DAEMON[protocol] in seen.daemons]
    if not configured:
        names = " or ".join(DAEMON[protocol] for protocol in wanted)
        text = f"{names} is not running: nobody announces our IPv{version} host routes"
        yield Finding("error", f"frr IPv{version}", text, _start(DAEMON[wanted[0]]))
        return
    for protocol in configured:
        other = "kernel" if source == "static" else "static"
        text = f"`redistribute {source}` is missing: {DAEMON[protocol]} does not announce our IPv{version} host routes"
        if seen.running.redistribution(protocol, version, other) is not None:
            mode = "inject" if source == "static" else "kernel"
            text += f' (it has `redistribute {other}`, and the mode is "{mode}")'
        yield Finding("error", f"frr {DAEMON[protocol]} IPv{version}", text, FRAGMENT)


def _carrier(
    seen: Seen, settings: Settings, context: ExporterContext, protocol: str, redistribution: Redistribution
) -> Iterator[Finding]:
    """One protocol that redistributes: does it run, does it let through what it must and nothing else?"""
    version, daemon = redistribution.version, DAEMON[protocol]
    subject = f"frr {daemon} IPv{version}"
    if daemon not in seen.daemons:
        yield Finding("error", subject, f"{daemon} is not running", _start(daemon))
        return
    faults = list(_faults(seen, settings, context, redistribution))
    yield from (attrs.evolve(fault, subject=subject) for fault in faults)
    if not any(fault.level in ("error", "unknown") for fault in faults):
        yield Finding("ok", subject, f"announces our host routes: `{redistribution.text}`")
    if protocol != "bgp" and seen.running.least_pauses_ms.get(protocol, MIN_ARRIVAL_MS) > 100:
        text = (
            f"`timers lsa min-arrival` is not 0 in {daemon}: when a host leaves less than a second after it came, this "
            "router drops the withdrawal and hears it again 4 to 10 s later"
        )
        yield Finding("warning", subject, text, f"{FRAGMENT} (and on the other routers of the mesh)")
    up = seen.neighbours.get((protocol, version), 0)
    if not up:
        what = "has no session that is up" if protocol == "bgp" else "has no neighbour in state Full"
        look = NEIGHBOURS[protocol, version].removesuffix(" json")
        yield Finding("warning", subject, f"{daemon} {what}: nobody hears our routes", f'vtysh -c "{look}"')


def _faults(
    seen: Seen, settings: Settings, context: ExporterContext, redistribution: Redistribution
) -> Iterator[Finding]:
    version, running = redistribution.version, seen.running
    if redistribution.route_map and redistribution.route_map not in running.route_maps:
        text = f"`{redistribution.text}`: this route-map does not exist"
        yield Finding("error", "", text, FRAGMENT)
        return
    for route in host_routes([prefix for prefix in context.prefixes if prefix.version == version]):
        for link in context.interfaces:
            verdict = _redistributed(running, redistribution, route, link, TAG if settings.injects else 0)
            yield from _verdict(verdict, route, link, f"`{redistribution.text}`")
        for sent in running.filters:
            if redistribution.protocol == "bgp" and sent.version == version:
                verdict = _sent(running, sent.kind, sent.name, route)
                yield from _verdict(verdict, route, "", f"`neighbor {sent.neighbour} {sent.kind} {sent.name} out`")
    leaks = [
        stranger
        for stranger in _strangers(version, context.prefixes)
        if _redistributed(running, redistribution, stranger, "eth0", 0).passes
    ]
    if leaks:
        text = (
            f"`{redistribution.text}` lets everything out, not only host routes of the roaming prefixes: every "
            f"{redistribution.source} route of this machine goes into the mesh ({', '.join(map(str, leaks))} would)"
        )
        yield Finding("warning", "", text, FRAGMENT)


def _redistributed(running: Running, redistribution: Redistribution, route: Prefix, link: str, tag: int) -> Verdict:
    if not redistribution.route_map:
        return Verdict(True, redistribution.text)
    return running.decide(redistribution.route_map, route, link, tag)


def _sent(running: Running, kind: str, name: str, route: Prefix) -> Verdict:
    """An interface is nothing that BGP sends."""
    return running.decide_prefix_list(name, route) if kind == "prefix-list" else running.decide(name, route, "")


def _verdict(verdict: Verdict, route: Prefix, link: str, place: str) -> Iterator[Finding]:
    over = f" over {link}" if link else ""
    if verdict.passes is False:
        text = f"{place} denies our host routes: {route}{over} meets `{verdict.because}`"
        yield Finding("error", "", text, FRAGMENT)
    elif verdict.passes is None:
        text = (
            f"cannot tell whether {place} lets {route}{over} through: `{verdict.because}` says more than is known here"
        )
        yield Finding("unknown", "", text, "roamroute status shows whether FRR announces the routes that there are")


def _strangers(version: int, roaming: tuple[Prefix, ...]) -> Iterator[Prefix]:
    """Routes that are none of ours: a default route, somebody's network, and the roaming prefix itself."""
    yield ip_network("0.0.0.0/0" if version == 4 else "::/0")
    yield ip_network("192.0.2.0/24" if version == 4 else "2001:db8:1::/64")
    yield from (prefix for prefix in roaming if prefix.version == version and prefix.prefixlen < prefix.max_prefixlen)
