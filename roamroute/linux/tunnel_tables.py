"""The routes in the tables of forwarding: their messages, and what the kernel says is there.

Every route of ours bears our protocol number; others in these tables are left alone.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from ipaddress import IPv6Address

import attrs

from roamroute.linux.rtnetlink import Refusal, Requests
from roamroute.values import Address
from roamroute.wire import netlink, segment_routes
from roamroute.wire.segment_routes import Mode, SegmentEntry

METRIC = 8
_PUT = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
_MAKE = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL

Body = tuple[int, int, bytes]
"""Type, flags and body of a netlink message."""


@attrs.frozen
class TunnelTables:
    """Three tables in a row: forwards, delivery, segments; and the protocol number of our routes."""

    forwards: int
    protocol: int
    expires_s: int
    """A forward is forgotten by the kernel after this time, should we not end it (IPv6 only)."""

    @property
    def delivery(self) -> int:
        return self.forwards + 1

    @property
    def segments(self) -> int:
        return self.forwards + 2

    def forward(self, address: Address, segment: IPv6Address, index: int, mode: Mode) -> Body:
        """Send on what goes to `address`; it replaces another forward for it. `index`: any interface that is up."""
        body = segment_routes.forward_body(
            *(address, segment, index),
            table=self.forwards,
            protocol=self.protocol,
            metric=METRIC,
            mode=mode,
            expires_s=self.expires_s,
        )
        return netlink.RTM_NEWROUTE, _PUT, body

    def end_forward(self, address: Address) -> Body:
        """Send nothing on any more."""
        body = segment_routes.forward_body(
            *(address, None, None), table=self.forwards, protocol=self.protocol, metric=METRIC
        )
        return netlink.RTM_DELROUTE, 0, body

    def take(self, segment: IPv6Address, source: IPv6Address | None, index: int, action: bytes) -> Body:
        """Take packets for `segment`; `source` None: from anybody."""
        return netlink.RTM_NEWROUTE, _MAKE, self._segment_body(segment, source, index, action)

    def end_take(self, segment: IPv6Address, source: IPv6Address | None) -> Body:
        """Take none any more."""
        return netlink.RTM_DELROUTE, 0, self._segment_body(segment, source, None, None)

    def sent_on(self, requests: Requests) -> dict[Address, IPv6Address | None]:
        """Our forwards and their segments; None for a route that is none. Raises: KernelRefused, MalformedInput."""
        return {
            entry.destination: entry.segment
            for family in (netlink.AF_INET6, netlink.AF_INET)
            for entry in self._dump(requests, family, self.forwards)
            if entry.destination is not None
        }

    def taking(self, requests: Requests) -> list[SegmentEntry]:
        """Our segments, for each peer. Raises: KernelRefused, MalformedInput."""
        return self._dump(requests, netlink.AF_INET6, self.segments)

    def flush(self, requests: Requests, *, with_delivery: bool = False) -> None:
        """Delete our forwards and segments. Raises: KernelRefused, MalformedInput."""
        bodies = [self.end_forward(address) for address in self.sent_on(requests)]
        if with_delivery:
            numbers = {"protocol": self.protocol, "metric": METRIC, "table": self.delivery}
            bodies += [
                (netlink.RTM_DELROUTE, 0, netlink.host_route_body(entry.destination, entry.ifindex, **numbers))
                for family in (netlink.AF_INET6, netlink.AF_INET)
                for entry in self._dump(requests, family, self.delivery)
                if entry.destination is not None and entry.ifindex is not None
            ]
        for entry in self.taking(requests):
            if isinstance(entry.destination, IPv6Address):
                source = entry.source if isinstance(entry.source, IPv6Address) else None
                bodies.append(self.end_take(entry.destination, source))
        if bodies:
            requests.transact(bodies)

    def find_mode(self, requests: Requests, nobody: IPv6Address, index: int) -> Mode | Refusal:
        """How the kernel encapsulates, tried with an address that is nobody's. Raises: KernelRefused."""
        refusals: Sequence[Refusal] = ()
        for mode in (Mode.ENCAP_RED, Mode.ENCAP):
            refusals = requests.transact([self.forward(nobody, nobody, index, mode)])
            if not refusals:
                requests.transact([self.end_forward(nobody)])
                return mode
        return refusals[0]

    def _segment_body(
        self, segment: IPv6Address, source: IPv6Address | None, index: int | None, action: bytes | None
    ) -> bytes:
        return segment_routes.segment_body(
            *(segment, source, index, action), table=self.segments, protocol=self.protocol, metric=METRIC
        )

    def _dump(self, requests: Requests, family: int, table: int) -> list[SegmentEntry]:
        body = netlink.route_filter_body(family, table=table, protocol=self.protocol)
        messages = requests.dump(netlink.RTM_GETROUTE, body, none_if=errno.ENOENT)
        entries = [segment_routes.decode_segment_route(each) for each in messages]
        return [entry for entry in entries if entry.table == table and entry.protocol == self.protocol]


def find_link(requests: Requests, shunned: Collection[str], current: int | None) -> int | None:
    """An interface for our routes: up, with an IPv6 address, not the loopback; `current` where it still will do.

    A packet leaves where the way to its segment leads, so any will do; the `shunned` (client links, which come and go
    with hostapd) only where there is no other. Raises: KernelRefused, MalformedInput.
    """
    links = [netlink.decode_link(each) for each in requests.dump(netlink.RTM_GETLINK, netlink.link_body())]
    body = netlink.address_body(netlink.AF_INET6)
    addresses = [netlink.decode_address(each) for each in requests.dump(netlink.RTM_GETADDR, body)]
    speaking = {entry.ifindex for entry in addresses if entry is not None and entry.address.version == 6}
    usable = [
        link
        for link in links
        if link.flags & netlink.IFF_UP and not link.flags & netlink.IFF_LOOPBACK and link.ifindex in speaking
    ]
    usable.sort(key=lambda link: (link.name in shunned, link.ifindex != current, link.ifindex))
    return usable[0].ifindex if usable else None
