"""The plug-in boundary: what an exporter is, and how one is found.

The kernel FIB is the bus. One exporter, `kernel`, installs the host routes; an adapter for a routing daemon says what
that daemon needs beyond the plain route (`FibNeeds`, data), confirms that the route is exported, and reports foreign
routes. Adapters are entry points of the group `roamroute.exporters`, each naming an `ExporterSpec`; those that come
with roamroute have no privilege that a third party's lacks.

Three views, three words: *wanted* (the engine), *installed* (the kernel), *exported* (the routing daemon confirms).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import attrs

from roamroute.delta import Delta
from roamroute.errors import ConfigError
from roamroute.events import Event
from roamroute.values import Address, AdvertisedRouter, HostRoute, Prefix, Seconds

ENTRY_POINT_GROUP = "roamroute.exporters"


@attrs.frozen
class KernelNumbers:
    """How our routes are marked in the kernel (`[kernel]` of the configuration).

    `hidden_protocol` marks a route just before its deletion, so that a daemon which filters by protocol does not see
    the deletion; it is never redistributed. `dormant_protocol` marks a route whose withdrawal is known everywhere.
    `lingering_protocol` marks one whose host has moved on, where the daemon announces that worse (`FibNeeds.demotes`).
    """

    protocol: int = 144
    withdrawing_protocol: int = 145
    hidden_protocol: int = 146
    table: int = 254
    metric: int = 8
    parked_metric: int = 0x7FFFFFFF
    dormant_protocol: int = 147
    lingering_protocol: int = 148


@attrs.frozen
class Kick:
    """Make the daemon send at once what it has buffered: change reserved routes of ours right after the real change.

    Each of `addresses` is a reserved route (unreachable, `parked_metric`, `withdrawing_protocol`), never a client's; it
    is there permanently. In each of `rounds` every one of them is replaced by the other of the protocols `protocol` and
    `withdrawing_protocol`. With `pause_s` 0 the rounds go out in the same batch as the change; otherwise the pause
    comes before each round. `deletes`: instead, each is added, and deleted `pause_s` later.
    """

    addresses: tuple[Address, ...]
    rounds: int = 1
    pause_s: Seconds = 0.0
    deletes: bool = False


@attrs.frozen
class FibNeeds:
    """What the kernel exporter must do for this daemon beyond adding and deleting plain routes.

    `installs`: False where the daemon itself installs the route, then nothing of ours goes into the FIB.
    `parks`: a withdrawn route is not deleted but *parked*: kept with `withdrawing_protocol` and the worst metric, so
    that the daemon announces it as unreachable while its own foreign route wins in the FIB.
    `parked_limit`: at most so many parked routes; the oldest goes first.
    `parked_for_s`: a parked route may be deleted after this time, if `Exporter.may_delete` agrees.
    `dormant_after_s`: before that it gets `dormant_protocol`, after this time at the earliest, when its withdrawal has
    reached the neighbours: the daemon may then announce another router's route for the address again. None: never.
    `settled`: the addresses for which that is known to be so; None: time alone decides.
    `linger_s`: at a clean stop, the time that the daemon needs to send the withdrawals before the parked routes go too.
    `demotes`: a route that lingers (`HostRoute.is_lingering`) gets `lingering_protocol`, which the daemon announces
    with a worse metric. For protocols where a router that loses its route has no other until the neighbours have told
    it one (distance vector): all have turned to the new access point before the old one withdraws.
    `lingering_metric`: such a route has this metric in the kernel, where the daemon takes it over (FRR: as BGP's MED).
    Two access points that announce a host alike are one way too many for a router that shares its load between them.
    """

    installs: bool = True
    parks: bool = False
    parked_limit: int = 1024
    parked_for_s: Seconds = 60.0
    dormant_after_s: Seconds | None = None
    settled: frozenset[Address] | None = None
    kick: Kick | None = None
    linger_s: Seconds = 0.0
    demotes: bool = False
    lingering_metric: int | None = None


@attrs.frozen
class Problem:
    """Something between wanted and exported that an operator can mend."""

    text: str
    remedy: str
    routes: int = 0
    """How many wanted routes are concerned."""


@attrs.frozen
class ExportReport:
    """What the routing daemon confirms at this moment.

    `exported` is None where the exporter cannot know (the plain `kernel` exporter); `daemon` is a name with a version.
    `installed`: where the daemon itself installs (`FibNeeds.installs` is False), what it has in the FIB.
    """

    is_connected: bool
    daemon: str = ""
    exported: frozenset[Address] | None = None
    problems: tuple[Problem, ...] = ()
    installed: frozenset[Address] | None = None


@attrs.frozen
class Finding:
    """One result of `roamroute check`. `level`: "ok", "warning", "error" or "unknown" (cannot tell here)."""

    level: str
    subject: str
    text: str
    remedy: str = ""


@attrs.frozen
class FibChange:
    """What is new among other programs' host routes inside the roaming prefixes, in our table of the kernel.

    `foreign`: now reached by another way than a roaming interface, with the route's origin for people; `lost`: not any
    more. `installed` and `removed`: the same for routes over a roaming interface, which a daemon that injects has made.
    """

    foreign: Mapping[Address, str] = attrs.field(factory=dict)
    lost: frozenset[Address] = frozenset()
    installed: frozenset[Address] = frozenset()
    removed: frozenset[Address] = frozenset()


async def follow_no_fib(changed: Callable[[FibChange], None]) -> None:
    """An `ExporterContext.follow_fib` that never sees anything."""
    await asyncio.get_running_loop().create_future()


@attrs.frozen
class ExporterContext:
    """What an exporter may know of the rest: the configuration that concerns it, and where its events go.

    `emit` takes events (`ForeignRouteSeen`, `ForeignRouteLost`) from the loop's thread, never blocks.
    `log` takes a level name ("debug", "info", "warning", "error") and one line.
    `changed` is to be called when `Exporter.report()` or `Exporter.needs()` would answer differently.
    `follow_fib` tells of other programs' host routes in the kernel, all at first, then every change, until cancelled:
    for adapters whose daemon does not tell them itself.
    `router`: what router advertisements must say on `interfaces` where another program than ours sends them: what
    `ExporterSpec.config` prints has that part too, if the adapter's daemon can. None: nothing is to be printed.
    """

    interfaces: tuple[str, ...]
    prefixes: tuple[Prefix, ...]
    kernel: KernelNumbers
    emit: Callable[[Event], None] = lambda _event: None
    log: Callable[[str, str], None] = lambda _level, _line: None
    changed: Callable[[], None] = lambda: None
    follow_fib: Callable[[Callable[[FibChange], None]], Coroutine[Any, Any, None]] = follow_no_fib
    router: AdvertisedRouter | None = None


class Exporter(Protocol):
    """Publishes host routes. Declarative: what is wanted is stated, the difference to what is there is the exporter's.

    All methods are called from one asyncio loop. `publish` and `publish_all` are not called concurrently.
    """

    async def run(self) -> None:
        """Keep the connection to the daemon, reconnecting for ever; ends by cancellation only."""

    def needs(self) -> FibNeeds:
        """What the kernel exporter must do for this daemon, at this moment. Cheap; asked before every publication."""

    def may_delete(self, route: HostRoute) -> bool:
        """May this parked route be deleted now without harm to other routes?"""

    async def publish(self, delta: Delta) -> None:
        """Apply a change; idempotent. For an adapter: after the kernel exporter has done its part.

        Raises: KernelRefused, DaemonRefused, DaemonGone. Nothing is lost: `publish_all` follows.
        """

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        """Make `wanted` the whole truth; idempotent, no flap for what is already there. Raises as `publish`."""

    def report(self) -> ExportReport:
        """What is exported now. Cheap; never blocks."""

    async def close(self) -> None:
        """Release sockets and processes. Withdraws nothing: the daemon publishes an empty set before, if it should."""


@attrs.frozen
class LabPeer:
    """Another router of the lab's mesh. `role` as in `LabRouter`.

    `router_address` (/128) and `router_address_ipv4` (/32) are on its lo. `link` is our mesh link to it and
    `link_local` its address there, both None for a router that is not our neighbour.
    """

    name: str
    role: str
    number: int
    router_address: Address
    router_address_ipv4: Address
    link: str | None = None
    link_local: Address | None = None


@attrs.frozen
class LabRouter:
    """A router of the lab, as its routing daemon must know it. `role`: "gateway", "router" or "access-point".

    `directory` is private to the router and exists; the daemon runs in the router's network namespace.
    `mesh_links` carry the routing protocol; `router_address` is a /128 on lo that must be announced, and so is
    `router_address_ipv4`, a /32 that every mesh link has too (they are unnumbered).
    `announces` are further static prefixes in the kernel that must be announced: the gateway's default routes.
    `options` are the lab's command-line options for the routing, as text. `others` are all other routers of the mesh.
    """

    name: str
    role: str
    number: int
    directory: Path
    mesh_links: tuple[str, ...]
    router_address: Address
    announces: tuple[Prefix, ...] = ()
    client_links: tuple[str, ...] = ()
    roaming_prefixes: tuple[Prefix, ...] = ()
    kernel: KernelNumbers = attrs.field(factory=KernelNumbers)
    options: Mapping[str, str] = attrs.field(factory=dict)
    others: tuple[LabPeer, ...] = ()
    router_address_ipv4: Address | None = None
    link_local: Address | None = None
    """Ours, the same on every mesh link."""


@attrs.frozen
class LabDaemon:
    """How to start the routing daemon of one router, after its files have been written.

    `commands` are started in this order, each when the one before has made its file in `ready_files` (by position;
    None: at once), and stopped in the opposite order.
    """

    commands: tuple[tuple[str, ...], ...]
    exporter_settings: Mapping[str, Any] = attrs.field(factory=dict)
    """The `[exporters.NAME]` table for the roamroute that runs beside it."""
    ready_files: tuple[Path | None, ...] = ()


class LabRouting(Protocol):
    """How the lab reaches one routing daemon with one routing protocol; a value of `ExporterSpec.lab`."""

    def version(self, options: Mapping[str, str]) -> str:
        """Name and version of the daemon that `prepare` would start. Raises: MachineUnfit when it is not installed."""

    def prepare(self, router: LabRouter) -> LabDaemon:
        """Write the daemon's files into `router.directory` and say how to start it (in the foreground)."""


@attrs.frozen
class ExporterSpec:
    """What an entry point of `roamroute.exporters` names.

    `parse` turns the `[exporters.NAME]` table into settings of the adapter's own type; it raises ConfigError with every
    mistake, each with its dotted path. `config` prints the fragment that the daemon needs (`roamroute config NAME`).
    `lab` has an entry for each routing protocol that the lab can run with it, by the name that
    `roamroute lab --routing` takes: "babeld", "bird-ospf".
    """

    name: str
    parse: Callable[[Mapping[str, Any]], Any]
    create: Callable[[Any, ExporterContext], Exporter]
    config: Callable[[Any, ExporterContext], str] | None = None
    check: Callable[[Any, ExporterContext], Awaitable[Iterable[Finding]]] | None = None
    lab: Mapping[str, LabRouting] = attrs.field(factory=dict)


def exporter_names() -> tuple[str, ...]:
    """The names of all installed exporters, sorted."""
    return tuple(sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP)))


def find_exporter(name: str) -> ExporterSpec:
    """Load the exporter called `name`.

    Raises: ConfigError when no distribution offers it, or what it offers is no `ExporterSpec`.
    """
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        spec = point.load()
        if not isinstance(spec, ExporterSpec):
            raise ConfigError((f"roaming.exporter: {point.value} is not an ExporterSpec but {type(spec).__name__}",))
        return spec
    known = ", ".join(f'"{known}"' for known in exporter_names()) or "none installed"
    raise ConfigError((f'roaming.exporter: no exporter is called "{name}"; known here: {known}',))
