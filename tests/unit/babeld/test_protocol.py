"""babeld's local socket: recorded lines, and any bytes."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from roamroute_babeld.protocol import (
    LINE_LIMIT_BYTES,
    Change,
    Header,
    InterfaceLine,
    Line,
    LineReader,
    NeighbourLine,
    OtherLine,
    Reply,
    RouteLine,
    XrouteLine,
    parse_line,
)

from roamroute.errors import MalformedInput

DATA = Path(__file__).parents[2] / "data" / "babeld"
RECORDINGS = sorted(DATA.glob("monitor-*.txt"))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_every_recorded_line_is_known(recording: Path) -> None:
    lines = LineReader().feed(recording.read_bytes())
    assert len(lines) > 60
    assert not [line for line in lines if isinstance(line, OtherLine)]


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
@given(cuts=st.lists(st.integers(0, 9000), max_size=20))
def test_it_does_not_matter_how_the_stream_is_cut(recording: Path, cuts: list[int]) -> None:
    data = recording.read_bytes()
    reader, pieces, begin = LineReader(), [], 0
    for cut in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
        pieces += reader.feed(data[begin:cut])
        begin = cut
    assert pieces == LineReader().feed(data)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("version babeld-1.13.1", Header("version", "babeld-1.13.1")),
        ("ok", Reply("ok")),
        ("no Couldn't flush interface", Reply("no", "Couldn't flush interface")),
        ("change interface e0 up false", InterfaceLine(Change.CHANGE, "e0", False)),
        (
            "add xroute 10.44.0.7/32-0.0.0.0/0 prefix 10.44.0.7/32 from 0.0.0.0/0 metric 65532",
            XrouteLine(Change.ADD, ip_network("10.44.0.7/32"), ip_network("0.0.0.0/0"), 65532),
        ),
        (
            "flush route 55 prefix fd44::7/128 from ::/0 installed no id 00:94 metric 192 refmetric 96 via fe80::1",
            RouteLine(Change.FLUSH, "55", ip_network("fd44::7/128"), ip_network("::/0"), False, "00:94", 192),
        ),
        (
            "add neighbour 5f address fe80::1 if e0 reach ffff ureach 0000 rxcost 96 txcost 96 rtt 1.0 cost 96",
            NeighbourLine(Change.ADD, "5f", "fe80::1", "e0"),
        ),
        ("add satellite s1 orbit low", OtherLine("add satellite s1 orbit low")),
    ],
)
def test_a_line_is_a_value(text: str, line: Line) -> None:
    assert parse_line(text) == line


@pytest.mark.parametrize(
    "text",
    [
        "add xroute x prefix fd44::/129 from ::/0 metric 0",
        "add xroute x prefix fd44::/64 from ::/0 metric -1",
        "add xroute x prefix fd44::/64 from ::/0",
        "add route 1 prefix fd44::/64 from ::/0 installed perhaps id 1 metric 1",
        "change interface e0 up sideways",
    ],
)
def test_a_line_that_goes_on_wrongly_is_an_error(text: str) -> None:
    with pytest.raises(MalformedInput, match="babeld: "):
        parse_line(text)


def test_a_line_without_an_end_is_an_error() -> None:
    reader = LineReader()
    reader.feed(b"x" * LINE_LIMIT_BYTES)
    with pytest.raises(MalformedInput):
        reader.feed(b"x")


WORDS = st.sampled_from(
    [
        "add",
        "change",
        "flush",
        "interface",
        "xroute",
        "route",
        "neighbour",
        "prefix",
        "from",
        "metric",
        "installed",
        "id",
        "via",
        "if",
        "up",
        "yes",
        "no",
        "true",
        "ok",
        "bad",
        "BABEL",
        "fd44::/64",
        "10.0.0.0/8",
        "::/0",
        "0",
        "65535",
        "-1",
        "ÿ",
        "é",
    ]
)


@given(st.binary() | st.lists(WORDS).map(lambda words: " ".join(words).encode("latin-1") + b"\n"))
@example(b"add xroute \xd9\xa3 prefix ::/0 from ::/0 metric \xd9\xa3\n")
@example(b"add route\n")
def test_any_bytes_give_values_or_the_one_error(data: bytes) -> None:
    try:
        lines = LineReader().feed(data)
    except MalformedInput:
        return
    assert len(lines) == data.count(b"\n")
