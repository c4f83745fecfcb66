"""Stations' frames: RFC 4861 (ND), RFC 4862 §5.4 (DAD), RFC 826 and 5227 (ARP), and the sources of data."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import LLC, Dot3

from roamroute.errors import MalformedInput
from roamroute.lab.dumb import update_frame
from roamroute.values import Mac
from roamroute.wire import bpf, frames, icmpv6
from roamroute.wire.ethernet import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, PACKET_OUTGOING
from roamroute.wire.frames import Sighting, Telling, parse, station_filter

STATION = Mac("02:00:00:00:00:02")
OTHER = Mac("02:00:00:00:00:03")
HERE = IPv6Address("fd44:0:0:1::2")
THERE = IPv6Address("fd44:0:0:1::9")
NONE = IPv6Address("::")
ALL_NODES = IPv6Address("ff02::1")
GROUP_OF_HERE = IPv6Address("ff02::1:ff00:2")


def octets(mac: Mac) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(kind: int, payload: bytes, sender: Mac = STATION) -> bytes:
    return b"\x33\x33\x00\x00\x00\x01" + octets(sender) + struct.pack("!H", kind) + payload


def ipv6(
    source: IPv6Address,
    payload: bytes,
    *,
    following: int = 58,
    hop_limit: int = 255,
    to: IPv6Address = ALL_NODES,
    flow_label: int = 0,
) -> bytes:
    header = struct.pack("!IHBB", 6 << 28 | flow_label, len(payload), following, hop_limit)
    return ethernet(ETH_P_IPV6, header + source.packed + to.packed + payload)


def discovery(kind: int, target: IPv6Address, option: tuple[int, Mac] | None = None, code: int = 0) -> bytes:
    body = bytes([kind, code, 0, 0, 0, 0, 0, 0]) + (b"" if kind == 133 else target.packed)
    return body if option is None else body + bytes([option[0], 1]) + octets(option[1])


def arp(operation: int, source: str, target: str, sender: Mac = STATION) -> bytes:
    packed = IPv4Address(source).packed, IPv4Address(target).packed
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + octets(sender) + packed[0] + bytes(6) + packed[1]
    return ethernet(ETH_P_ARP, body)


@pytest.mark.parametrize(
    ("frame", "address", "telling"),
    [
        (ipv6(HERE, discovery(135, THERE, (1, STATION))), HERE, Telling.SOLICITATION),
        (ipv6(HERE, discovery(135, THERE)), HERE, Telling.SOLICITATION),
        (ipv6(NONE, discovery(135, HERE), to=GROUP_OF_HERE), HERE, Telling.DUPLICATE_DETECTION),
        (ipv6(HERE, discovery(136, HERE, (2, STATION))), HERE, Telling.ADVERTISEMENT),
        (ipv6(HERE, discovery(136, HERE)), HERE, Telling.ADVERTISEMENT),
        (ipv6(HERE, discovery(133, NONE, (1, STATION))), HERE, Telling.ROUTER_SOLICITATION),
        (ipv6(HERE, bytes(8), following=17, hop_limit=64), HERE, Telling.DATA),
        (ipv6(HERE, bytes([128, 0, 0, 0]), hop_limit=64), HERE, Telling.DATA),
        (arp(1, "10.44.0.2", "10.44.0.1"), ip_address("10.44.0.2"), Telling.ARP),
        (arp(2, "10.44.0.2", "10.44.0.1"), ip_address("10.44.0.2"), Telling.ARP),
        (arp(1, "10.44.0.2", "10.44.0.2"), ip_address("10.44.0.2"), Telling.ARP),
        (arp(1, "0.0.0.0", "10.44.0.7"), ip_address("10.44.0.7"), Telling.ARP),
        (
            ethernet(ETH_P_IP, b"\x45" + bytes(11) + IPv4Address("10.44.0.2").packed + bytes(12)),
            ip_address("10.44.0.2"),
            Telling.DATA,
        ),
    ],
)
def test_the_address_that_a_frame_names(frame: bytes, address: IPv6Address, telling: Telling) -> None:
    assert parse(frame) == Sighting(STATION, address, telling)


@pytest.mark.parametrize(
    "frame",
    [
        ipv6(HERE, discovery(135, THERE, (1, OTHER))),  # a proxy solicits
        ipv6(HERE, discovery(136, HERE, (2, OTHER))),  # a proxy advertises
        ipv6(NONE, discovery(135, HERE), to=GROUP_OF_HERE, flow_label=icmpv6.PROXY_FLOW_LABEL),  # an access point's
        ipv6(NONE, discovery(133, NONE)),  # a host without an address asks for routers
        ipv6(NONE, bytes(8), following=0),  # MLD before there is an address
        ipv6(IPv6Address("::1"), bytes(8), following=17),
        arp(1, "10.44.0.2", "10.44.0.1", OTHER),  # the sender in ARP is not the sender of the frame
        arp(2, "0.0.0.0", "10.44.0.1"),
        arp(9, "10.44.0.2", "10.44.0.1"),
        ethernet(0x88CC, bytes(50)),  # LLDP
        ethernet(0x8100, bytes(50)),  # a tag that was left in: another link's
    ],
)
def test_frames_that_name_no_address_of_their_sender(frame: bytes) -> None:
    assert parse(frame) is None


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(13),
        ethernet(ETH_P_IPV6, bytes(10)),
        ethernet(ETH_P_IPV6, bytes(40)),
        ethernet(ETH_P_IP, bytes(40)),
        ethernet(ETH_P_ARP, bytes(20)),
        ethernet(ETH_P_ARP, bytes(28), Mac("03:00:00:00:00:01")),
        ipv6(HERE, discovery(135, THERE), hop_limit=254),  # forwarded: RFC 4861 §7.1.1
        ipv6(HERE, discovery(135, THERE, code=1)),
        ipv6(HERE, discovery(135, IPv6Address("ff02::1"))),
        ipv6(NONE, discovery(135, HERE, (1, STATION)), to=GROUP_OF_HERE),  # RFC 4861 §7.1.1
        ipv6(NONE, discovery(135, HERE)),  # not to the solicited-node group: RFC 4861 §7.1.1
        ipv6(HERE, discovery(135, THERE)[:20]),
        ipv6(HERE, discovery(135, THERE) + bytes([1, 0, 0, 0, 0, 0, 0, 0])),  # an option of length 0
        ipv6(HERE, discovery(135, THERE) + bytes([1, 9, 0, 0, 0, 0, 0, 0])),
        ipv6(HERE, discovery(136, THERE))[:-3],
    ],
)
def test_frames_that_are_refused(frame: bytes) -> None:
    with pytest.raises(MalformedInput):
        parse(frame)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_one_error(frame: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        parse(frame)


@given(st.sampled_from([0x86DD, 0x0800, 0x0806]), st.binary(max_size=120), st.sampled_from([0, 58]))
def test_any_packet_gives_a_value_or_one_error(kind: int, payload: bytes, following: int) -> None:
    whole = ipv6(HERE, payload, following=following) if kind == 0x86DD else ethernet(kind, payload)
    for frame in (whole, ethernet(kind, payload)):
        with contextlib.suppress(MalformedInput):
            parse(frame)


def run_filter(program: bytes, frame: bytes, *, packet_type: int = 0, has_tag: bool = False) -> int:
    """Interpret classic BPF as linux/filter.h defines it."""
    instructions = [struct.unpack_from("=HBBI", program, offset) for offset in range(0, len(program), 8)]
    accumulator, index, counter = 0, 0, 0
    while True:
        code, if_true, if_false, operand = instructions[counter]
        counter += 1
        if code == bpf.RET:
            return int(operand)
        if code == bpf.JA:
            counter += operand
            continue
        if code in (bpf.JEQ, bpf.JEQ_X, bpf.JGE):
            is_so = accumulator >= operand if code == bpf.JGE else accumulator == (operand, index)[code == bpf.JEQ_X]
            counter += if_true if is_so else if_false
            continue
        if code == bpf.JSET:
            counter += if_true if accumulator & operand else if_false
            continue
        if code == bpf.TAX:
            index = accumulator
            continue
        if code == bpf.AND:
            accumulator &= operand
            continue
        if code == bpf.LD_LENGTH:
            accumulator = len(frame)
            continue
        if operand == bpf.PACKET_TYPE:
            accumulator = packet_type
        elif operand == bpf.VLAN_TAG_PRESENT:
            accumulator = int(has_tag)
        else:
            size = {bpf.LD_ABS: 4, bpf.LDH_ABS: 2, bpf.LDB_ABS: 1}[code]
            if operand + size > len(frame):
                return 0
            accumulator = int.from_bytes(frame[operand : operand + size], "big")


ALWAYS = [
    ipv6(HERE, discovery(135, THERE)),
    ipv6(NONE, discovery(135, HERE), to=GROUP_OF_HERE),
    ipv6(HERE, discovery(136, HERE)),
    ipv6(HERE, discovery(133, NONE)),
    arp(1, "10.44.0.2", "10.44.0.1"),
]
WATCHED_ONLY = [
    ipv6(HERE, bytes(8), following=17),
    ipv6(HERE, bytes([128, 0, 0, 0, 0, 0, 0, 0])),
    ethernet(ETH_P_IP, b"\x45" + bytes(30)),
]
SOLICITED = ipv6(HERE, bytes([136, 0, 0, 0, 0x60, 0, 0, 0]) + bytes(16))
MANY = [Mac(f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}") for number in range(frames.MAX_WATCHED - 1)]


@pytest.mark.parametrize("watched", [[], [OTHER], [STATION], [*MANY, STATION]])
def test_the_filter_lets_discovery_pass_always_and_data_of_the_watched(watched: list[Mac]) -> None:
    program = station_filter(watched)
    assert all(run_filter(program, frame) for frame in ALWAYS)
    assert all(bool(run_filter(program, frame)) == (STATION in watched) for frame in WATCHED_ONLY)
    assert not run_filter(program, SOLICITED), "the kernel tells of the answers to its own questions"
    for frame in (ethernet(0x88CC, bytes(60)), ethernet(0x8100, bytes(60)), bytes(14), b""):
        assert not run_filter(program, frame)
    for frame in ALWAYS + WATCHED_ONLY:
        assert not run_filter(program, frame, packet_type=PACKET_OUTGOING)
        assert not run_filter(program, frame, has_tag=True)


UPDATE = update_frame(STATION)


def test_an_update_frame_names_its_station_and_passes_only_when_asked_for() -> None:
    assert frames.announced_station(UPDATE) == STATION
    assert frames.parse(UPDATE) is None
    assert not run_filter(station_filter([]), UPDATE)
    for watched in ([], [OTHER], MANY):
        program = station_filter(watched, is_hearing_update_frames=True)
        assert run_filter(program, UPDATE)
        assert all(run_filter(program, frame) for frame in ALWAYS)
        assert not any(run_filter(program, frame) for frame in WATCHED_ONLY)
    assert not run_filter(station_filter([], [STATION], is_hearing_update_frames=True), UPDATE)


@pytest.mark.parametrize(
    "frame",
    [
        UPDATE[:17],
        b"\x02" + UPDATE[1:],  # to one station
        UPDATE[:6] + b"\x03" + UPDATE[7:],  # from a group
        UPDATE[:13] + b"\x07" + UPDATE[14:],
        UPDATE[:14] + b"\x42\x42\x03" + UPDATE[17:],  # a spanning tree's
        UPDATE[:16] + b"\xbf" + UPDATE[17:],  # polled for
    ],
)
def test_other_frames_announce_nobody(frame: bytes) -> None:
    assert frames.announced_station(frame) is None


@given(st.binary(max_size=64))
def test_any_bytes_announce_somebody_or_nobody(frame: bytes) -> None:
    frames.announced_station(frame)


def test_scapy_takes_it_for_an_exchange_of_identifiers() -> None:
    dissected = Dot3(UPDATE)
    assert (dissected.dst, dissected.src, dissected.len) == ("ff:ff:ff:ff:ff:ff", STATION, 6)
    assert (dissected[LLC].dsap, dissected[LLC].ssap, dissected[LLC].ctrl) == (0, 1, 0xAF)


def test_nothing_of_the_muted_passes() -> None:
    program = station_filter([STATION, OTHER], [STATION])
    assert not any(run_filter(program, frame) for frame in ALWAYS + WATCHED_ONLY)
    assert run_filter(program, ethernet(ETH_P_IP, b"\x45" + bytes(30), OTHER))


def test_a_filter_has_room_for_so_many_and_no_more() -> None:
    assert len(station_filter([*MANY, STATION])) // 8 < bpf.MAX_INSTRUCTIONS
    with pytest.raises(ValueError):
        station_filter([*MANY, STATION, OTHER])
    with pytest.raises(ValueError):
        bpf.assemble(*[(bpf.RET, 0, 0, 0)] * (bpf.MAX_INSTRUCTIONS + 1))
