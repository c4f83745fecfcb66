"""A mesh that is upgraded AP by AP: one access point still runs the version before the DAD proxy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roamroute.lab.namespaces import Sandbox

from .dad_clients import Cell
from .dad_world import PROGRAMS, DadWorld, world_running

EARLIER = Path(__file__).with_name("earlier_version.py")
OF_THEN = {"handover": {"hints": False, "forwarding": False}, "dad": {"enabled": False}}

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs(*PROGRAMS)]


@pytest.fixture(scope="module", params=["all", "targeted"])
def mixed(request: pytest.FixtureRequest) -> Iterator[tuple[DadWorld, list[Cell]]]:
    """Three access points; the second is not upgraded yet."""
    with Sandbox(programs=PROGRAMS) as sandbox:
        world = DadWorld(sandbox, 3, changes={"dad": {"mode": request.param}})
        cells = [world.add_cell(f"cell{number + 1}", (number, "wlan0")) for number in range(3)]
        with world_running(world, {1: ((sys.executable, str(EARLIER), "run"), OF_THEN)}):
            yield world, cells


def test_the_others_find_duplicates_past_it_and_it_is_not_disturbed(mixed: tuple[DadWorld, list[Cell]]) -> None:
    world, (first, second, third) = mixed
    owner, owner_of_then = world.owner(third), world.owner(second)
    for cell in (first, third):
        asker = world.client(cell)
        assert asker.ask(owner.address) == "duplicate"
        assert asker.ask(asker.address) == "usable"
    # Where there is no proxy nothing is found, and nothing is lost either.
    assert world.client(second).ask(owner.address) == "usable"
    assert world.client(first).ask(owner_of_then.address) == "usable"
    assert owner.state(owner.address) == "usable"
    for access_point in world.access_points:
        counters = world.status(access_point)["peers"]["counters"]
        assert (counters["malformed"], counters["forged"]) == (0, 0), access_point.name
    peers = {peer["peer"]: peer["capabilities"] for peer in world.status(world.access_points[0])["peers"]["peers"]}
    assert ["dad" in peers[str(access_point.address)] for access_point in world.access_points[1:]] == [False, True]


def test_clients_that_roam_over_it_keep_their_addresses(mixed: tuple[DadWorld, list[Cell]]) -> None:
    world, (first, second, third) = mixed
    client = world.owner(first, settings={"enhanced_dad": 0})
    for cell in (second, third, second, first):
        client.drop(client.address)
        world.move([client], cell)
        assert client.ask(client.address) == "usable", cell.name
