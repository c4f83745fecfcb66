"""RTM_GETNEIGHTBL: what Linux 6.18 sent, and anything else."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roamroute.errors import MalformedInput
from roamroute.wire.neighbour_tables import LinkTimes, TableEntry, decode_table, tables_body
from roamroute.wire.netlink import AF_INET6, Message, attribute


def message(body: bytes) -> Message:
    return Message(64, 2, 1, 0, body, 0, len(body))


def u32(kind: int, number: int) -> bytes:
    return attribute(kind, struct.pack("=I", number))


def u64(kind: int, number: int) -> bytes:
    return attribute(kind, struct.pack("=Q", number))


HEADER = struct.pack("=BxH", AF_INET6, 0)
NAME = attribute(1, b"ndisc_cache\0")
CONFIG = attribute(5, struct.pack("=HHIIIIIII", 16, 344, 77, 30236, 23964, 1793281783, 16383, 0, 0))
STATS = attribute(7, struct.pack("=11Q", *range(100, 111)))
TIMES = u32(2, 1) + u64(3, 24708) + u64(4, 30000) + u64(5, 1000) + u64(6, 60000) + u32(11, 3)


def test_a_table_with_its_limits() -> None:
    body = HEADER + NAME + u64(8, 30000) + u32(2, 128) + u32(3, 512) + u32(4, 1024) + attribute(6, TIMES)
    assert decode_table(message(body + CONFIG + STATS)) == TableEntry(AF_INET6, 128, 512, 1024, 77, 110)


def test_the_times_of_a_link() -> None:
    body = HEADER + NAME + attribute(6, u32(1, 9) + TIMES)
    assert decode_table(message(body)) == LinkTimes(AF_INET6, 9, 30000, 1000, 60000, 3)


def test_the_times_of_no_link_are_nothing() -> None:
    assert decode_table(message(HEADER + NAME + attribute(6, TIMES))) is None


@pytest.mark.parametrize("body", [b"", HEADER[:3], HEADER + u32(2, 1)[:6], HEADER + attribute(7, bytes(80))])
def test_what_is_too_short_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedInput):
        decode_table(message(body))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_malformed(body: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        decode_table(message(body))


def test_the_request_asks_for_all_tables() -> None:
    assert tables_body() == bytes(4)
