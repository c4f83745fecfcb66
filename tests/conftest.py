"""What all tests share: their order, their markers, and what a test that cannot run says about it."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest
from generations import SEARCH_PATH, reason_without_debian13
from sleeping_stations import table_limits
from workers import Machine, has_generations, scheduler_by_mesh

# No deadline: how long an example takes says more about the neighbours on this machine than about the code.
# On CI the examples are the same in every run, so that a red run is the fault of the change; elsewhere they vary.
hypothesis.settings.register_profile("roamroute", deadline=None, print_blob=True)
hypothesis.settings.register_profile("roamroute-ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("roamroute-ci" if os.environ.get("CI") else "roamroute")

TESTS = Path(__file__).resolve().parent
ORDER = ("unit", "property", "contract", "typing", "integration")  # quick before slow: the first failure is cheap
IN_NAMESPACES = ("contract", "integration")
MACHINE = Machine()
NEIGHBOURS = (4096, 8192, 16384)
"""gc_thresh1 to 3 while the tests run. The kernel's own (128, 512, 1024) count for all namespaces together: some
meshes at once, one of them with hundreds of clients, throw out each other's neighbours."""


def folder_of(item: pytest.Item) -> str:
    """Name the folder below tests/ that a test lives in."""
    return item.path.relative_to(TESTS).parts[0]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test the source tree where the built wheel was asked for."""
    if os.environ.get("ROAMROUTE_TEST_WHEEL"):
        import roamroute

        where = Path(roamroute.__file__ or "").resolve()
        if not where.is_relative_to(Path(sys.prefix).resolve()):
            raise pytest.UsageError(f"the wheel is to be tested, but roamroute was imported from {where}")
    # A shell starts what it runs in the background without SIGINT, and every child would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Make room for the neighbours of all tests; leave the machine as it was. Of several processes the first does."""
    has_limits = Path("/proc/sys/net/ipv6/neigh/default/gc_thresh3").exists()
    if not hasattr(session.config, "workerinput") and os.geteuid() == 0 and has_limits:
        room = contextlib.ExitStack()
        session.config.add_cleanup(room.close)
        with contextlib.suppress(PermissionError):  # in a container; what needs the room says so
            room.enter_context(table_limits(*NEIGHBOURS))


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is under test."""
    import roamroute

    folder = Path(roamroute.__file__ or "").parent
    return f"roamroute {roamroute.__version__} from {folder}, kernel {platform.release()}, {os.cpu_count()} processors"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its folder; run those that must be alone first, then quick folders before slow ones.

    Within a folder the longest come first: short ones then fill up what is left to several processes at the end.
    """
    rank = {folder: position for position, folder in enumerate(ORDER)}
    items.sort(
        key=lambda item: (
            item.get_closest_marker("alone") is None,
            rank.get(folder_of(item), len(ORDER)),
            not has_generations(item.nodeid),
        )
    )
    for item in items:
        if folder_of(item) in rank:
            item.add_marker(folder_of(item))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Let several processes (pytest -n) share the tests."""
    return scheduler_by_mesh(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Wait for the machine before a test's time limit begins to run."""
    if folder_of(item) not in IN_NAMESPACES:
        return (yield)
    MACHINE.enter(item)
    try:
        return (yield)
    finally:
        MACHINE.leave(item, nextitem)


def reason_not_to_run(item: pytest.Item) -> str | None:
    """Tell what this machine lacks for the test, or None when it lacks nothing."""
    if item.get_closest_marker("requires_root") and os.geteuid() != 0:
        return "needs root: it makes network namespaces"
    for marker in item.iter_markers("requires_programs"):
        missing = [name for name in marker.args if shutil.which(name, path=SEARCH_PATH) is None]
        if missing:
            return f"needs {', '.join(missing)}: tools/debian-packages installs it"
    for marker in item.iter_markers("requires_debian13"):
        for name in marker.args:
            if reason := reason_without_debian13(name):
                return f"needs Debian 13's {name}: {reason}"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here, and say why."""
    if reason := reason_not_to_run(item):
        pytest.skip(reason)
