"""Which BIRD it is, and what is wrong with it. docs/bird-facts.md has the measurements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import total_ordering

import attrs

from roamroute.adapter.programs import command_line, words_of


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


def installed_version(command: Sequence[str] | None = None) -> Version | None:
    """Ask the program (default: bird); None where it is not here. Blocks for as long as it takes to start."""
    words = words_of([*(command or command_line("bird")), "--version"])
    found = re.search(r"BIRD version (\S+)", words or "")
    return Version(found[1]) if found else None
