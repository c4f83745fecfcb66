"""What FRR's `show` commands say, as values. Pure: texts or parsed JSON in; MalformedInput for what cannot be.

Written after the outputs of FRR 8.4.4 and 10.3, whose JSON has the same keys for these commands; what another version
adds is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

import attrs

from roamroute.errors import MalformedInput
from roamroute.values import Address, Prefix

MAX_AGE_S = 3600
"""An LSA of this age is being withdrawn (RFC 2328 §14); it stays in the database for some seconds."""
RESERVED = frozenset({"blackhole", "reject", "Null0"})
"""In a static route these are no interfaces."""
_LARGEST_NUMBER = 1 << 32


@attrs.frozen
class RibEntry:
    """One way to a prefix in zebra's table. `protocol` is zebra's word: "kernel", "static", "ospf6", "bgp".

    `links`: the interfaces of its next hops that have no gateway. `tag`: 0 where it has none.
    """

    protocol: str
    is_selected: bool
    is_installed: bool
    links: frozenset[str]
    via: str = ""
    tag: int = 0


@attrs.frozen
class BgpWays:
    """What bgpd knows of a prefix: whether a path is our own, to how many it is announced, and who else has one."""

    is_ours: bool = False
    announced_to: int = 0
    others: tuple[str, ...] = ()


@attrs.frozen
class Static:
    """A static route as the configuration has it. `link`: empty where it does not simply go over an interface."""

    prefix: Prefix
    link: str
    tag: int = 0


def rib_entries(answer: Any) -> tuple[RibEntry, ...]:
    """`show ip|ipv6 route PREFIX json`: every way to the prefix."""
    return tuple(entry for _, entry in rib(answer))


def rib(answer: Any) -> Iterator[tuple[Prefix, RibEntry]]:
    """`show ip|ipv6 route … json`."""
    for text, entries in _mapping(answer).items():
        prefix = _prefix(text)
        for entry in _list(entries):
            yield prefix, _rib_entry(_mapping(entry))


def _rib_entry(entry: Mapping[str, Any]) -> RibEntry:
    hops = [_mapping(hop) for hop in _list(entry.get("nexthops", []))]
    gateways = [_text(hop.get("ip", "")) for hop in hops if hop.get("ip")]
    return RibEntry(
        protocol=_text(entry.get("protocol", "")),
        is_selected=bool(entry.get("selected", False)),
        is_installed=bool(entry.get("installed", False)),
        links=frozenset(_text(hop.get("interfaceName", "")) for hop in hops if not hop.get("ip")) - {""},
        via=gateways[0] if gateways else "",
        tag=_number(entry.get("tag", 0)),
    )


def external6(answer: Any) -> Prefix | None:
    """`show ipv6 ospf6 database as-external ID self-originated json`: the prefix of the LSA that is in force."""
    for database in _list(_mapping(answer).get("asScopedLinkStateDb", [])):
        for lsa in _list(_mapping(database).get("lsa", [])):
            lsa = _mapping(lsa)
            if _number(lsa.get("age", 0)) < MAX_AGE_S and ("prefix" in lsa or "payload" in lsa):
                return _prefix(lsa.get("prefix", lsa.get("payload")))
    return None


def redistributed6(answer: Any) -> dict[Prefix, int]:
    """`show ipv6 ospf6 redistribute json`: what ospf6d announces as external, and the number of each LSA."""
    routes = _list(_mapping(answer).get("routes", []))
    return {_prefix(_mapping(route).get("destination")): _identifier(_mapping(route).get("id")) for route in routes}


def external4(answer: Any) -> frozenset[Prefix]:
    """`show ip ospf database external [ADDRESS] self-originate json`: what ospfd announces as external."""
    found = _mapping(answer)
    states = found.get("asExternalLinkStates", found.get("AS External Link States", []))
    lsas = _list(list(states.values()) if isinstance(states, dict) else states)
    return frozenset(
        _prefix(f"{_text(_mapping(lsa).get('linkStateId', ''))}/{_number(_mapping(lsa).get('networkMask', 32))}")
        for lsa in lsas
        if _number(_mapping(lsa).get("lsaAge", 0)) < MAX_AGE_S
    )


def bgp_ways(answer: Any) -> BgpWays:
    """`show bgp ipv4|ipv6 unicast PREFIX json`."""
    found = _mapping(answer)
    paths = [_mapping(path) for path in _list(found.get("paths", []))]
    ours = [path for path in paths if path.get("sourced") or _peer(path) in ("::", "0.0.0.0")]
    others = [_peer(path) for path in paths if path not in ours and path.get("valid", True)]
    return BgpWays(bool(ours), len(_mapping(found.get("advertisedTo", {}))), tuple(others))


def _peer(path: Mapping[str, Any]) -> str:
    peer = _mapping(path.get("peer", {}))
    return _text(peer.get("peerId", "")) or "an unknown peer"


def bgp_originated(answer: Any) -> frozenset[Prefix]:
    """`show bgp ipv4|ipv6 unicast json`: the prefixes whose best path is our own."""
    found = set()
    for text, paths in _mapping(_mapping(answer).get("routes", {})).items():
        for path in _list(paths):
            path = _mapping(path)
            if path.get("bestpath") and _text(path.get("peerId", "")) in ("(unspec)", "::", "0.0.0.0", ""):
                found.add(_prefix(text))
    return frozenset(found)


def bgp_established(answer: Any) -> int:
    """`show bgp ipv4|ipv6 unicast summary json`: how many sessions are up."""
    peers = _mapping(_mapping(answer).get("peers", {}))
    return sum(_mapping(peer).get("state") == "Established" for peer in peers.values())


def statics(configuration: str) -> Iterator[Static]:
    """The static host routes in `show running-config`; those of VRFs stand in sections of their own."""
    for line in configuration.splitlines():
        words = line.split()
        if not line.startswith(("ip route ", "ipv6 route ")) or len(words) < 4:
            continue
        options = words[4:]
        tag = options[options.index("tag") + 1 :][:1] if "tag" in options else []
        try:
            prefix = ip_network(words[2])
        except ValueError:
            continue
        if prefix.prefixlen == prefix.max_prefixlen:
            link = "" if _is_address(words[3]) or words[3] in RESERVED else words[3]
            yield Static(prefix, link, int(tag[0]) if tag and re.fullmatch("[0-9]{1,10}", tag[0]) else 0)


def redistributions(configuration: str) -> frozenset[tuple[str, int, str]]:
    """Which protocol announces which routes, by `show running-config`: protocol, version of IP, source.

    ("ospf6", 6, "kernel"); of the default VRF only.
    """
    found = set()
    protocol, version = "", 0
    for line in configuration.splitlines():
        words = line.split()
        if not line.startswith(" "):
            protocol, version = "", 0
            if words[:1] == ["router"] and len(words) > 1 and "vrf" not in words:
                protocol = words[1]
                version = {"ospf6": 6, "ospf": 4}.get(protocol, 0)
        elif protocol == "bgp" and words[:1] == ["address-family"]:
            version = {("ipv6", "unicast"): 6, ("ipv4", "unicast"): 4}.get((words[1], words[-1]), 0) if words[2:] else 0
        elif words[:1] == ["exit-address-family"]:
            version = 0
        elif words[:1] == ["redistribute"] and len(words) > 1 and protocol and version:
            found.add((protocol, version, words[1]))
    return frozenset(found)


def daemons(answer: str) -> frozenset[str]:
    """`show daemons`: those that vtysh is connected to."""
    return frozenset(word for word in answer.split() if re.fullmatch(r"[a-z0-9]+", word))


def version(answer: str) -> str:
    """`show version`: "8.4.4"; empty when it does not say."""
    found = re.match(r"FRRouting (\d[\w.~+-]*)", answer.lstrip())
    return found.group(1) if found is not None else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise MalformedInput(f"FRR's answer has {_shown(value)} where an object was expected")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedInput(f"FRR's answer has {_shown(value)} where a list was expected")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedInput(f"FRR's answer has {_shown(value)} where a text was expected")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < _LARGEST_NUMBER:
        raise MalformedInput(f"FRR's answer has {_shown(value)} where a number was expected")
    return value


def _prefix(value: Any) -> Prefix:
    try:
        return ip_network(_text(value), strict=False)
    except ValueError:
        raise MalformedInput(f"FRR's answer has {_shown(value)} where a prefix was expected") from None


def _identifier(value: Any) -> int:
    """A link state ID, which is written like an IPv4 address."""
    try:
        found = ip_address(_text(value))
    except ValueError:
        raise MalformedInput(f"FRR's answer has {_shown(value)} where a link state ID was expected") from None
    return int(found)


def _is_address(word: str) -> bool:
    try:
        ip_address(word)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    return repr(value)[:60]


def host_of(prefix: Prefix) -> Address | None:
    """The address of a host route; None for any other."""
    return prefix.network_address if prefix.prefixlen == prefix.max_prefixlen else None
