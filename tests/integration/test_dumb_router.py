"""One router with four dumb access points: two behind one port and a switch, one behind another port of the same
bridge, one behind another bridge. A client moves among them; a server behind the router asks whether it is there.

    server --- router: wlan0 [lan1] --- switch [d1] ~~~ d1        the client is in one of d1 to d4
                             [lan2] --- d3     [d2] ~~~ d2
                       wlan1 [lan3] --- d4
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address
from typing import Any

import attrs
import pytest

from roamroute.lab import addresses
from roamroute.lab.dumb import UpdateFrames, bridge_lines
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.lab.roaming import RoamrouteDaemon, apply_neighbour_times
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

from .test_dumb import ANSWERS_ONLY, DATA_ONLY
from .world import is_answered

pytestmark = [
    pytest.mark.requires_root,
    pytest.mark.requires_programs("ip", "nft", "nsenter", "ping", "setpriv", "sysctl"),
]

CLIENT_MAC = "02:00:00:01:00:01"
CLIENT = IPv6Address("fd44:0:0:1::77")
SERVER = IPv6Address("fd44:0:0:f::2")
LIMIT_S = 30.0
UPLINKS = {"switch": "lan1", "d3": "lan2", "d4": "lan3"}


@attrs.frozen
class Site:
    """All of it, and roamroute on the router."""

    router: Namespace
    air: Namespace
    client: Namespace
    server: Namespace
    frames: UpdateFrames
    sandbox: Sandbox

    def move(self, bridge: str, *, has_update_frame: bool) -> None:
        """Associate with another dumb access point."""
        self.air.ip("link set client down", "link set client nomaster")
        self.air.ip(f"link set client master {bridge}", "link set client up")
        wait_until(lambda: "LOWER_UP" in self.client.run("ip", "link", "show", "wlan0"), "there is a carrier", LIMIT_S)
        if has_update_frame:
            self.frames.send("wlan0", CLIENT_MAC)

    def wait_reached(self) -> None:
        wait_until(lambda: is_answered(self.server, CLIENT), "the server reaches the client", LIMIT_S)

    def port(self) -> str:
        """The port on which the router's bridge has learnt the client."""
        entries = json.loads(self.router.run("bridge", "-j", "fdb", "show", "br", "wlan0"))
        return "+".join(entry["ifname"] for entry in entries if entry["mac"] == CLIENT_MAC)

    def link(self) -> str:
        """The router's link towards the client, by our host route."""
        routes = json.loads(self.router.run("ip", "-j", "-6", "route", "show", str(CLIENT), "proto", "144") or "[]")
        return "+".join(sorted({route["dev"] for route in routes}))


def _veth(first: Namespace, link: str, second: Namespace, peer: str, mac: str = "") -> None:
    address = f" address {mac}" if mac else ""
    first.ip(f"link add {link}{address} type veth peer name {peer} netns {second.name}")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Sandbox() as sandbox:
        router, air, client, server = sandbox.namespaces(["router", "air", "client", "server"])
        for namespace in (router, client, server):
            namespace.sysctl({"net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.all.forwarding": 1})
        client.sysctl({"net.ipv6.conf.all.forwarding": 0})
        for uplink, port in UPLINKS.items():
            _veth(router, port, air, f"up-{uplink}")
        air.ip("link add s1 type veth peer name u1", "link add s2 type veth peer name u2")
        air.ip(
            *bridge_lines("switch", "up-switch", "s1", "s2"),
            *bridge_lines("d1", "u1"),
            *bridge_lines("d2", "u2"),
            *bridge_lines("d3", "up-d3"),
            *bridge_lines("d4", "up-d4"),
        )
        router.ip(
            *bridge_lines("wlan0", "lan1", "lan2", mac=addresses.COMMON_MAC),
            *bridge_lines("wlan1", "lan3", mac=addresses.COMMON_MAC),
            *(f"addr add {addresses.CLIENT_GATEWAY}/64 dev {link} nodad" for link in ("wlan0", "wlan1")),
        )
        for port in ("lan1", "lan2"):  # else what one dumb access point floods tells the other one wrong
            router.run("bridge", "link", "set", "dev", port, "isolated", "on")
        _veth(client, "wlan0", air, "client", CLIENT_MAC)
        client.ip("link set wlan0 up", f"addr add {CLIENT}/128 dev wlan0")
        client.ip(f"route add default via {addresses.CLIENT_GATEWAY} dev wlan0")
        _veth(router, "server", server, "gw")
        router.ip("link set server up", "addr add fd44:0:0:f::1/64 dev server nodad")
        server.ip("link set gw up", f"addr add {SERVER}/64 dev gw nodad", "route add default via fd44:0:0:f::1")
        access_point = Router("ap1", "access-point", 1, router)
        tables: dict[str, Mapping[str, Any]] = {
            "roaming": {"interfaces": ["wlan0", "wlan1"], "prefixes": [str(addresses.ROAMING_PREFIX)]},
            "stations": {"source": "none"},
            "control": {"socket": str(sandbox.directory / "control.sock")},
            "log": {"level": "debug"},
        }
        apply_neighbour_times(access_point, tables)
        router.sysctl({f"net.ipv6.neigh.{link}.base_reachable_time_ms": 2000 for link in ("wlan0", "wlan1")})
        router.sysctl({f"net.ipv6.neigh.{link}.retrans_time_ms": 300 for link in ("wlan0", "wlan1")})
        daemon = RoamrouteDaemon(access_point, tables)
        daemon.start()
        daemon.wait_ready()
        yield Site(router, air, client, server, UpdateFrames(client), sandbox)


