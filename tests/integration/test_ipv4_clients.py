"""IPv4 clients with a netmask talk to each other through their access points: what `roamroute config sysctl` prints.

Two access points; one of them has two clients that do not hear each other (isolated ports of its bridge). No daemon
runs: the host routes are there, what is asked is what ARP makes of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from roamroute.config import parse_config
from roamroute.lab.namespaces import CommandFailed, Namespace, Sandbox
from roamroute.sysctl import sysctl_fragment

CONFIG = parse_config('[roaming]\ninterfaces = ["wlan0"]\nprefixes = ["10.44.0.0/16"]\n')


@pytest.fixture
def bed() -> Iterator[dict[str, Namespace]]:
    """`here` with the clients `asker` and `near`, `there` with the client `far`."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    with Sandbox() as sandbox:
        names = ("here", "there", "asker", "near", "far")
        made = dict(zip(names, sandbox.namespaces(names), strict=True))
        here, there = made["here"], made["there"]
        here.ip(f"link add mesh type veth peer name mesh netns {there.name}", "link add wlan0 type bridge")
        for name in ("asker", "near"):
            here.ip(
                f"link add {name} type veth peer name e0 netns {made[name].name}", f"link set {name} master wlan0 up"
            )
            here.run("bridge", "link", "set", "dev", name, "isolated", "on")
        there.ip(f"link add wlan0 type veth peer name e0 netns {made['far'].name}")
        for number, point in enumerate((here, there), start=1):
            point.ip("addr add 10.44.0.1/32 dev wlan0", f"addr add 10.45.0.{number}/32 dev mesh")
            point.ip("link set wlan0 up", "link set mesh up")
        for number, name in enumerate(("asker", "near", "far"), start=11):
            made[name].ip(f"addr add 10.44.0.{number}/16 dev e0", "link set e0 up", "route add default via 10.44.0.1")
        here.ip("route add 10.44.0.11 dev wlan0", "route add 10.44.0.12 dev wlan0")
        here.ip("route add 10.44.0.13 via 10.45.0.2 dev mesh onlink")
        there.ip("route add 10.44.0.13 dev wlan0", "route add 10.44.0.11 via 10.45.0.1 dev mesh onlink")
        yield made


def configure(point: Namespace) -> None:
    """Apply the fragment, but for what is the whole machine's."""
    lines = [line for line in sysctl_fragment(CONFIG).splitlines() if "=" in line and "default" not in line]
    point.sysctl(dict(line.replace(" ", "").split("=") for line in lines if not line.startswith("#")))


def reaches(client: Namespace, address: str) -> bool:
    try:
        client.run("ping", "-c", "1", "-W", "5", address)
    except CommandFailed:
        return False
    return True


def announce(client: Namespace, address: str) -> str:
    """Say by an ARP request that the address is the client's own (RFC 5227 §2.3), and what came back."""
    command = ("arping", "-c", "2", "-w", "2", "-I", "e0", "-s", address, address)
    return client.run("sh", "-c", f"{' '.join(command)} || true")


def test_clients_reach_each_other_wherever_they_are(bed: dict[str, Namespace]) -> None:
    configure(bed["here"])
    configure(bed["there"])
    assert reaches(bed["asker"], "10.44.0.13"), "at another access point"
    assert reaches(bed["asker"], "10.44.0.12"), "at the same one, isolated"


def test_without_the_fragment_they_do_not(bed: dict[str, Namespace]) -> None:
    for point in (bed["here"], bed["there"]):
        point.sysctl({"net.ipv4.ip_forward": 1})
    with pytest.raises(CommandFailed):
        bed["asker"].run("ping", "-c", "1", "-W", "2", "10.44.0.13")


def test_a_probe_of_ones_own_address_finds_no_conflict_although_a_route_leads_elsewhere(
    bed: dict[str, Namespace],
) -> None:
    """A client that has just roamed probes (RFC 5227) while its host route still leads to the former access point."""
    configure(bed["here"])
    bed["asker"].run("arping", "-D", "-c", "2", "-w", "3", "-I", "e0", "10.44.0.13")


def test_an_announcement_finds_no_conflict_once_the_route_leads_here(bed: dict[str, Namespace]) -> None:
    """It does while the route leads elsewhere: why nobody answers ARP where associations are not told."""
    configure(bed["here"])
    bed["asker"].ip("addr add 10.44.0.14/16 dev e0")
    for route, is_free in (("via 10.45.0.2 dev mesh onlink", False), ("dev wlan0", True)):
        bed["here"].ip(f"route replace 10.44.0.14 {route}")
        said = announce(bed["asker"], "10.44.0.14")
        assert ("Received 0 response" in said) is is_free, route
