"""Our own segments: a route for each of them and each peer, so that packets of nobody else are taken.

Where the kernel has no routes by source (CONFIG_IPV6_SUBTREES) the policy rules tell the peers apart, up to a limit.
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from ipaddress import IPv6Address

from roamroute.linux.forward_rules import STAND_IN
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Requests
from roamroute.linux.tunnel_tables import TunnelTables
from roamroute.values import PeerId, Segments
from roamroute.wire import segment_routes

_SENDERS_LIMIT = 64
"""Each is a rule then, and every packet to a segment meets all of them."""


class SegmentTable:
    """What should be in the third table; asks the kernel what is."""

    def __init__(self, segments: Segments, tables: TunnelTables, repeats: Repeats) -> None:
        self._segments = segments
        self._tables = tables
        self._repeats = repeats
        self._has_source_routes = True
        self.peers: Collection[PeerId] = ()

    @property
    def rule_senders(self) -> list[IPv6Address] | None:
        """The peers that the rules must tell apart; None: the routes do."""
        return None if self._has_source_routes else self._senders()[:_SENDERS_LIMIT]

    def reconcile(self, requests: Requests, index: int) -> str | None:
        """Make the table true; return why it cannot be done. `rule_senders` may be another afterwards.

        Raises: KernelRefused, MalformedInput, OSError.
        """
        why_not = self._attempt(requests, index)
        if why_not == errno.EINVAL and self._has_source_routes:
            self._has_source_routes = False
            why_not = self._attempt(requests, index)
            if why_not is None:
                text = "peers are told apart by policy rules: the kernel lacks CONFIG_IPV6_SUBTREES"
                self._repeats.tell("info", "subtrees", text)
        if not self._has_source_routes and len(self._senders()) > _SENDERS_LIMIT:
            text = f"too many peers for a kernel without CONFIG_IPV6_SUBTREES, taken from limit={_SENDERS_LIMIT}"
            self._repeats.tell("warning", "senders", text)
        if why_not is None:
            return None
        reason = f"{errno.errorcode.get(why_not, str(why_not))}"
        return f"the kernel takes no encapsulated packets, it needs CONFIG_IPV6_SEG6_LWTUNNEL: {reason}"

    def taken(self, requests: Requests) -> tuple[dict[PeerId, int], int]:
        """How many packets of each peer were taken, and how many could not be. Raises: KernelRefused, MalformedInput.

        Without routes by source all are counted under `::`.
        """
        taken: dict[PeerId, int] = {}
        errors = 0
        for entry in self._tables.taking(requests):
            if entry.counters is not None:
                peer = entry.source or IPv6Address("::")
                taken[peer] = taken.get(peer, 0) + entry.counters.packets
                errors += entry.counters.errors
        return taken, errors

    def _attempt(self, requests: Requests, index: int) -> int | None:
        present: set[tuple[IPv6Address, IPv6Address | None]] = set()
        for entry in self._tables.taking(requests):
            if isinstance(entry.destination, IPv6Address):
                present.add((entry.destination, entry.source if isinstance(entry.source, IPv6Address) else None))
        wanted = self._wanted()
        made = [self._tables.take(*key, index, action) for key, action in wanted.items() if key not in present]
        ended = [self._tables.end_take(*key) for key in present - wanted.keys()]
        if made or ended:
            for refusal in requests.transact(made + ended):
                if refusal.position < len(made):
                    return refusal.errno
        return None

    def _wanted(self) -> dict[tuple[IPv6Address, IPv6Address | None], bytes]:
        actions = (
            (self._segments.ipv6, segment_routes.decapsulate6_action(self._tables.delivery)),
            (self._segments.ipv4, segment_routes.decapsulate4_action(STAND_IN)),
        )
        sources = self._senders() if self._has_source_routes else [None]
        return {(segment, source): action for segment, action in actions if segment is not None for source in sources}

    def _senders(self) -> list[IPv6Address]:
        return sorted(peer for peer in self.peers if isinstance(peer, IPv6Address))
