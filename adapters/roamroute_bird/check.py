"""What `roamroute check` looks at in BIRD: is it there, is it one that works, and what does it do with our routes.

What BIRD really does is judged by the host routes that are there at this moment; its configuration file, where it can
be seen, says what its socket does not (`learn`, the kernel table, the scan time).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

from roamroute.errors import DaemonGone, DaemonRefused, MalformedInput
from roamroute.export import ExporterContext, Finding
from roamroute_bird.answers import Channel, Protocol, Status
from roamroute_bird.blocks import families_of
from roamroute_bird.config import SCAN_TIME_S
from roamroute_bird.confirmation import Confirmation, Obstacle
from roamroute_bird.hostroutes import KernelRoute, host_routes, is_on_client_link, is_ours
from roamroute_bird.hostsfile import STATIC_PROTOCOLS
from roamroute_bird.settings import Settings
from roamroute_bird.statements import Statements, statements_of
from roamroute_bird.version import NEWEST_TRIED, OLDEST, Version

FRAGMENT = "roamroute config bird prints what is needed"
SAMPLE = 8
"""So many host routes of each family are asked for: one mistake of a filter concerns all of them."""
KINDS = {"babel": "Babel", "ospf": "OSPF", "ibgp": "BGP"}
_SIOCGIFADDR = 0x8915


async def check(settings: Settings, context: ExporterContext) -> Iterable[Finding]:
    """Every finding about BIRD, good and bad."""
    bird = Confirmation(settings, context)
    try:
        await bird.learn()
        statements = _statements(settings)
        findings = [
            *version_findings(bird.status),
            *router_id_findings(bird.status, context),
            *include_findings(settings, context, bird.protocols, statements),
            *kernel_findings(settings, context, bird.protocols, statements),
            *scan_findings(bird.status, statements),
            *routing_findings(settings, context, bird.protocols),
        ]
        return [*findings, *await _route_findings(settings, context, bird)]
    except DaemonGone as error:
        remedy = f"systemctl start bird; exporters.bird.socket must be its control socket: {settings.birdc} show status"
        return [Finding("error", "bird", str(error), remedy)]
    except (DaemonRefused, MalformedInput) as error:
        return [Finding("error", "bird", str(error), f"what does {settings.birdc} say?")]
    finally:
        await bird.close()


def version_findings(status: Status) -> Iterator[Finding]:
    version = Version(status.version)
    if not version.is_supported:
        text = f"{status.program} is too old: roamroute needs {OLDEST.text}, with channels and unnumbered IPv4 in Babel"
        yield Finding("error", "bird", text, "Debian 12 has 2.0.12, Debian 13 2.17 and 3.1")
    elif version.numbers[:2] > NEWEST_TRIED.numbers[:2]:
        yield Finding("warning", "bird", f"{status.program} is newer than what roamroute was tried with", "")
    else:
        yield Finding("ok", "bird", status.program)


def router_id_findings(status: Status, context: ExporterContext) -> Iterator[Finding]:
    """The gateway's address on a client link is the same on all access points: no router ID."""
    for link in context.interfaces:
        address = _ipv4_of(link)
        if address is not None and str(address) == status.router_id:
            text = f"{address} is the gateway's address on {link}, which every access point has"
            yield Finding("error", "bird router id", text, "router id with an address of this router only")


def include_findings(
    settings: Settings, context: ExporterContext, protocols: Iterable[Protocol], statements: Statements | None
) -> Iterator[Finding]:
    """Mode inject: the file is there, we may write it, and BIRD reads it."""
    if not settings.injects:
        return
    file = Path(settings.include)
    subject = "bird include"
    faults = []
    if not os.access(file.parent, os.W_OK):
        remedy = f"install -d {file.parent}, writable for the user that runs roamroute"
        faults.append(Finding("error", subject, f"{file.parent} is not there or cannot be written", remedy))
    elif file.exists() and not os.access(file, os.W_OK | os.R_OK):
        faults.append(Finding("error", subject, f"{file} cannot be written", f"chown it, or remove it: rm {file}"))
    names = {protocol.name: protocol for protocol in protocols}
    for family in families_of(context.prefixes):
        name = STATIC_PROTOCOLS[family]
        if name in names and not names[name].is_up:
            text = f"{name} is {names[name].state}"
            faults.append(Finding("error", subject, text, f"{settings.birdc} enable {name}"))
        elif name not in names and (statements is None or str(file) not in statements.includes):
            text = f"BIRD does not read {file}: it has no protocol {name}"
            remedy = f'include "{file}"; at the top level of bird.conf, and {settings.birdc} configure'
            faults.append(Finding("error", subject, text, remedy))
        elif name not in names:
            text = f"bird.conf includes {file}, but BIRD has no protocol {name} yet"
            remedy = f"start roamroute, which writes it; or {settings.birdc} configure"
            faults.append(Finding("warning", subject, text, remedy))
    yield from faults or [Finding("ok", subject, f"BIRD reads {file}, which is ours")]


