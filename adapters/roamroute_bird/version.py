"""Which BIRD it is, and what is wrong with it. docs/bird-facts.md has the measurements."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import total_ordering

import attrs

_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"


@total_ordering
@attrs.frozen(order=False)
class Version:
    """`text` is as BIRD says it: "2.0.12", "3.1.7"."""

    text: str

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.text.partition("-")[0])[:3])

    def __lt__(self, other: Version) -> bool:
        return self.numbers < other.numbers

    @property
    def is_supported(self) -> bool:
        """Before 2.0 the configuration and the socket's answers are others."""
        return self >= OLDEST

    @property
    def forgets_kernel_routes(self) -> bool:
        """Does it, after a kernel scan, take a changed route for installed that is not, until the next scan?

        3.1.7, and by its source (krt_rt_notify, seen_map) every version from 3.0.0 to 3.3.2.
        """
        return self.numbers >= (3,)

    @property
    def sends_late(self) -> bool:
        """Does it leave what a timer has queued until it next wakes up (sysdep/unix/io.c before 2.14)?"""
        return self.numbers < (2, 14)


OLDEST = Version("2.0.8")
NEWEST_TRIED = Version("3.1.7")


def program_with_path(program: str) -> str:
    """The program's path where it can be found; daemons lie outside an ordinary user's PATH."""
    return shutil.which(program) or shutil.which(program, path=_SBIN) or program


def installed_version(command: Sequence[str] = ("bird",)) -> Version | None:
    """Ask the program; None where it is not here. BIRD prints its version on stderr."""
    program, *arguments = command
    try:
        done = subprocess.run(
            [program_with_path(program), *arguments, "--version"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"BIRD version (\S+)", done.stderr + done.stdout)
    return Version(found[1]) if found else None
