"""The asyncio shell: sources in, engine, effects out, one timer. Thin on purpose.

A batch of events goes through the engine and its effects are performed in the same call, without a task or a queue in
between: claims first (the old access point is the slowest part), then the FIB, then probes. The adapter for the routing
daemon, which may be slow, is told by a task of its own that always hands over the net change.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roamroute import events
from roamroute.admission import Admission
from roamroute.config import Config
from roamroute.delta import coalesce
from roamroute.effects import (
    AdvertiseGateway,
    Announce,
    Deauthenticate,
    DropClaim,
    Effect,
    Forget,
    Note,
    Probe,
    SendAnswer,
    SendClaim,
    Unwatch,
    Watch,
    Withdraw,
)
from roamroute.engine import Engine
from roamroute.errors import RoamrouteError
from roamroute.export import Exporter, ExporterContext, ExporterSpec, FibChange
from roamroute.linux.fib import KernelFib
from roamroute.linux.foreign import ForeignRoutes
from roamroute.linux.gateway import GatewayAdvertiser
from roamroute.linux.neighbours import NeighbourSource
from roamroute.linux.packets import PacketSource
from roamroute.logs import RepeatedWarnings, is_logged, line_of, log
from roamroute.values import Address, Instant, PeerId, Seconds

if TYPE_CHECKING:
    from roamroute.hostapd import HostapdSource
    from roamroute.peers import PeerChannel

_PUBLISH_LIMIT_S: Seconds = 10.0  # an exporter that takes longer is told everything again
_PUBLISH_PAUSE_S: Seconds = 1.0  # before a failed publication is tried again, doubled up to 30 s
_STOP_LIMIT_S: Seconds = 5.0  # systemd kills after 90 s by default; an operator at a terminal waits less gladly
_STOP_INJECTED_S: Seconds = 30.0  # where nobody else can take the routes away: FRR needs 20 s for 5,000
_STOP_LOOK_S: Seconds = 0.05

Observer = Callable[[str, Any], None]
"""Gets "event" or "effect" and the value; called synchronously, must not block."""


class Daemon:
    """Everything that runs on one access point. `run` ends after `stop`, or by cancellation.

    Made from a checked configuration; opens nothing before `run`.
    """

    def __init__(self, config: Config, spec: ExporterSpec) -> None:
        self.config = config
        self.started_at: Instant = time.monotonic()
        self.counters: Counter[str] = Counter()
        self.is_synced = False
        self._is_open = False
        roaming = config.roaming
        peers = config.peers
        self.engine = Engine(
            Admission(roaming.interfaces, roaming.prefixes),
            config.policy,
            me=None if peers is None else peers.address,
            seed=int.from_bytes(os.urandom(4), "big"),
        )
        context = ExporterContext(
            interfaces=roaming.interfaces,
            prefixes=roaming.prefixes,
            kernel=config.kernel.numbers,
            emit=lambda event: self.take([event]),
            log=log,
            changed=lambda: self.fib.look_again(),
            follow_fib=self._follow_fib,
        )
        self.exporter: Exporter = spec.create(spec.parse(config.exporter_settings), context)
        if isinstance(self.exporter, KernelFib):
            self.fib = self.exporter
        else:
            self.fib = KernelFib(context, self.exporter.needs, self.exporter.may_delete)
        self.neighbours = NeighbourSource(
            roaming.interfaces, self.take, log, is_following_bridge=config.stations.source == "none"
        )
        self.gateway = GatewayAdvertiser(log)
        self.packets = PacketSource(roaming.interfaces, roaming.prefixes, self.take, log)
        self.hostapd = _follow_hostapd(config, lambda event: self.take([event]))
        self.peers = _open_channel(config, lambda event: self.take([event]))
        self._own = events.OwnAddressesChanged(frozenset(), frozenset())
        self._discovered: set[PeerId] = set()
        self._observers: set[Observer] = set()
        self._warnings = RepeatedWarnings()
        self._timer: asyncio.TimerHandle | None = None
        self._unpublished: list[Effect] = []
        self._publish_wanted = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._must_publish_all = True
        self._stop_wanted = asyncio.Event()
        self._is_handling = False
        self._backlog: deque[events.Event] = deque()

    # -- events in, effects out -------------------------------------------------------------------------------------

    def take(self, batch: Sequence[events.Event]) -> None:
        """Put events through the engine and perform what it asks for. Re-entrant calls are queued behind."""
        self._backlog.extend(batch)
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._backlog:
                now = time.monotonic()
                effects: list[Effect] = []
                is_resynced = False
                while self._backlog:
                    event = self._prepared(self._backlog.popleft())
                    self._observe("event", event)
                    effects += self.engine.handle(event, now)
                    is_resynced = is_resynced or isinstance(event, events.NeighboursResynced)
                self._perform(effects, now, is_resynced)
        finally:
            self._is_handling = False
        self._rearm()

    def _prepared(self, event: events.Event) -> events.Event:
        """Add what only the shell knows: the peers are routers of the mesh."""
        self.counters[type(event).__name__] += 1
        if isinstance(event, events.OwnAddressesChanged):
            self._own = event
            self.packets.own_macs(event.macs)
            return events.OwnAddressesChanged(event.addresses | self._peer_addresses(), event.macs)
        if isinstance(event, events.LinkLost | events.NeighboursResynced):
            self.packets.link_changed()
        return event

    def _peer_addresses(self) -> frozenset[Address]:
        peers = self.config.peers
        if peers is None:
            return frozenset()
        return frozenset({peers.address, *peers.addresses, *self._discovered})

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        self._is_handling = True
        try:
            self._perform(self.engine.tick(now), now, is_resynced=False)
        finally:
            self._is_handling = False
        if self._backlog:
            self.take(())
        self._rearm()

    def _rearm(self) -> None:
        due = self.engine.next_wakeup
        if self._timer is not None:
            if due is not None and self._timer.when() <= due:
                return  # an early tick is harmless, and cheaper than a new timer for every event
            self._timer.cancel()
            self._timer = None
        if due is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(loop.time() + max(0.0, due - time.monotonic()), self._tick)

    def _perform(self, effects: list[Effect], now: Instant, is_resynced: bool) -> None:
        probes: list[Probe] = []
        forgets: list[Forget] = []
        greeted: list[AdvertiseGateway] = []
        is_routing_changed = False
        for effect in effects:
            self.counters[type(effect).__name__] += 1
            self._observe("effect", effect)
            match effect:
                case SendClaim() if self.peers is not None:
                    self.peers.send_claim(effect)
                case SendAnswer() if self.peers is not None:
                    self.peers.send_answer(effect)
                case DropClaim() if self.peers is not None:
                    self.peers.drop_claim(effect)
                case Announce() | Withdraw():
                    is_routing_changed = True
                case Probe():
                    probes.append(effect)
                case Forget():
                    forgets.append(effect)
                case Watch(link=link, mac=mac):
                    self.packets.watch(link, mac)
                case Unwatch(link=link, mac=mac):
                    self.packets.unwatch(link, mac)
                case AdvertiseGateway():
                    greeted.append(effect)
                case Deauthenticate() if self.hostapd is not None:
                    self.hostapd.deauthenticate(effect)
                case Note(key=key, because=because):
                    line = self._warnings.admit(key, because, now)
                    if line is not None:
                        log("warning", line)
                case _:
                    pass
        if is_resynced and not self.is_synced:
            self._first_sync()
        elif is_routing_changed and self.is_synced:
            self.fib.apply(coalesce(effects))
            self._unpublished += [effect for effect in effects if isinstance(effect, Announce | Withdraw)]
            self._publish_wanted.set()
        if forgets:
            self.neighbours.forget(forgets)
        if probes:
            self.neighbours.probe(probes)
        for station in greeted:  # it asks the kernel for the link's addresses: no route waits for that
            self.gateway.advertise(station.link, station.mac)

    def _first_sync(self) -> None:
        """The neighbour table is known: adopt our routes of an earlier run that are still true, and drop the others."""
        self.is_synced = True
        self.fib.apply_all(tuple(self.engine.wanted.values()))
        self._must_publish_all = True
        self._publish_wanted.set()
        log("info", f"in sync: routes={len(self.engine.wanted)} hosts={len(self.engine.hosts)}")
        self._tell_when_ready()

    def control_opened(self) -> None:
        """The control socket takes connections from now on."""
        self._is_open = True
        self._tell_when_ready()

    def _tell_when_ready(self) -> None:
        if self.is_synced and self._is_open:
            _notify_systemd("READY=1")

    @property
    def installed(self) -> Collection[Address] | None:
        """The addresses whose routes are in the kernel; None where the daemon installs them, and does not tell."""
        return self.fib.installed if self.exporter.needs().installs else self.exporter.report().installed

    # -- who looks on -----------------------------------------------------------------------------------------------

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Show every event and effect to `observer`; returns the function that ends it."""
        self._observers.add(observer)
        return lambda: self._observers.discard(observer)

    def _observe(self, kind: str, value: Any) -> None:
        for observer in tuple(self._observers):
            observer(kind, value)
        level = "info" if isinstance(value, Announce | Withdraw | Deauthenticate) else "debug"
        if is_logged(level):
            log(level, line_of(value))

    # -- the operator -----------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Withdraw everything and hold."""
        self.take([events.Drained()])

    def resume(self) -> None:
        """End the drain."""
        self.take([events.Resumed()])

    def stop(self) -> None:
        """Let `run` end: withdraw, unless the configuration says to keep."""
        self._stop_wanted.set()

    # -- running ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until `stop`, SIGTERM or SIGINT.

        Raises: RoamrouteError of a part that cannot go on; what it held stays in the kernel then, as after a crash.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        tasks = [asyncio.create_task(part, name=name) for name, part in self._parts()]
        stopping = asyncio.create_task(self._stop_wanted.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                if (error := task.exception()) is not None:
                    raise error
                raise RoamrouteError(f"the part {task.get_name()!r} ended by itself; this is a bug in roamroute")
            await self._withdraw_all()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            stopping.cancel()
            await self._end(tasks)

    def _parts(self) -> Iterable[tuple[str, Coroutine[Any, Any, None]]]:
        yield "fib", self.fib.run()
        if self.exporter is not self.fib:
            yield "exporter", self.exporter.run()
        yield "neighbours", self.neighbours.run()
        if self.config.packets.enabled:
            yield "packets", self.packets.run()
        if self.hostapd is not None:
            yield "hostapd", self.hostapd.run()
        elif self.config.stations.source == "nl80211":
            from roamroute.linux.stations import Nl80211Source  # only who asks for it pays

            yield "stations", Nl80211Source(self.config.roaming.interfaces, self.take, log).run()
        if self.peers is not None:
            yield "peers", self.peers.run()
            assert self.config.peers is not None
            if self.config.peers.discover is not None:
                discover = ForeignRoutes(
                    (self.config.peers.discover,), self.config.kernel.numbers, self._peers_discovered, log
                )
                yield "discovery", discover.run()
        yield "publisher", self._publish()
        from roamroute.control import serve  # control.py shows this class: the import would be a circle at the top

        yield "control", serve(self, Path(self.config.control.socket))
        if self.config.metrics is not None:
            from roamroute.metrics import serve_metrics

            yield "metrics", serve_metrics(self, self.config.metrics)

    async def _follow_fib(self, changed: Callable[[FibChange], None]) -> None:
        roaming, numbers = self.config.roaming, self.config.kernel.numbers
        await ForeignRoutes(roaming.prefixes, numbers, changed, log, interfaces=roaming.interfaces).run()

    def _peers_discovered(self, change: FibChange) -> None:
        peers = self.config.peers
        assert peers is not None
        assert self.peers is not None
        self._discovered = (self._discovered | set(change.foreign)) - change.lost - {peers.address}
        self.peers.set_peers({*peers.addresses, *self._discovered})
        self.take([self._own])

    async def _publish(self) -> None:
        """Tell the exporter the net change, one publication at a time; after a failure, everything."""
        pause_s = _PUBLISH_PAUSE_S
        while True:
            await self._publish_wanted.wait()
            self._publish_wanted.clear()
            if not self.is_synced or self.exporter is self.fib:
                self._unpublished.clear()
                continue
            delta = coalesce(self._unpublished)
            self._unpublished = []
            try:
                async with asyncio.timeout(_PUBLISH_LIMIT_S), self._publishing:
                    if self._must_publish_all:
                        await self.exporter.publish_all(tuple(self.engine.wanted.values()))
                        self._must_publish_all = False
                    else:
                        await self.exporter.publish(delta)
                pause_s = _PUBLISH_PAUSE_S
            except (RoamrouteError, TimeoutError) as error:
                text = str(error) or f"no end after {_PUBLISH_LIMIT_S:g} s"
                log("warning", f"exporter {self.config.roaming.exporter}: {text}; trying again in {pause_s:g} s")
                self._must_publish_all = True
                self._publish_wanted.set()
                await asyncio.sleep(pause_s)
                pause_s = min(30.0, 2 * pause_s)

    async def _withdraw_all(self) -> None:
        _notify_systemd("STOPPING=1")
        if self.config.kernel.keep_on_stop or not self.is_synced:
            log("info", "stopped, routes are kept" if self.is_synced else "stopped before it was in sync")
            return
        withdrawn = frozenset(self.engine.wanted)
        limit_s = _STOP_LIMIT_S if self.exporter.needs().installs else _STOP_INJECTED_S
        self.drain()
        try:
            async with asyncio.timeout(limit_s), self._publishing:
                if self.exporter is not self.fib:
                    await self.exporter.publish_all(())
                await asyncio.sleep(self.exporter.needs().linger_s)
                while self._left(withdrawn):  # noqa: ASYNC110 - a report tells nobody that it has changed
                    await asyncio.sleep(_STOP_LOOK_S)
        except (RoamrouteError, TimeoutError) as error:
            text = str(error) or f"no end after {limit_s:g} s"
            log("warning", f"exporter {self.config.roaming.exporter}: {text} while withdrawing")
        self.fib.clear()
        left = self._left(withdrawn)
        log("info", f"stopped, {len(left)} routes are left in the routing daemon" if left else "stopped, all withdrawn")

    def _left(self, withdrawn: frozenset[Address]) -> frozenset[Address]:
        """Which of these a daemon that installs them itself still has in the kernel."""
        return withdrawn & (self.exporter.report().installed or frozenset())

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        if self.exporter is not self.fib:
            await self.exporter.close()
        await self.fib.close()
        self.gateway.close()
        if self.peers is not None:
            self.peers.close()


def _follow_hostapd(config: Config, emit: Callable[[events.Event], None]) -> HostapdSource | None:
    if config.stations.source != "hostapd":
        return None
    from roamroute.hostapd import HostapdSource, roaming_link_of

    return HostapdSource(Path(config.stations.hostapd_dir), roaming_link_of(config.roaming.interfaces), emit, log)


def _open_channel(config: Config, emit: Callable[[events.Event], None]) -> PeerChannel | None:
    if config.peers is None:
        return None
    from roamroute.peers import PeerChannel, read_key  # PyNaCl: only who has peers pays

    section = config.peers
    return PeerChannel(section.address, section.port, read_key(Path(section.key_file)), section.addresses, emit, log)


def _notify_systemd(state: str) -> None:
    """sd_notify(3): one datagram to $NOTIFY_SOCKET; nothing happens without systemd."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.connect("\0" + path[1:] if path.startswith("@") else path)
        notifier.send(state.encode())
