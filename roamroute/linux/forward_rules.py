"""The policy rules of forwarding: which are wanted, and making them so.

In the order of their priorities, from `rule_priority` on:

0. (IPv6, each client link) from our mesh address to any segment: go on at 2. The kernel looks up what it has just
   encapsulated as if it had come in by the interface of the inner packet, so this must pass.
1. (IPv6, each client link) to any segment: prohibited. Clients have no business there, ours or another's.
2. to our own segments: the segments table. (IPv4: to the stand-in for what was decapsulated: the delivery table.)
3. to these, what got there: unreachable.
4. to the roaming prefixes: the forwards table; what is not in it goes on to the main table.

All bear our protocol number, and every rule that bears it is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

from roamroute.linux.rtnetlink import Refusal, Requests
from roamroute.segments import segment_prefix
from roamroute.values import PeerId, Prefix, Segments
from roamroute.wire import netlink, rules
from roamroute.wire.rules import Rule

STAND_IN = IPv4Address("192.0.0.8")
"""What a decapsulated IPv4 packet is looked up by: the dummy address of RFC 7600, whose route leads to the clients'
link, so that such a packet cannot be encapsulated again whatever its destination: End.DX4 knows no table, and without
that two access points that disagree could send it to and fro for ever (a tunnel leaves the inner TTL as it is). There
is one such route, hence one client link."""


def wanted_rules(
    prefixes: Sequence[Prefix],
    interfaces: Sequence[str],
    me: PeerId,
    segments: Segments,
    *,
    tables: int,
    priority: int,
    protocol: int,
    senders: Sequence[IPv6Address] | None = None,
) -> list[Rule]:
    """The rules in the order in which they are to be made.

    `tables`: the first of forwards, delivery, segments. `senders`: from whom packets to our segments are looked at,
    one rule each; None: from anybody, the routes decide.
    """
    all_segments = segment_prefix(prefixes)
    wanted: list[Rule] = []
    if all_segments is not None:
        for link in interfaces:
            if isinstance(me, IPv6Address):
                source = IPv6Network((me, 128))
                wanted.append(_rule(priority, rules.FR_ACT_GOTO, all_segments, protocol, source, link, priority + 2))
            wanted.append(_rule(priority + 1, rules.FR_ACT_PROHIBIT, all_segments, protocol, None, link))
    if interfaces:
        sources = (None,) if senders is None else tuple(IPv6Network((sender, 128)) for sender in senders)
        for segment in (segments.ipv6, segments.ipv4):
            if segment is not None:
                to = IPv6Network((segment, 128))
                wanted += [_lookup(priority + 2, tables + 2, to, protocol, source) for source in sources]
                wanted.append(_rule(priority + 3, rules.FR_ACT_UNREACHABLE, to, protocol))
        if segments.ipv4 is not None:
            to_stand_in = ip_network(STAND_IN)
            wanted.append(_lookup(priority + 2, tables + 1, to_stand_in, protocol))
            wanted.append(_rule(priority + 3, rules.FR_ACT_UNREACHABLE, to_stand_in, protocol))
    wanted += [_lookup(priority + 4, tables, prefix, protocol) for prefix in prefixes]
    return wanted


def reconcile_rules(requests: Requests, wanted: Sequence[Rule], protocol: int) -> list[tuple[Rule, Refusal]]:
    """Make the rules that bear `protocol` those that are wanted; return what the kernel refused.

    Raises: KernelRefused, MalformedInput, OSError.
    """
    present = _present(requests, protocol)
    extra = Counter(present) - Counter(wanted)
    missing = [rule for rule in wanted if rule not in set(present)]
    steps = [(rules.RTM_NEWRULE, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, rule) for rule in missing]
    steps += [(rules.RTM_DELRULE, 0, rule) for rule in extra.elements()]
    if not steps:
        return []
    refusals = requests.transact([(kind, flags, rules.rule_body(rule)) for kind, flags, rule in steps])
    return [(steps[refusal.position][2], refusal) for refusal in refusals]


def former_sources(requests: Requests, protocol: int) -> frozenset[IPv6Address]:
    """The mesh addresses of an earlier run whose rules are still there, perhaps ours of now among them.

    Raises: KernelRefused, MalformedInput, OSError.
    """
    return frozenset(
        rule.source.network_address
        for rule in _present(requests, protocol)
        if rule.action == rules.FR_ACT_GOTO and isinstance(rule.source, IPv6Network)
    )


def _present(requests: Requests, protocol: int) -> list[Rule]:
    return [
        found
        for family in (netlink.AF_INET6, netlink.AF_INET)
        for message in requests.dump(rules.RTM_GETRULE, rules.rules_body(family))
        if (found := rules.decode_rule(message)).protocol == protocol
    ]


def _lookup(priority: int, table: int, to: Prefix, protocol: int, source: Prefix | None = None) -> Rule:
    return Rule(_family(to), priority, rules.FR_ACT_TO_TBL, table, to, source, None, None, protocol)


def _rule(
    priority: int,
    action: int,
    to: Prefix,
    protocol: int,
    source: Prefix | None = None,
    link: str | None = None,
    target: int | None = None,
) -> Rule:
    return Rule(_family(to), priority, action, 0, to, source, link, target, protocol)


def _family(prefix: Prefix) -> int:
    return netlink.AF_INET6 if prefix.version == 6 else netlink.AF_INET
