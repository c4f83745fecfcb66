"""The conversation with FRR, against a small program in vtysh's place."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from roamroute_frr.vtysh import FrrRefused, Vtysh, refusal, run, without_warnings

from roamroute.errors import DaemonGone, MalformedInput

PROGRAM = r"""
import sys
answers = {
    "show version": "FRRouting 10.3 (ap1) on Linux\n",
    "show good json": '{\n  "a": 1\n}\n',
    "show bad json": '{"a": ',
    "show nothing json": "",
    "configure terminal": "",
    "bad": "% Unknown command: bad\n",
    "dead": "ospf6d is not running\n",
    "lost": "Warning: closing connection to zebra because of an I/O error!\nWarning: connecting to zebra...failed!\n",
    "back": "Warning: connecting to zebra...success!\n{}\n",
    "where": repr(sys.argv[1:]) + "\n",
    "end": "",
}
if "-c" in sys.argv:
    lines = [word for before, word in zip(sys.argv, sys.argv[1:]) if before == "-c"]
    for line in lines:
        print(answers.get(line, ""), end="")
        if answers.get(line, "").startswith("%"):
            sys.exit(1)
    sys.exit("no FRR here" if "absent" in sys.argv else 0)
if "no-terminal" in sys.argv:
    sys.exit("not a terminal")
print("Hello, this is FRRouting.\n")
node = ""
while True:
    line = input("ap1" + node + "# ")
    if line == "configure terminal":
        node = "(config)"
    if line == "end":
        node = ""
    print(answers.get(line, ""), end="", flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., list[str]]:
    path = tmp_path / "vtysh.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return lambda *words: [sys.executable, "-S", str(path), *words]


@asynccontextmanager
async def vtysh(command: list[str], daemon: str = "") -> AsyncIterator[Vtysh]:
    shell = Vtysh(command, daemon)
    try:
        yield shell
    finally:
        await shell.close()


async def test_a_question_has_its_answer(program: Callable[..., list[str]]) -> None:
    async with vtysh(program()) as shell:
        assert await shell.ask("show version") == "FRRouting 10.3 (ap1) on Linux\n"
        assert await shell.json("show good json") == {"a": 1}
        assert await shell.json("show nothing json") == {}
        assert shell.is_kept_open


async def test_a_refusal_has_frr_s_own_words(program: Callable[..., list[str]]) -> None:
    async with vtysh(program()) as shell:
        with pytest.raises(FrrRefused, match='FRR refused "bad": Unknown command: bad') as caught:
            await shell.ask("bad")
        assert caught.value.words == "Unknown command: bad"


async def test_a_daemon_that_is_not_there_is_a_refusal(program: Callable[..., list[str]]) -> None:
    async with vtysh(program()) as shell:
        with pytest.raises(FrrRefused, match="ospf6d is not running"):
            await shell.ask("dead")


async def test_a_daemon_that_was_lost_just_now_is_not_there(program: Callable[..., list[str]]) -> None:
    async with vtysh(program()) as shell:
        with pytest.raises(FrrRefused, match="zebra is not running"):
            await shell.ask("lost")
        assert shell.breaks == 1


async def test_an_answer_after_a_daemon_came_back_is_clean(program: Callable[..., list[str]]) -> None:
    async with vtysh(program()) as shell:
        assert await shell.json("back") == {}
        assert shell.breaks == 0


async def test_what_is_no_json_is_malformed(program: Callable[..., list[str]]) -> None:
    async with vtysh(program()) as shell:
        with pytest.raises(MalformedInput, match="no JSON"):
            await shell.json("show bad json")


async def test_lines_go_on_after_a_refusal(program: Callable[..., list[str]]) -> None:
    async with vtysh(program()) as shell:
        assert await shell.type_all(["configure terminal", "bad", "x", "end"]) == [
            "",
            "% Unknown command: bad\n",
            "",
            "",
        ]


async def test_one_daemon_alone_is_spoken_to_by_d(program: Callable[..., list[str]]) -> None:
    async with vtysh(program(), "staticd") as shell:
        assert "['-d', 'staticd']" in await shell.ask("where")


