"""The generations of the routing daemons that tests run: Debian 12's, as installed, and Debian 13's beside it.

The one place that knows their versions and where they are. A test takes them by `parameters`, which marks each with
what it needs; conftest.py skips it where that is missing, and says why.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roamroute"
DEBIAN_13 = CACHE / "bin"
"""Where tools/debian13-root puts the programs of Debian 13."""

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""Where programs are looked for: Debian keeps daemons in sbin, which not everybody has in PATH."""

DEBIAN_12_FRR = "/usr/lib/frr"


@attrs.frozen
class Generation:
    """One version of a routing daemon.

    `command` starts it (FRR: the folder that holds its daemons); `terminal` is its command line, "" for babeld.
    `version` is what the daemon says of itself, or the beginning of it.
    """

    daemon: str
    version: str
    command: str
    terminal: str
    mark: pytest.MarkDecorator

    @property
    def name(self) -> str:
        """For example "bird-2.0.12"."""
        return f"{self.daemon}-{self.version}"


def _installed(daemon: str, version: str, command: str, terminal: str = "") -> Generation:
    needed = [f"{command}/zebra" if daemon == "frr" else command, *filter(None, [terminal])]
    return Generation(
        daemon=daemon,
        version=version,
        command=shutil.which(command, path=SEARCH_PATH) or command,
        terminal=shutil.which(terminal, path=SEARCH_PATH) or terminal,
        mark=pytest.mark.requires_programs(*needed),
    )


def _unpacked(daemon: str, version: str, terminal: str = "") -> Generation:
    command = f"{daemon}-{version}"
    return Generation(
        daemon=daemon,
        version=version,
        command=str(DEBIAN_13 / command),
        terminal=str(DEBIAN_13 / terminal) if terminal else "",
        mark=pytest.mark.requires_debian13(*filter(None, [command, terminal])),
    )


BABELD = (_installed("babeld", "1.12.1", "babeld"), _unpacked("babeld", "1.13.1"))
BIRD = (
    _installed("bird", "2.0.12", "bird", "birdc"),
    _unpacked("bird", "2.17", "birdc-2.17"),
    _unpacked("bird", "3.1", "birdc-3.1"),
)
FRR = (_installed("frr", "8.4.4", DEBIAN_12_FRR, "vtysh"), _unpacked("frr", "10.3", "frr-10.3/vtysh"))


def parameters(generations: Sequence[Generation]) -> list[ParameterSet]:
    """For `pytest.mark.parametrize` and for the `params` of a fixture."""
    return [pytest.param(each, id=each.name, marks=each.mark) for each in generations]


def reason_without_debian13(name: str) -> str | None:
    """Tell why this machine lacks a program of Debian 13, or None when it has it.

    `name` is as tools/debian13-root has it, for example "bird-2.17"; a folder ("frr-10.3") stands for all in it.
    """
    notes = CACHE / "debian13-root.failed"
    for note in notes.read_text(encoding="utf-8").splitlines() if notes.exists() else ():
        program, _, reason = note.partition(": ")
        if program == name or program.startswith(f"{name}/"):
            return reason
    return None if (DEBIAN_13 / name).exists() else "run tools/debian13-root"
