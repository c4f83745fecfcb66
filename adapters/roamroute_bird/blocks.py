"""BIRD's configuration for a mesh that carries host routes, in blocks: what `config` prints and the lab runs.

One text serves BIRD 2.0.12 to 3.1. Host routes are recognised by their prefix, not by where they come from, so that the
routing protocols' filters are the same in both modes and on routers that have no roamroute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from roamroute.export import KernelNumbers
from roamroute.values import Address, Prefix

PREFERENCE = 250
"""Of our host routes: above every routing protocol's (OSPF 150, Babel 130, BGP 100), below a static 255's."""
MAIN_TABLE = 254
FAMILIES = (6, 4)


@attrs.frozen
class Site:
    """What roamroute's configuration does not know of the mesh.

    `mesh` is a list of interface patterns as BIRD writes them. `reflectors` are addresses.
    """

    mesh: str
    reflectors: tuple[str, ...] = ()
    autonomous_system: int = 65000
    ospf_options: tuple[str, ...] = ()
    babel_options: tuple[str, ...] = ()
    tick: int | None = None
    """OSPF's, in s; None: BIRD's own, 1."""


def set_name(family: int) -> str:
    """BIRD's name for all host routes inside the roaming prefixes of one address family (6 or 4)."""
    return f"ROAMROUTE_HOSTS{family}"


def learn_filter_name(family: int) -> str:
    return f"roamroute_learn{family}"


def families(prefixes: Sequence[Prefix]) -> tuple[int, ...]:
    """The address families among the roaming prefixes, IPv6 first."""
    return tuple(family for family in FAMILIES if any(prefix.version == family for prefix in prefixes))


def host_sets(prefixes: Sequence[Prefix]) -> Iterator[str]:
    for family in families(prefixes):
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


def kernel(family: int, *, learns: bool, import_filter: str) -> Iterator[str]:
    """The kernel protocol of one family in the main table: what the mesh says goes in, what is learnt comes out."""
    yield f"protocol kernel kernel{family} {{"
    if learns:
        yield "  learn;"
    yield f"  ipv{family} {{"
    yield f"    import {import_filter};"
    yield "    export where source != RTS_DEVICE;"
    yield "  };"
    yield "}"


def kernel_of_own_table(family: int, numbers: KernelNumbers) -> Iterator[str]:
    """A second kernel protocol, which only learns, for `kernel.table` other than the main one."""
    yield f"ipv{family} table roamroute_table{family};"
    yield f"protocol kernel roamroute_kernel{family} {{"
    yield f"  kernel table {numbers.table};"
    yield "  learn;"
    yield f"  ipv{family} {{ table roamroute_table{family}; import filter {learn_filter_name(family)}; export none; }};"
    yield "}"
    yield f"protocol pipe roamroute_pipe{family} {{"
    yield f"  table master{family};"
    yield f"  peer table roamroute_table{family};"
    yield "  import all;"
    yield "  export none;"
    yield "}"


def loopback() -> Iterator[str]:
    """Makes the router's own address on lo a route that Babel can announce."""
    yield 'protocol direct loopback { ipv6; ipv4; interface "lo"; }'


def babel(site: Site, exported: dict[int, str]) -> Iterator[str]:
    """`exported`: for each family the condition under which a route that is not Babel's own is announced."""
    yield from loopback()
    yield "protocol babel babel1 {"
    for family in FAMILIES:
        condition = f"source ~ [ RTS_BABEL, RTS_DEVICE ]{_or(exported, family)}"
        yield f"  ipv{family} {{ import all; export where {condition}; }};"
    yield f"  interface {site.mesh}{_body(site.babel_options)};"
    yield "}"


def ospf(site: Site, exported: dict[int, str]) -> Iterator[str]:
    """OSPFv3, and OSPFv2 for IPv4: BIRD's OSPFv3 finds no IPv4 next hops on unnumbered links, its OSPFv2 does."""
    yield from loopback()
    for family in FAMILIES:
        yield from _ospf_instance(f"ospf{family}", family, site, exported.get(family))


def bgp_over_ospf(site: Site, exported: dict[int, str]) -> Iterator[str]:
    """A client of the route reflectors; next hops are IPv6 for both families, and OSPFv3 knows the way to them."""
    yield from loopback()
    yield from _ospf_instance("underlay", 6, site, None)
    for number, reflector in enumerate(site.reflectors, start=1):
        yield f"protocol bgp ibgp{number} {{"
        yield f"  local as {site.autonomous_system};"
        yield f"  neighbor {reflector} as {site.autonomous_system};"
        yield from _bgp_timers()
        yield from _bgp_channels(exported)
        yield "}"


def reflector(site: Site, range_of_clients: Prefix, address: Address, exported: dict[int, str]) -> Iterator[str]:
    """The route reflector: takes every router of the mesh whose address is in the range.

    What it announces itself (`exported`) has its own `address` as next hop: nobody else knows the way to its uplink's.
    """
    yield from loopback()
    yield from _ospf_instance("underlay", 6, site, None)
    yield "protocol bgp reflector {"
    yield f"  local {address} as {site.autonomous_system};"
    yield f"  neighbor range {range_of_clients} as {site.autonomous_system};"
    yield '  dynamic name "client";'
    yield "  rr client;"
    for family in FAMILIES:
        own = f"if {exported[family]} then {{ bgp_next_hop = {address}; accept; }} " if family in exported else ""
        yield f"  ipv{family} {{"
        if family == 4:
            yield "    extended next hop;"
        yield "    import all;"
        yield f"    export filter {{ {own}if source = RTS_BGP then accept; reject; }};"
        yield "  };"
    yield "}"


def _ospf_instance(name: str, family: int, site: Site, exported: str | None) -> Iterator[str]:
    version = "v3" if family == 6 else "v2"
    yield f"protocol ospf {version} {name} {{"
    if site.tick is not None:
        yield f"  tick {site.tick};"
    yield f"  ipv{family} {{ import all; export where source = RTS_DEVICE{f' || {exported}' if exported else ''}; }};"
    yield "  area 0 {"
    yield f"    interface {site.mesh}{_body(site.ospf_options)};"
    yield "  };"
    yield "}"


def _bgp_timers() -> Iterator[str]:
    """Only what counts when a router starts; the defaults wait for minutes when the first attempt is too early."""
    yield "  connect delay time 1;"
    yield "  connect retry time 5;"
    yield "  error wait time 1, 10;"


def _bgp_channels(exported: dict[int, str]) -> Iterator[str]:
    for family in FAMILIES:
        condition = f"where source = RTS_BGP{_or(exported, family)}"
        extended = " extended next hop;" if family == 4 else ""
        yield f"  ipv{family} {{{extended} import all; export {condition}; }};"


def _or(exported: dict[int, str], family: int) -> str:
    return f" || {exported[family]}" if family in exported else ""


def _body(options: Sequence[str]) -> str:
    return f" {{ {' '.join(f'{option};' for option in options)} }}" if options else ""


def hosts_condition(prefixes: Sequence[Prefix]) -> dict[int, str]:
    """For each family with roaming prefixes: is this a host route inside them?"""
    return {family: f"net ~ {set_name(family)}" for family in families(prefixes)}


def router_id(address: object) -> str:
    return f"router id {address};"
