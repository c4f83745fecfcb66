"""Which address a station's Ethernet frame names as its own, and the filters that let only such frames through.

Pure. Neighbour discovery (RFC 4861) and ARP (RFC 826, 5227) name addresses outright; of data only the source address
counts. Any bytes give a `Sighting`, None, or `MalformedInput`.

What is seen is a candidate, never a fact: whoever sends frames can write any address into them. Checks that RFC 4861
§7.1 demands of a receiver are made, but for the ICMPv6 checksum: a long message is not looked at to its end here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import attrs

from roamroute.errors import MalformedInput
from roamroute.values import Address, Mac
from roamroute.wire import arp, bpf, ethernet, icmpv6
from roamroute.wire.icmpv6 import DiscoveryMessage

SNAP_BYTES = 256
"""Enough for an Ethernet header, an IPv6 header and a neighbour message with its options."""
MAX_WATCHED = 500
"""Stations that a filter can watch: 2 instructions each. The kernel charges some 90 bytes of net.core.optmem_max for
each, of the old and of the new filter while they are exchanged: 131,072 bytes since Linux 6.7, 20,480 before, where
only about 110 fit."""

_XID_LENGTH = b"\x00\x06"
_XID = b"\x00\x01\xaf\x81\x01"
"""DSAP null; SSAP null, response; XID; format identifier, class 1 (IEEE 802.2 §5.4.1.2.1). A window size follows."""


class Telling(enum.Enum):
    """How a frame names an address."""

    SOLICITATION = "NS"
    DUPLICATE_DETECTION = "DAD"
    ADVERTISEMENT = "NA"
    ROUTER_SOLICITATION = "RS"
    ARP = "ARP"
    DATA = "data"


@attrs.frozen
class Sighting:
    """The sender `mac` named `address` as its own."""

    mac: Mac
    address: Address
    telling: Telling


def parse(frame: bytes) -> Sighting | None:
    """Read one Ethernet frame (without a VLAN tag); None when it names no unicast address of its sender's.

    Raises: MalformedInput when it is cut short or contradicts itself; nothing is taken from it then.
    """
    kind, hardware = ethernet.dissect(frame)
    sender = Mac(hardware.hex(":"))
    body = frame[ethernet.HEADER_BYTES :]
    if kind == ethernet.ETH_P_IPV6:
        return _ipv6(sender, hardware, body)
    if kind == ethernet.ETH_P_ARP:
        return _arp(sender, hardware, body)
    if kind == ethernet.ETH_P_IP:
        return _ipv4(sender, body)
    return None


def announced_station(frame: bytes) -> Mac | None:
    """Whose layer-2 update frame it is, None for any other frame.

    An access point sends it for a station that has associated: an IEEE 802.2 XID response, broadcast from the station's
    MAC, to have bridges learn where it is (Linux net/wireless/util.c, cfg80211_send_layer2_update).
    """
    body = frame[ethernet.HEADER_BYTES :]
    if frame[:6] != ethernet.BROADCAST or frame[12:14] != _XID_LENGTH or not body.startswith(_XID) or frame[6] & 1:
        return None
    return Mac(frame[6:12].hex(":"))


def station_filter(
    watched: Iterable[Mac] = (), muted: Iterable[Mac] = (), *, is_hearing_update_frames: bool = False
) -> bytes:
    """Classic BPF for a packet socket: ND and ARP of stations pass, data only of `watched`, nothing of `muted`.

    Solicited advertisements do not: they answer the kernel, which tells of them itself; each probe has one.
    Layer-2 update frames pass when asked for.

    What we send ourselves and frames with a VLAN tag (another link's; the tag is not in the bytes) do not pass.

    Raises: ValueError for more than `MAX_WATCHED` stations.
    """
    accept = (bpf.RET, 0, 0, SNAP_BYTES)
    drop = (bpf.RET, 0, 0, 0)
    data: list[bpf.Instruction] = [(bpf.LD_ABS, 0, 0, 8)]
    chosen = list(watched)
    if len(chosen) > MAX_WATCHED:
        raise ValueError(f"{len(chosen)} stations to watch: a filter takes {MAX_WATCHED}")
    for mac in chosen:
        data += [(bpf.JEQ, 0, 1, bpf.last_octets(mac)), accept]
    length = int.from_bytes(_XID_LENGTH, "big")
    updates = [(bpf.JEQ, 12, 0, length)] if is_hearing_update_frames else []  # to accept
    return bpf.assemble(
        *bpf.foreign_and_untagged(muted),
        (bpf.LDH_ABS, 0, 0, 12),
        *updates,
        (bpf.JEQ, 11, 0, ethernet.ETH_P_ARP),  # to accept
        (bpf.JEQ, 1, 0, ethernet.ETH_P_IPV6),
        (bpf.JEQ, 10, 8, ethernet.ETH_P_IP),  # to the data part; else to the second drop (the last one may be too far)
        (bpf.LDB_ABS, 0, 0, 14 + 6),
        (bpf.JEQ, 0, 8, icmpv6.ICMPV6),
        (bpf.LDB_ABS, 0, 0, 14 + 40),
        (bpf.JEQ, 5, 0, icmpv6.NEIGHBOUR_SOLICITATION),
        (bpf.JEQ, 1, 0, icmpv6.NEIGHBOUR_ADVERTISEMENT),
        (bpf.JEQ, 3, 4, icmpv6.ROUTER_SOLICITATION),
        (bpf.LDB_ABS, 0, 0, 14 + 40 + 4),
        (bpf.JSET, 0, 1, icmpv6.SOLICITED_FLAG),  # to the drop
        drop,
        accept,
        *data,
        drop,
    )


def _ipv6(sender: Mac, hardware: bytes, packet: bytes) -> Sighting | None:
    if len(packet) < icmpv6.HEADER_BYTES or packet[0] >> 4 != 6:
        raise MalformedInput("ipv6: header cut short or not version 6")
    if icmpv6.is_discovery(packet) and packet[icmpv6.HEADER_BYTES] != icmpv6.ROUTER_ADVERTISEMENT:
        return _discovery(sender, hardware, icmpv6.dissect(packet))
    return _seen(sender, packet[8:24], Telling.DATA)


def _discovery(sender: Mac, hardware: bytes, message: DiscoveryMessage) -> Sighting | None:
    if message.kind == icmpv6.ROUTER_SOLICITATION:
        return _seen(sender, message.source, Telling.ROUTER_SOLICITATION)
    if message.flow_label == icmpv6.PROXY_FLOW_LABEL:
        return None  # another access point hands it out
    if message.kind == icmpv6.NEIGHBOUR_ADVERTISEMENT:
        if message.names_other_hardware(icmpv6.TARGET_LINK_LAYER_ADDRESS, hardware):
            return None  # told on behalf of another: a proxy
        return _seen(sender, message.target, Telling.ADVERTISEMENT)
    if message.source == icmpv6.UNSPECIFIED:
        return _seen(sender, message.target, Telling.DUPLICATE_DETECTION)
    if message.names_other_hardware(icmpv6.SOURCE_LINK_LAYER_ADDRESS, hardware):
        return None
    return _seen(sender, message.source, Telling.SOLICITATION)


def _arp(sender: Mac, hardware: bytes, body: bytes) -> Sighting | None:
    packet = arp.dissect(body)
    if (
        packet is None
        or arp.is_proxys(body)
        or packet.sender_hardware != hardware
        or packet.operation not in (arp.REQUEST, arp.REPLY)
    ):
        return None
    return _seen(sender, packet.target if packet.is_probe else packet.sender, Telling.ARP)


def _ipv4(sender: Mac, packet: bytes) -> Sighting | None:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        raise MalformedInput("ipv4: header cut short or not version 4")
    return _seen(sender, packet[12:16], Telling.DATA)


def _seen(sender: Mac, packed: bytes, telling: Telling) -> Sighting | None:
    address: Address = IPv6Address(packed) if len(packed) == 16 else IPv4Address(packed)
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        return None
    if isinstance(address, IPv4Address) and int(address) == 0xFFFFFFFF:
        return None
    return Sighting(sender, address, telling)
