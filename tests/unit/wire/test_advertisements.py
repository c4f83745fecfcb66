"""What stations are told of their gateway, read back by scapy."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Padding
from scapy.utils import checksum

from roamroute.values import Mac
from roamroute.wire.advertisements import arp_announcement, neighbour_advertisement
from roamroute.wire.checksum import internet_checksum

from .discovery_frames import ipv4_unicast, macs

link_local = st.integers(0xFE80 << 112, (0xFE80 << 112) + (1 << 64) - 1).map(IPv6Address)


@given(macs, macs, link_local)
def test_the_neighbour_advertisement_is_one_of_a_router_that_overrides(
    source: Mac, station: Mac, gateway: IPv6Address
) -> None:
    frame = neighbour_advertisement(source, station, gateway)
    read = Ether(frame)
    assert (read.src, read.dst) == (source, station)
    assert Padding not in read
    packet = read[IPv6]
    assert (packet.version, packet.tc, packet.fl, packet.nh, packet.hlim) == (6, 0, 0, 58, 255)
    assert (IPv6Address(packet.src), packet.dst, packet.plen) == (gateway, "ff02::1", len(frame) - 54)
    message = packet[ICMPv6ND_NA]
    assert (message.code, message.R, message.S, message.O, message.res) == (0, 1, 0, 1, 0)
    assert IPv6Address(message.tgt) == gateway
    option = message[ICMPv6NDOptDstLLAddr]
    assert (option.len, option.lladdr) == (1, source)
    assert not option.payload
    sent = message.cksum
    del message.cksum
    assert Ether(read.build())[ICMPv6ND_NA].cksum == sent


@given(macs, macs, ipv4_unicast)
def test_the_arp_announcement_asks_for_its_own_address(source: Mac, station: Mac, address: IPv4Address) -> None:
    read = Ether(arp_announcement(source, station, address))
    assert (read.src, read.dst, read.type) == (source, station, 0x0806)
    message = read[ARP]
    assert (message.hwtype, message.ptype, message.hwlen, message.plen, message.op) == (1, 0x0800, 6, 4, 1)
    assert (message.hwsrc, message.hwdst) == (source, "00:00:00:00:00:00")
    assert (message.psrc, message.pdst) == (str(address), str(address))
    assert not message.payload


@given(st.binary(max_size=200))
def test_the_checksum_is_scapys(octets: bytes) -> None:
    assert internet_checksum(octets) == checksum(octets)
