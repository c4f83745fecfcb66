"""Drops what clients send to segments, before it is routed, where the kernel has nf_tables.

The policy rules prohibit it too, but for one case: a packet that bears our own mesh address as its source looks to them
like one that the kernel has just encapsulated, which is looked up anew as if it came from the client's link. Only what
stands before the routing can tell.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from ipaddress import IPv6Network

from roamroute.errors import KernelRefused, MalformedInput
from roamroute.linux.rtnetlink import Requests
from roamroute.wire import packet_rules


class ClientGuard:
    """One table of our own in nf_tables, for the family ip6."""

    def __init__(self, interfaces: Sequence[str], segments: IPv6Network) -> None:
        """Raises: OSError without a netlink socket for the packet filter."""
        self._interfaces = tuple(interfaces)
        self._segments = segments
        self._requests = Requests(packet_rules.NETLINK_NETFILTER)
        self._is_ours = False
        """What stands before the first time is an earlier run's, perhaps for other links."""

    def reconcile(self) -> None:
        """Put the filter in, where it is not whole. Raises: KernelRefused, MalformedInput, OSError."""
        if not self._is_ours or not self.is_whole():
            self._requests.transact_whole(
                packet_rules.batch(packet_rules.replace_filter(self._interfaces, self._segments))
            )
            self._is_ours = True

    def is_whole(self) -> bool:
        """Whether it stands: `nft flush ruleset` of a firewall's restart removes it. Raises: KernelRefused, OSError."""
        try:
            answers = self._requests.get(packet_rules.GET_CHAIN, packet_rules.filter_request())
        except KernelRefused as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return [packet_rules.decode_rule_count(each) for each in answers] == [len(self._interfaces)]

    def close(self) -> None:
        """Close the socket; the filter stays."""
        self._requests.close()


def remove_guard() -> None:
    """Remove the filter, where there is one; never raises: a kernel without nf_tables has none."""
    try:
        requests = Requests(packet_rules.NETLINK_NETFILTER)
        try:
            requests.transact_whole(packet_rules.batch(packet_rules.delete_filter()))
        finally:
            requests.close()
    except (KernelRefused, MalformedInput, OSError):
        return


def explain(error: Exception) -> str:
    """Why the filter cannot be put in, for people."""
    reason = os.strerror(error.errno) if isinstance(error, KernelRefused) else str(error)
    return f"a client that knows our mesh address could use a peer's segment: no nf_tables ({reason})"
