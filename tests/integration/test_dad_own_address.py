"""No client takes itself for a duplicate, whether its kernel knows its own solicitations again (RFC 7527) or not."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

import pytest

from roamroute.lab.namespaces import Sandbox
from roamroute.lab.waiting import wait_until

from .dad_clients import LIMIT_S, Cell, Client, ask, begin, bounce, forget, outcome, own_addresses
from .dad_world import PROGRAMS, DadWorld, two_cells, world_running

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs(*PROGRAMS)]

BOTH_KINDS = pytest.mark.parametrize("enhanced_dad", [1, 0], ids=["rfc7527", "plain"])
PLAIN = {"enhanced_dad": 0}
COUNT = 12


@pytest.fixture(scope="module", params=["all", "targeted"])
def lasting(request: pytest.FixtureRequest) -> Iterator[tuple[DadWorld, list[Cell]]]:
    """Two access points with a cell each."""
    with two_cells(changes={"dad": {"mode": request.param}}) as found:
        yield found


@pytest.fixture
def roaming(lasting: tuple[DadWorld, list[Cell]]) -> Iterator[tuple[DadWorld, list[Cell]]]:
    """The same for all tests, but for the clients."""
    with lasting[0].visited():
        yield lasting


def ask_again(clients: Sequence[Client], *, times: int = 2) -> None:
    """Let all ask for their own addresses, again and again."""
    wanted = own_addresses(clients)
    for number in range(times):
        if number:
            forget(wanted)
        found = ask(wanted)
        assert set(found.values()) == {"usable"}, f"round {number}: {found}"


@BOTH_KINDS
def test_clients_of_one_access_point(roaming: tuple[DadWorld, list[Cell]], enhanced_dad: int) -> None:
    world, (here, _) = roaming
    clients = world.crowd(here, COUNT, settings={"enhanced_dad": enhanced_dad})
    ask_again(clients, times=3)


@BOTH_KINDS
def test_clients_that_have_roamed_and_ask_again(roaming: tuple[DadWorld, list[Cell]], enhanced_dad: int) -> None:
    world, (here, there) = roaming
    clients = world.owners(here, COUNT, settings={"enhanced_dad": enhanced_dad})
    wanted = own_addresses(clients)
    for cell, renew in ((there, forget), (here, _bounced), (there, _bounced), (here, forget)):
        world.move(clients, cell)
        renew(wanted)
        found = ask(wanted)
        assert set(found.values()) == {"usable"}, f"in {cell.name}: {found}"


@BOTH_KINDS
def test_clients_that_roam_while_they_ask(roaming: tuple[DadWorld, list[Cell]], enhanced_dad: int) -> None:
    """At any moment of it, from the solicitation to the end of the second in which the kernel waits."""
    world, (here, there) = roaming
    clients = world.crowd(here, COUNT, settings={"enhanced_dad": enhanced_dad})
    wanted = own_addresses(clients)
    for cell in (there, here):
        begin(wanted)
        for number, client in enumerate(clients):
            world.move([client], cell)
            time.sleep(0.002 * number)  # 0.13 s in all, the first at once: what is moved here is a moment in time
        found = outcome(wanted)
        assert set(found.values()) == {"usable"}, f"in {cell.name}: {found}"
        forget(wanted)


def test_clients_that_come_while_the_daemon_stands_still(roaming: tuple[DadWorld, list[Cell]]) -> None:
    """Their questions, told by the access point that they have left, must not overtake their arrival."""
    world, (here, there) = roaming
    clients = world.crowd(here, COUNT, settings=PLAIN)
    wanted = own_addresses(clients)
    before = _heard(world, here)
    with world.stopped(there.access_point):
        begin(wanted)
        wait_until(lambda: _heard(world, here) >= before + COUNT, "the questions have been heard", LIMIT_S)
        world.move(clients, there)
        time.sleep(0.2)  # of the second in which their kernels wait; a busy access point may take so long
    found = outcome(wanted)
    assert set(found.values()) == {"usable"}, found


@pytest.mark.parametrize("has_common_mac", [True, False], ids=["one-mac", "two-macs"])
@pytest.mark.parametrize("is_isolating", [True, False], ids=["isolated", "open"])
def test_access_points_and_their_links_on_one_layer_2(has_common_mac: bool, is_isolating: bool) -> None:
    """What one of three client links sends the two others hear."""
    with Sandbox(programs=PROGRAMS) as sandbox:
        world = DadWorld(sandbox, has_common_mac=has_common_mac)
        shared = world.add_cell("shared", (0, "wlan0"), (0, "wlan1"), (1, "wlan0"), is_isolating=is_isolating)
        with world_running(world):
            crowds = [world.crowd(shared, COUNT, settings=PLAIN, is_associated=False) for _ in shared.ends]
            for end, crowd in enumerate(crowds):
                world.associate(crowd, end)
            clients = list(itertools.chain(*crowds))
            ask_again(clients)
            for end, crowd in enumerate(crowds):  # and each has just gone on to the next link
                world.associate(crowd, (end + 1) % len(shared.ends))
            forget(own_addresses(clients))
            ask_again(clients)
            asker = world.client(shared, settings=PLAIN)
            assert asker.ask(clients[-1].address) == "duplicate"


def _heard(world: DadWorld, cell: Cell) -> int:
    counters = world.status(cell.access_point)["dad"]["counters"]
    return int(counters["heard_solicitations"])


def _bounced(wanted: dict[Client, object]) -> None:
    bounce(wanted)
