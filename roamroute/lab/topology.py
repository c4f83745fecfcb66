"""The emulated mesh: server, gateway, routers and access points, each a network namespace, joined by veth pairs.

    server --- gateway --- r1 ---+--- ap1
                  |         :    +--- ap2
                  |         :
                  +------- r2 ---+--- ap3
                                 +--- (ap4, ...)

Access points are shared out so that roams between two on the same router and roams from one router to the other both
occur; the host route crosses two hops to the gateway in any case. The dotted link exists on demand. With it gateway and
routers form a loop: the routing daemon then has two ways to the same host, and what it does with the worse one when
the better is withdrawn decides over the gap. Without it there is one way, and what is measured is the move itself.

This module knows addresses, links and static routes. It knows no routing protocol (`routing.py`), no Wi-Fi
(`radio.py`, `wifi.py`) and no roamroute (`roaming.py`).
"""

from __future__ import annotations

import itertools
import select
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address
from pathlib import Path

import attrs

from roamroute import redirects
from roamroute.errors import DaemonGone
from roamroute.lab import addresses, dumb
from roamroute.lab.dumb import Stations
from roamroute.lab.namespaces import Namespace, Process, Sandbox
from roamroute.lab.waiting import NotReached

ROUTER_COUNT = 2
RELAY_LIMIT_S = 10.0


@attrs.define(eq=False)
class Router:
    """A node that runs the routing daemon: the gateway, a router or an access point."""

    name: str
    role: str  # "gateway", "router" or "access-point", as in roamroute.export.LabRouter
    number: int
    namespace: Namespace
    neighbours: list[Router] = attrs.field(factory=list)
    """Each is reached over the mesh link that has its name."""
    dumb: Namespace | None = None
    """The dumb access point that carries the Wi-Fi of this one, if one does."""

    @property
    def wifi(self) -> Namespace:
        """Where the Wi-Fi interface is, and hostapd runs."""
        return self.dumb or self.namespace

    @property
    def address(self) -> IPv6Address:
        return addresses.router_address(self.number)

    @property
    def is_access_point(self) -> bool:
        return self.role == "access-point"


