"""Finding a daemon's program, and asking it what it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from roamroute.adapter.programs import command_line, with_path, words_of


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home" / "mined"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\necho hello; echo mined-1.2 >&2\nexit 3\n")
    path.chmod(0o755)
    monkeypatch.setenv("HOME", str(path.parent))
    return path


def test_a_program_is_found_in_path_and_in_the_home(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    assert with_path("mined") == str(program)
    assert with_path("~/mined") == str(program)
    assert with_path("nothing-of-this-name") == "nothing-of-this-name"


def test_a_daemon_is_found_where_users_do_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert with_path("ldconfig") in ("/usr/sbin/ldconfig", "/sbin/ldconfig")


def test_a_command_line_is_taken_apart_as_the_shell_does(program: Path) -> None:
    assert command_line(f"{program} -A '6 5'") == (str(program), "-A", "6 5")
    assert command_line("") == ("",)


def test_both_outputs_count_and_the_exit_code_does_not(program: Path) -> None:
    assert words_of([str(program)]) == "mined-1.2\nhello\n"


@pytest.mark.parametrize(
    "command",
    [["/nonexistent/mined"], [""], [sys.executable, "-c", "import time; time.sleep(60)"], ["a\0b"]],
    ids=["absent", "empty", "hanging", "nonsense"],
)
def test_what_cannot_be_run_says_nothing(command: list[str]) -> None:
    assert words_of(command, limit_s=0.2) is None
