"""What birdc shows is read as what BIRD said."""

from __future__ import annotations

import pytest
from bird_transcripts import VERSIONS, conversation, said
from roamroute_bird.answers import protocols_of, status_of
from roamroute_bird.birdc import reply_of
from roamroute_bird.protocol import ACCESS_DENIED, Line, ReplyReader

from roamroute.errors import DaemonGone, MalformedInput

STABLE = (
    "show route fd44:0:0:1::a/128",
    "show route fd44:0:0:1::99/128",
    "show route 10.44.0.12/32",
    "show route fd44:0:0:1::a/128 exported 'babel1'",
    "show route fd44:0:0:1::99/128 exported 'ospf6'",
    "show route 10.44.0.12/32 exported 'ospf6'",
    "show route exported 'nosuch'",
    "show route fd44::zz/128",
)
every_version = pytest.mark.parametrize("version", VERSIONS)


@every_version
def test_the_same_questions_have_the_same_answers_as_on_the_socket(version: str) -> None:
    for command in STABLE:
        (reply,) = ReplyReader().feed(said("socket", version, command))
        assert reply_of(said("birdc", version, command).decode()) == reply, command


@every_version
def test_every_answer_can_be_read(version: str) -> None:
    for command, shown in conversation("birdc", version):
        if command != "bogus":
            assert reply_of(shown.decode()).lines, command


@every_version
def test_status_and_protocols(version: str) -> None:
    assert status_of(reply_of(said("birdc", version, "show status").decode())).program.startswith(f"BIRD {version}")
    assert len(protocols_of(reply_of(said("birdc", version, "show protocols all").decode()))) >= 7


@every_version
def test_restricted_access_is_a_refusal(version: str) -> None:
    refusal = reply_of(said("birdc", version, "configure soft", nth=1).decode()).refusal
    assert refusal is not None
    assert refusal.code == ACCESS_DENIED


@every_version
def test_what_birdc_says_of_itself_is_no_reply(version: str) -> None:
    with pytest.raises(DaemonGone, match="No such command"):
        reply_of(said("birdc", version, "bogus").decode())


def test_log_messages_are_left_out() -> None:
    assert reply_of(">>> <INFO> Reconfigured\n0013 up\n").lines == (Line(13, "up"),)


def test_an_answer_without_a_last_line_ended_well() -> None:
    assert reply_of("1007-Table master6:\n").lines == (Line(1007, "Table master6:"), Line(0, ""))
    assert reply_of("").lines == (Line(0, ""),)


def test_two_answers_are_one_too_many() -> None:
    with pytest.raises(MalformedInput):
        reply_of("0013 up\n0013 up\n")
    with pytest.raises(MalformedInput):
        reply_of("0013 up\n1007-Table master6:\n")
