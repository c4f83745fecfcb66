"""A conversation with FRR: vtysh kept open on a terminal, or one vtysh for each question where there is no terminal.

What vtysh shows is the daemons' own text (FRR 8.4.4 and 10.3): a refusal begins with `%`; a daemon that is not there is
`NAME is not running`; before an answer there may be warnings that a connection broke or was made again, which is how a
kept-open vtysh tells that a daemon was restarted. It starts also while a daemon hangs, but shows no prompt then.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from roamroute.adapter.terminal import Terminal
from roamroute.errors import DaemonGone, DaemonRefused, MalformedInput
from roamroute.values import Seconds

PROMPT = r"(?P<name>[^\r\n]+?)(?:\([^()\s]*\))?[#>] "
"""`ap1# `, `ap1(config)# `, `ap1(config-router)# `, `ap1> `; FRR lets a host's name hold anything."""
LIMIT_S: Seconds = 5.0
"""For an answer. A table of 5,000 routes takes 0.43 s (8.4.4)."""
START_LIMIT_S: Seconds = 10.0
WITHOUT_TERMINAL_S: Seconds = 2.0
"""For the attempt to do without a terminal: a vtysh that hangs does so in either way."""
KILL_LIMIT_S: Seconds = 1.0
LARGEST_BYTES = 32 << 20
_WARNING = re.compile(r"(?:vtysh: error reading from \w+:[^\n]*?\(\d+\))?Warning: (?:connecting|closing) [^\n]*\n?")
_FAILED = re.compile(r"Warning: connecting to (\w+)\.\.\.failed!")
_ABSENT = re.compile(r"\w+ is not running")
_ENVIRONMENT = {"VTYSH_PAGER": "cat", "VTYSH_HISTFILE": "/dev/null"}
"""Our thousands of lines are nothing for an operator's history."""


class FrrRefused(DaemonRefused):
    """FRR said no. `words` are FRR's own."""

    def __init__(self, line: str, words: str) -> None:
        super().__init__(f'FRR refused "{line}": {words}')
        self.words = words


class Shell(Protocol):
    """What is asked of a `Vtysh`."""

    @property
    def is_kept_open(self) -> bool: ...

    @property
    def breaks(self) -> int: ...

    @property
    def no_terminal(self) -> str: ...

    async def ask(self, line: str, *, limit_s: Seconds = LIMIT_S) -> str: ...

    async def json(self, line: str, *, limit_s: Seconds = LIMIT_S) -> Any: ...

    async def type_all(self, lines: Sequence[str], *, limit_s: Seconds = LIMIT_S) -> list[str]: ...

    async def close(self) -> None: ...


