"""The source address of packets that the kernel encapsulates for segment routing: one for the whole network namespace.

The peers take encapsulated packets from our mesh address only, so it must be that. Another program may have set one for
purposes of its own (`ip sr tunsrc set`); that is left alone and told.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv6Address

from roamroute.linux.rtnetlink import Requests
from roamroute.wire import generic, segment_routes

_UNSET = IPv6Address("::")


class TunnelSource:
    """Asks and sets, synchronously."""

    def __init__(self, me: IPv6Address, former: Collection[IPv6Address] = ()) -> None:
        """`former`: what earlier runs of ours may have set.

        Raises: OSError without a netlink socket; KernelRefused (ENOENT) when the kernel has no segment routing.
        """
        self._me = me
        self._former = former
        self._requests = Requests(generic.NETLINK_GENERIC)
        try:
            request = generic.family_request(segment_routes.GENERIC_FAMILY)
            self._family = generic.decode_family(self._requests.get(generic.GENL_ID_CTRL, request)[0]).number
        except BaseException:
            self._requests.close()
            raise

    def take(self) -> IPv6Address | None:
        """Set it, where it is unset; return the address of somebody else that stands in the way, None: it is ours.

        Raises: KernelRefused, MalformedInput, OSError.
        """
        current = self.current()
        if current == _UNSET or (current != self._me and current in self._former):
            self._set(self._me)
            return None
        return None if current == self._me else current

    def release(self) -> None:
        """Unset it, where it is ours. Raises: KernelRefused, MalformedInput, OSError."""
        if self.current() in (self._me, *self._former):
            self._set(_UNSET)

    def current(self) -> IPv6Address:
        """What it is; `::` when it is unset. Raises: KernelRefused, MalformedInput, OSError."""
        return segment_routes.decode_source(self._requests.get(self._family, segment_routes.source_request())[0])

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._requests.close()

    def _set(self, address: IPv6Address) -> None:
        self._requests.get(self._family, segment_routes.source_change(address))
