"""Octets and datagrams of one UDP port, as the kernel of a namespace counts them: IP header and up, no link layer."""

from __future__ import annotations

import json
import time
from typing import Self

import attrs

from roamroute.lab.namespaces import Namespace
from roamroute.values import Seconds

RULES = """\
table inet counted {{
    counter sent {{ }}
    counter received {{ }}
    chain output {{ type filter hook output priority 0; udp dport {port} counter name sent; }}
    chain input {{ type filter hook input priority 0; udp dport {port} counter name received; }}
}}
"""


@attrs.frozen
class Rate:
    """Per second."""

    sent_octets: float
    received_octets: float
    sent_datagrams: float
    received_datagrams: float

    @property
    def octets(self) -> float:
        """Of both directions."""
        return self.sent_octets + self.received_octets


@attrs.frozen
class Count:
    """Both counters at one instant (CLOCK_MONOTONIC)."""

    at: float
    sent: tuple[int, int]
    received: tuple[int, int]

    def since(self, earlier: Self) -> Rate:
        """What has passed between the two."""
        seconds: Seconds = self.at - earlier.at
        octets, datagrams = (
            [(now[which] - then[which]) / seconds for now, then in self._pairs(earlier)] for which in (0, 1)
        )
        return Rate(*octets, *datagrams)

    def _pairs(self, earlier: Self) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
        return (self.sent, earlier.sent), (self.received, earlier.received)


def start_counting(namespace: Namespace, port: int) -> None:
    """Count what is sent to this port of others, and to this port of ours, from now on."""
    namespace.run("nft", "-f", "-", stdin=RULES.format(port=port))


def count(namespace: Namespace) -> Count:
    """How far the counters have come."""
    listed = json.loads(namespace.run("nft", "-j", "list", "counters", "table", "inet", "counted"))["nftables"]
    at = time.monotonic()
    found = {entry["counter"]["name"]: entry["counter"] for entry in listed if "counter" in entry}
    sent, received = ((found[name]["bytes"], found[name]["packets"]) for name in ("sent", "received"))
    return Count(at, sent, received)
