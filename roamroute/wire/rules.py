"""Policy rules of the kernel (`ip rule`): linux/fib_rules.h. Pure: values to bytes and back.

A rule of ours bears our number as its protocol (FRA_PROTOCOL, Linux 4.17): that is how we know it again after a crash.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Network, IPv6Network

import attrs

from roamroute.errors import MalformedInput
from roamroute.values import Prefix
from roamroute.wire.netlink import AF_INET, AF_INET6, RT_TABLE_COMPAT, Message, attribute, attributes

RTM_NEWRULE = 32
RTM_DELRULE = 33
RTM_GETRULE = 34
FR_ACT_TO_TBL = 1
FR_ACT_GOTO = 2
FR_ACT_UNREACHABLE = 7
FR_ACT_PROHIBIT = 8

_HEADER = struct.Struct("=BBBBBxxBI")  # family, dst_len, src_len, tos, table, action, flags
_U32 = struct.Struct("=I")
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_GOTO, _FRA_PRIORITY, _FRA_TABLE, _FRA_PROTOCOL = 1, 2, 3, 4, 6, 15, 21


@attrs.frozen
class Rule:
    """One rule. `to` and `source` select packets, None: any; `incoming`: the interface that they came in by.

    `table` belongs to FR_ACT_TO_TBL, `target` (the priority of a later rule) to FR_ACT_GOTO.
    """

    family: int
    priority: int
    action: int
    table: int = 0
    to: Prefix | None = None
    source: Prefix | None = None
    incoming: str | None = None
    target: int | None = None
    protocol: int = 0


def rule_body(rule: Rule) -> bytes:
    """The body of a message about a rule; it names all that tells the rule from others."""
    body = _HEADER.pack(
        rule.family,
        rule.to.prefixlen if rule.to is not None else 0,
        rule.source.prefixlen if rule.source is not None else 0,
        *(0, rule.table if rule.table < 256 else RT_TABLE_COMPAT, rule.action, 0),
    )
    if rule.to is not None:
        body += attribute(_FRA_DST, rule.to.network_address.packed)
    if rule.source is not None:
        body += attribute(_FRA_SRC, rule.source.network_address.packed)
    if rule.incoming is not None:
        body += attribute(_FRA_IIFNAME, rule.incoming.encode() + b"\0")
    if rule.target is not None:
        body += attribute(_FRA_GOTO, _U32.pack(rule.target))
    body += attribute(_FRA_PRIORITY, _U32.pack(rule.priority)) + attribute(_FRA_PROTOCOL, bytes((rule.protocol,)))
    return body + attribute(_FRA_TABLE, _U32.pack(rule.table)) if rule.table else body


def rules_body(family: int) -> bytes:
    """The body of a dump request."""
    return _HEADER.pack(family, 0, 0, 0, 0, 0, 0)


def decode_rule(message: Message) -> Rule:
    """Read a rule; selectors that we never use are not told. Raises: MalformedInput."""
    data = message.data
    if message.end - message.start < _HEADER.size:
        raise MalformedInput("netlink: rule message too short")
    family, to_length, source_length, _, table, action, _ = _HEADER.unpack_from(data, message.start)
    to: Prefix | None = None
    source: Prefix | None = None
    incoming: str | None = None
    target: int | None = None
    priority = protocol = 0
    for kind, offset, length in attributes(data, message.start + _HEADER.size, message.end):
        payload = data[offset + 4 : offset + length]
        if kind == _FRA_DST:
            to = _prefix(family, payload, to_length)
        elif kind == _FRA_SRC:
            source = _prefix(family, payload, source_length)
        elif kind == _FRA_IIFNAME:
            incoming = payload.split(b"\0", 1)[0].decode("utf-8", "replace")
        elif kind == _FRA_PROTOCOL and payload:
            protocol = payload[0]
        elif len(payload) == 4 and kind == _FRA_GOTO:
            target = _U32.unpack(payload)[0]
        elif len(payload) == 4 and kind == _FRA_PRIORITY:
            priority = _U32.unpack(payload)[0]
        elif len(payload) == 4 and kind == _FRA_TABLE:
            table = _U32.unpack(payload)[0]
    return Rule(family, priority, action, table, to, source, incoming, target, protocol)


def _prefix(family: int, payload: bytes, length: int) -> Prefix:
    if family == AF_INET6 and len(payload) == 16 and length <= 128:
        return IPv6Network((payload, length), strict=False)
    if family == AF_INET and len(payload) == 4 and length <= 32:
        return IPv4Network((payload, length), strict=False)
    raise MalformedInput(f"netlink: rule of family {family} with {len(payload)} octets of a /{length}")
