"""What FRR does with our routes: is one in zebra's table, is it announced, does another router announce it as well.

One route is asked for by itself, at the same effort however many there are: zebra by its prefix; bgpd and ospfd by its
prefix; ospf6d, which cannot be asked for a prefix, by the link state ID. ospf6d (8.4.4 and 10.3) numbers its external
LSAs one after the other and never uses a number twice, so a new route's LSA is found under the next number.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, ip_network

import attrs

from roamroute.export import ExporterContext
from roamroute.values import Address, HostRoute, Instant, Seconds
from roamroute_frr import answers
from roamroute_frr.answers import RibEntry
from roamroute_frr.settings import Settings
from roamroute_frr.vtysh import FrrRefused, Shell

TAG = 144_144
"""Of our static routes: by it the next roamroute knows them. They carry it into OSPF, where it does nothing."""
DAEMONS = {"ospf6": "ospf6d", "ospf": "ospfd", "bgp": "bgpd"}
_PROTOCOLS = {"ospf": ("ospf6", "ospf"), "ibgp": ("bgp",), "": ("ospf6", "ospf", "bgp")}
_PROBES = {
    "ospf6": "show ipv6 ospf6 json",
    "ospf": "show ip ospf json",
    "bgp": "show bgp summary json",
}
_LOCAL = frozenset({"kernel", "static", "connected", "local", "table", "table-direct", ""})
"""zebra's words for what did not come by a routing protocol."""
_NUMBERS_AHEAD = 64
_NUMBERS_MISSED = 4
"""So many link state IDs without an LSA end the search: those of routes that came and went in between."""

TABLE_SHARE = 20
"""ospf6d's whole table is followed by so many times its duration without another."""
TABLE_PAUSE_S: Seconds = 0.1


class Obstacle(enum.Enum):
    """Why a route is not announced."""

    ABSENT = "zebra does not have it"
    NO_CARRIER = "no routing protocol redistributes such routes"
    NO_DAEMON = "the routing protocol's daemon is not running"
    HELD_BACK = "the routing protocol does not take it"
    NO_SESSION = "no BGP session is there to announce it to"


@attrs.frozen
class Standing:
    """Where a route of ours stands. `foreign`: another router's route for the same host, for people."""

    obstacle: Obstacle | None
    foreign: str | None = None

    @property
    def is_exported(self) -> bool:
        return self.obstacle is None

    @property
    def is_absent(self) -> bool:
        return self.obstacle is Obstacle.ABSENT


