"""What stations are told of their gateway, read back by scapy."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from roamroute.values import Mac
from roamroute.wire.advertisements import arp_announcement, neighbour_advertisement

AP, STATION = Mac("02:00:5e:44:00:01"), Mac("02:00:00:01:00:07")


def test_the_neighbour_advertisement_is_one_of_a_router_that_overrides() -> None:
    frame = Ether(neighbour_advertisement(AP, STATION, IPv6Address("fe80::1")))
    assert (frame.src, frame.dst) == (AP, STATION)
    packet = frame[IPv6]
    assert (packet.src, packet.dst, packet.hlim) == ("fe80::1", "ff02::1", 255)
    message = packet[ICMPv6ND_NA]
    assert (message.R, message.S, message.O, message.tgt) == (1, 0, 1, "fe80::1")
    assert message[ICMPv6NDOptDstLLAddr].lladdr == AP
    sent = message.cksum
    del message.cksum
    assert Ether(bytes(frame))[ICMPv6ND_NA].cksum == sent


def test_the_arp_announcement_asks_for_its_own_address() -> None:
    frame = Ether(arp_announcement(AP, STATION, IPv4Address("10.44.0.1")))
    assert (frame.src, frame.dst) == (AP, STATION)
    message = frame[ARP]
    assert (message.op, message.hwsrc, message.psrc, message.pdst) == (1, AP, "10.44.0.1", "10.44.0.1")
    assert message.hwdst == "00:00:00:00:00:00"
