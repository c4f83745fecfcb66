"""Packets on their way to a segment: whom they are for, and the filter that lets them pass. Pure.

IPv6 (RFC 8200 §3) with IPv6 (next header 41) or IPv4 (4) right behind it, or behind a segment routing header of one
segment (next header 43, RFC 8754 §2, 24 octets).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network

from roamroute.errors import MalformedInput
from roamroute.values import Address
from roamroute.wire import bpf
from roamroute.wire.netlink import address_of

SNAP_BYTES = 128
"""Both headers with a segment routing header between them, and some."""
MAX_RESTING = 64

_HEADER_BYTES, _ROUTING_BYTES = 40, 24
_IPV4, _IPV6, _ROUTING = 4, 41, 43
_ETH_P_IPV6 = 0x86DD
_PACKET_OUTGOING = 4  # linux/if_packet.h


def nothing_filter() -> bytes:
    """Classic BPF that lets nothing pass."""
    return bpf.assemble((bpf.RET, 0, 0, 0))


def outgoing_filter(source: IPv6Address, segments: IPv6Network, resting: Iterable[Address] = ()) -> bytes:
    """Classic BPF for a packet socket of type SOCK_DGRAM: packets that leave this machine from `source` to a segment.

    `segments`: a /96. Packets for `resting` addresses (at most `MAX_RESTING`, told apart by their last 32 bits) do not
    pass.
    """
    drop = (bpf.RET, 0, 0, 0)
    program: list[bpf.Instruction] = []

    def must_be(load: int, offset: int, wanted: int) -> None:
        program.extend(((load, 0, 0, offset), (bpf.JEQ, 1, 0, wanted), drop))

    must_be(bpf.LDB_ABS, bpf.PACKET_TYPE, _PACKET_OUTGOING)
    must_be(bpf.LDH_ABS, bpf.PROTOCOL, _ETH_P_IPV6)
    for place in range(3):
        must_be(bpf.LD_ABS, 24 + 4 * place, _word(segments.network_address, place))
    for place in range(4):
        must_be(bpf.LD_ABS, 8 + 4 * place, _word(source, place))
    # The last 32 bits of the inner destination, wherever it lies, end up in the accumulator.
    behind = _HEADER_BYTES + _ROUTING_BYTES
    program += [
        (bpf.LDB_ABS, 0, 0, 6),
        (bpf.JEQ, 0, 2, _IPV6),
        (bpf.LD_ABS, 0, 0, _HEADER_BYTES + 36),
        (bpf.JA, 0, 0, 8),
    ]
    program += [(bpf.JEQ, 0, 2, _IPV4), (bpf.LD_ABS, 0, 0, _HEADER_BYTES + 16), (bpf.JA, 0, 0, 5)]
    program += [(bpf.LDB_ABS, 0, 0, _HEADER_BYTES), (bpf.JEQ, 0, 2, _IPV6), (bpf.LD_ABS, 0, 0, behind + 36)]
    program += [(bpf.JA, 0, 0, 1), (bpf.LD_ABS, 0, 0, behind + 16)]
    for address in resting:
        program += [(bpf.JEQ, 0, 1, int(address) & 0xFFFFFFFF), drop]
    return bpf.assemble(*program, (bpf.RET, 0, 0, SNAP_BYTES))


def inner_addresses(packet: bytes) -> tuple[Address, Address]:
    """Whom an encapsulated packet is from, and whom it is for. Raises: MalformedInput."""
    if len(packet) < _HEADER_BYTES:
        raise MalformedInput("tunnelled packet: shorter than an IPv6 header")
    kind, offset = packet[6], _HEADER_BYTES
    if kind == _ROUTING and len(packet) >= _HEADER_BYTES + 2:
        kind, offset = packet[_HEADER_BYTES], _HEADER_BYTES + 8 * (packet[_HEADER_BYTES + 1] + 1)
    start, size = {_IPV6: (offset + 8, 16), _IPV4: (offset + 12, 4)}.get(kind, (0, 0))
    if not size or len(packet) < start + 2 * size:
        raise MalformedInput(f"tunnelled packet: no inner packet of a kind we know (next header {kind})")
    return address_of(packet[start : start + size]), address_of(packet[start + size : start + 2 * size])


def _word(address: IPv6Address, place: int) -> int:
    return int.from_bytes(address.packed[4 * place : 4 * place + 4], "big")
