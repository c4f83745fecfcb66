"""The text that FRR reads: for one router of a mesh, and `roamroute config frr` for an access point.

The IGP (ospf6d, and ospfd for IPv4) carries the routers' own addresses. The host routes and the gateway's default
routes are external routes in it (routing "ospf"), or routes of iBGP with a route reflector on top of it ("ibgp").
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

import attrs

from roamroute.values import Address, Prefix

NAME = "roamroute"
"""Of our prefix lists; of our route maps with 4 or 6 behind it."""
DEFAULT_AS = 65000


@attrs.frozen
class Site:
    """One router as its configuration shows it.

    `hosts`: the roaming prefixes; empty on a router without clients. `source`: what is redistributed, "kernel" or
    "static". `reflectors`: the addresses of this router's route reflectors. `clients`: whom this router reflects for, a
    prefix of full length each, or a range from which they may come. `hello_s`: None for FRR's own 10 s.
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
    hello_s: int | None = None


def lines(site: Site) -> Iterator[str]:
    """The whole configuration of one router."""
    yield "frr defaults traditional"
    yield from host_filters(site.hosts)
    yield from _ospf(site)
    yield from _ospf6(site)
    yield from _links(site)
    if site.routing == "ibgp":
        yield from _bgp(site)


def host_filters(hosts: tuple[Prefix, ...]) -> Iterator[str]:
    """The route maps that let host routes of the roaming prefixes through, and nothing else."""
    for version, word in ((4, "ip"), (6, "ipv6")):
        prefixes = [prefix for prefix in hosts if prefix.version == version]
        if not prefixes:
            continue
        yield "!"
        for position, prefix in enumerate(prefixes, 1):
            yield f"{word} prefix-list {NAME} seq {5 * position} permit {prefix} ge {prefix.max_prefixlen}"
        yield f"route-map {NAME}{version} permit 10"
        yield f" match {word} address prefix-list {NAME}"
        yield "exit"


def _links(site: Site) -> Iterator[str]:
    """Timers before the area: an interface that has its area begins to wait by the timer that it has."""
    for link in ("lo", *site.mesh_links):
        yield "!"
        yield f"interface {link}"
        for protocol in ("ip ospf", "ipv6 ospf6"):
            if link == "lo":
                yield f" {protocol} passive"
            else:
                yield f" {protocol} network point-to-point"
                if site.hello_s is not None:
                    yield f" {protocol} hello-interval {site.hello_s}"
                    yield f" {protocol} dead-interval {4 * site.hello_s}"
            yield f" {protocol} area 0"
        yield "exit"


def _ospf(site: Site) -> Iterator[str]:
    yield "!"
    yield "router ospf"
    if site.router_id is not None:
        yield f" ospf router-id {site.router_id}"
    if site.originates_default and site.routing == "ospf":
        yield " default-information originate"
    if site.routing == "ospf":
        yield from _redistribute(site, 4)
    yield "exit"


def _ospf6(site: Site) -> Iterator[str]:
    yield "!"
    yield "router ospf6"
    if site.router_id is not None:
        yield f" ospf6 router-id {site.router_id}"
    if site.originates_default and site.routing == "ospf":
        yield " default-information originate"
    if site.routing == "ospf":
        yield from _redistribute(site, 6)
    yield "exit"


def _bgp(site: Site) -> Iterator[str]:
    yield "!"
    yield f"router bgp {site.as_number}"
    if site.router_id is not None:
        yield f" bgp router-id {site.router_id}"
    yield " no bgp default ipv4-unicast"
    for neighbour in (*site.reflectors, *_single(site.clients)):
        yield f" neighbor {neighbour} remote-as internal"
        yield f" neighbor {neighbour} update-source lo"
        yield f" neighbor {neighbour} timers connect 5"
    for version, word in ((4, "ipv4"), (6, "ipv6")):
        yield " !"
        yield f" address-family {word} unicast"
        for reflector in site.reflectors:
            if reflector.version == version:
                yield f"  neighbor {reflector} activate"
        for client in _single(site.clients):
            if client.version == version:
                yield f"  neighbor {client} activate"
                yield f"  neighbor {client} route-reflector-client"
        if site.originates_default:
            yield f"  network {'0.0.0.0/0' if version == 4 else '::/0'}"
        for line in _redistribute(site, version):
            yield f" {line}"
        yield " exit-address-family"
    yield "exit"


def _redistribute(site: Site, version: int) -> Iterator[str]:
    if any(prefix.version == version for prefix in site.hosts):
        yield f" redistribute {site.source} route-map {NAME}{version}"


def _single(clients: tuple[Prefix, ...]) -> list[Address]:
    return [client.network_address for client in clients if client.prefixlen == client.max_prefixlen]
