"""What `roamroute check` is told of the machine, against a machine that is known."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from roamroute.linux import machine

from .linux_namespaces import Bed, in_first_namespace, make_bed


@pytest.fixture
def bed() -> Iterator[Bed]:
    yield from make_bed()


def test_an_interface_and_its_addresses(bed: Bed) -> None:
    found = machine.interface("wlan0")
    assert found is not None
    assert (found.is_up, found.has_carrier, found.is_bridge, found.ports) == (True, True, False, ())
    assert (ip_address("fe80::1"), 64) in machine.addresses("wlan0")
    assert (ip_address("10.44.0.1"), 16) in machine.addresses("wlan0")
    assert set(machine.links()) == {"lo", "wlan0"}
    bed.on_sta("ip link set eth0 down")
    found = machine.interface("wlan0")
    assert found is not None
    assert (found.is_up, found.has_carrier) == (True, False)


def test_an_interface_that_does_not_exist(bed: Bed) -> None:
    assert machine.interface("wlan7") is None
    assert machine.addresses("wlan7") == ()


@pytest.mark.parametrize("is_on", [True, False])
def test_a_bridge_its_ports_and_its_snooping(bed: Bed, is_on: bool) -> None:
    bed.on_ap(f"ip link add br0 type bridge mcast_snooping {int(is_on)}")
    bed.on_ap("ip link set wlan0 master br0")
    found = machine.interface("br0")
    assert found is not None
    assert (found.is_bridge, found.ports, found.multicast_snooping) == (True, ("wlan0",), is_on)


def test_forwarding(bed: Bed) -> None:
    assert machine.forwarding(6) is True
    bed.on_ap("sysctl -qw net.ipv6.conf.all.forwarding=0")
    assert machine.forwarding(6) is False
    assert machine.forwarding(6, "wlan0") is False
    bed.on_ap("sysctl -qw net.ipv4.ip_forward=1")
    assert machine.forwarding(4) is True
    assert machine.forwarding(4, "wlan7") is None


def test_on_link_routes_of_the_roaming_prefixes(bed: Bed) -> None:
    roaming = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
    assert machine.onlink_routes(roaming) == ((ip_network("10.44.0.0/16"), "wlan0"),)
    bed.on_ap("ip addr add fd44:0:0:1::1/64 dev wlan0 nodad")
    bed.on_ap("ip -6 route add fd44:0:0:1::2/128 dev wlan0")
    bed.on_ap("ip -6 route add fd44:0:0:2::/64 dev wlan0")
    assert set(machine.onlink_routes(roaming)) == {
        (ip_network("10.44.0.0/16"), "wlan0"),
        (ip_network("fd44:0:0:1::/64"), "wlan0"),
    }


def test_the_limits_of_the_neighbour_table_are_told_in_a_namespace_too(bed: Bed) -> None:
    """/proc shows gc_thresh* in the initial network namespace only; RTM_GETNEIGHTBL tells them everywhere."""
    read = machine.neighbour_tables()
    for version in (4, 6):
        with in_first_namespace():
            texts = [
                Path(f"/proc/sys/net/ipv{version}/neigh/default/gc_thresh{each}").read_text() for each in (1, 2, 3)
            ]
        table = read.tables[version]
        assert (table.keep, table.soft_limit, table.hard_limit) == tuple(map(int, texts))
        assert table.entries >= 1


def test_the_times_of_each_link_are_those_of_this_namespace(bed: Bed) -> None:
    bed.on_ap("sysctl -qw net.ipv6.neigh.wlan0.gc_stale_time=423 net.ipv4.neigh.wlan0.retrans_time_ms=400")
    ((index, name),) = machine.link_indexes(["wlan0", "wlan7"]).items()
    assert name == "wlan0"
    times = machine.neighbour_tables().times
    assert times[6, index].stale_ms == 423_000
    assert (times[6, index].retrans_ms, times[4, index].retrans_ms) == (1000, 400)
    assert times[4, index].unicast_solicitations == 3


def test_proxy_arp(bed: Bed) -> None:
    assert machine.answers_arp_for_others("wlan0") is False
    bed.on_ap("sysctl -qw net.ipv4.conf.wlan0.proxy_arp=1")
    assert machine.answers_arp_for_others("wlan0") is True
    assert machine.answers_arp_for_others("wlan7") is None


def test_on_link_routes_where_there_is_no_table_yet(bed: Bed) -> None:
    bed.unplug()
    assert machine.onlink_routes((ip_network("10.44.0.0/16"),)) == ()


def test_the_kernel(bed: Bed) -> None:
    release = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout
    assert release.startswith("{}.{}".format(*machine.kernel_version()))
    assert isinstance(machine.has_seg6(), bool)
