"""Duplicate address detection and router discovery on a client link: what is heard there, and what is sent.

Pure. Any bytes give a value, None (a frame that is right but says nothing to us), or `MalformedInput`. Neighbour
discovery is RFC 4861 with its checks of §6.1 and §7.1, the Nonce option RFC 3971 §5.3.2 as RFC 7527 uses it, address
conflict detection for IPv4 RFC 5227. What is heard is a candidate: whoever sends frames can write anything into them.

What an access point hands out for a host elsewhere must not be taken for a host's own by another access point on the
same layer 2: neighbour discovery of ours carries `icmpv6.PROXY_FLOW_LABEL`, and ARP `arp.PROXY_MARK`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

import attrs

from roamroute.errors import MalformedInput
from roamroute.values import DadKind, DadMessage, Mac
from roamroute.wire import arp, bpf, ethernet, icmpv6, router_advertisements
from roamroute.wire.arp import ArpPacket
from roamroute.wire.icmpv6 import DiscoveryMessage
from roamroute.wire.router_advertisements import HeardRouter

SNAP_BYTES = 1514
"""A whole frame: the checksum is over all of the message."""
MAX_NONCE_BYTES = 30
"""An option of 32 octets. Linux and FreeBSD send 6; RFC 3971 §5.3.2 knows a least length (6) and no greatest."""

_ACCEPT, _DROP = (bpf.RET, 0, 0, SNAP_BYTES), (bpf.RET, 0, 0, 0)
_NONCE = 14
_PLAIN = 0
"""An NA of which no flag is set: unsolicited, and no one's cache entry is overridden by it."""


@attrs.frozen
class RouterSolicitation:
    """The station `mac` asks for routers; `source` is :: while it has no address."""

    mac: Mac
    source: IPv6Address


def parse(frame: bytes) -> DadMessage | RouterSolicitation | HeardRouter | None:
    """Read one whole Ethernet frame without a VLAN tag; None when it is none of these or comes from a proxy.

    Raises: MalformedInput.
    """
    kind, hardware = ethernet.dissect(frame)
    body = frame[ethernet.HEADER_BYTES :]
    if kind == ethernet.ETH_P_ARP:
        return _arp(hardware, body)
    if kind != ethernet.ETH_P_IPV6 or not icmpv6.is_discovery(body):
        return None
    message = icmpv6.dissect(body)
    icmpv6.verify(message)
    sender = Mac(hardware.hex(":"))
    if message.kind == icmpv6.ROUTER_SOLICITATION:
        return RouterSolicitation(sender, IPv6Address(message.source))
    if message.kind == icmpv6.ROUTER_ADVERTISEMENT:
        return router_advertisements.read(sender, message)
    if message.flow_label == icmpv6.PROXY_FLOW_LABEL:
        return None
    target = IPv6Address(message.target)
    if target.is_unspecified or target.is_loopback:
        return None
    if message.kind == icmpv6.NEIGHBOUR_ADVERTISEMENT:
        if message.destination != icmpv6.ALL_NODES or message.names_other_hardware(
            icmpv6.TARGET_LINK_LAYER_ADDRESS, hardware
        ):
            return None
        return DadMessage(DadKind.ADVERTISEMENT, target, sender)
    if message.source != icmpv6.UNSPECIFIED:
        return None
    return DadMessage(DadKind.SOLICITATION, target, sender, _nonce(message))


def is_nonce(nonce: bytes) -> bool:
    """Whether it can be the value of a Nonce option that we carry; empty is none and can."""
    return not nonce or (len(nonce) <= MAX_NONCE_BYTES and len(nonce) % 8 == 6)


