"""Valid frames of duplicate detection and router discovery, as hosts and routers send them, and how to spoil them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

from hypothesis import strategies as st

from roamroute.values import Mac
from roamroute.wire import arp, ethernet, icmpv6
from roamroute.wire.arp import ArpPacket

AP, STATION, OTHER = Mac("02:00:5e:44:00:01"), Mac("02:00:00:01:00:07"), Mac("02:00:00:01:00:08")
HERE = IPv6Address("fd44:0:0:1::a07")
HERE4 = IPv4Address("10.44.0.7")
LINK_LOCAL = IPv6Address("fe80::7")
ALL_NODES, ALL_ROUTERS = IPv6Address("ff02::1"), IPv6Address("ff02::2")
NOBODY = IPv6Address("::")
GROUP = IPv6Address("ff02::1:ff00:a07")

NS_FIXED = bytes([135, 0, 0, 0, 0, 0, 0, 0]) + HERE.packed
NA_FIXED = bytes([136, 0, 0, 0, 0x20, 0, 0, 0]) + HERE.packed
RS_FIXED = bytes([133, 0, 0, 0, 0, 0, 0, 0])
RA_FIXED = bytes([134, 0, 0, 0, 64, 0, 7, 8]) + bytes(8)
SLLAO = bytes([1, 1]) + ethernet.octets(STATION)
TLLAO = bytes([2, 1]) + ethernet.octets(STATION)
NONCE = bytes([14, 1]) + b"nonce!"


def ipv6(
    source: IPv6Address,
    destination: IPv6Address,
    message: bytes,
    *,
    sender: Mac = STATION,
    hop_limit: int = 255,
    flow_label: int = 0,
) -> bytes:
    """A frame with the right checksum."""
    hardware = ethernet.group_of(destination.packed)
    frame = bytearray(
        icmpv6.compose(
            *(hardware, ethernet.octets(sender), source.packed, destination.packed, message), flow_label=flow_label
        )
    )
    frame[21] = hop_limit
    return bytes(frame)


def arp_frame(
    operation: int, sender: IPv4Address, target: IPv4Address, mac: Mac = STATION, behind: bytes = b""
) -> bytes:
    """ARP to all, padded as on a wire if `behind` says so."""
    packet = ArpPacket(operation, ethernet.octets(mac), sender.packed, bytes(6), target.packed)
    return arp.compose(ethernet.BROADCAST, packet) + behind


SOLICITATION = ipv6(NOBODY, GROUP, NS_FIXED + NONCE)
ADVERTISEMENT = ipv6(HERE, ALL_NODES, NA_FIXED + TLLAO)
ROUTER_SOLICITATION = ipv6(LINK_LOCAL, ALL_ROUTERS, RS_FIXED + SLLAO)
ROUTER_ADVERTISEMENT = ipv6(LINK_LOCAL, ALL_NODES, RA_FIXED + SLLAO)
PROBE = arp_frame(arp.REQUEST, IPv4Address(0), HERE4)
VALID = [SOLICITATION, ADVERTISEMENT, ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, PROBE]

macs = st.binary(min_size=6, max_size=6).map(lambda octets: Mac(bytes([octets[0] & 0xFE, *octets[1:]]).hex(":")))
ipv6_unicast = st.integers(0x20 << 120, (0xFE << 120) - 1).map(IPv6Address)
ipv4_unicast = st.integers(1 << 24, (127 << 24) - 1).map(IPv4Address)
nonces = st.sampled_from([0, 6, 14, 22, 30]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
prefixes = st.builds(
    lambda number, length: IPv6Network((number, length), strict=False),
    st.integers(0, (1 << 128) - 1),
    st.integers(0, 128),
)


@st.composite
def spoiled(draw: st.DrawFn, frames: st.SearchStrategy[bytes]) -> bytes:
    """A frame in which some octets have been changed, that has been cut, or to which something was added."""
    frame = bytearray(draw(frames))
    for _ in range(draw(st.integers(0, 4))):
        if frame:
            frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.one_of(st.just(len(frame)), st.integers(0, len(frame))))
    return bytes(frame[:cut]) + draw(st.binary(max_size=12))
