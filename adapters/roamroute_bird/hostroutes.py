"""The host routes in the kernel, as /proc shows them: which are roamroute's, and which another route beats.

proc(5) net/ipv6_route and net/route, in the network namespace of the caller. IPv4 has the main table only, IPv6 all of
them; neither has protocol numbers: ours are recognised by link, metric and prefix.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import attrs

from roamroute.export import ExporterContext
from roamroute.values import Address

FOLDER = Path("/proc/thread-self/net")
_REJECT = 0x0200


@attrs.frozen
class KernelRoute:
    address: Address
    link: str
    metric: int
    has_gateway: bool


def host_routes(context: ExporterContext, folder: Path = FOLDER) -> tuple[KernelRoute, ...]:
    """All host routes inside the roaming prefixes, of whichever program, to clients here or over the mesh.

    Those of the handover, into a tunnel or out of it, are not among them: they have neither a gateway, as every IPv6
    route of a routing daemon has, nor a client link.
    """
    found = [*_ipv6(folder / "ipv6_route"), *_ipv4(folder / "route")]
    return tuple(
        route
        for route in found
        if any(prefix.version == route.address.version and route.address in prefix for prefix in context.prefixes)
        and (route.has_gateway or route.link in context.interfaces or route.address.version == 4)
    )


def is_on_client_link(route: KernelRoute, context: ExporterContext) -> bool:
    """Does the route lead to a client of this access point?"""
    return route.link in context.interfaces and not route.has_gateway


def is_ours(route: KernelRoute, context: ExporterContext) -> bool:
    return is_on_client_link(route, context) and route.metric == context.kernel.metric


def _ipv6(file: Path) -> Iterator[KernelRoute]:
    for line in _lines(file):
        words = line.split()
        if len(words) == 10 and words[1] == "80" and words[9] != "lo" and not int(words[8], 16) & _REJECT:
            address = IPv6Address(bytes.fromhex(words[0]))
            yield KernelRoute(address, words[9], int(words[5], 16), int(words[4], 16) != 0)


def _ipv4(file: Path) -> Iterator[KernelRoute]:
    for line in _lines(file)[1:]:
        words = line.split()
        if len(words) > 7 and words[7] == "FFFFFFFF" and not int(words[3], 16) & _REJECT:
            address = IPv4Address(int(words[1], 16).to_bytes(4, sys.byteorder))
            yield KernelRoute(address, words[0], int(words[6]), int(words[2], 16) != 0)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
