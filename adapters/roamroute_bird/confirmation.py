"""What BIRD does with our routes: learnt, preferred, exported, and who else announces them.

Each question is about one address and costs BIRD the same however many routes it has; only after a burst, and rarely in
the background, all are asked for at once. docs/bird-facts.md has what the questions cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

import attrs

from roamroute.export import ExporterContext
from roamroute.values import Address
from roamroute_bird.answers import Protocol, Status
from roamroute_bird.client import Client
from roamroute_bird.hostsfile import STATIC_PROTOCOLS
from roamroute_bird.protocol import BirdRefused, quoted
from roamroute_bird.routes import Route, all_for, exported_for, exported_in, routes_of
from roamroute_bird.settings import Settings
from roamroute_bird.version import Version

_PIECE = 256
"""So many routes of a long reply are read before others have their turn: 3 ms."""


class Obstacle(enum.Enum):
    """Why a route is not exported."""

    ABSENT = "BIRD does not have it"
    BEATEN = "BIRD prefers another"
    HELD_BACK = "no routing protocol takes it"
    NO_PROTOCOL = "no routing protocol is up"


@attrs.frozen
class Standing:
    """How one of our addresses stands in BIRD. `obstacle` is None where it is exported."""

    obstacle: Obstacle | None
    best: str = ""
    """The protocol whose route BIRD prefers, where it is not ours."""
    foreign: str | None = None
    """A route for the address that a routing protocol has brought, for people."""

    @property
    def is_exported(self) -> bool:
        return self.obstacle is None

    @property
    def is_absent(self) -> bool:
        return self.obstacle is Obstacle.ABSENT


class Confirmation:
    """Asks one BIRD. `status` and `protocols` are those of the last `learn`."""

    def __init__(
        self,
        settings: Settings,
        context: ExporterContext,
        configured_by_us: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`configured_by_us`: the time of our own last reconfiguration, as BIRD writes it."""
        self._settings = settings
        self._interfaces = frozenset(context.interfaces)
        self._prefixes = context.prefixes
        self._client = Client(settings)
        self._configured_by_us = configured_by_us
        self.status = Status("", "", "", "", "")
        self.protocols: tuple[Protocol, ...] = ()
        self._names: frozenset[str] = frozenset()
        self._routing: frozenset[str] = frozenset()
        self._outline: tuple[object, ...] = ()
        self._favourite = ""
        """The protocol that exported the last route: asked first."""

    async def learn(self) -> None:
        """Ask for the status and all protocols. Raises as `Client.ask`."""
        self.status = await self._client.status()
        await self._learn_protocols()

    async def look(self) -> bool:
        """Learn again if anything has changed but for our own reconfiguration; True when it has.

        Raises as `Client.ask`.
        """
        known, self.status = self.status, await self._client.status()
        outline = _outline(await self._client.protocols(with_channels=False))
        is_known = self.status.configured in (known.configured, self._configured_by_us())
        if is_known and self.status.booted == known.booted and outline == self._outline:
            return False
        await self._learn_protocols()
        return True

    async def _learn_protocols(self) -> None:
        self.protocols = await self._client.protocols()
        self._outline = _outline(self.protocols)
        self._routing = frozenset(protocol.name for protocol in self.protocols if protocol.is_routing)
        if self._settings.injects:
            self._names = frozenset(STATIC_PROTOCOLS.values())
        else:
            self._names = frozenset(self.kernel_protocols)

    @property
    def kernel_protocols(self) -> tuple[str, ...]:
        """The protocols that read the kernel's routes."""
        return tuple(protocol.name for protocol in self.protocols if protocol.kind == "Kernel" and protocol.is_up)

    def carriers(self, version: int) -> tuple[str, ...]:
        """The routing protocols that must export a route of this version of IP: all that are named, or any."""
        named = self._settings.protocols
        up = [protocol.name for protocol in self.protocols if protocol.is_up and protocol.carries(version)]
        if named:
            having = {
                protocol.name
                for protocol in self.protocols
                if any(channel.family == f"ipv{version}" for channel in protocol.channels)
            }
            return tuple(name for name in named if name in having)
        found = [name for name in up if name in self._routing]
        return tuple(sorted(found, key=lambda name: name != self._favourite))

    async def standing(self, address: Address) -> Standing:
        """Ask about one address, two questions as a rule. Raises as `Client.ask`."""
        reply = await self._client.ask(all_for(address))
        routes = tuple(routes_of(reply))
        foreign = next((f"{route.protocol} {route.way}" for route in routes if route.protocol in self._routing), None)
        best = next((route for route in routes if route.is_best), None)
        if not any(self._is_ours(route) for route in routes):
            return Standing(Obstacle.ABSENT, foreign=foreign)
        if best is None or not self._is_ours(best):
            return Standing(Obstacle.BEATEN, best=best.protocol if best else "", foreign=foreign)
        carriers = self.carriers(address.version)
        if not carriers:
            return Standing(Obstacle.NO_PROTOCOL, foreign=foreign)
        is_exported = await self._is_exported(address, carriers)
        return Standing(None if is_exported else Obstacle.HELD_BACK, foreign=foreign)

    async def _is_exported(self, address: Address, carriers: Sequence[str]) -> bool:
        for name in carriers:
            is_taken = await self._takes(address, name)
            if is_taken != bool(self._settings.protocols):
                self._favourite = name if is_taken else self._favourite
                return is_taken  # one is enough, or one of those that must is too few
        return bool(self._settings.protocols)

    async def _takes(self, address: Address, protocol: str) -> bool:
        try:
            reply = await self._client.ask(exported_for(address, protocol))
        except BirdRefused:
            return False  # the protocol has gone down or away since we learnt of it; `look` will see that
        return any(self._is_ours(route) for route in routes_of(reply))

    async def all_exported(self, addresses: Collection[Address]) -> set[Address]:
        """Those of these addresses that are exported. Raises as `Client.ask`."""
        exported: set[Address] = set()
        for version in {prefix.version for prefix in self._prefixes}:
            ours = {address for address in addresses if address.version == version}
            exported |= await self._exported_among(ours, self.carriers(version), version)
        return exported

    async def _exported_among(self, ours: set[Address], carriers: Sequence[str], version: int) -> set[Address]:
        missing = set(ours)
        taken_by_all = ours if carriers else set()
        for name in carriers:
            taken = {address async for address in self._all(version, name)}
            missing -= taken
            taken_by_all = taken_by_all & taken
            if not missing and not self._settings.protocols:
                break
        return taken_by_all if self._settings.protocols else ours - missing

    async def _all(self, version: int, protocol: str) -> AsyncIterator[Address]:
        for prefix in self._prefixes:
            if prefix.version != version:
                continue
            try:
                reply = await self._client.ask(exported_in(prefix, protocol))
            except BirdRefused:
                continue
            for count, route in enumerate(routes_of(reply)):
                if count % _PIECE == _PIECE - 1:
                    await asyncio.sleep(0)
                if self._is_ours(route) and route.prefix.prefixlen == route.prefix.max_prefixlen:
                    yield route.prefix.network_address

    async def remind(self) -> None:
        """Let BIRD read the kernel's routes now: it has lost notifications, as after thousands at once.

        Raises as `Client.ask`.
        """
        with contextlib.suppress(BirdRefused):  # a read-only access; BIRD's own scan comes, but later
            await self._reload("in")

    async def install_again(self) -> None:
        """Let BIRD put all its routes into the kernel once more: no change for those that are there.

        Raises as `Client.ask`.
        """
        await self._reload("out")

    async def _reload(self, direction: str) -> None:
        command = "reload" if Version(self.status.version) < Version("3") else "reload filters"
        for name in self.kernel_protocols:
            await self._client.ask(f"{command} {direction} {quoted(name)}")

    def missing_static_protocols(self, versions: Iterable[int]) -> tuple[str, ...]:
        """Those of our static protocols that BIRD does not have."""
        have = {protocol.name for protocol in self.protocols}
        return tuple(STATIC_PROTOCOLS[version] for version in versions if STATIC_PROTOCOLS[version] not in have)

    async def close(self) -> None:
        """A question opens a new connection."""
        await self._client.close()

    def _is_ours(self, route: Route) -> bool:
        return route.protocol in self._names and any(hop.interface in self._interfaces for hop in route.hops)


def _outline(protocols: Iterable[Protocol]) -> tuple[object, ...]:
    """What of the protocols decides over our routes."""
    return tuple((protocol.name, protocol.kind, protocol.state) for protocol in protocols)
