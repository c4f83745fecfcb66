"""Encapsulated packets and what is said when they are too big: packets that scapy builds and reads."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrSegmentRouting,
)
from scapy.packet import Packet, Raw

from roamroute.errors import MalformedInput
from roamroute.wire import bpf, too_big, tunnelled
from roamroute.wire.too_big import TooBig

ME, SEGMENT = IPv6Address("fd44:a::1"), IPv6Address("fd44:0:0:1:726f:616d:1234:2")
SEGMENTS = IPv6Network("fd44:0:0:1:726f:616d::/96")
SERVER, HOST = ip_address("fd44:9::1"), ip_address("fd44:0:0:1::77")
SERVER4, HOST4 = ip_address("10.49.0.1"), ip_address("10.44.0.77")
INNER6 = IPv6(src=str(SERVER), dst=str(HOST)) / UDP(sport=1, dport=2) / Raw(b"x" * 1400)
INNER4 = IP(src=str(SERVER4), dst=str(HOST4)) / UDP(sport=1, dport=2) / Raw(b"x" * 1400)
ROUTING = IPv6ExtHdrSegmentRouting(addresses=[str(SEGMENT)], segleft=0, lastentry=0)


def outer(inner: Packet, *, source: str = str(ME), to: str = str(SEGMENT), routing: bool = False) -> bytes:
    header = IPv6(src=source, dst=to)
    return bytes(header / ROUTING / inner if routing else header / inner)


@pytest.mark.parametrize("routing", [False, True])
def test_whom_a_packet_is_for(routing: bool) -> None:
    assert tunnelled.inner_addresses(outer(INNER6, routing=routing)) == (SERVER, HOST)
    assert tunnelled.inner_addresses(outer(INNER4, routing=routing)) == (SERVER4, HOST4)


def runs(program: bytes, packet: bytes, *, packet_type: int = 4, protocol: int = 0x86DD) -> bool:
    """Whether a classic BPF program lets the packet pass: linux/filter.h, as far as ours go."""
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = place = 0
    special = {bpf.PACKET_TYPE: packet_type, bpf.PROTOCOL: protocol}
    while True:
        code, jump_true, jump_false, operand = instructions[place]
        place += 1
        if code == bpf.RET:
            return bool(operand)
        if code == bpf.JA:
            place += operand
        elif code == bpf.JEQ:
            place += jump_true if accumulator == operand else jump_false
        elif operand in special:
            accumulator = special[operand]
        else:
            size = {bpf.LD_ABS: 4, bpf.LDH_ABS: 2, bpf.LDB_ABS: 1}[code]
            if operand + size > len(packet):
                return False
            accumulator = int.from_bytes(packet[operand : operand + size], "big")


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize(("inner", "host"), [(INNER6, HOST), (INNER4, HOST4)])
def test_the_filter_lets_ours_pass_unless_they_rest(inner: Packet, host: IPv6Address, routing: bool) -> None:
    packet = outer(inner, routing=routing)
    others = [host + number for number in range(1, tunnelled.MAX_RESTING)]
    assert runs(tunnelled.outgoing_filter(ME, SEGMENTS), packet)
    assert runs(tunnelled.outgoing_filter(ME, SEGMENTS, others), packet)
    assert not runs(tunnelled.outgoing_filter(ME, SEGMENTS, [*others, host]), packet)
    assert not runs(tunnelled.nothing_filter(), packet)


def test_the_filter_drops_what_is_not_ours() -> None:
    program = tunnelled.outgoing_filter(ME, SEGMENTS)
    assert not runs(program, outer(INNER6), packet_type=0)
    assert not runs(program, outer(INNER6), protocol=0x0800)
    assert not runs(program, outer(INNER6, source="fd44:a::2"))
    assert not runs(program, outer(INNER6, to=str(HOST)))
    assert not runs(program, bytes(INNER6))
    assert not runs(program, b"")


def told(inner: Packet, mtu: int = 1500, *, routing: bool = False, quoted: int = 1232) -> TooBig | None:
    return too_big.parse(bytes(ICMPv6PacketTooBig(mtu=mtu))[:8] + outer(inner, routing=routing)[:quoted])


@pytest.mark.parametrize(("routing", "room"), [(False, 1460), (True, 1436)])
def test_an_ipv6_sender_is_told_what_is_left(routing: bool, room: int) -> None:
    found = told(INNER6, routing=routing)
    assert found is not None
    assert (found.source, found.segment, found.sender, found.destination) == (ME, SEGMENT, SERVER, HOST)
    message = too_big.compose(found)
    read = ICMPv6PacketTooBig(message)
    assert read.mtu == room
    assert message[8:] == bytes(INNER6)[: len(message) - 8]
    assert len(message) + 40 <= 1280  # RFC 4443 §2.4 (c)


def test_an_ipv4_sender_is_told_what_is_left() -> None:
    found = told(INNER4)
    assert found is not None
    message = too_big.compose(found)
    read = ICMP(message)
    assert (read.type, read.code, read.nexthopmtu) == (3, 4, 1460)
    assert len(message) + 20 <= 576
    assert message[8:] == bytes(INNER4)[: len(message) - 8]
    del read.chksum
    assert bytes(read)[2:4] == message[2:4]


def test_nobody_is_told_less_than_the_least_mtu() -> None:
    found = told(INNER6, 1280)
    assert found is not None
    assert found.mtu_bytes == 1280  # RFC 8200 §5
    found = told(INNER4, 60)
    assert found is not None
    assert found.mtu_bytes == 68  # RFC 791


@pytest.mark.parametrize(
    "inner",
    [
        IPv6(src=str(SERVER), dst=str(HOST)) / ICMPv6DestUnreach() / Raw(b"x" * 1400),
        IP(src=str(SERVER4), dst=str(HOST4)) / ICMP(type=3, code=3) / Raw(b"x" * 1400),
        IP(src=str(SERVER4), dst=str(HOST4), frag=100) / Raw(b"x" * 1400),
        IPv6(src="ff02::1", dst=str(HOST)) / UDP() / Raw(b"x" * 1400),
        IPv6(src="::", dst=str(HOST)) / UDP() / Raw(b"x" * 1400),
    ],
)
def test_no_error_is_sent_about_an_error_or_to_nobody(inner: Packet) -> None:
    """RFC 4443 §2.4 (e), RFC 1122 §3.2.2."""
    assert told(inner) is None


def test_an_echo_request_is_no_error() -> None:
    assert told(IPv6(src=str(SERVER), dst=str(HOST)) / ICMPv6EchoRequest() / Raw(b"x" * 1400)) is not None
    assert told(IP(src=str(SERVER4), dst=str(HOST4)) / ICMP(type=8) / Raw(b"x" * 1400)) is not None


@given(
    st.binary(max_size=200), st.sampled_from([b"", bytes(outer(INNER6)[:60]), bytes(outer(INNER4, routing=True)[:90])])
)
def test_any_bytes_give_values_or_malformed_input(payload: bytes, before: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        tunnelled.inner_addresses(before + payload)
    with contextlib.suppress(MalformedInput):
        found = too_big.parse(bytes((2, 0, 0, 0, 0, 0, 5, 0)) + before + payload)
        if found is not None:
            too_big.compose(found)
