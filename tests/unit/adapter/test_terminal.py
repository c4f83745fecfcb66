"""The kept-open command line, against a small program that misbehaves in every way asked for."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from roamroute.adapter.terminal import Terminal
from roamroute.errors import DaemonGone

PROMPT = r"(?P<name>[^\s#>(]+)(?:\([^()\s]*\))?[#>] "

PROGRAM = r"""
import os, signal, sys, termios, time, tty
name = "ap1"
mode = sys.argv[1] if len(sys.argv) > 1 else ""
if "deaf" in mode:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()
if "silent" in mode:
    time.sleep(60)
if "refuses" in mode:
    print("Exiting: failed to connect to any daemons.")
    sys.exit(1)
say("\nHello, this is a fake.\n\n")
is_first = True
while True:
    if "shy" in mode:
        if is_first:
            say(name + "# ")
        is_first = False
    elif "colour" in mode:
        say("\x1b[?2004h\x1b[1;32m" + name + "# \x1b[0m")
    else:
        say(name + "# ")
    line = sys.stdin.readline()
    if not line:
        break
    word, _, rest = line.strip().partition(" ")
    if "echoes" in mode:
        say(line.strip() + "\r\n")
    if word == "say":
        say(rest + "\n")
    elif word == "environment":
        say(os.environ.get(rest, "none") + "\n")
    elif word == "lines":
        say("".join("line %d of many\n" % number for number in range(int(rest))))
    elif word == "flood":
        while True:
            say("x" * 4096)
    elif word == "open":
        say("an open line ")
    elif word == "trickle":
        while True:
            say("x\n")
            time.sleep(0.01)
    elif word == "rename":
        name = rest
    elif word == "hang":
        while True:
            time.sleep(60)
    elif word == "die":
        say("half an ans")
        os._exit(3)
    elif word == "pretend":
        say("before\nother# ")
        say("after\n" + name + "#")
        time.sleep(0.01)
        say("\nend\n")
    elif word == "later":
        if os.fork() == 0:
            time.sleep(0.1)
            say("2026/11/22 a line of a log\n")
            os._exit(0)
    elif word == "page":
        was = termios.tcgetattr(0)
        tty.setcbreak(0)
        say("one\n--More--")
        answer = os.read(0, 1)
        termios.tcsetattr(0, termios.TCSANOW, was)
        say("\r        \rtwo\n")
    elif word == "child":
        pid = os.fork()
        if pid == 0:
            while True:
                time.sleep(60)
        say("%d\n" % pid)
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], list[str]]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return lambda mode: [sys.executable, str(path), mode]


@asynccontextmanager
async def terminal(command: list[str], **options: object) -> AsyncIterator[Terminal]:
    opened = Terminal(command, prompt=PROMPT, **options)  # type: ignore[arg-type]
    try:
        yield opened
    finally:
        await opened.close()


def is_running(process_id: int | None) -> bool:
    return process_id is not None and Path(f"/proc/{process_id}/stat").exists()


async def test_an_answer_comes_without_prompt_and_line_ends_of_terminals(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("")) as shell:
        assert await shell.ask("say good day") == "good day\n"
        assert await shell.ask("nothing") == ""
        assert await shell.ask("") == ""


async def test_one_process_serves_all_questions(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("")) as shell:
        await shell.ask("say a")
        first = shell.process_id
        await shell.ask("say b")
        assert shell.process_id == first


async def test_questions_asked_at_the_same_time_get_their_own_answers(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("")) as shell:
        answers = await asyncio.gather(*(shell.ask(f"say {number}") for number in range(20)))
        assert answers == [f"{number}\n" for number in range(20)]


async def test_many_lines_are_answered_each(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("")) as shell:
        assert await shell.ask_all([f"say {number}" for number in range(50)]) == [f"{number}\n" for number in range(50)]


async def test_an_echo_is_no_part_of_the_answer(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("echoes")) as shell:
        assert await shell.ask("say good day") == "good day\n"
        assert await shell.ask("say say good day") == "say good day\n"


async def test_colours_and_bracketed_paste_are_no_part_of_the_answer(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("colour")) as shell:
        assert await shell.ask("say good day") == "good day\n"
        assert await shell.ask("nothing") == ""


async def test_what_only_looks_like_a_prompt_does_not_end_an_answer(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("")) as shell:
        assert await shell.ask("pretend") == "before\nother# after\nap1#\nend\n"
        assert await shell.ask("say next") == "next\n"


async def test_an_answer_may_leave_its_last_line_open(program: Callable[[str], list[str]]) -> None:
    shell = Terminal(program(""), prompt=r"(?P<name>[^\r\n]+?)(?:\([^()\s]*\))?[#>] ")
    try:
        assert await shell.ask("open") == "an open line "
        assert await shell.ask("say b") == "b\n"
    finally:
        await shell.close()


async def test_the_name_in_the_prompt_may_change(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("")) as shell:
        assert await shell.ask("rename ap2.example") == ""
        assert await shell.ask("say b") == "b\n"


async def test_log_lines_between_two_questions_answer_nothing(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("")) as shell:
        await shell.ask("later")
        await asyncio.sleep(0.2)
        assert await shell.ask("say b") == "b\n"


