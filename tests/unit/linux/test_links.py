"""Which roaming interface is up, lost or back, from the kernel's link messages."""

from __future__ import annotations

from ipaddress import ip_address

from roamroute.linux.links import LinkTable
from roamroute.values import Mac
from roamroute.wire.netlink import IFF_LOWER_UP, IFF_UP, AddressEntry, LinkEntry

UP = IFF_UP | IFF_LOWER_UP
MAC = Mac("02:00:00:00:00:01")


def link(index: int, name: str, flags: int = UP) -> LinkEntry:
    return LinkEntry(0, index, flags, name, MAC, None, "")


def table(*links: LinkEntry) -> LinkTable:
    made = LinkTable(("wlan0", "wlan1"))
    made.replace(links, [])
    return made


def test_up_needs_a_carrier() -> None:
    made = table(link(2, "wlan0", IFF_UP), link(3, "wlan1"), link(4, "eth0"))
    assert made.up == {"wlan1"}
    assert made.update(link(2, "wlan0")) == ([], True)
    assert made.up == {"wlan0", "wlan1"}
    assert made.update(link(2, "wlan0", IFF_UP)) == (["wlan0"], False)


def test_an_interface_made_anew_is_lost_and_came() -> None:
    made = table(link(2, "wlan0"))
    assert made.remove(2) == (["wlan0"], False)
    assert made.update(link(9, "wlan0")) == ([], True)
    assert made.index("wlan0") == 9
    assert made.replace([link(12, "wlan0")], []) == ["wlan0"]
    assert made.index("wlan0") == 12


def test_a_renamed_interface_is_lost_under_its_old_name() -> None:
    made = table(link(2, "wlan0"))
    assert made.update(link(2, "wlan1")) == (["wlan0"], True)
    assert (made.index("wlan0"), made.index("wlan1")) == (None, 2)


def test_other_interfaces_do_not_matter() -> None:
    made = table(link(2, "wlan0"))
    assert made.update(link(5, "eth0", 0)) == ([], False)
    assert made.remove(5) == ([], False)
    assert made.name(2) == "wlan0"
    assert made.name(5) == ""


def test_our_addresses_go_with_their_interface() -> None:
    made = table(link(2, "wlan0"), link(3, "eth0"))
    here, there = AddressEntry(2, 64, ip_address("fe80::1")), AddressEntry(3, 64, ip_address("fe80::1"))
    assert made.add_address(here)
    assert not made.add_address(here)
    assert made.add_address(there)
    made.remove(2)
    assert made.addresses == {ip_address("fe80::1")}
    assert made.remove_address(there)
    assert not made.remove_address(there)
    assert made.addresses == frozenset()
    assert made.macs == {MAC}
