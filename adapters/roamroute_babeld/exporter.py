"""The exporter called `babeld`: says what it needs of the kernel, confirms what is exported, reports foreign routes.

It reads babeld's local socket only; nothing is ever written there but `monitor` and comments. Whether babeld runs or
not, the routes are in the kernel: a babeld that starts finds them there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network

import attrs

from roamroute.adapter.ledger import Ledger
from roamroute.adapter.problems import watch
from roamroute.adapter.reconnect import reconnect
from roamroute.delta import Delta
from roamroute.errors import DaemonGone
from roamroute.export import ExporterContext, ExportReport, FibNeeds, Problem
from roamroute.values import Address, HostRoute, Instant, Prefix, Seconds
from roamroute_babeld.connection import Connection, connect, largest_mtu
from roamroute_babeld.needs import STALE_FOR_S, kick_of, needs_of
from roamroute_babeld.protocol import PING, InterfaceLine, Line, RouteLine, XrouteLine
from roamroute_babeld.rules import Statements, announces_lingering, statements_of
from roamroute_babeld.session import Greeting, Session, Stage
from roamroute_babeld.settings import Settings
from roamroute_babeld.tables import DORMANT, POISON, Tables
from roamroute_babeld.version import Quirks, quirks_of

GREETING_LIMIT_S: Seconds = 3.0
"""babeld greets at once when it takes the connection; the fifth client waits in the listen queue for a place."""
SILENCE_LIMIT_S: Seconds = 30.0
"""Between two answers; asked twice in that time."""
CONFIRMATION_S: Seconds = 3.0
"""babeld takes a kernel route within 3 ms; what it has not after this time it does not export."""

_SOCKET = "socket"
"""Where foreign routes are heard."""

FRAGMENT = (
    "roamroute config babeld -c FILE > /etc/babeld.roamroute.conf; give babeld -c /etc/babeld.roamroute.conf "
    "-c /etc/babeld.conf, in this order, and restart it"
)


class BabeldExporter:
    """See `roamroute.export.Exporter` for the contract of the methods."""

    def __init__(
        self, settings: Settings, context: ExporterContext, *, clock: Callable[[], Instant] = time.monotonic
    ) -> None:
        self._settings = settings
        self._context = context
        self._clock = clock
        self._session: Session | None = None
        self._trouble: Problem | None = Problem("not connected to babeld yet", "wait a moment")
        self._greeting = Greeting()
        self._statements: Statements | None = None
        self._has_lingering_rules = False
        """Whether babeld announces what lingers worse; without such a rule it would retract it at once."""
        self._tables = Tables()
        """The last known state; kept while there is no connection, so that kicks go on fitting."""
        self._mtu = 1500
        self._kick = kick_of(self._tables, self._quirks)
        self._kick_basis: tuple[object, ...] = ()
        self._ledger = Ledger(context, clock=clock)
        self._settled: frozenset[Address] = frozenset()

    # the contract

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(watch("babeld", self._context, self._problems))
            group.create_task(reconnect(self._converse, self._disconnected))

    def needs(self) -> FibNeeds:
        head = self._tables.head()
        basis = (self._tables.slots, len(self._tables.xroutes), head and head.version, self._mtu, self._quirks)
        if basis != self._kick_basis:
            self._kick_basis = basis
            self._kick = kick_of(self._tables, self._quirks, mtu=self._mtu)
        return needs_of(
            self._kick, self._settled, has_duplicates=self._has_duplicates, demotes=self._has_lingering_rules
        )

    def may_delete(self, route: HostRoute) -> bool:
        if not self._quirks.retracts_wrongly:
            return True
        if not self._is_following:
            return False  # what it exports now is not known
        return self._tables.is_deletion_harmless(_prefix_of(route.address))

    async def publish(self, delta: Delta) -> None:
        self._ledger.publish(delta)
        for route in delta.announced:
            self._confirm(route.address)

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        self._ledger.publish_all(wanted)
        self._confirm_all()

    def report(self) -> ExportReport:
        program = self._greeting.program.replace("-", " ", 1) or "babeld"
        is_connected = self._is_following
        exported = self._ledger.exported if is_connected else None
        return ExportReport(is_connected, program, exported, tuple(self._problems()))

    async def close(self) -> None:
        """Nothing is open outside `run`."""

    # what babeld says

    async def _converse(self) -> None:
        connection = await connect(self._settings)
        try:
            session = Session()
            begun = heard = self._clock()
            while True:
                data = await connection.read(1.0 if session.stage is Stage.GREETING else SILENCE_LIMIT_S / 2)
                now = self._clock()
                if data is None:
                    self._silent(session, now - begun, now - heard)
                    if session.stage is Stage.FOLLOWING:
                        connection.write(PING)
                    continue
                heard = now
                was = session.stage
                to_send, lines = session.receive(data)
                connection.write(to_send)
                if session.stage is not Stage.FOLLOWING:
                    continue
                if was is not Stage.FOLLOWING:
                    self._connected(session, connection)
                else:
                    self._follow(lines)
        finally:
            connection.close()

    def _silent(self, session: Session, since_begun_s: Seconds, since_heard_s: Seconds) -> None:
        if session.stage is not Stage.GREETING:
            if since_heard_s > SILENCE_LIMIT_S:
                raise DaemonGone(f"babeld at {self._settings.place} has not answered for {since_heard_s:.0f} s")
            return
        if since_begun_s > GREETING_LIMIT_S:
            # Staying connected keeps our place in the queue: babeld takes us when another client goes.
            self._in_trouble(
                Problem(
                    f"babeld at {self._settings.place} takes the connection and says nothing: it serves four clients "
                    "at a time and has four already, or it hangs",
                    "end another client of babeld's socket (ss -xp, ss -tp name them)",
                    len(self._ledger.wanted),
                )
            )
        if since_begun_s > SILENCE_LIMIT_S:
            raise DaemonGone(f"babeld at {self._settings.place} said nothing for {since_begun_s:.0f} s")

    def _connected(self, session: Session, connection: Connection) -> None:
        self._session = session
        self._greeting = session.greeting
        self._tables = session.tables
        process_id = connection.process_id
        self._statements = statements_of(process_id) if process_id is not None else None
        self._has_lingering_rules = self._statements is not None and announces_lingering(
            self._statements, self._context.prefixes, self._context.kernel.lingering_protocol
        )
        self._mtu = largest_mtu(iter(self._tables.interfaces))
        self._trouble = None
        quirk = self._quirks.text
        self._context.log("info", f"connected to {self._greeting.program} at {self._settings.place}")
        if quirk:
            self._context.log("info", f"{self._greeting.program} {quirk}; withdrawn routes are parked instead")
        self._confirm_all()
        hosts = [address for address in self._tables.foreign_hosts() if self._ledger.is_roaming(_prefix_of(address))]
        origins = ((address, self._origin(address)) for address in hosts)
        self._ledger.heard_exactly(_SOCKET, {address: origin for address, origin in origins if origin is not None})
        self._settled = frozenset(filter(self._tables.is_settled, self._tables.foreign_hosts()))
        self._context.changed()

    def _follow(self, lines: Iterable[Line]) -> None:
        is_changed = False
        for line in lines:
            match line:
                case XrouteLine(prefix=prefix) if prefix.prefixlen == prefix.max_prefixlen:
                    is_changed = self._confirm(prefix.network_address) or is_changed
                    is_changed = self._settle_known(prefix.network_address) or is_changed
                case RouteLine(prefix=prefix) if prefix.prefixlen == prefix.max_prefixlen:
                    if self._ledger.is_roaming(prefix):
                        self._tell(prefix.network_address)
                    is_changed = self._settle(prefix.network_address) or is_changed
                case InterfaceLine():
                    self._mtu = largest_mtu(iter(self._tables.interfaces))
                case _:
                    pass
        if is_changed:
            self._context.changed()

    def _tell(self, address: Address) -> None:
        """Tell the core of the foreign routes for an address, when they are not those told before.

        babeld repeats the lines of routes that nobody sends any more, at every look at the neighbours: a change of
        originator or metric alone is news.
        """
        self._ledger.heard(_SOCKET, address, self._origin(address))

    def _origin(self, address: Address) -> str | None:
        ours = self._greeting.router_id
        others = sorted(heard for heard in self._tables.originators(address) if heard[0] != ours)
        return " and ".join(f"babel router {router} metric {metric}" for router, metric in others) or None

    def _disconnected(self, why: str) -> None:
        if self._session is not None:
            self._context.log("warning", why)
        self._session = None
        self._ledger.confirm_exactly(())
        remedy = "start babeld, or correct exporters.babeld.socket: babeld must have `local-path` or `local-port`"
        self._in_trouble(Problem(why, remedy, len(self._ledger.wanted)))

    def _in_trouble(self, problem: Problem) -> None:
        if self._trouble is None or self._trouble.text != problem.text:
            self._trouble = problem
            self._context.changed()

    # what follows from it

    @property
    def _is_following(self) -> bool:
        return self._session is not None and self._session.stage is Stage.FOLLOWING

    @property
    def _quirks(self) -> Quirks:
        return quirks_of(self._greeting.version or self._settings.version)

    @property
    def _has_duplicates(self) -> bool:
        if self._settings.allow_duplicates is not None:
            return self._settings.allow_duplicates
        if self._statements is not None and not self._statements.unreadable:
            return (self._statements.allow_duplicates or 0) > DORMANT
        return not self._quirks.aborts_on_duplicates

    def _confirm(self, address: Address) -> bool:
        """Compare one address with what babeld originates; True when the answer is new."""
        return self._ledger.confirm(address, self._is_exported(address))

    def _confirm_all(self) -> None:
        self._ledger.confirm_exactly(filter(self._is_exported, self._ledger.wanted))

    def _is_exported(self, address: Address) -> bool:
        metric = self._tables.metric_of(address) if self._is_following else None
        return metric is not None and metric < POISON

    def _settle_known(self, address: Address) -> bool:
        """Our own route changed: a foreign one that was there before may be stale, and proves nothing for a while."""
        if address not in self._settled and self._tables.is_settled(address):
            asyncio.get_running_loop().call_later(STALE_FOR_S, self._settle_late, address)
            return False
        return self._settle(address)

    def _settle_late(self, address: Address) -> None:
        if self._settle(address):
            self._context.changed()

    def _settle(self, address: Address) -> bool:
        """Keep `_settled`; True when it is new."""
        is_settled = self._tables.is_settled(address)
        if is_settled == (address in self._settled):
            return False
        self._settled = self._settled | {address} if is_settled else self._settled - {address}
        return True

    def _problems(self) -> Iterable[Problem]:
        if self._trouble is not None:
            yield attrs.evolve(self._trouble, routes=len(self._ledger.wanted))
            return
        if not self._is_following:
            return
        missing = self._ledger.missing(CONFIRMATION_S)
        if missing:
            yield self._not_exported(missing)
        blocked = self._tables.blocked_hosts() if self._has_duplicates else 0
        if blocked:
            yield Problem(
                "babeld does not install other routers' routes for hosts that have left: this access point and its "
                "clients cannot reach them",
                duplicates_remedy(self._quirks),
                blocked,
            )

    def _not_exported(self, missing: Sequence[Address]) -> Problem:
        count, protocol = len(missing), self._context.kernel.protocol
        example = missing[0]
        rule = None
        if self._statements is not None and not self._statements.unreadable:
            rule = self._statements.decide(example, protocol, None)
            if rule is not None and rule.metric >= POISON:
                text = f'babeld does not export our routes: "{rule.text}" ({rule.where}) comes first and denies them'
                return Problem(text, FRAGMENT, count)
            if rule is None:
                text = f"babeld does not export our routes: no redistribute rule matches proto {protocol}"
                return Problem(text, FRAGMENT, count)
        metric = self._tables.metric_of(example)
        if metric is not None:
            text = f"babeld exports {example} as withdrawn, with metric {metric}"
            return Problem(text, "if this stays: restart babeld", count)
        if rule is not None:
            text = f'babeld does not export {example} although "{rule.text}" ({rule.where}) allows it'
            command = f"ip -{example.version} route show exact {example}"
            remedy = f"{command}: is it in the kernel, by proto {protocol}? Then restart babeld"
            return Problem(text, remedy, count)
        if any(self._tables.metric_of(address) is not None for address in self._ledger.wanted):
            text = "babeld exports some of our routes and not others: a rule in front of ours denies those"
            return Problem(text, FRAGMENT, count)
        text = f"babeld exports none of our routes: no rule redistributes proto {protocol}, or an earlier one denies"
        return Problem(text, FRAGMENT, count)


def duplicates_remedy(quirks: Quirks) -> str:
    """How to let babeld install foreign routes beside parked ones."""
    if quirks.aborts_on_duplicates:
        return "start babeld with -A 65534 (this version ends itself when allow-duplicates stands in a file)"
    return f"allow-duplicates 65534 is missing or overridden: {FRAGMENT}"


def _prefix_of(address: Address) -> Prefix:
    return ip_network(address)
