"""roamroute.lab.namespaces: what a lab makes on the machine is gone after it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from roamroute.lab.namespaces import NETNS_DIRECTORY, SANDBOX_DIRECTORY, CommandFailed, Sandbox, remove_left_overs
from roamroute.lab.waiting import wait_until

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "nft", "nsenter", "setpriv", "sysctl")]

CHILD = """\
import time
from roamroute.lab.namespaces import Sandbox
with Sandbox() as sandbox:
    namespace = sandbox.namespace("only")
    process = namespace.start("sleep", "1000")
    print(sandbox.name, process.pid, flush=True)
    {then}
"""


def start_child(then: str) -> tuple[subprocess.Popen[str], str, int]:
    """A process with a sandbox of its own; its name, and the process id of a program in it."""
    child = subprocess.Popen([sys.executable, "-c", CHILD.format(then=then)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    name, pid = child.stdout.readline().split()
    command = Path(f"/proc/{pid}/cmdline")
    wait_until(lambda: command.read_bytes().startswith(b"sleep"), "the program runs in its namespace", 5.0)
    return child, name, int(pid)


def left_overs(name: str) -> list[str]:
    found = [path.name for path in NETNS_DIRECTORY.iterdir() if path.name.startswith(f"{name}-")]
    return found + ([name] if (SANDBOX_DIRECTORY / name).exists() else [])


def runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_leaving_a_sandbox_removes_namespaces_processes_and_files() -> None:
    with Sandbox() as sandbox:
        process = sandbox.namespace("only").start("sleep", "1000")
        assert left_overs(sandbox.name)
    assert process.poll() is not None
    assert not left_overs(sandbox.name)


def test_an_exception_removes_everything_too() -> None:
    child, name, pid = start_child("time.sleep(0.5); raise SystemExit(3)")
    assert child.wait(20) == 3
    assert not left_overs(name)
    assert not runs(pid)


def test_ctrl_c_removes_everything_too() -> None:
    child, name, pid = start_child("time.sleep(100)")
    child.send_signal(signal.SIGINT)
    child.wait(20)
    assert not left_overs(name)
    assert not runs(pid)


@pytest.mark.alone
def test_what_a_killed_lab_left_is_removed_by_the_next() -> None:
    child, name, pid = start_child("time.sleep(100)")
    child.kill()
    child.wait(20)
    wait_until(lambda: not runs(pid), "the program in its namespace died with it", 5.0)
    assert left_overs(name)
    with Sandbox():
        assert not left_overs(name)


def test_a_lab_that_runs_is_not_removed_by_another() -> None:
    with Sandbox() as sandbox:
        sandbox.namespace("only")
        assert sandbox.name not in remove_left_overs()
        assert left_overs(sandbox.name)


def test_two_labs_may_use_the_same_labels_at_the_same_time() -> None:
    with Sandbox() as one, Sandbox() as other:
        first, second = one.namespace("same"), other.namespace("same")
        first.ip("link add v0 type veth peer name v1")
        assert "v0" not in second.run("ip", "link")


def test_a_program_that_fails_says_what_and_why() -> None:
    with Sandbox() as sandbox, pytest.raises(CommandFailed, match=r"nonsense"):
        sandbox.namespace("only").ip("link set nonsense up")


def test_a_program_that_ignores_sigterm_is_killed() -> None:
    with Sandbox() as sandbox:
        process = sandbox.start(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
        time.sleep(0.2)
        started = time.monotonic()
    assert process.poll() == -signal.SIGKILL
    assert time.monotonic() - started < 10


def test_the_calling_thread_comes_back_from_a_namespace() -> None:
    home = os.readlink("/proc/thread-self/ns/net")
    with Sandbox() as sandbox:
        namespace = sandbox.namespace("only")
        with namespace.entered():
            assert os.readlink("/proc/thread-self/ns/net") != home
    assert os.readlink("/proc/thread-self/ns/net") == home
