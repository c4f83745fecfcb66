"""Partners that hang or never answer, in the middle of a roam: roamroute goes on, says so, and catches up.

What an adapter makes of its daemon's troubles is tested with the adapter; here the whole of roamroute is asked, while a
client roams. One world for each routing daemon and mode.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from generations import BIRD, FRR

from roamroute.lab.radio import Client
from roamroute.lab.roaming import toml_text
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

from .world import LIMIT_S, MARKS, Flavour, World, all_addresses, make_world, parameters, tables_of

FLAVOURS = (
    Flavour("bird-babel", BIRD[0]),
    Flavour("bird-ibgp", BIRD[2], "inject"),
    Flavour("frr-ospf", FRR[0]),
    Flavour("frr-ibgp", FRR[1], "inject"),
)
VICTIMS = {
    "bird-babel": ("bird",),
    "bird-ibgp": ("bird",),
    "frr-ospf": ("zebra", "ospf6d"),
    "frr-ibgp": ("zebra", "bgpd", "staticd"),
}
"""The daemons without which no host route is exported."""
STATUS_LIMIT_S = 1.0
"""The loop is free: the answer takes milliseconds, and the machine may be busy."""

pytestmark = MARKS


@pytest.fixture(scope="module", params=parameters(FLAVOURS))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with make_world(request.param) as new:
        yield new


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client at the first access point, known to everybody."""
    with world.new_client() as new:
        world.join(new, world.access_points[0])
        yield new


def test_a_stopped_routing_daemon_holds_nothing_up_and_is_caught_up_with(world: World, client: Client) -> None:
    first, _, third = world.access_points
    for name in VICTIMS[world.flavour.routing]:
        with _stopped(_process(world, third, name)):
            client.roam(third)
            _answers_until(world, third, lambda: bool(world.problems(third)), f"it is told that {name} hangs")
        world.wait_exported(third, *all_addresses(client))
        world.wait_at(third, *all_addresses(client))
        world.wait_reached(*all_addresses(client))
        wait_until(lambda: not world.problems(third), "the trouble is over", LIMIT_S)
        client.roam(first)
        world.wait_at(first, *all_addresses(client))


def test_a_stopped_command_line_is_replaced(world: World, client: Client) -> None:
    third = world.access_points[2]
    with _other_settings(world, third, _by_command_line(world, third)):
        wait_until(lambda: world.status(third)["exporter"]["is_connected"], "it is connected", LIMIT_S)
        process = world.daemons[third.name].process
        assert process is not None
        children = _children(process.pid)
        assert children, "no command line is kept open"
        with contextlib.ExitStack() as stopped:
            for child in children:
                stopped.enter_context(_stopped(child))
            client.roam(third)
            _answers_until(world, third, lambda: world.is_exported(third, *all_addresses(client)), "all is exported")
        world.wait_at(third, *all_addresses(client))
        world.wait_reached(*all_addresses(client))


def test_a_partner_that_never_answers_holds_nothing_up(world: World, client: Client, tmp_path: Path) -> None:
    third = world.access_points[2]
    with _silent_socket(tmp_path / "silent") as silent:
        settings = dict(world.laboratory.routing.exporter_settings(third))
        settings |= {"command": ["sleep", "1000"]} if world.flavour.generation.daemon == "frr" else {"socket": silent}
        with _other_settings(world, third, settings):
            client.roam(third)
            _answers_until(world, third, lambda: bool(world.problems(third)), "the trouble is told")
            _answers_until(world, third, lambda: world.is_wanted(third, *all_addresses(client)), "the client is here")
            if world.flavour.mode == "kernel":  # the daemon learns the route without being asked
                world.wait_at(third, *all_addresses(client))
    world.wait_at(third, *all_addresses(client))
    world.wait_reached(*all_addresses(client))


def _process(world: World, router: Router, name: str) -> int:
    """The process of one of the router's routing daemons, by the daemon's name."""
    for process in world.laboratory.routing.processes(router):
        words = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0") if process.poll() is None else []
        if any(Path(word).name.startswith(name) for word in words):
            return process.pid
    raise LookupError(f"{name} does not run on {router.name}")


def _children(process: int) -> list[int]:
    """The processes that any thread of this one has started."""
    return [int(word) for file in Path(f"/proc/{process}/task").glob("*/children") for word in file.read_text().split()]


@contextlib.contextmanager
def _stopped(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


@contextlib.contextmanager
def _silent_socket(path: Path) -> Iterator[str]:
    """A socket that accepts, and that is all."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(64)
        yield str(path)


@contextlib.contextmanager
def _other_settings(world: World, access_point: Router, settings: Mapping[str, Any]) -> Iterator[None]:
    """Run roamroute on the access point with another `[exporters.…]` table for the length of the block."""
    daemon = world.daemons[access_point.name]
    before = daemon.configuration.read_text()
    daemon.kill()
    daemon.configuration.write_text(toml_text(tables_of(world.laboratory, access_point, settings)))
    daemon.start()
    daemon.wait_ready()
    world.wait_peers(access_point)
    try:
        yield
    finally:
        daemon.kill()
        daemon.configuration.write_text(before)
        daemon.start()
        daemon.wait_ready()
        world.wait_peers(access_point)


def _by_command_line(world: World, access_point: Router) -> Mapping[str, Any]:
    settings = dict(world.laboratory.routing.exporter_settings(access_point))
    if world.flavour.generation.daemon == "bird":
        settings["command"] = [world.flavour.generation.terminal, "-s", settings.pop("socket")]
    return settings


def _answers_until(world: World, access_point: Router, condition: Callable[[], bool], what: str) -> None:
    """Wait for the condition, and see that status answers all the time."""
    slowest = 0.0

    def is_reached() -> bool:
        nonlocal slowest
        begun = time.monotonic()
        world.status(access_point)
        slowest = max(slowest, time.monotonic() - begun)
        return condition()

    wait_until(is_reached, what, LIMIT_S, poll_s=0.05)
    assert slowest < STATUS_LIMIT_S
