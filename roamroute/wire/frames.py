"""Which address a station's Ethernet frame names as its own, and the filters that let only such frames through.

Pure. Neighbour discovery (RFC 4861) and ARP (RFC 826, 5227) name addresses outright; of data only the source address
counts. Any bytes give a `Sighting`, None, or `MalformedInput`.

What is seen is a candidate, never a fact: whoever sends frames can write any address into them. Checks that RFC 4861
§7.1 demands of a receiver are made, but for the ICMPv6 checksum: with checksum offload (veth, and many drivers on the
way out) it is not filled in where a packet socket looks.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import attrs

from roamroute.errors import MalformedInput
from roamroute.values import Address, Mac
from roamroute.wire import bpf

ETH_P_ALL = 0x0003
ETH_P_IP = 0x0800
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
PACKET_OUTGOING = 4  # linux/if_packet.h

SNAP_BYTES = 256
"""Enough for an Ethernet header, an IPv6 header and a neighbour message with its options."""
MAX_WATCHED = 500
"""Stations that a filter can watch: 2 instructions each. The kernel charges some 90 bytes of net.core.optmem_max for
each, of the old and of the new filter while they are exchanged: 131,072 bytes since Linux 6.7, 20,480 before, where
only about 110 fit."""

_ICMPV6 = 58
_ROUTER_SOLICITATION, _NEIGHBOUR_SOLICITATION, _NEIGHBOUR_ADVERTISEMENT = 133, 135, 136
_SOURCE_LINK_LAYER_ADDRESS, _TARGET_LINK_LAYER_ADDRESS = 1, 2
_UNSPECIFIED6 = bytes(16)
_UNSPECIFIED4 = bytes(4)
_ARP_ETHERNET_IPV4 = struct.pack("!HHBB", 1, ETH_P_IP, 6, 4)


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
    if len(frame) < 14:
        raise MalformedInput(f"ethernet: frame of {len(frame)} bytes")
    if frame[6] & 1:
        raise MalformedInput("ethernet: the source is a group address")
    kind = frame[12] << 8 | frame[13]
    sender = Mac(frame[6:12].hex(":"))
    if kind == ETH_P_IPV6:
        return _ipv6(sender, frame[6:12], frame[14:])
    if kind == ETH_P_ARP:
        return _arp(sender, frame[6:12], frame[14:])
    if kind == ETH_P_IP:
        return _ipv4(sender, frame[14:])
    return None


def station_filter(watched: Iterable[Mac] = (), muted: Iterable[Mac] = ()) -> bytes:
    """Classic BPF for a packet socket: ND and ARP of stations pass, data only of `watched`, nothing of `muted`.

    What we send ourselves and frames with a VLAN tag (another link's; the tag is not in the bytes) do not pass.

    Raises: ValueError for more than `MAX_WATCHED` stations.
    """
    accept = (bpf.RET, 0, 0, SNAP_BYTES)
    drop = (bpf.RET, 0, 0, 0)
    data: list[bpf.Instruction] = [(bpf.LD_ABS, 0, 0, 8)]
    chosen = list(watched)
    if len(chosen) > MAX_WATCHED:
        raise ValueError(f"{len(chosen)} stations to watch: a filter takes {MAX_WATCHED}")
    # The last four octets decide here, so that two instructions serve a station; the reader looks at all six.
    for mac in chosen:
        data += [(bpf.JEQ, 0, 1, _last_octets(mac)), accept]
    quiet: list[bpf.Instruction] = [(bpf.LD_ABS, 0, 0, 8)]
    for mac in muted:
        quiet += [(bpf.JEQ, 0, 1, _last_octets(mac)), drop]
    return bpf.assemble(
        (bpf.LD_ABS, 0, 0, bpf.PACKET_TYPE),
        (bpf.JEQ, 2, 0, PACKET_OUTGOING),  # to the first drop
        (bpf.LD_ABS, 0, 0, bpf.VLAN_TAG_PRESENT),
        (bpf.JEQ, 1, 0, 0),
        drop,
        *quiet,
        (bpf.LDH_ABS, 0, 0, 12),
        (bpf.JEQ, 9, 0, ETH_P_ARP),  # to accept
        (bpf.JEQ, 1, 0, ETH_P_IPV6),
        (bpf.JEQ, 8, 6, ETH_P_IP),  # to the data part; else to the second drop (the last one may be too far)
        (bpf.LDB_ABS, 0, 0, 14 + 6),
        (bpf.JEQ, 0, 6, _ICMPV6),
        (bpf.LDB_ABS, 0, 0, 14 + 40),
        (bpf.JEQ, 3, 0, _NEIGHBOUR_SOLICITATION),
        (bpf.JEQ, 2, 0, _NEIGHBOUR_ADVERTISEMENT),
        (bpf.JEQ, 1, 2, _ROUTER_SOLICITATION),
        drop,
        accept,
        *data,
        drop,
    )


def _last_octets(mac: Mac) -> int:
    return int(mac.replace(":", "")[4:], 16)


def _ipv6(sender: Mac, hardware: bytes, packet: bytes) -> Sighting | None:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        raise MalformedInput("ipv6: header cut short or not version 6")
    source = packet[8:24]
    if (
        packet[6] == _ICMPV6
        and len(packet) > 40
        and packet[40]
        in (
            _ROUTER_SOLICITATION,
            _NEIGHBOUR_SOLICITATION,
            _NEIGHBOUR_ADVERTISEMENT,
        )
    ):
        return _discovery(sender, hardware, source, packet)
    return _seen(sender, source, Telling.DATA)


def _discovery(sender: Mac, hardware: bytes, source: bytes, packet: bytes) -> Sighting | None:
    length = packet[4] << 8 | packet[5]
    if length > len(packet) - 40:
        raise MalformedInput("icmpv6: message cut short")
    message = packet[40 : 40 + length]
    kind = message[0] if message else 0
    size = 8 if kind == _ROUTER_SOLICITATION else 24
    if packet[7] != 255 or length < size or message[1] != 0:
        raise MalformedInput("icmpv6: neighbour message with a bad hop limit, length or code (RFC 4861 §7.1)")
    options = _options(message[size:])
    if kind == _ROUTER_SOLICITATION:
        return _seen(sender, source, Telling.ROUTER_SOLICITATION)
    target = message[8:24]
    if target[0] == 0xFF:
        raise MalformedInput("icmpv6: the target is a group address (RFC 4861 §7.1)")
    if kind == _NEIGHBOUR_ADVERTISEMENT:
        if options.get(_TARGET_LINK_LAYER_ADDRESS, hardware) != hardware:
            return None  # told on behalf of another: a proxy
        return _seen(sender, target, Telling.ADVERTISEMENT)
    if source == _UNSPECIFIED6:
        if _SOURCE_LINK_LAYER_ADDRESS in options:
            raise MalformedInput("icmpv6: solicitation without a source but with its link-layer address")
        return _seen(sender, target, Telling.DUPLICATE_DETECTION)
    if options.get(_SOURCE_LINK_LAYER_ADDRESS, hardware) != hardware:
        return None
    return _seen(sender, source, Telling.SOLICITATION)


def _options(rest: bytes) -> dict[int, bytes]:
    """The first six bytes of each option, by type; the first of a type counts."""
    found: dict[int, bytes] = {}
    while rest:
        if len(rest) < 8 or rest[1] == 0 or rest[1] * 8 > len(rest):
            raise MalformedInput("icmpv6: option with a bad length (RFC 4861 §4.6)")
        found.setdefault(rest[0], rest[2:8])
        rest = rest[rest[1] * 8 :]
    return found


def _arp(sender: Mac, hardware: bytes, packet: bytes) -> Sighting | None:
    if len(packet) < 28:
        raise MalformedInput(f"arp: {len(packet)} bytes")
    if packet[:6] != _ARP_ETHERNET_IPV4:
        return None
    operation = packet[6] << 8 | packet[7]
    sender_hardware, source, target = packet[8:14], packet[14:18], packet[24:28]
    if sender_hardware != hardware or operation not in (1, 2):
        return None
    if source == _UNSPECIFIED4 and operation == 1:  # a probe asks for the address that it means to take (RFC 5227 §2.1)
        return _seen(sender, target, Telling.ARP)
    return _seen(sender, source, Telling.ARP)


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