@pytest.fixture
def here(site: Site) -> Iterator[Site]:
    """The client is behind the switch, in d1, and everybody knows."""
    site.client.run("nft", "flush", "ruleset")
    site.move("d1", has_update_frame=True)
    wait_until(lambda: is_answered(site.client, SERVER, source=CLIENT), "the client reaches the server", LIMIT_S)
    wait_until(lambda: site.link() == "wlan0", "the host route is there", LIMIT_S)
    site.wait_reached()
    site.client.run("nft", "-f", "-", stdin=ANSWERS_ONLY)
    yield site
    site.client.run("nft", "flush", "ruleset")


def deletions(site: Site, name: str) -> list[str]:
    log = site.sandbox.subdirectory("watched") / name
    return [line for line in log.read_text().splitlines() if "Deleted" in line and str(CLIENT) in line]


def watch(site: Site, name: str) -> None:
    """Follow the router's FIB from now on."""
    log = site.sandbox.subdirectory("watched") / name
    log.touch()
    site.router.start("ip", "-o", "-6", "monitor", "route", log=log)
    time.sleep(0.2)


@pytest.mark.parametrize("bridge", ["d2", "d3"])
def test_on_one_bridge_an_update_frame_is_all_it_takes_and_no_route_is_touched(here: Site, bridge: str) -> None:
    watch(here, f"update-{bridge}")
    here.move(bridge, has_update_frame=True)
    assert is_answered(here.server, CLIENT), "the first packet after the frame arrives"
    assert not deletions(here, f"update-{bridge}")
    assert here.link() == "wlan0"


@pytest.mark.parametrize("bridge", ["d2", "d3"])
def test_on_one_bridge_a_client_that_comes_without_a_word_is_found_by_asking_and_stays_announced(
    here: Site, bridge: str
) -> None:
    """Behind the switch the last of the kernel's solicitations finds it, for that one goes to all."""
    watch(here, f"silent-{bridge}")
    here.move(bridge, has_update_frame=False)
    here.wait_reached()
    assert not deletions(here, f"silent-{bridge}")
    assert here.link() == "wlan0"


def test_without_that_a_bridge_of_ours_is_made_to_forget_where_it_was(here: Site) -> None:
    """Nobody sends to it either, or the kernel would ask all ports for it as soon as it has failed."""
    here.router.sysctl({"net.ipv6.neigh.wlan0.mcast_resolicit": 0})
    try:
        watch(here, "unlearn")
        here.move("d3", has_update_frame=False)
        wait_until(lambda: here.port() == "lan2", "it has answered from its new place", LIMIT_S)
        here.wait_reached()
        assert not deletions(here, "unlearn")
    finally:
        here.router.sysctl({"net.ipv6.neigh.wlan0.mcast_resolicit": 1})


def test_on_another_bridge_the_route_follows_an_update_frame_and_comes_back(here: Site) -> None:
    for bridge, link in (("d4", "wlan1"), ("d2", "wlan0"), ("d4", "wlan1"), ("d1", "wlan0")):
        here.move(bridge, has_update_frame=True)
        wait_until(lambda: here.link() == link, f"the route leads to {link}", LIMIT_S)  # noqa: B023
        here.wait_reached()


def test_on_another_bridge_the_route_follows_a_packet_and_comes_back(here: Site) -> None:
    """It knows its gateway, and solicits nobody. A bridge that it has left knows it for 300 s, and tells nothing."""
    here.client.run("nft", "-f", "-", stdin=f"flush ruleset\n{DATA_ONLY}")
    here.client.ip(f"neigh replace {addresses.CLIENT_GATEWAY} lladdr {addresses.COMMON_MAC} dev wlan0 nud permanent")
    for bridge, link in (("d4", "wlan1"), ("d2", "wlan0"), ("d4", "wlan1")):
        here.move(bridge, has_update_frame=False)
        is_answered(here.client, SERVER, source=CLIENT)
        wait_until(lambda: here.link() == link, f"the route leads to {link}", LIMIT_S)  # noqa: B023
        here.wait_reached()
