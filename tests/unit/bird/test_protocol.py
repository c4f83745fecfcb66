"""BIRD's control socket: recorded conversations, and the rules of the framing."""

from __future__ import annotations

import pytest
from bird_transcripts import VERSIONS, conversation, said
from roamroute_bird.protocol import (
    LINE_LIMIT_BYTES,
    BirdRefused,
    Line,
    Position,
    Reply,
    ReplyReader,
    position_of,
    quoted,
)

from roamroute.errors import DaemonRefused, MalformedInput

every_version = pytest.mark.parametrize("version", VERSIONS)


def only(data: bytes) -> Reply:
    (reply,) = ReplyReader().feed(data)
    return reply


@every_version
def test_every_recorded_command_has_one_reply(version: str) -> None:
    pairs = conversation("socket", version)
    assert len(pairs) > 45
    for command, data in pairs:
        assert len(ReplyReader().feed(data)) == 1, command


@every_version
def test_the_greeting_is_a_reply(version: str) -> None:
    greeting = only(said("socket", version, "connect"))
    assert greeting.last.code == 1
    assert greeting.last.text.startswith(f"BIRD {version}")


@every_version
def test_a_line_that_begins_with_a_blank_has_the_code_of_the_line_before(version: str) -> None:
    reply = only(said("socket", version, "show status"))
    assert [line.code for line in reply.lines] == [1000, 1011, 1011, 1011, 1011, 1011, 13]
    assert reply.lines[1].text == "Router ID is 10.0.0.1"


def test_log_messages_between_replies_belong_to_none() -> None:
    with_log = said("socket", "2.17", "show status", nth=2)
    assert with_log.startswith(b"+Reconfiguring\n+Reconfigured\n1000-")
    assert len(only(with_log).lines) == 7


@every_version
def test_a_refusal_tells_where_and_why(version: str) -> None:
    refusal = only(said("socket", version, "configure soft", nth=2)).refusal
    assert refusal is not None
    assert refusal.code == 8002
    position = position_of(refusal.text)
    assert position is not None
    assert position.path.endswith("a-hosts.conf")
    assert (position.line, position.column) == (4, 26)
    assert position.words == "syntax error, unexpected CF_SYM_UNDEFINED"


@every_version
def test_a_missing_include_is_told_with_the_line_that_includes_it(version: str) -> None:
    refusal = only(said("socket", version, "configure soft", nth=3)).refusal
    assert refusal is not None
    position = position_of(refusal.text)
    assert position is not None
    assert position.path.endswith("/a.conf")
    assert "Unable to open included file" in position.words


@every_version
def test_what_is_done_is_no_refusal(version: str) -> None:
    first = only(said("socket", version, "configure soft"))
    assert first.refusal is None
    assert first.last.text in ("Reconfigured", "Reconfiguration in progress")


def test_a_refusal_without_a_position_has_none() -> None:
    assert position_of("Access denied") is None
    assert position_of("/etc/bird/bird.conf: No such file or directory") is None
    assert position_of("/etc/bird.conf:7 No log") == Position("/etc/bird.conf", 7, 0, "No log")


def test_the_error_holds_what_was_tried_what_came_back_and_what_to_do() -> None:
    error = BirdRefused("configure soft", Line(8007, "Access denied"), "without birdc -r")
    assert isinstance(error, DaemonRefused)
    assert str(error) == 'BIRD refused "configure soft": 8007 Access denied (without birdc -r)'


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b" continues nothing\n",
        b"12 too short\n",
        b"00010 ready\n",
        b"\n",
        b"\xff\xfe\n",
        b"x" * (LINE_LIMIT_BYTES + 1),
        b"0001-" + b"x" * LINE_LIMIT_BYTES + b"\n",
    ],
)
def test_what_is_not_bird_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedInput):
        ReplyReader().feed(data)


def test_a_name_that_is_no_utf_8_is_kept_readable() -> None:
    assert only(b"1002-caf\xe9 BGP --- up\n0000 \n").lines[0].text == "caf\N{REPLACEMENT CHARACTER} BGP --- up"


def test_names_of_protocols_are_quoted_and_nothing_else_gets_into_a_command() -> None:
    assert quoted("rr") == "'rr'"
    for name in ("", "a b", "a'b", "a\nconfigure", "x" * 65):
        with pytest.raises(ValueError):
            quoted(name)
