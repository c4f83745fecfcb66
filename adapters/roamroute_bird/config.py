"""`roamroute config bird`: a complete bird.conf for an access point, in parts that can be taken one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from roamroute.export import ExporterContext
from roamroute_bird import advertisements, blocks
from roamroute_bird.blocks import Site
from roamroute_bird.settings import ROUTINGS, Settings
from roamroute_bird.version import OLDEST

REFLECTOR = "2001:db8::1"
"""Stands for the address of the operator's route reflector; never a real one (RFC 3849)."""
SCAN_TIME_S = 1
"""A burst of routes overflows BIRD's netlink socket, and BIRD 3 leaves changed routes out of the kernel: the next scan
mends both. With 5,000 routes it costs 4 ms of CPU a second (2.17) to 9 (3.1); see docs/bird-facts.md."""


def fragment(settings: Settings, context: ExporterContext) -> str:
    """The text for every version from 2.0.8 on."""
    return "\n".join(_lines(settings, context)) + "\n"


def site_of(context: ExporterContext) -> Site:
    """A site with every interface but the client links as mesh, and one reflector with an address to be replaced."""
    return Site(
        mesh=", ".join([*(f'-"{link}"' for link in context.interfaces), '"*"']),
        reflectors=(REFLECTOR,),
        scan_time_s=SCAN_TIME_S,
        families=(6, 4) if 4 in blocks.families_of(context.prefixes) else (6,),
    )


def host_lines(settings: Settings, context: ExporterContext, site: Site) -> Iterator[str]:
    """How host routes come into BIRD, and what the mesh says into the kernel."""
    numbers = context.kernel
    families = blocks.families_of(context.prefixes)
    has_own_table = numbers.table != blocks.MAIN_TABLE and not settings.injects
    yield ""
    yield "# Host routes are these and no others, here and in the filters of the routing protocol below."
    yield from blocks.host_sets(context.prefixes)
    if settings.injects:
        yield ""
        yield "# roamroute writes this file. It must be there before BIRD starts, empty is well: touch it once."
        yield f'include "{settings.include}";'
    else:
        yield ""
        yield f"# roamroute's routes have protocol number {numbers.protocol}. With BIRD's own preference for kernel"
        yield "# routes, 10, an access point would not announce a host that another one still announces."
        for family in families:
            yield from blocks.learn_filter(family, numbers)
    yield ""
    yield "# BIRD takes one kernel protocol for each table and family. Where you have your own, do not take these"
    if settings.injects or has_own_table:
        yield "# but see that yours exports all routes of the mesh; its `metric` must not be 0."
    else:
        yield "# but add `learn`, `scan time` and the import filter to it; its `metric` must not be below 9."
    yield "# `scan time`: the next scan mends what a burst of routes, or BIRD 3 at any time, has left undone."
    for family in site.families:
        yield from blocks.kernel(family, site, learns=family in families and not settings.injects and not has_own_table)
    if has_own_table:
        yield ""
        yield f"# roamroute's routes are in table {numbers.table} of the kernel (kernel.table): this learns from it."
        for family in families:
            yield from blocks.kernel_of_own_table(family, site, numbers)


def routing_lines(routing: str, context: ExporterContext, site: Site) -> Iterator[str]:
    """The routing protocol of an access point: "babel", "ospf" or "ibgp"."""
    announced = blocks.is_host(context.prefixes)
    yield ""
    yield "# The access point's own addresses on lo, by which other access points reach its roamroute."
    yield from blocks.loopback(site)
    yield ""
    match routing:
        case "babel":
            yield '# Name your mesh links instead of "*"; `type wired` or `type wireless` for each kind of them.'
            yield from blocks.babel(site, announced)
        case "ospf":
            yield from _ospf_comment()
            yield from blocks.ospf(site, announced)
        case _:
            yield "# OSPF knows the way to the routers."
            yield from _ospf_comment()
            yield from blocks.ospf_instance("mesh6", 6, site, {})
            yield ""
            yield f"# REPLACE {REFLECTOR} by your route reflector; docs/howto-bird.md has its configuration."
            yield from blocks.bgp(site, announced)


def _lines(settings: Settings, context: ExporterContext) -> Iterator[str]:
    site = site_of(context)
    outside = "".join(f'-"{link}", ' for link in context.interfaces)
    yield f"# Made by `roamroute config bird`: a bird.conf for an access point, for BIRD {OLDEST.text} and later."
    yield "# In a bird.conf of your own, keep what you have and take the parts that you lack."
    yield ""
    yield "log syslog all;"
    yield "# Unique in the mesh: never the gateway's address on the client links, which all access points share."
    yield "# Without another IPv4 address write one yourself: router id 192.0.2.1;"
    yield f'router id from {outside}"*";'
    yield from advertisements.device(context.router, context.interfaces)
    if context.router is not None:
        yield ""
        yield from advertisements.radv(context.router, context.interfaces)
    yield from host_lines(settings, context, site)
    if settings.routing:
        yield from routing_lines(settings.routing, context, site)
        return
    yield ""
    yield "# exporters.bird.routing names no routing protocol: here are all of them. Uncomment one."
    for routing in ROUTINGS:
        yield ""
        yield f"# ---- {routing}"
        yield from _commented(routing_lines(routing, context, site))


def _ospf_comment() -> Iterator[str]:
    yield '# Name your mesh links instead of "*". Where a link has more than one neighbour, all its routers must do'
    yield "# without `type ptp`; then it takes 40 s to come up, and IPv4 needs a network on it."


def _commented(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.startswith("#") else f"# {line}".rstrip()