def kernel_findings(
    settings: Settings, context: ExporterContext, protocols: Iterable[Protocol], statements: Statements | None
) -> Iterator[Finding]:
    """One kernel protocol for each family: it learns ours (mode kernel) or installs ours (mode inject)."""
    found = list(protocols)
    for family in families_of(context.prefixes):
        subject = f"bird kernel protocol for IPv{family}"
        having = [
            (protocol, channel)
            for protocol in found
            if protocol.kind == "Kernel"
            for channel in protocol.channels
            if channel.family == f"ipv{family}"
        ]
        up = [(protocol, channel) for protocol, channel in having if protocol.is_up and channel.is_up]
        if not having:
            yield Finding("error", subject, "there is none: BIRD and the kernel know nothing of each other", FRAGMENT)
        elif not up:
            name = having[0][0].name
            yield Finding("error", subject, f"{name} is {having[0][0].state}", f"{settings.birdc} enable {name}")
        elif settings.injects:
            yield from _installing(subject, up)
        else:
            yield from _learning(subject, family, context, up, statements)


def _installing(subject: str, up: list[tuple[Protocol, Channel]]) -> Iterator[Finding]:
    if all(channel.export_filter == "REJECT" for _, channel in up):
        names = ", ".join(protocol.name for protocol, _ in up)
        yield Finding("error", subject, f"{names} exports nothing: BIRD does not install our routes", FRAGMENT)
    else:
        yield Finding("ok", subject, "is there")


def _learning(
    subject: str,
    family: int,
    context: ExporterContext,
    up: list[tuple[Protocol, Channel]],
    statements: Statements | None,
) -> Iterator[Finding]:
    names = ", ".join(protocol.name for protocol, _ in up)
    table, metric = context.kernel.table, context.kernel.metric
    if all(channel.import_filter == "REJECT" for _, channel in up):
        yield Finding("error", subject, f"{names} imports nothing: BIRD does not learn our routes", FRAGMENT)
        return
    known = [statements.kernel_named(protocol.name, family) for protocol, _ in up] if statements else []
    if statements is None or None in known or not known:
        yield Finding("ok", subject, f"{names} is there; its configuration cannot be seen from here")
        return
    written = [statement for statement in known if statement is not None]
    of_our_table = [statement for statement in written if statement.table == table]
    where = f"({statements.place})"
    if not of_our_table:
        tables = ", ".join(str(statement.table) for statement in written)
        text = f"{names} reads kernel table {tables}, our routes are in {table} {where}"
        yield Finding("error", subject, text, f"kernel table {table}; or kernel.table in roamroute's configuration")
    elif not any(statement.learns for statement in of_our_table):
        yield Finding("error", subject, f"{names} does not learn {where}", f"learn; in its block: {FRAGMENT}")
    elif any(statement.metric <= metric for statement in of_our_table):
        theirs = min(statement.metric for statement in of_our_table)
        text = f"{names} installs the mesh's routes with metric {theirs}, before ours with {metric} {where}"
        yield Finding("error", subject, text, f"remove `metric`, or a number above {metric}")
    else:
        yield Finding("ok", subject, f"{names} learns {where}")


def scan_findings(status: Status, statements: Statements | None) -> Iterator[Finding]:
    """BIRD 3 leaves some changed routes out of the kernel after a scan, until the next one."""
    if not Version(status.version).forgets_kernel_routes:
        return
    remedy = f"scan time {SCAN_TIME_S}; in every protocol kernel that learns: {FRAGMENT}"
    text = f"after a kernel scan {status.program} leaves some changed routes out of the kernel until the next scan"
    if statements is None or not statements.kernels:
        yield Finding("warning", "bird scan time", f"{text}; its configuration cannot be seen", remedy)
        return
    slow = [each for each in statements.kernels if each.learns and each.scan_time_s > 2 * SCAN_TIME_S]
    middling = [each for each in statements.kernels if not each.learns and SCAN_TIME_S < each.scan_time_s <= 3600]
    for statement in (*slow, *middling):
        name = statement.name or f"the one for IPv{statement.family}"
        yield Finding("warning", "bird scan time", f"{text}: {statement.scan_time_s} s in {name}", remedy)


def routing_findings(settings: Settings, context: ExporterContext, protocols: Iterable[Protocol]) -> Iterator[Finding]:
    """A routing protocol that is up for each family, of the kind that the configuration names."""
    routing = [protocol for protocol in protocols if protocol.is_routing]
    wanted = KINDS.get(settings.routing)
    for family in families_of(context.prefixes):
        subject = f"bird routing for IPv{family}"
        having = [
            (protocol, channel)
            for protocol in routing
            for channel in protocol.channels
            if channel.family == f"ipv{family}" and wanted in (None, protocol.kind)
            if not settings.protocols or protocol.name in settings.protocols
        ]
        up = [(protocol, channel) for protocol, channel in having if protocol.is_up and channel.is_up]
        exporting = [protocol for protocol, channel in up if channel.export_filter != "REJECT"]
        if not having:
            yield Finding("error", subject, f"BIRD has no {wanted or 'routing'} protocol for it", FRAGMENT)
        elif not up:
            yield from _down(subject, [protocol for protocol, _ in having], settings)
        elif not exporting:
            names = ", ".join(protocol.name for protocol, _ in up)
            yield Finding("error", subject, f"{names} exports nothing", f"an export filter: {FRAGMENT}")
        else:
            yield Finding("ok", subject, ", ".join(f"{each.name} is up ({each.kind})" for each in exporting))
            yield from _alone(subject, exporting, settings)
    known = {protocol.name for protocol in routing}
    for name in settings.protocols:
        if name not in known:
            text = f"BIRD has no routing protocol {name}"
            yield Finding("error", "exporters.bird.protocols", text, f"{settings.birdc} show protocols")