def solicitation(source: Mac, message: DadMessage, station: Mac | None) -> bytes:
    """The question whether anybody has `message.target`, to one station or (None) to all: an NS from the unspecified
    address with the nonce as it came (RFC 4862 §5.4.2, RFC 7527 §4.1), or an ARP probe (RFC 5227 §2.1.1).

    Raises: ValueError unless `is_nonce`.
    """
    hardware = ethernet.octets(source)
    target = message.target.packed
    if isinstance(message.target, IPv4Address):
        return _arp_frame(station, ArpPacket(arp.REQUEST, hardware, arp.UNSPECIFIED, bytes(6), target))
    if not is_nonce(message.nonce):
        raise ValueError(f"a nonce of {len(message.nonce)} bytes")
    body = struct.pack("!BBHI", icmpv6.NEIGHBOUR_SOLICITATION, 0, 0, 0) + target
    if message.nonce:
        body += icmpv6.option(_NONCE, message.nonce)
    return _ipv6_frame(hardware, station, icmpv6.UNSPECIFIED, icmpv6.solicited_node(target), body)


def advertisement(source: Mac, message: DadMessage, station: Mac | None) -> bytes:
    """The word that somebody has `message.target`, to one station or (None) to all.

    An NA to all-nodes from the target that names `message.mac` as its link-layer address and overrides nothing
    (RFC 4861 §4.4). For IPv4 the claim is made with `source`, who would forward: an ARP announcement (RFC 5227 §2.3),
    to one station the reply that its probe would get.
    """
    hardware = ethernet.octets(source)
    target = message.target.packed
    if isinstance(message.target, IPv4Address):
        if station is None:
            return _arp_frame(None, ArpPacket(arp.REQUEST, hardware, target, bytes(6), target))
        return _arp_frame(station, ArpPacket(arp.REPLY, hardware, target, ethernet.octets(station), arp.UNSPECIFIED))
    body = struct.pack("!BBHI", icmpv6.NEIGHBOUR_ADVERTISEMENT, 0, 0, _PLAIN) + target
    body += icmpv6.option(icmpv6.TARGET_LINK_LAYER_ADDRESS, ethernet.octets(message.mac))
    return _ipv6_frame(hardware, station, target, icmpv6.ALL_NODES, body)


def handed_out(source: Mac, message: DadMessage, stations: Iterable[Mac | None]) -> Iterator[bytes]:
    """`solicitation` or `advertisement`, whichever it is, for each of `stations`; a copy costs a tenth of the first.

    Raises: ValueError as `solicitation`.
    """
    build = solicitation if message.kind is DadKind.SOLICITATION else advertisement
    if message.kind is DadKind.ADVERTISEMENT and message.target.version == 4:
        for station in stations:  # the reply to a probe names the asker
            yield build(source, message, station)
        return
    behind_destination: bytes | None = None
    for station in stations:
        if station is None or behind_destination is None:
            frame = build(source, message, station)
            behind_destination = frame[6:]
            yield frame
        else:
            yield ethernet.octets(station) + behind_destination


def discovery_filter(muted: Iterable[Mac] = (), only: Iterable[Mac] | None = None) -> bytes:
    """Classic BPF for a packet socket: RS, RA, NS from the unspecified address, NA to all-nodes, ARP probes,
    announcements and replies to probes; nothing of `muted`, nothing that we or another access point's proxy sent.

    `only`: of all others nothing either; at most `frames.MAX_WATCHED`.
    """
    is_arp, is_ipv6 = _arp_program(), _ipv6_program()
    return bpf.assemble(
        *bpf.foreign_and_untagged(muted),
        *(() if only is None else bpf.only_from(only)),
        (bpf.LDH_ABS, 0, 0, 12),
        (bpf.JEQ, 0, len(is_arp), ethernet.ETH_P_ARP),
        *is_arp,
        (bpf.JEQ, 1, 0, ethernet.ETH_P_IPV6),
        _DROP,
        *is_ipv6,
    )


