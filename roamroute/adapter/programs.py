"""A routing daemon's programs on this machine: where they are, and what they say of themselves."""

from __future__ import annotations

import os.path
import shlex
import shutil
import subprocess
from collections.abc import Sequence

from roamroute.values import Seconds

_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"
"""Daemons lie outside an ordinary user's PATH."""


def with_path(program: str) -> str:
    """The program's path where it can be found, else as it was given. "~" at its beginning is the home."""
    program = os.path.expanduser(program)
    return shutil.which(program) or shutil.which(program, path=_SBIN) or program


def command_line(text: str) -> tuple[str, ...]:
    """A program's name, path or command line in parts, the program with its path where it can be found."""
    program, *arguments = shlex.split(text) or [""]
    return (with_path(program), *arguments)


def words_of(command: Sequence[str], limit_s: Seconds = 5.0) -> str | None:
    """What a program prints, on whichever of its outputs, such as its version; None where it cannot be run.

    Blocks: for `roamroute config`, `check` (in a thread) and the lab.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit_s, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stderr + done.stdout