class Vtysh:
    """Questions to FRR. `daemon`: speak to this one only; what the others do does not matter then."""

    def __init__(self, command: Sequence[str], daemon: str = "") -> None:
        self._command = [*command, *(["-d", daemon] if daemon else [])]
        self._terminal: Terminal | None = self._new_terminal()
        self._has_come_up = False
        self._breaks = 0
        self._no_terminal = ""

    def _new_terminal(self) -> Terminal:
        return Terminal(
            self._command,
            prompt=PROMPT,
            limit_s=START_LIMIT_S,
            environment=_ENVIRONMENT,
            first=("terminal length 0",),
            largest_bytes=LARGEST_BYTES,
        )

    @property
    def is_kept_open(self) -> bool:
        """False: no terminal can be had, every question starts a vtysh."""
        return self._terminal is not None

    @property
    def no_terminal(self) -> str:
        """Why there is no terminal at the moment; empty when there is."""
        return self._no_terminal

    @property
    def breaks(self) -> int:
        """How often vtysh has lost a daemon so far."""
        return self._breaks

    async def ask(self, line: str, *, limit_s: Seconds = LIMIT_S) -> str:
        """The answer to one line.

        Raises: FrrRefused, with FRR's words; DaemonGone.
        """
        (text,) = await self._type((line,), limit_s)
        if words := refusal(text):
            raise FrrRefused(line, words)
        return text

    async def json(self, line: str, *, limit_s: Seconds = LIMIT_S) -> Any:
        """The answer to a line that ends in `json`, as Python has it.

        Raises: FrrRefused; DaemonGone; MalformedInput.
        """
        return parse_json(await self.ask(line, limit_s=limit_s))

    async def type_all(self, lines: Sequence[str], *, limit_s: Seconds = LIMIT_S) -> list[str]:
        """Type lines one after the other whatever is answered; refusals are among the answers.

        Without a terminal they are typed until FRR refuses one, and there is one answer.

        Raises: DaemonGone.
        """
        return await self._type(tuple(lines), limit_s)

    async def close(self) -> None:
        """End the process; the next question starts another."""
        if self._terminal is not None:
            await self._terminal.close()

    async def _type(self, lines: tuple[str, ...], limit_s: Seconds) -> list[str]:
        if self._terminal is None:
            return [self._clean(await self._run(lines, limit_s))]
        try:
            answers = await self._terminal.ask_all(lines, limit_s=limit_s)
        except DaemonGone as error:
            if self._has_come_up or not await self._answers_without_a_terminal():
                raise
            await self._terminal.close()
            self._terminal = None
            self._no_terminal = str(error)
            return [self._clean(await self._run(lines, limit_s))]
        self._has_come_up = True
        return [self._clean(answer) for answer in answers]

    async def _run(self, lines: tuple[str, ...], limit_s: Seconds) -> str:
        try:
            return await run(self._command, lines, limit_s)
        except DaemonGone:
            # FRR is not what it was: the next conversation tries a terminal again.
            self._terminal = self._new_terminal()
            self._no_terminal = ""
            raise

    async def _answers_without_a_terminal(self) -> bool:
        try:
            await run(self._command, ("show version",), WITHOUT_TERMINAL_S)
        except DaemonGone:
            return False
        return True

    def _clean(self, text: str) -> str:
        if "Warning: " not in text:
            return text
        self._breaks += text.count("closing connection to ")
        return without_warnings(text)


async def run(command: Sequence[str], lines: Sequence[str], limit_s: Seconds) -> str:
    """What one vtysh shows for some lines; it stops at the first that FRR refuses.

    Raises: DaemonGone when it cannot be started, says that there is no daemon, or does not end within the limit.
    """
    arguments = [*command, *(word for line in lines for word in ("-c", line))]
    named = f'"{" ".join(command)} -c …"'
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise DaemonGone(f"{named} cannot be started: {error}") from error
    assert process.stdout is not None
    data = bytearray()
    try:
        async with asyncio.timeout(limit_s * max(1, len(lines))):
            while chunk := await process.stdout.read(65536):
                data += chunk
                if len(data) > LARGEST_BYTES:
                    raise DaemonGone(f"{named} answered more than {LARGEST_BYTES} bytes")
            await process.wait()
    except TimeoutError:
        raise DaemonGone(f"{named} has not ended within {limit_s:g} s") from None
    finally:
        if process.returncode is None:
            # It leads a session of its own; what it has started goes with it, or would hold our end of the pipe.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(TimeoutError):
                async with asyncio.timeout(KILL_LIMIT_S):
                    await process.wait()
    text = data.decode("utf-8", "replace")
    if process.returncode != 0 and not refusal(without_warnings(text)):
        said = " / ".join(text.split("\n")).strip(" /")[-300:]
        raise DaemonGone(f"{named} ended with {process.returncode}: {said or 'and said nothing'}")
    return text


def without_warnings(text: str) -> str:
    """The answer behind vtysh's own warnings; where there is none, that the daemon is not there."""
    rest = _WARNING.sub("", text)
    if not rest.strip() and (lost := _FAILED.search(text)):
        return f"{lost.group(1)} is not running\n"
    return rest


def refusal(text: str) -> str:
    """FRR's words when it says no, in one line; empty when it does not."""
    for position, line in enumerate(lines := text.splitlines()):
        if line.startswith("%"):
            return " / ".join(part.strip() for part in lines[position : position + 6] if part.strip()).lstrip("% ")
        if _ABSENT.fullmatch(line.strip()):
            return line.strip()
    return ""


def parse_json(text: str) -> Any:
    """An answer in JSON. Raises: MalformedInput."""
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise MalformedInput(f"FRR's answer is no JSON ({error}): {text[:100]!r}") from None
