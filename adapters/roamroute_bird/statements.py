"""BIRD's own configuration, as far as its socket does not tell what decides over our routes: the kernel protocols.

Read from how the BIRD that listens on the socket was started (its process and `-c` file), with what it includes. Later
edits that the running BIRD has not read are seen all the same. Nothing here understands BIRD's language: comments go,
braces are matched, and inside a `protocol kernel` a few statements are recognised.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

DEFAULT_FILES = ("/etc/bird/bird.conf", "/etc/bird.conf")
_FILE_LIMIT_BYTES = 1 << 22
_INCLUDE_DEPTH = 8
_COMMENT_OR_STRING = re.compile(r'"[^"\n]*"|/\*.*?\*/|#[^\n]*', re.DOTALL)
_INCLUDE = re.compile(r'\binclude\s+"([^"]+)"\s*;')
_KERNEL = re.compile(r"\bprotocol\s+kernel\b\s*('?[\w.:-]*'?)[^{;]*\{")
_NAME = re.compile(r"[\w.:-]+")


@attrs.frozen
class KernelStatement:
    """One `protocol kernel`. `name` is "" where BIRD makes it up; `family` 6 or 4; the rest has BIRD's defaults."""

    name: str
    family: int
    learns: bool = False
    table: int = 254
    metric: int = 32
    scan_time_s: int = 60


@attrs.frozen
class Statements:
    """What was found. `place` is the file; `includes` all files that it names, there or not."""

    place: str
    kernels: tuple[KernelStatement, ...]
    includes: tuple[str, ...] = ()

    def kernel_named(self, name: str, family: int) -> KernelStatement | None:
        """The statement of a running protocol; one without a name only where it is the only one of its family."""
        of_family = [statement for statement in self.kernels if statement.family == family]
        for statement in of_family:
            if statement.name == name:
                return statement
        return of_family[0] if len(of_family) == 1 and not of_family[0].name else None


def statements_of(socket_path: str) -> Statements | str:
    """The configuration of the BIRD that listens on this socket; a text says why it cannot be seen."""
    process = _process_behind(socket_path)
    if process is None:
        return f"no process can be seen behind {socket_path}"
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        root = Path(f"/proc/{process}/cwd").resolve()
    except OSError as error:
        return f"BIRD's process {process} cannot be seen: {error.strerror}"
    file = _file_of([os.fsdecode(word) for word in words])
    if file is None:
        return "BIRD was not started with -c, and there is no file in the usual places"
    return read_statements(root / file)


def read_statements(file: Path) -> Statements | str:
    """Read a configuration and what it includes; a text says why that failed."""
    includes: list[str] = []
    try:
        text = _with_includes(file, includes, _INCLUDE_DEPTH)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return Statements(str(file), tuple(_kernels(text)), tuple(includes))


def _process_behind(path: str) -> int | None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        connection.connect(path)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        process, _, _ = struct.unpack("3i", credentials)
        return int(process) or None
    return None


def _file_of(words: Sequence[str]) -> str | None:
    """The `-c` among a process's arguments: `-c FILE` or `-cFILE`."""
    for position, word in enumerate(words):
        if word == "-c" and position + 1 < len(words):
            return words[position + 1]
        if word.startswith("-c") and len(word) > 2:
            return word[2:]
    return next((file for file in DEFAULT_FILES if os.path.exists(file)), None)


def _with_includes(file: Path, includes: list[str], depth: int) -> str:
    with file.open(encoding="utf-8", errors="replace") as stream:
        text = _COMMENT_OR_STRING.sub(_without_comment, stream.read(_FILE_LIMIT_BYTES))

    def included(match: re.Match[str]) -> str:
        pattern = str(file.parent / match[1])
        includes.append(pattern)
        if depth == 0:
            return ""
        with contextlib.suppress(OSError):
            return "".join(_with_includes(Path(found), includes, depth - 1) for found in sorted(glob.glob(pattern)))
        return ""

    return _INCLUDE.sub(included, text)


def _without_comment(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else " "


def _kernels(text: str) -> Iterator[KernelStatement]:
    for match in _KERNEL.finditer(text):
        body = _body(text, match.end())
        name = match[1].strip("'")
        outside = re.sub(r"\{[^{}]*\}", " ", re.sub(r"\{[^{}]*\}", " ", body))
        for family in (6, 4):
            if re.search(rf"\bipv{family}\b", outside):
                yield KernelStatement(
                    name=name if _NAME.fullmatch(name) else "",
                    family=family,
                    learns=_is_on(outside),
                    table=_number(r"kernel\s+table", outside, 254),
                    metric=_number(r"metric", outside, 32),
                    scan_time_s=_number(r"scan\s+time", outside, 60),
                )


def _body(text: str, start: int) -> str:
    """What stands between the brace before `start` and its partner."""
    depth = 1
    for match in re.compile(r'"[^"\n]*"|[{}]').finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return text[start : match.start()]
    return text[start:]


def _is_on(text: str) -> bool:
    found = re.findall(r"\blearn\b\s*(\w*)\s*;", text)
    return bool(found) and found[-1].lower() not in ("off", "no")


def _number(words: str, text: str, default: int) -> int:
    """The number behind these words; a constant that the operator has defined cannot be read, the default stands."""
    found = re.findall(rf"\b{words}\s+(\d{{1,9}})\b", text)
    return int(found[-1]) if found else default
