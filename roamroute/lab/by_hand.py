"""Host routes set by hand on every router at once: the best that routing could do, to compare with.

No claim, no neighbour cache, no routing protocol: at the moment of the layer-2 connection the lab, which knows
everything, writes the /128s of the client into the FIB of every router.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from roamroute.lab import addresses
from roamroute.lab.addresses import CLIENT_LINK
from roamroute.lab.namespaces import Process
from roamroute.lab.topology import Mesh, Router

METRIC = 4
"""Better than any routing daemon's."""


class RoutesByHand:
    """A kept-open `ip -batch` in every router; it carries out a line as soon as it has read it."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._tools: dict[str, Process] = {}
        self._placed: set[object] = set()
        for router in mesh.all_routers:
            log = mesh.sandbox.subdirectory(router.name) / "by-hand.log"
            self._tools[router.name] = router.namespace.start(
                "ip", "-force", "-batch", "-", stdin=subprocess.PIPE, log=log
            )

    def place(self, hosts: Iterable[object], access_point: Router) -> None:
        """Lead these addresses to `access_point`, on every router; takes some 5 ms in all."""
        hosts = tuple(hosts)
        self._placed.update(hosts)
        self._write(access_point, [f"route replace {host} dev {CLIENT_LINK} metric {METRIC}" for host in hosts])
        for router, next_hop in self._mesh.next_hops(access_point):
            ipv6 = f"via {addresses.link_local(next_hop.number)} dev {next_hop.name} metric {METRIC}"
            ipv4 = f"via {addresses.router_address_ipv4(next_hop.number)} dev {next_hop.name} onlink metric {METRIC}"
            self._write(router, [f"route replace {host} {ipv6 if ':' in str(host) else ipv4}" for host in hosts])

    def clear(self) -> None:
        """Remove every route that was placed, and end the tools."""
        for router in self._mesh.all_routers:
            self._write(router, [f"route del {host} metric {METRIC}" for host in self._placed])
        self._mesh.sandbox.stop(*self._tools.values())

    def _write(self, router: Router, lines: list[str]) -> None:
        pipe = self._tools[router.name].stdin
        assert pipe is not None
        pipe.write(("\n".join(lines) + "\n").encode())
        pipe.flush()