class Mesh:
    """The namespaces, links, addresses and static routes of one emulated mesh; nothing runs in it yet.

    `air` is the namespace in which the radio cells live, one bridge per access point: `radio.Air` works in it.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        access_point_count: int = 3,
        *,
        has_loop: bool = False,
        delay_s: float = 0.0,
        stations: Stations = Stations.HOSTAPD,
    ) -> None:
        """`delay_s`: what every link between two routers takes, in each direction. Raises: NotReached, DaemonGone."""
        self.sandbox = sandbox
        self.delay_s = delay_s
        self.relay: Process | None = None
        self._link_indexes = itertools.count(1000)
        names = ["gw", *(f"r{number}" for number in range(1, ROUTER_COUNT + 1))]
        access_point_names = [f"ap{number}" for number in range(1, access_point_count + 1)]
        self.air, self.server, *router_namespaces = sandbox.namespaces(["air", "server", *names, *access_point_names])
        by_name = dict(zip([*names, *access_point_names], router_namespaces, strict=True))
        self.gateway = Router("gw", "gateway", addresses.GATEWAY_NUMBER, by_name["gw"])
        self.routers = [
            Router(name, "router", addresses.FIRST_ROUTER_NUMBER + position, by_name[name])
            for position, name in enumerate(names[1:])
        ]
        self.access_points = [
            Router(name, "access-point", position + 1, by_name[name])
            for position, name in enumerate(access_point_names)
        ]
        behind = [each for each in self.access_points if stations.is_dumb(each.number)]
        if behind:
            bridges = sandbox.namespaces([f"dumb{each.number}" for each in behind])
            for access_point, namespace in zip(behind, bridges, strict=True):
                access_point.dumb = namespace
        self._build(has_loop)

    @property
    def way_s(self) -> float:
        """What the links take from a packet between the server and an access point."""
        return 2 * self.delay_s

    @property
    def longest_way_s(self) -> float:
        """What the links take from a packet between two access points, at most."""
        return 4 * self.delay_s

    @property
    def names(self) -> dict[str, str]:
        """Address to name, of all routers."""
        return {str(router.address): router.name for router in self.all_routers}

    @property
    def all_routers(self) -> list[Router]:
        return [self.gateway, *self.routers, *self.access_points]

    def veth(self, first: Namespace, first_link: str, second: Namespace, second_link: str, *, mac: str = "") -> None:
        """Make a veth pair between two namespaces; `mac` is for the first end. Both ends are down.

        Every link of the lab has an index of its own. Where both ends of a veth pair have the same index (each the
        second link of its namespace, say) Linux takes the change of a carrier for not urgent and reports it up to a
        second late (linkwatch_urgent_event, net/core/link_watch.c).
        """
        index, peer_index = next(self._link_indexes), next(self._link_indexes)
        address = f" address {mac}" if mac else ""
        first.ip(
            f"link add {first_link} index {index}{address} type veth "
            f"peer name {second_link} index {peer_index} netns {second.name}"
        )

    def router_of(self, access_point: Router) -> Router:
        """The router that an access point hangs on."""
        return access_point.neighbours[0]

    def next_hops(self, destination: Router) -> Iterator[tuple[Router, Router]]:
        """For every other router: itself and its neighbour on a shortest way to `destination`."""
        seen = {destination.name}
        queue = deque([destination])
        while queue:
            here = queue.popleft()
            for neighbour in here.neighbours:
                if neighbour.name not in seen:
                    seen.add(neighbour.name)
                    queue.append(neighbour)
                    yield neighbour, here

    def raise_if_ended(self) -> None:
        """Raises: DaemonGone when the relay of the delayed links runs no more."""
        if self.relay is not None and (code := self.relay.poll()) is not None:
            log = self._relay_log.read_text(errors="replace").strip()
            raise DaemonGone(f"the relay of the links ended with exit code {code}; its log ends:\n{log[-2000:]}")

    @property
    def _relay_log(self) -> Path:
        return self.sandbox.subdirectory("relay") / "relay.log"

    def _delayed_links(self, pairs: Sequence[tuple[Router, Router]]) -> None:
        """Links as from `veth`, with the delay; both ends are down."""
        ends = [
            str(word)
            for upper, lower in pairs
            for word in (upper.namespace.path, lower.name, lower.namespace.path, upper.name)
        ]
        command = [sys.executable, "-m", "roamroute.lab.relay", str(self.delay_s * 1000), *ends]
        self.relay = self.sandbox.start(command, log=self._relay_log, stdout=subprocess.PIPE)
        assert self.relay.stdout is not None
        if not (select.select([self.relay.stdout], [], [], RELAY_LIMIT_S)[0] and self.relay.stdout.readline()):
            self.raise_if_ended()
            raise NotReached(f"the relay of the links is not ready within {RELAY_LIMIT_S:g} s: see its log")

    def _build(self, has_loop: bool) -> None:
        forwarding = {
            "net.ipv4.ip_forward": 1,
            "net.ipv6.conf.all.forwarding": 1,
            "net.ipv6.conf.default.accept_dad": 0,  # mesh links are usable at once
        }
        for router in self.all_routers:
            router.namespace.sysctl(forwarding)
            router.namespace.run("nft", "-f", "-", stdin=redirects.NFTABLES)
        self.server.sysctl({"net.ipv6.conf.default.accept_dad": 0})
        pairs = [(self.gateway, router) for router in self.routers]
        pairs += list(itertools.pairwise(self.routers)) if has_loop else []
        pairs += list(zip(self._routers_of_access_points(), self.access_points, strict=True))
        if self.delay_s:
            self._delayed_links(pairs)
        for upper, lower in pairs:
            if not self.delay_s:
                self.veth(upper.namespace, lower.name, lower.namespace, upper.name)
            lower.neighbours.append(upper)
            upper.neighbours.append(lower)
        self.veth(self.server, "gw", self.gateway.namespace, "server")
        for access_point in self.access_points:
            mac = addresses.COMMON_MAC if access_point.dumb is None else dumb.WIFI_MAC
            self.veth(access_point.wifi, addresses.CLIENT_LINK, self.air, access_point.name, mac=mac)
            if access_point.dumb is not None:
                self.veth(access_point.namespace, dumb.PORT, access_point.dumb, dumb.UPLINK)
                access_point.dumb.ip(*dumb.bridge_lines(dumb.BRIDGE, dumb.UPLINK, addresses.CLIENT_LINK))
                access_point.namespace.ip(*dumb.client_link_lines())
        for router in self.all_routers:
            router.namespace.ip(*address_lines(router))
        self._configure_edge()
        for access_point in self.access_points:
            access_point.namespace.ip(*CLIENT_LINK_LINES)

    def _routers_of_access_points(self) -> Sequence[Router]:
        """ap1 and ap2 on r1, ap3 on r2, then in turn: r2, r1, r2, ..."""
        order = [self.routers[0], self.routers[0], self.routers[1]]
        turns = itertools.cycle([self.routers[1], self.routers[0]])
        return [order[place] if place < len(order) else next(turns) for place in range(len(self.access_points))]

    def _configure_edge(self) -> None:
        """The server stands for everything beyond the mesh; what is not there ends at the gateway."""
        self.gateway.namespace.ip(
            "link set server up",
            f"addr add {addresses.SERVER_GATEWAY}/64 dev server nodad",
            f"addr add {addresses.SERVER_GATEWAY_IPV4}/24 dev server",
            f"route add default via {addresses.SERVER} dev server proto static",
            f"route add default via {addresses.SERVER_IPV4} dev server proto static",
            f"route add unreachable {addresses.ROAMING_PREFIX} proto static metric 65000",
            f"route add unreachable {addresses.ROAMING_PREFIX_IPV4} proto static metric 65000",
        )
        self.server.ip(
            "link set gw up",
            f"addr add {addresses.SERVER}/64 dev gw nodad",
            f"addr add {addresses.SERVER_IPV4}/24 dev gw",
            f"route add default via {addresses.SERVER_GATEWAY} dev gw",
            f"route add default via {addresses.SERVER_GATEWAY_IPV4} dev gw",
        )


def address_lines(router: Router) -> list[str]:
    """`ip` lines for loopback and mesh links. IPv4 is unnumbered: every mesh link has the address of the loopback."""
    ipv4 = addresses.router_address_ipv4(router.number)
    lines = [f"addr add {router.address}/128 dev lo", f"addr add {ipv4}/32 dev lo"]
    for neighbour in router.neighbours:
        lines += [
            f"link set {neighbour.name} addrgenmode none",
            f"addr add {addresses.link_local(router.number)}/64 dev {neighbour.name} nodad",
            f"addr add {ipv4}/32 dev {neighbour.name}",
            f"link set {neighbour.name} up",
        ]
    return lines


CLIENT_LINK_LINES = (
    f"addr add {addresses.CLIENT_GATEWAY}/64 dev {addresses.CLIENT_LINK} nodad",
    f"addr add {addresses.CLIENT_GATEWAY_IPV4}/32 dev {addresses.CLIENT_LINK}",
    f"link set {addresses.CLIENT_LINK} up",
)
"""What an operator configures on the client link of an access point. No on-link /64: that is the idea."""
