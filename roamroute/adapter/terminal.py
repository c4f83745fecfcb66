"""An interactive command line that is kept open: pexpect types a line, and reads until the prompt has come back.

For daemons whose only way in is a program made for people (vtysh), or whose socket is out of reach (birdc by sudo). It
knows no daemon: what an answer means is its caller's.

Everything happens in one worker thread, since starting, writing and reaping block; the loop only waits for it. Measured
against pexpect's own asyncio support: 0.4 ms instead of 0.13 ms for a question, the same 60 ms for an answer of 3 MB,
neither delays the loop by more than 1 ms; but there pexpect ends a process inside the loop, in steps of 0.1 s, and
gathers an endless answer without bound.

The terminal has no echo (readline honours that) and no width that a line could reach, so there is nothing to undo but
escape sequences. An answer is over when the output ends in the prompt. The name in the prompt (vtysh has the host's) is
learnt from the first one; when output ends in a prompt with another name, a short silence must confirm it.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from roamroute.errors import DaemonGone
from roamroute.values import Seconds

if TYPE_CHECKING:
    import pexpect

LIMIT_S: Seconds = 5.0
LARGEST_ANSWER_BYTES = 32 << 20
"""A table of 50,000 routes in FRR 8's JSON has 20 MB; more than this is no answer."""
LONGEST_LINE_BYTES = 4000
"""The kernel's terminal takes 4095 bytes before somebody must read (Linux n_tty.c); longer lines would block."""
_ROWS, _COLUMNS = 60_000, 30_000
"""Both fit into the 16 bits of a window size with room to spare; birdc pages by rows, readline wraps by columns."""
_SLICE_S: Seconds = 0.05
"""How soon the worker notices that nobody waits for the answer any more."""
_QUIET_S: Seconds = 0.05
_PROMPT_BYTES = 512
_LAST_WORDS = 300

_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()*+].|[ -/]*[0-~])")
_MORE = re.compile(rb"\r?--\s?more\s?--(?: *\r *\r)?", re.IGNORECASE)


