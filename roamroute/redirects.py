"""ICMPv6 redirects, which a router of roaming hosts must not send, and how to forbid them.

Linux redirects the sender when a packet leaves by the interface it came in by (RFC 4861 §8). For clients of one access
point, and for routes that are just changing, what it tells is true for a moment only: the sender keeps it in its route
cache and misses the client for 3 to 11 s (Linux 6.18, docs/linux-facts.md). IPv4 has `send_redirects`; IPv6 has no such
switch.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

from roamroute.values import Seconds

_LIMIT_S: Seconds = 5.0

NFTABLES = """\
table ip6 roamroute {
    chain output {
        type filter hook output priority filter; policy accept;
        icmpv6 type nd-redirect drop
    }
}
"""


def nftables_fragment() -> str:
    """The text of `roamroute config nftables`: a file for nft -f."""
    return (
        f"# for roamroute, on access points and mesh routers: add it to /etc/nftables.conf, or nft -f FILE\n{NFTABLES}"
    )


def are_forbidden() -> bool | None:
    """Whether a rule of nftables drops our ICMPv6 redirects; None where nft cannot be asked."""
    try:
        done = subprocess.run(
            ["nft", "--json", "list", "ruleset"], capture_output=True, timeout=_LIMIT_S, check=True, text=True
        )
        return has_rule(json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def has_rule(ruleset: Any) -> bool:
    """Look for the rule in what `nft --json list ruleset` prints (libnftables-json(5))."""
    objects = ruleset.get("nftables", []) if isinstance(ruleset, dict) else []
    outputs = {
        (chain.get("family"), chain.get("table"), chain.get("name"))
        for chain in _of("chain", objects)
        if chain.get("hook") == "output"
    }
    return any(
        (rule.get("family"), rule.get("table"), rule.get("chain")) in outputs and _drops_redirects(rule.get("expr", []))
        for rule in _of("rule", objects)
    )


def _of(kind: str, objects: Any) -> Iterator[dict[str, Any]]:
    for each in objects:
        if isinstance(each, dict) and isinstance(each.get(kind), dict):
            yield each[kind]


def _drops_redirects(expressions: Any) -> bool:
    is_redirect = is_dropped = False
    for each in expressions:
        if not isinstance(each, dict):
            continue
        match = each.get("match")
        if isinstance(match, dict):
            left = match.get("left")
            field = left.get("payload") if isinstance(left, dict) else None
            is_redirect |= field == {"protocol": "icmpv6", "field": "type"} and match.get("right") == "nd-redirect"
        is_dropped |= "drop" in each
    return is_redirect and is_dropped
