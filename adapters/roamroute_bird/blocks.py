"""BIRD's configuration for a mesh that carries host routes, in blocks: what `config` prints and the lab runs.

One text serves BIRD 2.0.12 to 3.1, but for the kernel scan (`Site.scan_time_s`). Host routes are recognised by their
prefix, not by where they come from, so that the routing protocols' filters are the same in both modes, and where there
is no roamroute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from roamroute.export import KernelNumbers
from roamroute.values import Address, Prefix

PREFERENCE = 250
"""Of our host routes: above every routing protocol's (static 200, OSPF 150, Babel 130, BGP 100), below direct's 240."""
MAIN_TABLE = 254
FAMILIES = (6, 4)
NEVER_S = 1_000_000
"""A kernel scan time by which there is only the scan at the start."""

RETRANSMIT = "retransmit 2"
"""OSPF's least, in s (default 5): a router that is restarted is otherwise cut off for 10 s and more (MinLSArrival)."""

Conditions = Mapping[int, str]
"""For each address family (6 or 4) a condition of BIRD's filter language."""


@attrs.frozen
class Site:
    """What roamroute's configuration does not know of the mesh.

    `mesh` are interface patterns as BIRD writes them; options are BIRD's too, without semicolons.
    `scan_time_s`: how often BIRD compares the kernel's table with its own; None: BIRD's default, 60.
    `tick_s`: OSPF's, whole seconds; None: BIRD's default, 1.
    """

    mesh: str
    reflectors: tuple[str, ...] = ()
    autonomous_system: int = 65000
    babel_options: tuple[str, ...] = ()
    ospf_options: tuple[str, ...] = ("type ptp", RETRANSMIT)
    scan_time_s: int | None = None
    tick_s: int | None = None
    families: tuple[int, ...] = FAMILIES


def set_name(family: int) -> str:
    """BIRD's name for all host routes inside the roaming prefixes of one address family."""
    return f"ROAMROUTE_HOSTS{family}"


def learn_filter_name(family: int) -> str:
    return f"roamroute_learn{family}"


def families_of(prefixes: Sequence[Prefix]) -> tuple[int, ...]:
    return tuple(family for family in FAMILIES if any(prefix.version == family for prefix in prefixes))


def is_host(prefixes: Sequence[Prefix]) -> Conditions:
    """For each family with roaming prefixes: is this a host route inside them?"""
    return {family: f"net ~ {set_name(family)}" for family in families_of(prefixes)}


def host_sets(prefixes: Sequence[Prefix]) -> Iterator[str]:
    for family in families_of(prefixes):
        length = 128 if family == 6 else 32
        members = ", ".join(f"{prefix}{{{length},{length}}}" for prefix in prefixes if prefix.version == family)
        yield f"define {set_name(family)} = [ {members} ];"


def learn_filter(family: int, numbers: KernelNumbers) -> Iterator[str]:
    yield f"filter {learn_filter_name(family)} {{"
    yield f"  if krt_source = {numbers.protocol} && net ~ {set_name(family)} then {{"
    yield f"    preference = {PREFERENCE};"
    yield "    accept;"
    yield "  }"
    yield "  reject;"
    yield "}"


def kernel(family: int, site: Site, *, learns: bool, exported: str = "source != RTS_DEVICE") -> Iterator[str]:
    """The kernel protocol of one family in the main table: what the mesh says goes in, our routes come out."""
    yield f"protocol kernel kernel{family} {{"
    yield from _scan_time(site)
    if learns:
        yield "  learn;"
    yield f"  ipv{family} {{"
    yield f"    import {f'filter {learn_filter_name(family)}' if learns else 'none'};"
    yield f"    export where {exported};"
    yield "  };"
    yield "}"