def _down(subject: str, protocols: Iterable[Protocol], settings: Settings) -> Iterator[Finding]:
    for protocol in protocols:
        text = f"{protocol.name} ({protocol.kind}) is {protocol.state} {protocol.info}".rstrip()
        remedy = f"{settings.birdc} show protocols all {protocol.name}"
        if protocol.kind == "BGP":
            remedy += "; does the neighbour answer, is there a way to it?"
        yield Finding("error", subject, text, remedy)


def _alone(subject: str, protocols: Iterable[Protocol], settings: Settings) -> Iterator[Finding]:
    for protocol in protocols:
        if protocol.kind == "OSPF" and protocol.info.endswith("Alone"):
            remedy = f"{settings.birdc} show ospf interface {protocol.name}: is the mesh link among them?"
            yield Finding("warning", subject, f"{protocol.name} has no neighbour", remedy)


async def _route_findings(settings: Settings, context: ExporterContext, bird: Confirmation) -> list[Finding]:
    """What BIRD does with some of the host routes that are there."""
    routes = host_routes(context) if not settings.command else ()
    findings = list(fib_findings(routes, context))
    for family in families_of(context.prefixes):
        subject = f"bird host routes for IPv{family}"
        here = [route for route in routes if route.address.version == family]
        sample = [route for route in here if _is_of_this_mode(route, settings, context)][:SAMPLE]
        standings = [(route, await bird.standing(route.address)) for route in sample]
        faults: dict[Obstacle, KernelRoute] = {}
        for route, standing in standings:
            if standing.obstacle is not None:
                faults.setdefault(standing.obstacle, route)
        for obstacle, route in faults.items():
            findings.append(_fault(subject, obstacle, route, settings))
        if sample and not faults:
            findings.append(Finding("ok", subject, f"BIRD exports those that were asked for ({len(sample)})"))
        elif not sample:
            text = "there is none at this moment: what BIRD's filters do with one cannot be seen"
            findings.append(Finding("unknown", subject, text, "check again when a client is connected"))
    return findings


def fib_findings(routes: Iterable[KernelRoute], context: ExporterContext) -> Iterator[Finding]:
    """Our host routes must be the kernel's first choice."""
    best: dict[object, KernelRoute] = {}
    ours = {}
    for route in routes:
        if route.address not in best or route.metric < best[route.address].metric:
            best[route.address] = route
        if is_on_client_link(route, context):
            ours[route.address] = route
    for address, route in ours.items():
        winner = best[address]
        if not is_on_client_link(winner, context):
            text = f"the kernel sends {address} over {winner.link} (metric {winner.metric}), not over {route.link}"
            remedy = (
                f"routes of the mesh need a metric above {context.kernel.metric}: remove `metric` from protocol kernel"
            )
            yield Finding("error", "kernel routes", text, remedy)


def _is_of_this_mode(route: KernelRoute, settings: Settings, context: ExporterContext) -> bool:
    return is_on_client_link(route, context) if settings.injects else is_ours(route, context)


def _fault(subject: str, obstacle: Obstacle, route: KernelRoute, settings: Settings) -> Finding:
    match obstacle:
        case Obstacle.ABSENT if settings.injects:
            text, remedy = f"BIRD has no static route for {route.address}", "is roamroute running, in mode inject?"
        case Obstacle.ABSENT:
            text = f"BIRD has not learnt {route.address} from the kernel"
            remedy = f"learn, the import filter and the kernel table of its protocol kernel: {FRAGMENT}"
        case Obstacle.BEATEN:
            text = f"BIRD prefers another route to ours for {route.address}, and ours is not exported"
            remedy = f"preference = 250 in the import filter of its protocol kernel: {FRAGMENT}"
        case Obstacle.HELD_BACK:
            text = f"no routing protocol of BIRD takes {route.address}"
            remedy = f"the export filter of the routing protocol: {FRAGMENT}"
        case _:
            text = f"no routing protocol of BIRD is up for {route.address}"
            remedy = f"{settings.birdc} show protocols"
    return Finding("error", subject, text, remedy)


def _statements(settings: Settings) -> Statements | None:
    if settings.command:
        return None
    found = statements_of(settings.socket)
    return found if isinstance(found, Statements) else None


def _ipv4_of(link: str) -> IPv4Address | None:
    """The first IPv4 address of an interface; netdevice(7) SIOCGIFADDR."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        try:
            answer = fcntl.ioctl(query, _SIOCGIFADDR, struct.pack("256s", link.encode()[:15]))
        except OSError:
            return None
    return IPv4Address(answer[20:24])