async def test_a_pager_is_told_to_go_on(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("")) as shell:
        assert await shell.ask("page") == "one\ntwo\n"


async def test_a_large_answer_arrives_whole(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("")) as shell:
        answer = await shell.ask("lines 100000")
        assert answer.count("\n") == 100_000
        assert answer.endswith("line 99999 of many\n")


async def test_each_new_process_is_prepared(program: Callable[[str], list[str]]) -> None:
    async with terminal(program(""), first=["rename prepared"], environment={"OF_OURS": "7"}) as shell:
        assert await shell.ask("environment OF_OURS") == "7\n"
        assert await shell.ask("environment PAGER") == "cat\n"


async def test_a_program_that_shows_no_prompt_is_asked_for_a_sign(program: Callable[[str], list[str]]) -> None:
    shell = Terminal(program("shy"), prompt=r"(?:ap1# |done\r\n)", follow="say done")
    try:
        assert await shell.ask("say a") == "a\n"
        assert await shell.ask("nothing") == ""
    finally:
        await shell.close()


async def test_a_program_that_hangs_is_killed_and_started_again(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("deaf")) as shell:
        await shell.ask("say a")
        hung = shell.process_id
        with pytest.raises(DaemonGone, match=r'showed no prompt within 0\.2 s after "hang"'):
            await shell.ask("hang", limit_s=0.2)
        assert not is_running(hung)
        assert await shell.ask("say b") == "b\n"
        assert shell.process_id != hung


async def test_what_a_killed_program_has_started_is_gone_too(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("deaf")) as shell:
        child = int(await shell.ask("child"))
        with pytest.raises(DaemonGone):
            await shell.ask("hang", limit_s=0.1)
        deadline = time.monotonic() + 5
        while is_running(child) and _state(child) != "Z" and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert not is_running(child) or _state(child) == "Z"


def _state(process_id: int) -> str:
    return Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(") ")[2][:1]


async def test_a_program_that_dies_in_the_middle_is_started_again(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("")) as shell:
        with pytest.raises(DaemonGone, match="ended: half an ans"):
            await shell.ask_all(["say a", "die", "say b"])
        assert await shell.ask("say b") == "b\n"


async def test_a_program_that_died_between_two_questions_is_started_again_unnoticed(
    program: Callable[[str], list[str]],
) -> None:
    async with terminal(program("")) as shell:
        await shell.ask("say a")
        assert shell.process_id is not None
        os.kill(shell.process_id, 9)
        await asyncio.sleep(0.05)
        assert await shell.ask("say b") == "b\n"


async def test_a_program_that_will_not_start_is_quoted(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("refuses")) as shell:
        with pytest.raises(DaemonGone, match=r"ended: Exiting: failed to connect to any daemons\."):
            await shell.ask("say a")


async def test_a_program_without_a_prompt_is_given_up(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("silent"), limit_s=0.2) as shell:
        with pytest.raises(DaemonGone, match=r"showed no prompt within 0\.2 s after start"):
            await shell.ask("say a")
        assert shell.process_id is None


async def test_a_program_that_is_not_there_is_named() -> None:
    async with terminal(["no-such-program-anywhere"]) as shell:
        with pytest.raises(DaemonGone, match="no-such-program-anywhere"):
            await shell.ask("say a")


@pytest.mark.parametrize("line", ["flood", "trickle"])
async def test_an_endless_answer_is_cut_off(program: Callable[[str], list[str]], line: str) -> None:
    async with terminal(program("deaf"), limit_s=0.5, largest_bytes=1 << 20) as shell:
        with pytest.raises(DaemonGone, match=r"answered more than 1048576 bytes|still answering after 0\.5 s"):
            await shell.ask(line)
        assert await shell.ask("say b") == "b\n"


async def test_an_abandoned_question_leaves_no_process_out_of_step(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("deaf")) as shell:
        await shell.ask("say a")
        left = shell.process_id
        asking = asyncio.create_task(shell.ask("hang"))
        await asyncio.sleep(0.05)
        asking.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert time.monotonic() - began < 0.1
        assert await shell.ask("say b") == "b\n"
        assert not is_running(left)


async def test_the_loop_goes_on_whatever_the_program_does(program: Callable[[str], list[str]]) -> None:
    late: list[float] = []

    async def beat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            late.append(time.monotonic() - began - 0.005)

    beating = asyncio.create_task(beat())
    async with terminal(program("deaf")) as shell:
        await shell.ask("lines 50000")
        with pytest.raises(DaemonGone):
            await shell.ask("hang", limit_s=0.2)
    beating.cancel()
    assert max(late) < 0.1


async def test_closing_ends_the_process_and_may_be_repeated(program: Callable[[str], list[str]]) -> None:
    async with terminal(program("deaf")) as shell:
        await shell.ask("say a")
        process_id = shell.process_id
        await shell.close()
        await shell.close()
        assert not is_running(process_id)
        assert await shell.ask("say b") == "b\n"


@pytest.mark.parametrize("line", ["say a\nsay b", "say \x03", "say " + "x" * 5000])
async def test_what_cannot_be_typed_as_a_line_is_not_typed(program: Callable[[str], list[str]], line: str) -> None:
    async with terminal(program("")) as shell:
        with pytest.raises(ValueError, match="cannot be typed"):
            await shell.ask(line)
