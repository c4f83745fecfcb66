"""Duplicate addresses that only the DAD proxy can show, found by the kernels of clients; RFC 4862 §5.4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from roamroute.lab import addresses
from roamroute.lab.namespaces import Sandbox
from roamroute.lab.waiting import wait_until

from .dad_clients import LIMIT_S, Cell, Client, ask, begin, outcome, own_addresses
from .dad_world import PROGRAMS, DadWorld, world_running

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs(*PROGRAMS)]

BOTH_KINDS = pytest.mark.parametrize("enhanced_dad", [1, 0], ids=["rfc7527", "plain"])
ROUTER = {"sender": "roamroute"}
LISTENING = {"accept_ra": 1, "router_solicitations": 1}  # without solicitations the kernel takes no token


class Place:
    """Two access points; the first has two client links. Each client link hangs in a cell of its own."""

    def __init__(self, world: DadWorld) -> None:
        self.world = world
        self.here = world.add_cell("here", (0, "wlan0"))
        self.beside = world.add_cell("beside", (0, "wlan1"))
        self.there = world.add_cell("there", (1, "wlan0"))

    def cells(self, name: str) -> tuple[Cell, Cell]:
        """Where the owner is and where the client is that asks."""
        return {
            "other access point": (self.there, self.here),
            "same access point": (self.here, self.here),
            "other link": (self.beside, self.here),
        }[name]


WHERE = pytest.mark.parametrize("where", ["other access point", "same access point", "other link"])


@pytest.fixture(scope="module", params=["all", "targeted"])
def lasting(request: pytest.FixtureRequest) -> Iterator[Place]:
    with Sandbox(programs=PROGRAMS) as sandbox:
        new = Place(DadWorld(sandbox, changes={"dad": {"mode": request.param}, "ra": ROUTER}))
        with world_running(new.world):
            yield new


@pytest.fixture
def place(lasting: Place) -> Iterator[Place]:
    """The same for all tests, but for the clients."""
    with lasting.world.visited():
        yield lasting


@WHERE
@BOTH_KINDS
def test_an_address_that_another_client_has_is_found_to_be_a_duplicate(
    place: Place, where: str, enhanced_dad: int
) -> None:
    settings = {"enhanced_dad": enhanced_dad}
    of_owner, of_asker = place.cells(where)
    owner = place.world.owner(of_owner, settings=settings)
    asker = place.world.client(of_asker, settings=settings)
    assert asker.ask(owner.address) == "duplicate"
    assert asker.ask(asker.address) == "usable"
    assert owner.state(owner.address) == "usable"


@WHERE
def test_a_client_that_has_been_silent_for_long_keeps_its_address(place: Place, where: str) -> None:
    of_owner, of_asker = place.cells(where)
    owner = place.world.owner(of_owner)
    access_point = of_owner.access_point.namespace
    link = of_owner.ends[0].link
    access_point.ip(f"neighbour change {owner.address} lladdr {owner.mac} dev {link} nud stale")
    rules = "type filter hook output priority 0; policy drop; icmpv6 type nd-neighbor-advert accept"
    owner.namespace.run("nft", "-f", "-", stdin=f"table inet silent {{ chain output {{ {rules}; }}; }}")
    assert place.world.client(of_asker).ask(owner.address) == "duplicate"


@BOTH_KINDS
def test_of_two_clients_that_ask_at_the_same_time_at_most_one_gets_the_address(
    place: Place, enhanced_dad: int, request: pytest.FixtureRequest
) -> None:
    if "targeted" in request.node.name:
        pytest.skip("in this mode nobody is asked for an address that nobody has yet")
    settings = {"enhanced_dad": enhanced_dad}
    first, second = (place.world.crowd(cell, 20, settings=settings) for cell in (place.here, place.there))
    wanted: dict[Client, object] = {}
    for one, other in zip(first, second, strict=True):
        wanted |= {one: one.address, other: one.address}
    found = ask(wanted)
    pairs = Counter((found[one], found[other]) for one, other in zip(first, second, strict=True))
    assert ("usable", "usable") not in pairs, pairs


def test_twenty_clients_find_out_at_once(place: Place) -> None:
    owners = [*place.world.owners(place.there, 10), *place.world.owners(place.beside, 10)]
    askers = place.world.crowd(place.here, 20)
    found = ask({asker: owner.address for asker, owner in zip(askers, owners, strict=True)})
    assert set(found.values()) == {"duplicate"}, found
    assert set(outcome(own_addresses(owners)).values()) == {"usable"}
    assert set(ask(own_addresses(askers)).values()) == {"usable"}


@WHERE
def test_clients_that_ask_one_after_the_other_all_find_out(place: Place, where: str) -> None:
    of_owner, of_asker = place.cells(where)
    owner = place.world.owner(of_owner)
    for asker in (*place.world.crowd(of_asker, 5), *place.world.crowd(of_owner, 5)):
        assert asker.ask(owner.address) == "duplicate"


def test_duplicates_are_found_although_messages_are_lost(place: Place) -> None:
    owners, askers = place.world.owners(place.there, 20), place.world.crowd(place.here, 20)
    with place.world.losing(20):
        found = ask({asker: owner.address for asker, owner in zip(askers, owners, strict=True)})
    assert set(found.values()) == {"duplicate"}, found


def test_an_owner_that_has_just_roamed_is_found_where_it_was_and_where_it_is(place: Place) -> None:
    owners = place.world.owners(place.here, 5)
    before, after = place.world.crowd(place.here, 5), place.world.crowd(place.there, 5)
    place.world.move(owners, place.there)
    place.world.wait_announced(own_addresses(owners))
    for askers in (before, after):
        found = ask({asker: owner.address for asker, owner in zip(askers, owners, strict=True)})
        assert set(found.values()) == {"duplicate"}, found


def test_owners_are_found_after_roamroute_was_started_anew(place: Place) -> None:
    owners = own_addresses(place.world.owners(place.there, 5))
    place.world.restart({})
    place.world.wait_announced(owners)
    place.world.wait_known(place.here.access_point, owners)
    askers = place.world.crowd(place.here, 5)
    assert set(ask(dict(zip(askers, owners.values(), strict=True))).values()) == {"duplicate"}


def test_an_address_formed_from_our_advertisement_is_found_to_be_a_duplicate(place: Place) -> None:
    """SLAAC: two clients with the same interface identifier (RFC 7217 and chance do what `ip token` does here)."""
    address = addresses.ROAMING_PREFIX[0xBEEF]
    owner = _with_token(place.world.client(place.there, settings=LISTENING, is_associated=False))
    place.world.associate([owner])
    wait_until(lambda: owner.state(address) == "usable", "the owner has formed its address", LIMIT_S)
    owner.speak(address)
    place.world.wait_announced({owner: address})
    asker = _with_token(place.world.client(place.here, settings=LISTENING, is_associated=False))
    heard = place.world.sandbox.subdirectory("monitor") / asker.port
    monitor = asker.namespace.start("ip", "-o", "monitor", "address", log=heard)
    try:
        wait_until(lambda: _listens(asker), "the monitor listens", LIMIT_S)
        place.world.associate([asker])
        wait_until(lambda: "dadfailed" in heard.read_text(), "the other finds that it is a duplicate", LIMIT_S)
    finally:
        place.world.sandbox.stop(monitor)
    assert any(str(address) in line for line in heard.read_text().splitlines() if "dadfailed" in line)
    what = "it is given up, after the last of the advertisements that come with an association"
    wait_until(lambda: asker.state(address) == "absent", what, LIMIT_S)
    assert owner.state(address) == "usable"


def _with_token(client: Client) -> Client:
    client.namespace.run("ip", "token", "set", "::beef", "dev", client.link)
    return client


def _listens(client: Client) -> bool:
    return "ip" in client.namespace.run("ss", "-f", "netlink", "-p")


def test_free_addresses_stay_free_while_others_collide(place: Place) -> None:
    owners = place.world.owners(place.there, 5)
    askers, others = place.world.crowd(place.here, 5), place.world.crowd(place.here, 5)
    begin(own_addresses(others))
    assert set(ask({a: o.address for a, o in zip(askers, owners, strict=True)}).values()) == {"duplicate"}
    assert set(outcome(own_addresses(others)).values()) == {"usable"}
