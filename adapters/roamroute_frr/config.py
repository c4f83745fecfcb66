"""The text that FRR reads: for one router of a mesh, and `roamroute config frr` for an access point.

The IGP (ospf6d, and ospfd for IPv4) carries the routers' own addresses. The host routes and the gateway's default
routes are external routes in it (routing "ospf"), or routes of iBGP with a route reflector on top of it ("ibgp").
FRR 8.4 and 10 take the same text.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address, ip_network

import attrs

from roamroute.export import ExporterContext
from roamroute.values import Address, Prefix
from roamroute_frr.advertisements import advertisements
from roamroute_frr.settings import DEFAULT_AS, Settings

NAME = "roamroute"
"""Of our prefix lists; of our route maps with 4 or 6 behind it."""
MAIN_TABLE = 254
"""FRR imports kernel routes of IPv6 from no other (FRRouting/frr #10396, #20067)."""
WORD = {4: "ip", 6: "ipv6"}
CLIENTS = "roamroute-clients"
EXAMPLE_LINK = "mesh0"
EXAMPLE_REFLECTORS = (ip_address("2001:db8::1"), ip_address("192.0.2.1"))
EXAMPLE_CLIENTS = (ip_network("2001:db8::/64"), ip_network("192.0.2.0/24"))


@attrs.frozen
class Site:
    """One router as its configuration shows it.

    `hosts`: the roaming prefixes; empty on a router without clients. `source`: what is redistributed, "kernel" or
    "static". `reflectors`: the addresses of this router's route reflectors. `clients`: whom this router reflects for, a
    prefix of full length each, or a range from which they may come. `versions`: the address families that there are.
    `hello_s`: None for OSPF's own 10 s.
    """

    routing: str
    mesh_links: tuple[str, ...]
    hosts: tuple[Prefix, ...] = ()
    source: str = "kernel"
    router_id: IPv4Address | None = None
    originates_default: bool = False
    as_number: int = DEFAULT_AS
    reflectors: tuple[Address, ...] = ()
    clients: tuple[Prefix, ...] = ()
    versions: tuple[int, ...] = (4, 6)
    hello_s: int | None = None


def fragment(settings: Settings, context: ExporterContext) -> str:
    """What the FRR of an access point needs; for the other routers of the mesh as comments."""
    return "\n".join(_fragment_lines(settings, context)) + "\n"


def site_of(settings: Settings, context: ExporterContext) -> Site:
    """The access point that `settings` and `context` describe, with examples for what they do not say."""
    versions = tuple(sorted({prefix.version for prefix in context.prefixes}))
    return Site(
        routing=settings.routing or "ospf",
        mesh_links=settings.mesh or (EXAMPLE_LINK,),
        hosts=context.prefixes,
        source="static" if settings.injects else "kernel",
        as_number=settings.as_number,
        reflectors=tuple(each for each in settings.reflectors or EXAMPLE_REFLECTORS if each.version in versions),
        versions=versions,
    )


def _fragment_lines(settings: Settings, context: ExporterContext) -> Iterator[str]:
    site = site_of(settings, context)
    daemons = [name for version, name in ((4, "ospfd"), (6, "ospf6d")) if version in site.versions]
    if site.routing == "ibgp":
        daemons.append("bgpd")
    yield f"! Made by `roamroute config frr` for FRR 8.4 and 10: routing {site.routing}, mode {settings.mode}."
    yield f"! /etc/frr/daemons: {' '.join(f'{daemon}=yes' for daemon in daemons)}; then: systemctl restart frr"
    yield "! Check and load this file: vtysh -C -f FILE && vtysh -f FILE && vtysh -c 'write memory'"
    if not settings.routing:
        yield '! With exporters.frr.routing = "ibgp" this is printed for iBGP instead.'
    if not settings.mesh:
        yield f"! {EXAMPLE_LINK} stands for your mesh interfaces: set exporters.frr.mesh."
    if site.routing == "ibgp" and not settings.reflectors:
        examples = " and ".join(str(reflector) for reflector in site.reflectors)
        yield f"! {examples}: in place of your route reflectors: set exporters.frr.reflectors."
    if 4 not in site.versions:
        yield "! A router without any IPv4 address needs its own number: `ospf6 router-id N.N.N.N`, `bgp router-id`."
    if context.kernel.table != MAIN_TABLE and not settings.injects:
        yield f"! This cannot work: FRR reads table {MAIN_TABLE} only, and kernel.table is {context.kernel.table}."
    yield from lines(site)
    if context.router is not None:
        yield from advertisements(context.router, context.interfaces)
    yield "!"
    yield "! On every other router of the mesh:"
    yield from _comment(lines(attrs.evolve(site, hosts=())))
    if site.routing == "ibgp":
        yield "!"
        yield "! On the route reflector (the ranges are those of the routers' own addresses):"
        clients = tuple(each for each in EXAMPLE_CLIENTS if each.version in site.versions)
        yield from _comment(lines(attrs.evolve(site, hosts=(), reflectors=(), clients=clients)))


def _comment(text: Iterator[str]) -> Iterator[str]:
    return (f"!   {line}" for line in text if line.strip() != "!")


def lines(site: Site) -> Iterator[str]:
    """The whole configuration of one router.

    Forwarding is said, because `write memory` on a router where it happens to be off keeps it off for good.
    """
    yield "!"
    for version in site.versions:
        yield f"{WORD[version]} forwarding"
    yield from _host_filters(site.hosts)
    if 4 in site.versions:
        yield from _ospf(site)
    if 6 in site.versions:
        yield from _ospf6(site)
    yield from _links(site)
    if site.routing == "ibgp":
        yield from _bgp(site)


def _host_filters(hosts: tuple[Prefix, ...]) -> Iterator[str]:
    """The route maps that let host routes of the roaming prefixes through, and nothing else."""
    for version, word in WORD.items():
        prefixes = [prefix for prefix in hosts if prefix.version == version]
        if not prefixes:
            continue
        yield "!"
        for position, prefix in enumerate(prefixes, 1):
            yield f"{word} prefix-list {NAME} seq {5 * position} permit {prefix} ge {prefix.max_prefixlen}"
        yield f"route-map {NAME}{version} permit 10"
        yield f" match {word} address prefix-list {NAME}"
        yield "exit"


def _ospf(site: Site) -> Iterator[str]:
    yield "!"
    yield "router ospf"
    if site.router_id is not None:
        yield f" ospf router-id {site.router_id}"
    if site.routing == "ospf":
        if site.originates_default:
            yield " default-information originate"
        yield from _redistribute(site, 4)
        yield " timers throttle lsa all 0"
        yield " timers lsa min-arrival 0"
    yield "exit"


def _ospf6(site: Site) -> Iterator[str]:
    """Without `min-arrival 0` a withdrawal within 1 s of the announcement is dropped, and sent again after 5 s."""
    yield "!"
    yield "router ospf6"
    if site.router_id is not None:
        yield f" ospf6 router-id {site.router_id}"
    if site.routing == "ospf":
        if site.originates_default:
            yield " default-information originate"
        yield from _redistribute(site, 6)
        yield " timers lsa min-arrival 0"
    yield "exit"


def _links(site: Site) -> Iterator[str]:
    """The area comes last: an interface that gets it begins at once, with the timers that it has."""
    protocols = [word for version, word in ((4, "ip ospf"), (6, "ipv6 ospf6")) if version in site.versions]
    for link in ("lo", *site.mesh_links):
        yield "!"
        yield f"interface {link}"
        for protocol in protocols:
            if link == "lo":
                yield f" {protocol} passive"
            else:
                yield f" {protocol} network point-to-point"
                if site.hello_s is not None:
                    yield f" {protocol} hello-interval {site.hello_s}"
                    yield f" {protocol} dead-interval {4 * site.hello_s}"
            yield f" {protocol} area 0"
        yield "exit"


def _bgp(site: Site) -> Iterator[str]:
    """A session for each address family; the connection is tried every 5 s, not every 120 s."""
    ranges = [client for client in site.clients if client.prefixlen < client.max_prefixlen]
    peers = [client.network_address for client in site.clients if client not in ranges]
    groups = {version: f"{CLIENTS}{version}" for version in sorted({client.version for client in ranges})}
    yield "!"
    yield f"router bgp {site.as_number}"
    if site.router_id is not None:
        yield f" bgp router-id {site.router_id}"
    yield " no bgp default ipv4-unicast"
    for group in groups.values():
        yield f" neighbor {group} peer-group"
    for neighbour in (*site.reflectors, *peers, *groups.values()):
        yield f" neighbor {neighbour} remote-as internal"
        yield f" neighbor {neighbour} update-source lo"
        yield f" neighbor {neighbour} timers connect 5"
    if ranges:
        yield " bgp listen limit 5000"
    for client in ranges:
        yield f" bgp listen range {client} peer-group {groups[client.version]}"
    for version in site.versions:
        yield " !"
        yield f" address-family ipv{version} unicast"
        for reflector in site.reflectors:
            if reflector.version == version:
                yield f"  neighbor {reflector} activate"
        reflected: list[Address | str] = [peer for peer in peers if peer.version == version]
        if version in groups:
            reflected.append(groups[version])
        for each in reflected:
            yield f"  neighbor {each} activate"
            yield f"  neighbor {each} route-reflector-client"
        if site.originates_default:
            yield f"  network {'0.0.0.0/0' if version == 4 else '::/0'}"
        for line in _redistribute(site, version):
            yield f" {line}"
        yield " exit-address-family"
    yield "exit"


def _redistribute(site: Site, version: int) -> Iterator[str]:
    if any(prefix.version == version for prefix in site.hosts):
        yield f" redistribute {site.source} route-map {NAME}{version}"