class Terminal:
    """One program, started at the first question, and again when it is gone.

    `prompt`: a regular expression for what stands at the start of a line when the program waits, without anchors; a
    group called `name` is the part to be learnt. `environment` is added to ours. `first` are lines to be sent to each
    new process; what is answered there does not matter. `follow`: a line typed after each of ours, for programs that
    show no prompt after an answer; `prompt` is then what this line brings. `limit_s` is for one answer, and for the
    start.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        prompt: str,
        limit_s: Seconds = LIMIT_S,
        environment: Mapping[str, str] | None = None,
        first: Sequence[str] = (),
        follow: str = "",
        largest_bytes: int = LARGEST_ANSWER_BYTES,
    ) -> None:
        self._command = list(command)
        self._prompt = re.compile(rb"(?:\A|(?<=\n)|(?<=\r))" + prompt.encode() + rb"\Z")
        self._limit_s = limit_s
        self._environment = {"TERM": "dumb", "PAGER": "cat", "LC_ALL": "C", **(environment or {})}
        self._first = tuple(first)
        self._follow = f"{follow}\n".encode() if follow else b""
        self._largest_bytes = largest_bytes
        self._worker: ThreadPoolExecutor | None = None
        self._process: pexpect.spawn[bytes] | None = None
        self._name: bytes | None = None
        self._turn = threading.Lock()
        """A question during `close` may have a worker of its own."""

    @property
    def process_id(self) -> int | None:
        """The number of the running process; None before the first question, and after a process was given up."""
        process = self._process
        return process.pid if process is not None else None

    async def ask(self, line: str, *, limit_s: Seconds | None = None) -> str:
        """Type one line; the answer, without echo, escapes and prompt, lines ended by "\\n".

        Questions are answered one after the other, in their order. Cancellation ends the process, which would no longer
        be in step.

        Raises: DaemonGone when the program cannot be started, has ended, or does not show its prompt within `limit_s`
        (then it is killed). The next question starts it anew. ValueError for a line that is none.
        """
        return (await self.ask_all((line,), limit_s=limit_s))[0]

    async def ask_all(self, lines: Sequence[str], *, limit_s: Seconds | None = None) -> list[str]:
        """Type lines, each when the one before has been answered; `limit_s` is for each of them. Otherwise as `ask`."""
        for line in lines:
            if len(line.encode()) > LONGEST_LINE_BYTES or not line.isprintable():
                raise ValueError(f"cannot be typed as one line: {line[:80]!r}")
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix=self._command[0])
        abandoned = threading.Event()
        limit_s = self._limit_s if limit_s is None else limit_s
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._worker, self._converse, tuple(lines), limit_s, abandoned)
        finally:
            abandoned.set()

    async def close(self) -> None:
        """End the process and reap it, in about 0.1 s; may be called again, and a question starts a new one.

        Questions that others are asking at this moment are answered first.
        """
        worker, self._worker = self._worker, None
        if worker is None:
            return
        await asyncio.get_running_loop().run_in_executor(worker, self._finish)
        worker.shutdown(wait=False)

    # in the worker's thread

    def _converse(self, lines: tuple[str, ...], limit_s: Seconds, abandoned: threading.Event) -> list[str]:
        from pexpect import EOF, ExceptionPexpect

        reading = _Reading(limit_s, self._largest_bytes, abandoned)
        with self._turn:
            try:
                process = self._running(reading)
                return [self._type(process, line, reading) for line in lines]
            except EOF:
                self._end()
                raise DaemonGone(f"{self._named} ended{reading.last_words}") from None
            except (OSError, ExceptionPexpect) as error:
                self._end()
                because = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise DaemonGone(f"{self._named} cannot be used: {because}{reading.last_words}") from error
            except BaseException:
                self._end()
                raise

    def _finish(self) -> None:
        with self._turn:
            self._end()

    def _running(self, reading: _Reading) -> pexpect.spawn[bytes]:
        """The process, at its prompt: the one that is there if it still lives."""
        from pexpect import EOF

        if self._process is not None:
            try:
                self._drain(self._process)
                return self._process
            except EOF:
                self._end()
        self._process = process = self._start()
        reading.begin("start")
        self._answer(process, reading)
        for line in self._first:
            self._type(process, line, reading)
        return process

    @property
    def _named(self) -> str:
        return f'"{" ".join(self._command)}"'

    def _start(self) -> pexpect.spawn[bytes]:
        import pexpect

        self._name = None
        process: pexpect.spawn[bytes] = pexpect.spawn(
            self._command[0],
            self._command[1:],
            env={**os.environ, **self._environment},
            dimensions=(_ROWS, _COLUMNS),
            echo=False,
            use_poll=True,  # file descriptors may be beyond the 1024 of select(2)
        )
        process.delaybeforesend = None
        return process

    def _type(self, process: pexpect.spawn[bytes], line: str, reading: _Reading) -> str:
        self._drain(process)
        reading.begin(f'"{line[:80]}"')
        process.send(line.encode() + b"\n" + self._follow)
        text = self._answer(process, reading)
        echo, newline, rest = text.partition("\n")
        return rest if newline and echo.strip() == line.strip() and line.strip() else text

    def _drain(self, process: pexpect.spawn[bytes]) -> None:
        """Forget what came since the last prompt (log lines of the daemon): it answers nothing."""
        from pexpect import TIMEOUT

        with suppress(TIMEOUT):
            for _ in range(64):
                process.read_nonblocking(65536, 0)

    def _answer(self, process: pexpect.spawn[bytes], reading: _Reading) -> str:
        from pexpect import TIMEOUT

        is_waiting_for_more = False
        while True:
            end = self._end_of_answer(reading.tail)
            try:
                reading.add(process.read_nonblocking(65536, _QUIET_S if end is not None else _SLICE_S))
            except TIMEOUT:
                if end is not None:
                    self._name = end.name
                    return reading.text(end.before)
                if reading.is_abandoned:
                    raise DaemonGone(f"{self._named} was not waited for any longer") from None
                if reading.is_late:
                    raise DaemonGone(
                        f"{self._named} showed no prompt within {reading.limit_s:g} s after {reading.what}"
                        f"{reading.last_words}"
                    ) from None
                continue
            if reading.is_too_large:
                raise DaemonGone(f"{self._named} answered more than {self._largest_bytes} bytes to {reading.what}")
            if reading.is_abandoned:
                raise DaemonGone(f"{self._named} was not waited for any longer")
            if reading.is_late:
                raise DaemonGone(f"{self._named} was still answering after {reading.limit_s:g} s to {reading.what}")
            is_at_more = _MORE.search(reading.tail[-16:]) is not None
            if is_at_more and not is_waiting_for_more:
                process.send(b" ")
            is_waiting_for_more = is_at_more
            end = self._end_of_answer(reading.tail)
            if end is not None and end.name == self._name:
                return reading.text(end.before)

    def _end_of_answer(self, tail: bytes) -> _Prompt | None:
        """The prompt that the output ends in, or None."""
        clean = _ESCAPES.sub(b"", tail)
        match = self._prompt.search(clean)
        if match is None:
            return None
        name = match.groupdict().get("name") or b""
        start = match.start()
        if self._name and name != self._name and name.endswith(self._name):
            # The answer did not end its last line.
            start += match.group().rindex(self._name)
            name = self._name
        return _Prompt(name, clean[:start])

    def _end(self) -> None:
        from pexpect import ExceptionPexpect

        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError, ExceptionPexpect):
            if process.isalive() and process.pid is not None:
                # It leads a group of its own; what it has started (a pager, what sudo runs) goes with it.
                os.killpg(process.pid, signal.SIGKILL)
        with suppress(OSError, ExceptionPexpect):
            process.close(force=True)


class _Prompt(NamedTuple):
    """`name`: empty where prompts have none. `before`: the end of the output in front of it, without escapes."""

    name: bytes
    before: bytes


class _Reading:
    """One answer as it comes, with its bounds."""

    def __init__(self, limit_s: Seconds, largest_bytes: int, abandoned: threading.Event) -> None:
        self.limit_s = limit_s
        self.what = "start"
        self.tail = b""
        self._largest_bytes = largest_bytes
        self._abandoned = abandoned
        self._data = bytearray()
        self._until = time.monotonic() + limit_s

    def begin(self, what: str) -> None:
        self.what = what
        self.tail = b""
        self._data = bytearray()
        self._until = time.monotonic() + self.limit_s

    def add(self, data: bytes) -> None:
        self._data += data
        self.tail = bytes(self._data[-_PROMPT_BYTES:])

    @property
    def is_late(self) -> bool:
        return time.monotonic() >= self._until

    @property
    def is_too_large(self) -> bool:
        return len(self._data) > self._largest_bytes

    @property
    def is_abandoned(self) -> bool:
        return self._abandoned.is_set()

    @property
    def last_words(self) -> str:
        said = " / ".join(_readable(bytes(self._data[-_LAST_WORDS:])).split("\n")).strip(" /")
        return f": {said}" if said else ""

    def text(self, tail: bytes) -> str:
        """The answer; `tail` is what its last bytes are without the prompt."""
        return _readable(bytes(self._data[:-_PROMPT_BYTES]) + tail)


def _readable(data: bytes) -> str:
    if b"\x1b" in data:
        data = _ESCAPES.sub(b"", data)
    if b"-more" in data or b"-More" in data:
        data = _MORE.sub(b"", data)
    return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "")
