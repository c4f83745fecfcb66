"""Three access points around a core router, for the tests of forwarding: real packets, routes that a test sets by hand.

    server's address on `core` -- a, b, c -- each a client link wlan0 to the station `sta` (its ends: wa, wb, wc)

The core knows the way to every access point and to its segments; where it sends what is for the station is a test's
affair (`Mesh.route_to`). A `Forwarding` keeps the namespace in which it was opened: `Mesh.forwarding` opens it there.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from roamroute.events import Event
from roamroute.export import KernelNumbers
from roamroute.linux.forwarding import Forwarding
from roamroute.segments import segments_of
from roamroute.values import Segments

from .linux_namespaces import Logged, inside, sh

_NUMBERS = itertools.count()

PREFIXES = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
STATION = IPv6Address("fd44:0:0:1::77")
STATION4 = IPv4Address("10.44.0.77")
SERVER = IPv6Address("fd44:9::1")
SERVER4 = IPv4Address("10.49.0.1")
ACCESS_POINTS = ("a", "b", "c")
TABLES = 4544


def mesh_address(name: str) -> IPv6Address:
    return IPv6Address("fd44:a::") + ACCESS_POINTS.index(name) + 1


def segments(name: str) -> Segments:
    return segments_of(mesh_address(name), PREFIXES)


class Mesh:
    def __init__(self) -> None:
        number = next(_NUMBERS)
        self.names = {name: f"rrfw{os.getpid()}{name}{number}" for name in ("core", *ACCESS_POINTS, "sta")}
        self.logs: dict[str, Logged] = {}
        self.events: dict[str, list[Event]] = {}
        self.opened: list[Forwarding] = []

    def build(self) -> None:
        for namespace in self.names.values():
            sh(f"ip netns add {namespace} && ip -n {namespace} link set lo up")
            knobs = "net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1"
            knobs += " net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0"
            sh(f"ip netns exec {namespace} sysctl -qw {knobs}")
        core, sta = self.names["core"], self.names["sta"]
        sh(f"ip -n {core} addr add {SERVER} dev lo && ip -n {core} addr add {SERVER4} dev lo")
        for number, name in enumerate(ACCESS_POINTS, 1):
            there = self.names[name]
            sh(f"ip -n {core} link add to_{name} type veth peer name up0 netns {there}")
            sh(f"ip -n {there} link add wlan0 type veth peer name w{name} netns {sta}")
            for namespace, link in ((core, f"to_{name}"), (there, "up0"), (there, "wlan0"), (sta, f"w{name}")):
                sh(f"ip -n {namespace} link set {link} up")
            sh(f"ip -n {core} addr add fe80::c/64 dev to_{name} nodad")
            sh(f"ip -n {there} addr add fe80::a/64 dev up0 nodad")
            sh(f"ip -n {there} addr add fe80::1/64 dev wlan0 nodad && ip -n {there} addr add 10.44.0.1/32 dev wlan0")
            sh(f"ip -n {there} addr add {mesh_address(name)} dev lo")
            sh(f"ip -n {core} addr add 10.48.{number}.1/24 dev to_{name}")
            sh(f"ip -n {there} addr add 10.48.{number}.2/24 dev up0")
            sh(f"ip -n {there} route add default via fe80::c dev up0")
            sh(f"ip -n {there} route add default via 10.48.{number}.1")
            ours = segments(name)
            for address in (mesh_address(name), ours.ipv6, ours.ipv4):
                sh(f"ip -n {core} route add {address} via fe80::a dev to_{name}")
            sh(f"ip -n {sta} addr add {STATION}/128 dev w{name} nodad")  # Linux answers for it only where it is
        sh(f"ip -n {sta} addr add {STATION4} dev lo")

    def attach(self, name: str) -> None:
        """The station is on this access point now, as far as it and the access point's main table are concerned."""
        sta = self.names["sta"]
        sh(f"ip -n {sta} route replace default via fe80::1 dev w{name}")
        sh(f"ip -n {sta} route replace 10.44.0.1 dev w{name} src {STATION4}")
        sh(f"ip -n {sta} route replace default via 10.44.0.1 dev w{name} src {STATION4}")
        for address in (STATION, STATION4):
            sh(f"ip -n {self.names[name]} route replace {address} dev wlan0 metric 8 proto 144")

    def detach(self, name: str) -> None:
        for address in (STATION, STATION4):
            sh(f"ip -n {self.names[name]} route del {address} dev wlan0 metric 8 proto 144", check=False)

    def route_to(self, name: str) -> None:
        """The core believes that the station is on this access point."""
        number = ACCESS_POINTS.index(name) + 1
        sh(f"ip -n {self.names['core']} route replace {STATION} via fe80::a dev to_{name}")
        sh(f"ip -n {self.names['core']} route replace {STATION4} via 10.48.{number}.2")

    def on(self, name: str, command: str, *, check: bool = True) -> str:
        return sh(f"ip netns exec {self.names[name]} {command}", check=check)

    def pings(self, *, family: int = 6, count: int = 2) -> bool:
        """Whether the server reaches the station: the last of `count` packets is answered."""
        source, target = (SERVER, STATION) if family == 6 else (SERVER4, STATION4)
        shown = self.on("core", f"ping -{family} -n -i 0.05 -c {count} -W 1 -I {source} {target}", check=False)
        return any(line.startswith("64 bytes from") and f"icmp_seq={count} " in line for line in shown.splitlines())

    def forwarding(
        self, name: str, interfaces: tuple[str, ...] = ("wlan0",), *, changed: Callable[[], None] = lambda: None
    ) -> Forwarding:
        """An opened one, in the namespace of the access point, with the others as its peers."""
        log, events = Logged(), list[Event]()
        self.logs[name], self.events[name] = log, events
        made = Forwarding(
            *(PREFIXES, interfaces, mesh_address(name), segments(name)),
            tables=TABLES,
            rule_priority=4544,
            numbers=KernelNumbers(),
            emit=events.append,
            log=log,
            changed=changed,
        )
        self.opened.append(made)
        with inside(self.names[name]):
            made.open()
            made.deliver_all(())
            made.set_peers(frozenset(mesh_address(other) for other in ACCESS_POINTS if other != name))
        return made

    def inside(self, name: str) -> AbstractContextManager[None]:
        """This thread in the namespace: interfaces are looked up by name where the caller is."""
        return inside(self.names[name])

    def remove(self) -> None:
        for namespace in self.names.values():
            sh(f"ip netns del {namespace}", check=False)


def make_mesh() -> Iterator[Mesh]:
    """The body of a fixture."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    mesh = Mesh()
    try:
        mesh.build()
        yield mesh
    finally:
        mesh.remove()
