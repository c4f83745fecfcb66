"""Tests in several processes (pytest -n): which tests stay together, and which have the machine to themselves.

Most of the time the integration tests wait for daemons, so that more processes than processors are worth it. They do
not disturb each other, because each works in network namespaces of its own; what namespaces do not divide (the
neighbour table's limits, what a dead lab left behind) is for tests marked `alone`.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

TESTS = Path(__file__).resolve().parent
_GENERATION = re.compile(r"\[([a-z-]*-\d+(\.\d+)*)")


def mesh_of(nodeid: str) -> str:
    """Name what a test shares with others: its file, and the generation of a routing daemon its parameters begin with.

    "integration/test_roaming.py::test_a[bird-ospf-2.17-silent]" -> "integration/test_roaming.py bird-ospf-2.17"
    """
    file, _, test = nodeid.partition("::")
    found = _GENERATION.search(test)
    return f"{file} {found[1]}" if found else file


def has_generations(nodeid: str) -> bool:
    """Whether a test is one of those that run with each generation of a routing daemon; they take longest."""
    return _GENERATION.search(nodeid) is not None


def scheduler_by_mesh(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Give tests that share a mesh to one process, one after the other, and otherwise keep the order."""
    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = mesh_of
    return scheduler


class Machine:
    """The whole machine, which a test in namespaces shares with others and a test marked `alone` has to itself.

    Two files serve as locks, which the kernel takes back however a process ends. In the room are either any number that
    share it, or one alone; who wants to enter waits in the queue, so that one is not kept out by others for ever.
    """

    def __init__(self, queue: Path = TESTS / "conftest.py", room: Path = TESTS / "workers.py") -> None:
        self._queue = os.open(queue, os.O_RDONLY)
        self._room = os.open(room, os.O_RDONLY)
        self._is_held: Literal["", "shared", "alone"] = ""

    def enter(self, item: pytest.Item) -> None:
        """Wait until the test may run."""
        wanted: Literal["shared", "alone"] = "alone" if item.get_closest_marker("alone") else "shared"
        if wanted == self._is_held:
            return
        self._release()
        fcntl.flock(self._queue, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if wanted == "alone" else fcntl.LOCK_SH)
        fcntl.flock(self._queue, fcntl.LOCK_UN)
        self._is_held = wanted

    def leave(self, item: pytest.Item, following: pytest.Item | None) -> None:
        """Make room, unless what the test shares with the following one stays."""
        if self._is_held == "alone" or following is None or mesh_of(following.nodeid) != mesh_of(item.nodeid):
            self._release()

    def _release(self) -> None:
        fcntl.flock(self._room, fcntl.LOCK_UN)
        self._is_held = ""
