"""Any bytes from BIRD's socket or a birdc give values or the one named error, however they are cut."""

from __future__ import annotations

import contextlib

import pytest
from bird_transcripts import VERSIONS, conversation
from hypothesis import example, given
from hypothesis import strategies as st
from roamroute_bird.answers import protocols_of, status_of
from roamroute_bird.birdc import reply_of
from roamroute_bird.protocol import Line, Reply, ReplyReader, position_of
from roamroute_bird.routes import routes_of

from roamroute.errors import DaemonGone, MalformedInput

pieces = st.sampled_from(
    [
        *(
            b"0001 BIRD 2.17 ready.",
            b"1007-",
            b"1002-",
            b"1006-",
            b"1000-BIRD ",
            b"1011-Last reboot on ",
            b"0000 ",
            b"8002 ",
        ),
        *(b"\n", b"\n", b"\n ", b" ", b"\t", b"-", b"+log", b"\r", b"\0", b"\xff", b"     ", b">>> x"),
        *(
            b"fd44::1/128",
            b"10.0.0.1/32",
            b"fd44::1/129",
            b"unicast ",
            b"[babel1 08:00 from fe80::1]",
            b" *",
            b"(130/96)",
        ),
        *(
            b"via fe80::1 on e0",
            b"dev wlan0",
            b"Table master6:",
            b"Channel ipv6",
            b"State: UP",
            b"Preference: ",
            b"9" * 40,
        ),
        *(b"/etc/bird.conf:3:26 syntax error", b"babel1 Babel --- up x", b"Input filter: ACCEPT"),
    ]
)
streams = st.binary(max_size=300) | st.lists(pieces, max_size=20).map(b"".join)


def read(data: bytes, cuts: list[int]) -> tuple[list[Reply], bool]:
    """The replies, and whether the stream turned out to be malformed at some place."""
    reader, replies, begin = ReplyReader(), [], 0
    try:
        for cut in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
            replies += reader.feed(data[begin:cut])
            begin = cut
    except MalformedInput:
        return replies, True
    return replies, False


@given(data=streams)
def test_any_stream(data: bytes) -> None:
    for reply in read(data, [])[0]:
        assert reply.lines
        assert (reply.refusal is None) == (reply.last.code < 8000)
        position_of(reply.last.text)
        with contextlib.suppress(MalformedInput):
            assert status_of(reply).version
        with contextlib.suppress(MalformedInput):
            assert all(protocol.name for protocol in protocols_of(reply))
        with contextlib.suppress(MalformedInput):
            assert all(route.prefix.num_addresses for route in routes_of(reply))


@example(text="0000 \n")
@given(text=st.text(max_size=200) | streams.map(lambda data: data.decode("latin-1")))
def test_anything_that_birdc_shows(text: str) -> None:
    with contextlib.suppress(MalformedInput, DaemonGone):
        assert reply_of(text).lines


@given(data=streams, cuts=st.lists(st.integers(0, 300), max_size=8))
def test_a_stream_means_the_same_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    whole, is_malformed = read(data, [])
    cut, is_malformed_too = read(data, cuts)
    assert is_malformed == is_malformed_too
    if is_malformed:
        assert cut[: len(whole)] == whole  # replies before the bad line may have been given already
    else:
        assert cut == whole


@pytest.mark.parametrize("version", VERSIONS)
@given(cuts=st.lists(st.integers(0, 17000), max_size=30))
def test_a_recorded_conversation_means_the_same_however_it_is_cut(version: str, cuts: list[int]) -> None:
    data = b"".join(said for _, said in conversation("socket", version))
    assert read(data, cuts) == read(data, [])


ascii_texts = st.text(st.characters(codec="ascii", exclude_characters="\n"))


@given(lines=st.lists(st.builds(Line, st.integers(1, 9999), ascii_texts), min_size=1))
def test_a_reply_is_read_as_it_was_written(lines: list[Line]) -> None:
    framed = [f"{line.code:04}-{line.text}\n" for line in lines[:-1]]
    framed.append(f"{lines[-1].code:04} {lines[-1].text}\n")
    assert ReplyReader().feed("".join(framed).encode()) == [Reply(tuple(lines))]
