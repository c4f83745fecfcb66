"""How tests are shared out when several processes run them."""

from __future__ import annotations

import fcntl
import threading
import time
from pathlib import Path
from typing import cast

import attrs
import pytest
from workers import Machine, has_generations, mesh_of

ROAMING = "tests/integration/test_roaming.py"


@attrs.frozen
class Item:
    nodeid: str
    is_alone: bool = False

    def get_closest_marker(self, name: str) -> bool | None:
        return True if self.is_alone and name == "alone" else None


def item(nodeid: str, *, is_alone: bool = False) -> pytest.Item:
    return cast("pytest.Item", Item(nodeid, is_alone))


@pytest.mark.parametrize(
    ("test", "mesh"),
    [
        ("test_a", ROAMING),
        ("test_a[silent]", ROAMING),
        ("test_a[bird-2.0.12-silent]", f"{ROAMING} bird-2.0.12"),
        ("test_a[bird-ospf-2.17-inject-silent]", f"{ROAMING} bird-ospf-2.17"),
        ("TestA::test_a[frr-10.3]", f"{ROAMING} frr-10.3"),
        ("test_a[12-2.5]", ROAMING),
    ],
)
def test_what_shares_a_mesh_is_read_from_the_name(test: str, mesh: str) -> None:
    assert mesh_of(f"{ROAMING}::{test}") == mesh
    assert has_generations(f"{ROAMING}::{test}") == (mesh != ROAMING)


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def enter(machine: Machine, what: pytest.Item) -> threading.Thread:
    thread = threading.Thread(target=machine.enter, args=(what,), daemon=True)
    thread.start()
    return thread


def test_one_that_wants_to_be_alone_is_alone_and_nobody_overtakes_it(tmp_path: Path) -> None:
    queue, room = tmp_path / "queue", tmp_path / "room"
    queue.touch()
    room.touch()
    first, lonely, last = (Machine(queue, room) for _ in range(3))
    one, other, alone = item("file::one"), item("file::other"), item("file::alone", is_alone=True)
    first.enter(one)
    entering_alone = enter(lonely, alone)
    while not is_locked(queue):
        time.sleep(0.001)
    entering_last = enter(last, item("another::last"))
    first.leave(one, other)  # they share a mesh, which stays
    first.enter(other)
    entering_last.join(0.05)
    assert entering_alone.is_alive()
    assert entering_last.is_alive()
    first.leave(other, None)
    entering_alone.join(10)
    assert not entering_alone.is_alive()
    entering_last.join(0.05)
    assert entering_last.is_alive()
    lonely.leave(alone, None)
    entering_last.join(10)
    assert not entering_last.is_alive()