class Confirmation:
    """Asks FRR by a vtysh, and remembers what makes the next question cheap."""

    def __init__(
        self,
        settings: Settings,
        context: ExporterContext,
        shell: Shell,
        *,
        clock: Callable[[], Instant] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._interfaces = frozenset(context.interfaces)
        self._versions = sorted({prefix.version for prefix in context.prefixes})
        self._shell = shell
        self._breaks = 0
        self._redistributions: frozenset[tuple[str, int, str]] = frozenset()
        self._absent: frozenset[str] = frozenset()
        self._numbers: dict[Address, int] = {}
        """Of our routes' LSAs in ospf6d: their link state IDs."""
        self._next_number = 1
        self._clock = clock
        self._next_number_at: Instant = -math.inf
        """Before that ospf6d's whole table is not asked for."""
        self.version = ""

    @property
    def program(self) -> str:
        """FRR as people name it."""
        return f"FRR {self.version}".rstrip()

    @property
    def source(self) -> str:
        """What FRR calls our routes."""
        return "static" if self._settings.injects else "kernel"

    @property
    def protocols(self) -> tuple[str, ...]:
        """The routing protocols that may carry our routes."""
        return _PROTOCOLS[self._settings.routing]

    @property
    def absent_daemons(self) -> tuple[str, ...]:
        """Of these protocols the daemons that are not running."""
        return tuple(DAEMONS[name] for name in self.protocols if name in self._absent)

    def carriers(self, ip_version: int) -> tuple[str, ...]:
        """The protocols that are told to announce our routes of this version of IP."""
        return tuple(name for name in self.protocols if (name, ip_version, self.source) in self._redistributions)

    # at times

    async def learn(self) -> None:
        """Learn how FRR is set up.

        Raises: FrrRefused; DaemonGone; MalformedInput.
        """
        self.version = answers.version(await self._shell.ask("show version"))
        await self._shell.ask("show ipv6 route summary json")  # without zebra there is nothing to confirm
        await self.look()
        await self.number()

    async def look(self) -> bool:
        """See whether daemons have come, gone or restarted, or what they announce was changed; True when so.

        Raises: as `learn`.
        """
        before = (self._breaks, self._absent, self._redistributions)
        if self._shell.breaks != self._breaks:
            self._next_number = 1  # it may have been ospf6d that restarted
        absent = set()
        found: set[tuple[str, int, str]] = set()
        for name in self.protocols:
            try:
                await self._shell.ask(_PROBES[name])
            except FrrRefused:
                absent.add(name)
                continue
            found |= answers.redistributions(await self._shell.ask(f"show running-config {DAEMONS[name]}"))
        self._absent = frozenset(absent)
        self._redistributions = frozenset(found)
        self._breaks = self._shell.breaks
        return (self._breaks, self._absent, self._redistributions) != before

    async def number(self) -> frozenset[Address]:
        """Look at all of ospf6d's external LSAs, once: 75 ms for 5,000 (8.4.4). The hosts that are announced by them.

        Raises: as `learn`.
        """
        if "ospf6" not in self.carriers(6):
            self._numbers = {}
            return frozenset()
        begun = self._clock()
        table = answers.redistributed6(await self._shell.json("show ipv6 ospf6 redistribute json"))
        now = self._clock()
        self._next_number_at = now + max(TABLE_PAUSE_S, TABLE_SHARE * (now - begun))
        self._next_number = max(self._next_number, 1 + max(table.values(), default=0))
        hosts = ((answers.host_of(prefix), number) for prefix, number in table.items())
        self._numbers = {address: number for address, number in hosts if address is not None}
        return frozenset(self._numbers)

    def forget(self, address: Address) -> None:
        """The route is not wanted any more."""
        self._numbers.pop(address, None)

    # one route

    async def standing(self, address: Address) -> Standing:
        """Ask about one route.

        Raises: as `learn`.
        """
        entries = await self.entries(address)
        foreign = next((_origin(entry) for entry in entries if entry.protocol not in _LOCAL), None)
        carriers = self.carriers(address.version)
        obstacle: Obstacle | None = self._without_carriers(address.version)
        for name in carriers:
            obstacle, other = await self._carried(name, address)
            foreign = foreign or other
            if obstacle is None:
                break
        if not any(self.is_ours(entry) for entry in entries):
            obstacle = Obstacle.ABSENT
        return Standing(obstacle, foreign)

    async def entries(self, address: Address) -> tuple[RibEntry, ...]:
        """zebra's ways to a host. Raises: as `learn`."""
        word = "ipv6" if address.version == 6 else "ip"
        return answers.rib_entries(await self._shell.json(f"show {word} route {_host(address)} json"))

    async def static_routes(self) -> frozenset[HostRoute]:
        """The static host routes over our links that zebra has, whosever: one look at all static ones.

        Raises: as `learn`.
        """
        found: set[HostRoute] = set()
        for ip_version in self._versions:
            word = "ipv6" if ip_version == 6 else "ip"
            for prefix, entry in answers.rib(await self._shell.json(f"show {word} route static json")):
                address = answers.host_of(prefix)
                if address is not None:
                    found |= {HostRoute(address, link) for link in entry.links & self._interfaces}
        return frozenset(found)

    def is_ours(self, entry: RibEntry) -> bool:
        """Is this the route that we have made, in the kernel or as a static one?"""
        if not entry.links & self._interfaces or entry.protocol != self.source:
            return False
        return entry.tag == TAG if self._settings.injects else True

    async def _carried(self, name: str, address: Address) -> tuple[Obstacle | None, str | None]:
        """Does this protocol announce the route, and does it know another router's?"""
        match name:
            case "ospf6":
                is_announced = await self._is_announced_by_ospf6(address)
                is_announced = is_announced or await self._is_among_all_of_ospf6(address)
            case "ospf":
                line = f"show ip ospf database external {address} self-originate json"
                is_announced = ip_network(address) in answers.external4(await self._shell.json(line))
            case _:
                word = "ipv6" if address.version == 6 else "ipv4"
                line = f"show bgp {word} unicast {_host(address)} json"
                ways = answers.bgp_ways(await self._shell.json(line))
                foreign = f"bgp route from {ways.others[0]}" if ways.others else None
                if ways.is_ours and not ways.announced_to:
                    return Obstacle.NO_SESSION, foreign
                return None if ways.is_ours else Obstacle.HELD_BACK, foreign
        return None if is_announced else Obstacle.HELD_BACK, None

    async def _is_announced_by_ospf6(self, address: Address) -> bool:
        if (known := self._numbers.get(address)) is not None:
            if await self._announced_as(known) == address:
                return True
            del self._numbers[address]
        missed = 0
        for number in range(self._next_number, self._next_number + _NUMBERS_AHEAD):
            found = await self._announced_as(number)
            if found is None:
                missed += 1
                if missed >= _NUMBERS_MISSED:
                    return False
                continue
            missed = 0
            self._next_number = number + 1
            self._numbers[found] = number
            if found == address:
                return True
        return False

    async def _is_among_all_of_ospf6(self, address: Address) -> bool:
        """By the whole table, which is what is left when numbers were given out that we did not see; not too often."""
        if self._clock() < self._next_number_at:
            return False
        return address in await self.number()

    async def _announced_as(self, number: int) -> Address | None:
        identifier = IPv4Address(number)
        line = f"show ipv6 ospf6 database as-external {identifier} self-originated json"
        prefix = answers.external6(await self._shell.json(line))
        return None if prefix is None else answers.host_of(prefix) or prefix.network_address

    def _without_carriers(self, ip_version: int) -> Obstacle:
        return Obstacle.NO_DAEMON if len(self.absent_daemons) == len(self.protocols) else Obstacle.NO_CARRIER

    # many routes

    async def all_exported(self, addresses: Iterable[Address]) -> frozenset[Address]:
        """Which of these are announced, by whole tables: 75 ms a table of 5,000.

        Raises: as `learn`.
        """
        found: set[Address] = set()
        for ip_version in self._versions:
            for name in self.carriers(ip_version):
                found |= await self._all_by(name, ip_version)
        return frozenset(found & set(addresses))

    async def _all_by(self, name: str, ip_version: int) -> frozenset[Address]:
        match name:
            case "ospf6":
                return await self.number()
            case "ospf":
                prefixes = answers.external4(
                    await self._shell.json("show ip ospf database external self-originate json")
                )
            case _:
                word = "ipv6" if ip_version == 6 else "ipv4"
                if not answers.bgp_established(await self._shell.json(f"show bgp {word} unicast summary json")):
                    return frozenset()
                prefixes = answers.bgp_originated(await self._shell.json(f"show bgp {word} unicast json"))
        return frozenset(filter(None, map(answers.host_of, prefixes)))


def _host(address: Address) -> str:
    return f"{address}/{address.max_prefixlen}"


def _origin(entry: RibEntry) -> str:
    return f"{entry.protocol} route via {entry.via}" if entry.via else f"{entry.protocol} route"