def kernel_of_own_table(family: int, site: Site, numbers: KernelNumbers) -> Iterator[str]:
    """A second kernel protocol, which only learns, for `kernel.table` other than the main one."""
    yield f"ipv{family} table roamroute_table{family};"
    yield f"protocol kernel roamroute_kernel{family} {{"
    yield f"  kernel table {numbers.table};"
    yield from _scan_time(site)
    yield "  learn;"
    yield f"  ipv{family} {{ table roamroute_table{family}; import filter {learn_filter_name(family)}; export none; }};"
    yield "}"
    yield f"protocol pipe roamroute_pipe{family} {{"
    yield f"  table master{family};"
    yield f"  peer table roamroute_table{family};"
    yield "  import all;"
    yield "  export none;"
    yield "}"


def loopback(site: Site) -> Iterator[str]:
    """Makes the router's own addresses on lo routes that can be announced."""
    channels = " ".join(f"ipv{family};" for family in site.families)
    yield f'protocol direct loopback {{ {channels} interface "lo"; }}'


def babel(site: Site, announced: Conditions) -> Iterator[str]:
    """`announced`: what is announced besides the router's own addresses and what Babel itself has learnt."""
    yield "protocol babel mesh {"
    for family in site.families:
        yield f"  ipv{family} {{"
        yield "    import all;"
        yield f"    export where {_any('source ~ [ RTS_BABEL, RTS_DEVICE ]', announced, family)};"
        yield "  };"
    yield f"  interface {site.mesh}{_body(site.babel_options)};"
    yield "}"


def ospf(site: Site, announced: Conditions) -> Iterator[str]:
    """OSPFv3, and OSPFv2 for IPv4: BIRD's OSPFv3 finds no IPv4 next hops on unnumbered links, its OSPFv2 does."""
    for family in site.families:
        yield from ospf_instance(f"mesh{family}", family, site, announced)


def ospf_instance(name: str, family: int, site: Site, announced: Conditions) -> Iterator[str]:
    yield f"protocol ospf {'v3' if family == 6 else 'v2'} {name} {{"
    if site.tick_s is not None:
        yield f"  tick {site.tick_s};"
    yield f"  ipv{family} {{"
    yield "    import all;"
    yield f"    export where {_any('source = RTS_DEVICE', announced, family)};"
    yield "  };"
    yield f"  area 0 {{ interface {site.mesh}{_body(site.ospf_options)}; }};"
    yield "}"


def bgp(site: Site, announced: Conditions) -> Iterator[str]:
    """A client of the route reflectors; the next hops are IPv6 for both families."""
    for number, address in enumerate(site.reflectors, start=1):
        yield f"protocol bgp reflector{number} {{"
        yield f"  local as {site.autonomous_system};"
        yield f"  neighbor {address} as {site.autonomous_system};"
        yield "  connect delay time 1;"
        yield "  connect retry time 5;"
        yield "  error wait time 1, 10;"
        for family in site.families:
            yield f"  ipv{family} {{"
            if family == 4:
                yield "    extended next hop;"
            yield "    import all;"
            yield f"    export where {_any('source = RTS_BGP', announced, family)};"
            yield "  };"
        yield "}"


def reflector(site: Site, clients: Prefix, address: Address, announced: Conditions) -> Iterator[str]:
    """The route reflector: takes every router of the mesh whose address is among `clients`.

    What it announces itself has its own `address` as next hop: nobody else knows the way to its uplink's.
    """
    yield "protocol bgp clients {"
    yield f"  local {address} as {site.autonomous_system};"
    yield f"  neighbor range {clients} as {site.autonomous_system};"
    yield '  dynamic name "client";'
    yield "  rr client;"
    for family in site.families:
        own = f"if {announced[family]} then {{ bgp_next_hop = {address}; accept; }} " if family in announced else ""
        yield f"  ipv{family} {{"
        if family == 4:
            yield "    extended next hop;"
        yield "    import all;"
        yield f"    export filter {{ {own}if source = RTS_BGP then accept; reject; }};"
        yield "  };"
    yield "}"


def _scan_time(site: Site) -> Iterator[str]:
    if site.scan_time_s is not None:
        yield f"  scan time {site.scan_time_s};"


def _any(condition: str, announced: Conditions, family: int) -> str:
    return f"{condition} || {announced[family]}" if family in announced else condition


def _body(options: Sequence[str]) -> str:
    return f" {{ {' '.join(f'{option};' for option in options)} }}" if options else ""
