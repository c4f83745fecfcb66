"""FRR's running configuration, as far as it decides over host routes. Pure; source: `show running-config`, 8.4 and 10.

Default VRF only. What a clause says in words that are not known here makes the answer "cannot tell", not a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network

import attrs

from roamroute.values import Prefix

_WORD = {4: "ip", 6: "ipv6"}


@attrs.frozen
class Rule:
    """One line of a prefix list or an access list: which prefixes, of which lengths. `text`: as it stands there."""

    is_permit: bool
    prefix: Prefix | None
    least: int
    most: int
    text: str

    def matches(self, route: Prefix) -> bool:
        if self.prefix is None:
            return True
        if self.prefix.version != route.version or not self.least <= route.prefixlen <= self.most:
            return False
        return route.prefixlen >= self.prefix.prefixlen and route.network_address in self.prefix


@attrs.define
class Clause:
    """One entry of a route map."""

    name: str
    sequence: int
    is_permit: bool
    matches: list[tuple[str, ...]] = attrs.field(factory=list)
    goes_on: bool = False
    """It has `call`, `continue` or `on-match`."""

    @property
    def text(self) -> str:
        return f"route-map {self.name} {'permit' if self.is_permit else 'deny'} {self.sequence}"


@attrs.frozen
class Redistribution:
    """A `redistribute` of one protocol. `route_map`: "" where there is none."""

    protocol: str
    version: int
    source: str
    route_map: str

    @property
    def text(self) -> str:
        return f"redistribute {self.source}" + (f" route-map {self.route_map}" if self.route_map else "")


@attrs.frozen
class Filter:
    """What a BGP neighbour is sent passes this route map or prefix list."""

    neighbour: str
    version: int
    kind: str
    name: str


@attrs.frozen
class Verdict:
    """May a route pass? None: cannot tell. `because`: the line that decides."""

    passes: bool | None
    because: str


@attrs.define
class Running:
    """The parts of a running configuration."""

    routers: set[str] = attrs.field(factory=set)
    """"ospf", "ospf6", "bgp", "babel"."""
    redistributions: list[Redistribution] = attrs.field(factory=list)
    least_pauses_ms: dict[str, int] = attrs.field(factory=dict)
    """`timers lsa min-arrival` by protocol, where it is configured."""
    filters: list[Filter] = attrs.field(factory=list)
    route_maps: dict[str, list[Clause]] = attrs.field(factory=dict)
    prefix_lists: dict[tuple[int, str], list[Rule | None]] = attrs.field(factory=dict)
    access_lists: dict[tuple[int, str], list[Rule | None]] = attrs.field(factory=dict)
    """By version of IP and name; None for a line that is not understood."""

    def redistribution(self, protocol: str, version: int, source: str) -> Redistribution | None:
        """What this protocol redistributes from this source; None: nothing."""
        wanted = (protocol, version, source)
        for each in self.redistributions:
            if (each.protocol, each.version, each.source) == wanted:
                return each
        return None

    def decide(self, route_map: str, route: Prefix, link: str, tag: int = 0) -> Verdict:
        """What a route map says of a route over an interface. Without a clause that matches, it is denied."""
        clauses = self.route_maps.get(route_map)
        if clauses is None:
            return Verdict(False, f"route-map {route_map} does not exist")
        for clause in sorted(clauses, key=lambda each: each.sequence):
            found = [self._matches(match, route, link, tag) for match in clause.matches]
            if False in found:
                continue
            if None in found or clause.goes_on:
                return Verdict(None, clause.text)
            return Verdict(clause.is_permit, clause.text)
        return Verdict(False, f"no clause of route-map {route_map} matches")

    def decide_prefix_list(self, name: str, route: Prefix) -> Verdict:
        """What a prefix list says of a route."""
        return _decide(self.prefix_lists.get((route.version, name)), route, f"prefix-list {name}")

    def _matches(self, match: tuple[str, ...], route: Prefix, link: str, tag: int) -> bool | None:
        word = _WORD[route.version]
        match match:
            case ("ip" | "ipv6" as family, "address", *_) if family != word:
                return False
            case (_, "address", "prefix-list", name):
                return self.decide_prefix_list(name, route).passes
            case (_, "address", name):
                return _decide(self.access_lists.get((route.version, name)), route, f"access-list {name}").passes
            case ("interface", name):
                return name == link
            case ("tag", number):
                return number == str(tag)
            case _:
                return None


def read_running(text: str) -> Running:
    """Read `show running-config`; what does not concern host routes is passed over."""
    running = Running()
    protocol, version = "", 0
    clause: Clause | None = None
    for line in text.splitlines():
        words = line.split()
        if not words or words[0] == "!":
            continue
        if not line.startswith(" "):
            protocol, version, clause = "", 0, None
            match words:
                case ["router", name, *rest] if "vrf" not in rest:
                    protocol, version = name, {"ospf6": 6, "ospf": 4}.get(name, 0)
                    running.routers.add(name)
                case ["route-map", name, action, sequence, *_] if sequence.isdecimal():
                    clause = Clause(name, int(sequence), action == "permit")
                    running.route_maps.setdefault(name, []).append(clause)
                case _:
                    _read_list(running, words)
        elif clause is not None:
            if words[0] == "match":
                clause.matches.append(tuple(words[1:]))
            elif words[0] in ("call", "continue", "on-match"):
                clause.goes_on = True
        elif protocol:
            version = _read_router(running, protocol, version, words)
    return running


def _read_router(running: Running, protocol: str, version: int, words: Sequence[str]) -> int:
    """One line below `router …`; returns the version of IP that the next one is about."""
    match words:
        case ["address-family", "ipv4" | "ipv6" as family, *kind] if protocol == "bgp":
            return int(family[-1]) if kind in ([], ["unicast"]) else 0
        case ["exit-address-family"]:
            return 0
        case ["redistribute", "ipv4" | "ipv6" as family, source, *_] if protocol == "babel":
            running.redistributions.append(Redistribution(protocol, int(family[-1]), source, ""))
        case ["redistribute", source, *options] if version:
            named = options[options.index("route-map") + 1 :][:1] if "route-map" in options else [""]
            running.redistributions.append(Redistribution(protocol, version, source, named[0] if named else ""))
        case ["timers", "lsa", "min-arrival", pause_ms] if pause_ms.isdecimal():
            running.least_pauses_ms[protocol] = int(pause_ms)
        case ["neighbor", neighbour, "route-map" | "prefix-list" as kind, name, "out"] if version:
            running.filters.append(Filter(neighbour, version, kind, name))
        case _:
            pass
    return version


def _read_list(running: Running, words: Sequence[str]) -> None:
    match words:
        case ["ip" | "ipv6" as family, "prefix-list", name, "seq", _, "permit" | "deny", *_]:
            version = 4 if family == "ip" else 6
            running.prefix_lists.setdefault((version, name), []).append(_prefix_rule(words))
        case ["access-list", name, "seq", _, "permit" | "deny", *_]:
            running.access_lists.setdefault((4, name), []).append(_access_rule(words, 4))
        case ["ipv6", "access-list", name, "seq", _, "permit" | "deny", *_]:
            running.access_lists.setdefault((6, name), []).append(_access_rule(words, 5))
        case _:
            pass


def _prefix_rule(words: Sequence[str]) -> Rule | None:
    is_permit, what, options = words[5] == "permit", words[6:7], list(words[7:])
    text = " ".join(words)
    if what == ["any"]:
        return Rule(is_permit, None, 0, 0, text)
    prefix = _prefix(what)
    bounds = dict(zip(options[::2], options[1::2], strict=False))
    if prefix is None or not bounds.keys() <= {"ge", "le"} or not all(word.isdecimal() for word in bounds.values()):
        return None
    least = int(bounds.get("ge", prefix.prefixlen))
    most = int(bounds.get("le", prefix.max_prefixlen if "ge" in bounds else prefix.prefixlen))
    return Rule(is_permit, prefix, least, most, text)


def _access_rule(words: Sequence[str], at: int) -> Rule | None:
    """An access list takes what lies inside its prefix, of any length."""
    is_permit, what, options = words[at] == "permit", words[at + 1 : at + 2], words[at + 2 :]
    text = " ".join(words)
    if what == ["any"] and not options:
        return Rule(is_permit, None, 0, 0, text)
    prefix = _prefix(what)
    if prefix is None or list(options) not in ([], ["exact-match"]):
        return None
    return Rule(is_permit, prefix, prefix.prefixlen, prefix.prefixlen if options else prefix.max_prefixlen, text)


def _prefix(words: Sequence[str]) -> Prefix | None:
    try:
        return ip_network(words[0], strict=False) if words and "/" in words[0] else None
    except ValueError:
        return None


def _decide(rules: list[Rule | None] | None, route: Prefix, named: str) -> Verdict:
    """FRR lists the rules by sequence number. A list that does not exist denies."""
    if rules is None:
        return Verdict(False, f"{named} does not exist")
    for rule in rules:
        if rule is None:
            return Verdict(None, named)
        if rule.matches(route):
            return Verdict(rule.is_permit, rule.text)
    return Verdict(False, f"no line of {named} matches")


def host_routes(prefixes: Sequence[Prefix]) -> Iterator[Prefix]:
    """One host route in each roaming prefix, to ask about."""
    for prefix in prefixes:
        address = prefix.network_address + min(2, prefix.num_addresses - 1)
        yield ip_network(address)