def _arp_program() -> list[bpf.Instruction]:
    start = ethernet.HEADER_BYTES
    sender, target, behind = start + 14, start + 24, start + 28
    return [
        (bpf.LD_LENGTH, 0, 0, 0),
        (bpf.JGE, 0, 3, behind + 4),
        (bpf.LD_ABS, 0, 0, behind),
        (bpf.JEQ, 0, 1, int.from_bytes(arp.PROXY_MARK[:4], "big")),
        _DROP,
        (bpf.LD_ABS, 0, 0, target),
        (bpf.TAX, 0, 0, 0),
        (bpf.LD_ABS, 0, 0, sender),
        (bpf.JEQ_X, 0, 1, 0),
        _ACCEPT,  # announced
        (bpf.JEQ, 0, 1, 0),
        _ACCEPT,  # a probe
        (bpf.LD_ABS, 0, 0, target),
        (bpf.JEQ, 0, 1, 0),
        _ACCEPT,  # the reply to a probe
        _DROP,
    ]


def _ipv6_program() -> list[bpf.Instruction]:
    start = ethernet.HEADER_BYTES
    from_nobody = _must_be(start + 8, icmpv6.UNSPECIFIED)
    return [
        (bpf.LDB_ABS, 0, 0, start + 6),
        (bpf.JEQ, 1, 0, icmpv6.ICMPV6),
        _DROP,
        (bpf.LD_ABS, 0, 0, start),
        (bpf.AND, 0, 0, 0xFFFFF),
        (bpf.JEQ, 0, 1, icmpv6.PROXY_FLOW_LABEL),
        _DROP,
        (bpf.LDB_ABS, 0, 0, start + icmpv6.HEADER_BYTES),
        (bpf.JEQ, 0, 1, icmpv6.ROUTER_SOLICITATION),
        _ACCEPT,
        (bpf.JEQ, 0, 1, icmpv6.ROUTER_ADVERTISEMENT),
        _ACCEPT,
        (bpf.JEQ, 0, len(from_nobody) + 1, icmpv6.NEIGHBOUR_SOLICITATION),
        *from_nobody,
        _ACCEPT,
        (bpf.JEQ, 1, 0, icmpv6.NEIGHBOUR_ADVERTISEMENT),
        _DROP,
        *_must_be(start + 24, icmpv6.ALL_NODES),
        _ACCEPT,
    ]


def _must_be(offset: int, address: bytes) -> list[bpf.Instruction]:
    """Drop frames that have another address of sixteen octets there."""
    program: list[bpf.Instruction] = []
    for place in range(0, 16, 4):
        word = int.from_bytes(address[place : place + 4], "big")
        program += [(bpf.LD_ABS, 0, 0, offset + place), (bpf.JEQ, 1, 0, word), _DROP]
    return program


def _arp_frame(station: Mac | None, packet: ArpPacket) -> bytes:
    destination = ethernet.BROADCAST if station is None else ethernet.octets(station)
    return arp.compose(destination, packet) + arp.PROXY_MARK


def _ipv6_frame(hardware: bytes, station: Mac | None, source: bytes, group: bytes, message: bytes) -> bytes:
    destination = ethernet.group_of(group) if station is None else ethernet.octets(station)
    return icmpv6.compose(destination, hardware, source, group, message, flow_label=icmpv6.PROXY_FLOW_LABEL)


def _nonce(message: DiscoveryMessage) -> bytes:
    nonce = message.option(_NONCE) or b""
    if not is_nonce(nonce):
        raise MalformedInput(f"icmpv6: a nonce of {len(nonce)} bytes, at most {MAX_NONCE_BYTES} are carried")
    return nonce


def _arp(hardware: bytes, body: bytes) -> DadMessage | None:
    packet = arp.dissect(body)
    if (
        packet is None
        or arp.is_proxys(body)
        or packet.sender_hardware != hardware
        or packet.operation not in (arp.REQUEST, arp.REPLY)
    ):
        return None
    is_answer = packet.operation == arp.REPLY and packet.target == arp.UNSPECIFIED
    if packet.is_probe:
        kind, target = DadKind.SOLICITATION, IPv4Address(packet.target)
    elif packet.sender == packet.target or is_answer:
        kind, target = DadKind.ADVERTISEMENT, IPv4Address(packet.sender)
    else:
        return None
    if target.is_unspecified or target.is_multicast or target.is_loopback or int(target) == 0xFFFFFFFF:
        return None
    return DadMessage(kind, target, Mac(hardware.hex(":")))
