"""What others make of our router advertisements: the kernel of a Linux client, rdisc6 and radvdump."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roamroute import control
from roamroute.errors import RoamrouteError

from .linux_namespaces import sh
from .ra_world import AP_MAC, Cell, cell, said, wait_for

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "rdisc6", "radvdump")]
CONFIGURATION = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64"]
[stations]
source = "none"
[control]
socket = "%s"
[ra]
rdnss = ["fd44:0:0:a::53", "fd44:0:0:a::54"]
dnssl = ["mesh.example.org", "example.org"]
mtu_bytes = 1460
pref64 = "64:ff9b::/96"
retrans_timer_ms = 1500
reachable_time_ms = 40000
hop_limit = 63
"""
ADDRESS = "fd44::1:0:ff:fe00:2"


class Router:
    """A running roamroute on the access point of a cell."""

    def __init__(self, made: Cell, folder: Path, more: str = "") -> None:
        self.cell = made
        self.socket = folder / "control.sock"
        self.file = folder / "roamroute.toml"
        self.file.write_text(CONFIGURATION % self.socket + more)
        self.log = folder / "roamroute.log"
        self.process = made.start(sys.executable, "-m", "roamroute", "run", "-c", str(self.file), log=self.log)
        wait_for(self.is_there, f"roamroute runs: {self.log.read_text()}")

    def is_there(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(control.ask(self.socket, "status"))
        except RoamrouteError:
            return False


@pytest.fixture
def made() -> Iterator[Cell]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    with cell() as built:
        yield built


@pytest.fixture
def router(made: Cell, tmp_path: Path) -> Router:
    return Router(made, tmp_path)


def has_default_route(made: Cell, gateway: str = "fe80::1") -> bool:
    return any(route.get("gateway") == gateway for route in made.routes("default"))


def setting(made: Cell, name: str) -> int:
    return int(sh(f"ip netns exec {made.sta} sysctl -n {name}"))


def test_a_client_makes_itself_an_address_and_nothing_is_on_its_link(router: Router) -> None:
    client = router.cell
    wait_for(client.addresses, "the client has an address")
    (address,) = client.addresses()
    assert address["local"] == ADDRESS
    assert 14000 < address["preferred_life_time"] <= 14400
    assert 86000 < address["valid_life_time"] <= 86400
    (route,) = client.routes("default")
    assert (route["gateway"], route["protocol"]) == ("fe80::1", "ra")
    assert 8900 < route["expires"] <= 9000
    assert [each["dst"] for each in client.routes() if each["dst"].startswith("fd44")] == []
    found = sh(f"ip -6 -n {client.sta} route get fd44:0:0:1::99")
    assert "via fe80::1" in found, "another host of the prefix is reached through the router"


def test_a_client_takes_the_times_and_sizes_that_it_is_told(router: Router) -> None:
    client = router.cell
    wait_for(client.addresses, "the client has an address")
    assert setting(client, "net.ipv6.conf.eth0.hop_limit") == 63
    assert setting(client, "net.ipv6.conf.eth0.mtu") == 1460
    assert setting(client, "net.ipv6.neigh.eth0.retrans_time_ms") == 1500
    assert setting(client, "net.ipv6.neigh.eth0.base_reachable_time_ms") == 40000


def test_a_drain_takes_the_default_route_away_and_its_end_brings_it_back(router: Router) -> None:
    client = router.cell
    wait_for(lambda: has_default_route(client), "the client has a default route")
    control.ask(router.socket, "drain")
    wait_for(lambda: not has_default_route(client), "the default route is gone")
    assert [each["local"] for each in client.addresses()] == [ADDRESS], "the address is good elsewhere"
    control.ask(router.socket, "resume")
    wait_for(lambda: has_default_route(client), "the default route is back")


def test_a_link_that_was_down_is_told_again(router: Router) -> None:
    client = router.cell
    wait_for(lambda: has_default_route(client), "the client has a default route")
    sh(f"ip -n {client.ap} link set wlan0 down")
    sh(f"ip -n {client.sta} -6 route flush proto ra")
    sh(f"ip -n {client.ap} link set wlan0 up && ip -n {client.ap} address replace fe80::1/64 dev wlan0 nodad")
    wait_for(lambda: has_default_route(client), "the client has a default route again")


def test_a_stop_takes_the_default_route_away(router: Router) -> None:
    client = router.cell
    wait_for(lambda: has_default_route(client), "the client has a default route")
    router.process.terminate()
    wait_for(lambda: not has_default_route(client), "the default route is gone")


def test_a_crash_takes_nothing_away(router: Router) -> None:
    client = router.cell
    wait_for(lambda: has_default_route(client), "the client has a default route")
    router.process.kill()
    router.process.wait()
    assert has_default_route(client)


def test_a_router_that_needs_a_route_has_to_have_it(made: Cell, tmp_path: Path) -> None:
    router = Router(made, tmp_path, 'needs_route = ["::/0"]\n')
    (heard, *_) = made.advertised()
    assert said(heard)["router lifetime"] == 0
    assert control.ask(router.socket, "status")["ra"]["reason"] == "no route"
    sh(f"ip -n {made.ap} link add up0 type bridge && ip -n {made.ap} link set up0 up")
    sh(f"ip -n {made.ap} -6 route add default dev up0")
    wait_for(lambda: has_default_route(made), "the client has a default route")


def test_the_gateway_may_have_another_address(made: Cell, tmp_path: Path) -> None:
    sh(f"ip -n {made.ap} address add fe80::44/64 dev wlan0 nodad")
    Router(made, tmp_path, 'source = "fe80::44"\n')
    wait_for(lambda: has_default_route(made, "fe80::44"), "the client has a default route")
    assert not has_default_route(made)


def test_rdisc6_reads_what_we_say(router: Router) -> None:
    wait_for(router.cell.addresses, "the client has an address")
    text = sh(f"ip netns exec {router.cell.sta} rdisc6 -1 eth0")
    for pattern in (
        r"Hop limit +: +63 ",
        r"Stateful address conf\. +: +No",
        r"Stateful other conf\. +: +No",
        r"Router preference +: +medium",
        r"Router lifetime +: +9000 ",
        r"Reachable time +: +40000 ",
        r"Retransmit time +: +1500 ",
        r"Prefix +: fd44:0:0:1::/64",
        r"On-link +: +No",
        r"Autonomous address conf\.: +Yes",
        r"Valid time +: +86400 ",
        r"Pref\. time +: +14400 ",
        r"MTU +: +1460 ",
        r"Recursive DNS server +: fd44:0:0:a::53",
        r"Recursive DNS server +: fd44:0:0:a::54",
        r"DNS servers? lifetime +: +9000 ",
        r"DNS search list +: mesh\.example\.org example\.org",
        r"DNS search list lifetime *: +9000 ",
        rf"Source link-layer address: {AP_MAC}",
        r"from fe80::1",
    ):
        assert re.search(pattern, text, re.IGNORECASE), f"{pattern} is not in:\n{text}"


def test_radvdump_reads_what_we_say(router: Router, tmp_path: Path) -> None:
    dump = tmp_path / "radvdump.conf"
    client = router.cell
    client.start("radvdump", namespace=client.sta, log=dump)

    def is_dumped() -> bool:
        sh(f"ip netns exec {client.sta} rdisc6 -1 eth0", check=False)
        return "}; # End of interface definition" in dump.read_text()

    wait_for(is_dumped, "radvdump has heard one")
    text = dump.read_text()
    for line in (
        "AdvManagedFlag off;",
        "AdvOtherConfigFlag off;",
        "AdvReachableTime 40000;",
        "AdvRetransTimer 1500;",
        "AdvCurHopLimit 63;",
        "AdvDefaultLifetime 9000;",
        "AdvDefaultPreference medium;",
        "AdvSourceLLAddress on;",
        "AdvLinkMTU 1460;",
        "prefix fd44:0:0:1::/64",
        "AdvValidLifetime 86400;",
        "AdvPreferredLifetime 14400;",
        "AdvOnLink off;",
        "AdvAutonomous on;",
        "AdvRouterAddr off;",
        "RDNSS fd44:0:0:a::53 fd44:0:0:a::54",
        "AdvRDNSSLifetime 9000;",
        "DNSSL mesh.example.org example.org",
        "AdvDNSSLLifetime 9000;",
    ):
        assert line in text, f"{line} is not in:\n{text}"


def test_scapy_reads_what_we_say_and_who_asked_is_told_alone(router: Router) -> None:
    (heard, *_) = router.cell.advertised(lambda packet: packet.dst == "02:00:00:00:00:02")
    assert said(heard) == {
        "source": "fe80::1",
        "IP hop limit": 255,
        "hop limit": 63,
        "managed": 0,
        "other": 0,
        "preference": 0,
        "router lifetime": 9000,
        "reachable time": 40000,
        "retrans timer": 1500,
        "link-layer address": AP_MAC,
        "prefixes": {("fd44:0:0:1::", 64, 0, 1, 86400, 14400)},
        "MTU": 1460,
        "RDNSS": {("fd44:0:0:a::53", 9000), ("fd44:0:0:a::54", 9000)},
        "DNSSL": {("mesh.example.org.", 9000), ("example.org.", 9000)},
        "PREF64": ("64:ff9b::", 0, 5400),
    }
