"""Lose a part of what the access points' daemons tell each other, at random."""

from __future__ import annotations

from roamroute.lab.namespaces import Namespace

PARTS = 10_000
"""The loss is set in hundredths of a percent."""

RULES = """\
table inet peer_loss {{
    chain input {{
        type filter hook input priority filter; policy accept;
        udp dport {port} numgen random mod {parts} < {lost} counter drop
    }}
}}
"""


def lose_messages(namespace: Namespace, port: int, percent: float) -> None:
    """Drop `percent` of the datagrams that come to UDP `port` in the namespace, whoever sends them.

    Each by itself: losses do not come in bursts, as they may over the air.
    """
    namespace.run("nft", "-f", "-", stdin=RULES.format(port=port, parts=PARTS, lost=round(percent * PARTS / 100)))