async def test_where_no_terminal_can_be_had_each_question_starts_a_vtysh(program: Callable[..., list[str]]) -> None:
    async with vtysh(program("no-terminal")) as shell:
        assert await shell.json("show good json") == {"a": 1}
        assert not shell.is_kept_open
        assert "not a terminal" in shell.no_terminal
        with pytest.raises(FrrRefused, match="Unknown command: bad"):
            await shell.ask("bad")


async def test_where_there_is_no_frr_either_way_the_reason_is_told(program: Callable[..., list[str]]) -> None:
    async with vtysh(program("no-terminal", "absent")) as shell:
        with pytest.raises(DaemonGone, match="ended: not a terminal"):
            await shell.ask("show version")
        assert shell.is_kept_open


async def test_a_terminal_is_tried_again_when_frr_was_gone(program: Callable[..., list[str]], tmp_path: Path) -> None:
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(
        f'#!/bin/sh\ntest ! -e {tmp_path}/gone || exit 1\ntest ! -t 0 || test -e {tmp_path}/pty || exit 1\nexec "$@"'
    )
    wrapper.chmod(0o755)
    async with vtysh([str(wrapper), *program()]) as shell:
        await shell.ask("show version")
        assert not shell.is_kept_open
        (tmp_path / "pty").touch()
        (tmp_path / "gone").touch()
        with pytest.raises(DaemonGone):
            await shell.ask("show version")
        (tmp_path / "gone").unlink()
        await shell.ask("show version")
        assert shell.is_kept_open
        assert shell.no_terminal == ""


@pytest.mark.parametrize("name", ["ap 1", "ap#1", "ap>1", "ap(1)", "a" * 250])
async def test_any_name_of_a_host_is_good_for_a_prompt(tmp_path: Path, name: str) -> None:
    path = tmp_path / "vtysh.py"
    path.write_text(PROGRAM.replace('"ap1"', repr(name)), encoding="utf-8")
    async with vtysh([sys.executable, "-S", str(path)]) as shell:
        assert await shell.json("show good json") == {"a": 1}
        assert (await shell.type_all(["configure terminal", "bad", "end"]))[1] == "% Unknown command: bad\n"
        assert shell.is_kept_open


async def test_what_one_vtysh_has_started_does_not_hold_us_up() -> None:
    program = "import os, time; os.fork(); time.sleep(60)"
    began = time.monotonic()
    with pytest.raises(DaemonGone, match="has not ended"):
        await run([sys.executable, "-c", program], ["show version"], 0.3)
    assert time.monotonic() - began < 3


async def test_one_vtysh_that_fails_without_a_refusal_is_gone(program: Callable[..., list[str]]) -> None:
    with pytest.raises(DaemonGone, match=r"ended with 1: .*no FRR here"):
        await run(program("absent"), ["show version"], 5.0)


async def test_one_vtysh_that_hangs_is_killed() -> None:
    with pytest.raises(DaemonGone, match=r"has not ended within 0\.2 s"):
        await run([sys.executable, "-c", "import time; time.sleep(60)"], ["show version"], 0.2)


async def test_a_vtysh_that_is_not_there_is_named() -> None:
    with pytest.raises(DaemonGone, match="cannot be started"):
        await run(["/nonexistent/vtysh"], ["show version"], 1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("{}", ""),
        ("percent % in the middle", ""),
        ("% Ambiguous command: x\n", "Ambiguous command: x"),
        (
            "some text\n% Configuration failed.\n\nError type: validation\n",
            "Configuration failed. / Error type: validation",
        ),
        ("staticd is not running\n", "staticd is not running"),
        ("somebody is not running away\n", ""),
    ],
)
def test_refusals_are_told_from_answers(text: str, words: str) -> None:
    assert refusal(text) == words


def test_mgmtd_s_own_end_is_a_warning_like_others() -> None:
    text = "vtysh: error reading from mgmtd: Success (0)Warning: closing connection to mgmtd because of an I/O error!\n"
    assert without_warnings(text) == ""
