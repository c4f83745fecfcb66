"""The asyncio shell: sources in, engine, effects out, one timer. Thin on purpose.

A batch of events goes through the engine and its effects are performed in the same call, without a task or a queue in
between: claims first (the old access point is the slowest part), then what is sent on to others, then the FIB, so that
no packet meets a gap between the two, then the rest; whoever only looks on comes last. The adapter for the routing
daemon, which may be slow, is told by a task of its own that always hands over the net change.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roamroute import events
from roamroute.admission import Admission
from roamroute.alarm import Alarm
from roamroute.check_neighbours import shortcomings
from roamroute.config import Config
from roamroute.delta import coalesce
from roamroute.effects import (
    AdvertiseGateway,
    Announce,
    Deauthenticate,
    DropClaim,
    Effect,
    EndForward,
    Forget,
    Forward,
    Note,
    Probe,
    SendAnswer,
    SendClaim,
    ShareHint,
    Unlearn,
    UnshareHint,
    Unwatch,
    Watch,
    Withdraw,
)
from roamroute.engine import Engine
from roamroute.errors import RoamrouteError
from roamroute.export import Exporter, ExporterContext, ExporterSpec, FibChange
from roamroute.linux.fib import KernelFib
from roamroute.linux.foreign import ForeignRoutes
from roamroute.linux.frame_sender import FrameSender
from roamroute.linux.gateway import GatewayAdvertiser
from roamroute.linux.neighbours import NeighbourSource
from roamroute.linux.packets import PacketSource
from roamroute.logs import RepeatedWarnings, log
from roamroute.onlookers import Observer, Onlookers
from roamroute.pauses import collect_rarely, freeze
from roamroute.policy import Handover
from roamroute.publisher import Publisher
from roamroute.systemd import notify
from roamroute.values import Address, HostRoute, Instant

if TYPE_CHECKING:
    from roamroute.discovery import Discovery
    from roamroute.hostapd import HostapdSource
    from roamroute.peering import Peering


class Daemon:
    """Everything that runs on one access point. `run` ends after `stop`, or by cancellation.

    Made from a checked configuration; opens nothing before `run`.
    """

    def __init__(self, config: Config, spec: ExporterSpec) -> None:
        self.config = config
        self.started_at: Instant = time.monotonic()
        self.onlookers = Onlookers()
        self.is_synced = False
        self._is_open = False
        roaming = config.roaming
        self.sender = FrameSender(log)
        self.discovery = self._open_discovery()
        self.peering = self._open_peering()
        self.engine = Engine(
            Admission(roaming.interfaces, roaming.prefixes),
            config.policy,
            me=None if config.peers is None else config.peers.address,
            seed=int.from_bytes(os.urandom(4), "big"),
            handover=Handover() if self.peering is None else self.peering.handover,
        )
        context = ExporterContext(
            interfaces=roaming.interfaces,
            prefixes=roaming.prefixes,
            kernel=config.kernel.numbers,
            emit=lambda event: self.take([event]),
            log=log,
            changed=self._export_changed,
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
        self.gateway = GatewayAdvertiser(log, self.sender, config.gateway)
        self.packets = PacketSource(
            roaming.interfaces,
            roaming.prefixes,
            self.take,
            log,
            is_hearing_update_frames=config.stations.source == "none",
        )
        self.hostapd = _follow_hostapd(config, lambda event: self.take([event]))
        if self.peering is not None:
            self.peering.follow(self.engine, is_exported_told=self.exporter.report().exported is not None)
        if self.discovery is not None:
            self.discovery.follow(self.engine, self.peering)
        self._own = events.OwnAddressesChanged(frozenset(), frozenset())
        self._warnings = RepeatedWarnings()
        self._alarm = Alarm(self._tick)
        self._publisher = Publisher(roaming.exporter, self.exporter, self._published)
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
                handled: list[tuple[events.Event | None, list[Effect]]] = []
                while self._backlog:
                    handled.append(self._handle(self._backlog.popleft(), now))
                self._perform(handled, now)
        finally:
            self._is_handling = False
        self._alarm.set(self.engine.next_wakeup)

    def _handle(self, event: events.Event, now: Instant) -> tuple[events.Event, list[Effect]]:
        self.onlookers.counters[type(event).__name__] += 1
        match event:
            case events.OwnAddressesChanged():
                self._own = event
                self.packets.own_macs(event.macs)
                event = events.OwnAddressesChanged(event.addresses | self._peer_addresses(), event.macs)
            case events.LinkLost() | events.NeighboursResynced():
                self.packets.link_changed()
                if not self.is_synced:
                    self.engine.announced_before = self.fib.left_by_an_earlier_run()
            case _:
                pass
        if self.peering is None:
            return event, self.engine.handle(event, now)
        if self.peering.is_segment(event):
            return event, []
        self.peering.before(event, now)
        effects = self.engine.handle(event, now)
        if isinstance(event, events.Drained):
            effects += [Withdraw(route, "drained") for route in self.peering.routes]
        elif isinstance(event, events.Resumed):
            effects += [Announce(route, "resumed") for route in self.peering.routes]
        return event, effects

    def _open_peering(self) -> Peering | None:
        if self.config.peers is None:
            return None
        from roamroute.peering import Peering  # PyNaCl and more: only who has peers pays

        return Peering(
            self.config,
            self.config.peers,
            lambda event: self.take([event]),
            peers_changed=lambda: self.take([self._own]),
            forwarding_changed=self._forwarding_changed,
            finished=lambda fields: self.onlookers.tell("handover", fields),
            dad_told=None if self.discovery is None or self.discovery.dad is None else self.discovery.told,
        )

    def _open_discovery(self) -> Discovery | None:
        advertises = self.config.ra is not None and self.config.ra.sender == "roamroute"
        if not self.config.roaming.interfaces or not (self.config.dad.enabled or advertises):
            return None
        from roamroute.discovery import Discovery  # only who uses it pays

        return Discovery(self.config, self.sender, self.onlookers)

    def _peer_addresses(self) -> frozenset[Address]:
        return frozenset() if self.peering is None else self.peering.addresses

    def _tick(self) -> None:
        now = time.monotonic()
        self._is_handling = True
        try:
            self._perform([(None, self.engine.tick(now))], now)
        finally:
            self._is_handling = False
        if self._backlog:
            self.take(())
        self._alarm.set(self.engine.next_wakeup)

    def _perform(self, handled: Sequence[tuple[events.Event | None, list[Effect]]], now: Instant) -> None:
        """In the order in which packets wait for it: those that a peer sends on come first."""
        effects = handled[0][1] if len(handled) == 1 else [effect for _, each in handled for effect in each]
        forwards: list[Forward | EndForward] = []
        routing: list[Announce | Withdraw] = []
        forgets: list[Forget] = []
        probes: list[Probe] = []
        greeted: list[AdvertiseGateway] = []
        rest: list[Effect] = []
        peering = self.peering
        for effect in effects:
            match effect:
                case SendClaim() if peering is not None:
                    peering.tell(effect)
                case Forward() | EndForward():
                    forwards.append(effect)
                case Announce() | Withdraw():
                    routing.append(effect)
                case Forget():
                    forgets.append(effect)
                case Probe():
                    probes.append(effect)
                case AdvertiseGateway():
                    greeted.append(effect)
                case _:
                    rest.append(effect)
        claimed_at = time.monotonic()
        if forwards and peering is not None:
            peering.forward(forwards)
        delta = coalesce(routing)
        if delta and self.is_synced and peering is not None:
            peering.deliver(delta)
        if probes and not forgets:
            self.neighbours.probe(probes)
        if delta and self.is_synced:
            self.fib.apply(delta)
            self._publisher.changed(routing)
        if not self.is_synced and any(isinstance(event, events.NeighboursResynced) for event, _ in handled):
            self._first_sync()
        done_at = time.monotonic()
        for station in greeted:
            self.gateway.advertise(station.link, station.mac)
        if self.discovery is not None:
            for event, caused in handled:
                self.discovery.handled(event, caused)
        self._perform_rest(rest, now)
        if forgets:
            self.neighbours.forget(forgets)
            if probes:  # perhaps of what has just been forgotten
                self.neighbours.probe(probes)
        if peering is not None:
            peering.after(effects, claimed_at, done_at)
            if routing and peering.is_waiting_for_export:  # a route that lingered has been exported all the time
                asyncio.get_running_loop().call_soon(self._look_at_exports)
        for event, caused in handled:
            self.onlookers.handled(event, caused)

    def _perform_rest(self, effects: Sequence[Effect], now: Instant) -> None:
        """What no packet waits for."""
        for effect in effects:
            match effect:
                case SendAnswer() | DropClaim() | ShareHint() | UnshareHint() if self.peering is not None:
                    self.peering.tell(effect)
                case Watch(link=link, mac=mac):
                    self.packets.watch(link, mac)
                case Unwatch(link=link, mac=mac):
                    self.packets.unwatch(link, mac)
                case Unlearn():
                    self.neighbours.unlearn([effect])
                case Deauthenticate() if self.hostapd is not None:
                    self.hostapd.deauthenticate(effect)
                case Note(key=key, because=because):
                    line = self._warnings.admit(key, because, now)
                    if line is not None:
                        log("warning", line)
                case _:
                    pass

    def _first_sync(self) -> None:
        """The neighbour table is known: adopt our routes of an earlier run that are still true, and drop the others."""
        self.is_synced = True
        self.fib.apply_all(self._published())
        if self.peering is not None:
            self.peering.deliver_all(self.engine.wanted.values())
        self._publisher.all_changed()
        log("info", f"in sync: routes={len(self.engine.wanted)} hosts={len(self.engine.hosts)}")
        freeze()
        self._tell_when_ready()

    def _published(self) -> tuple[HostRoute, ...]:
        """All that is to be in the FIB and exported: the hosts, and the segments under which we take packets."""
        segments = () if self.peering is None or self.engine.is_drained else self.peering.routes
        return (*self.engine.wanted.values(), *segments)

    def _export_changed(self) -> None:
        self.fib.look_again()
        self._look_at_exports()

    def _look_at_exports(self) -> None:
        if self.peering is not None and self.peering.is_waiting_for_export:
            self.peering.exported(self.exporter.report().exported or frozenset())

    def control_opened(self) -> None:
        """The control socket takes connections from now on."""
        self._is_open = True
        self._tell_when_ready()

    def _tell_when_ready(self) -> None:
        if self.is_synced and self._is_open:
            notify("READY=1")

    @property
    def installed(self) -> Collection[Address] | None:
        """The addresses whose routes are in the kernel; None where the daemon installs them, and does not tell."""
        return self.fib.installed if self.exporter.needs().installs else self.exporter.report().installed

    # -- who looks on -----------------------------------------------------------------------------------------------

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Show every event and effect to `observer`; returns the function that ends it."""
        return self.onlookers.add(observer)

    def _forwarding_changed(self) -> None:
        """It has become possible to take encapsulated packets, or impossible: who looks for us there must know."""
        assert self.peering is not None
        self.engine.handover = self.peering.handover
        self._alarm.set(self.engine.next_wakeup)
        if self.is_synced:
            self.fib.apply_all(self._published())
            self.peering.deliver_all(self.engine.wanted.values())
            self._publisher.all_changed()

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
        loop.add_signal_handler(signal.SIGHUP, self._read_again)
        for shortcoming in shortcomings(self.config):
            log("warning", shortcoming)
        if self.peering is not None:
            self.peering.open()
            self.engine.handover = self.peering.handover
        else:
            from roamroute.linux.left_overs import remove_left_overs  # an earlier run may have had peers

            remove_left_overs(self.config.handover.tables, self.config.kernel.numbers, log)
        tasks = [asyncio.create_task(part, name=name) for name, part in self._parts()]
        if not self.config.roaming.interfaces:  # without a client link there is nobody to wait for
            self.take([self._own, events.NeighboursResynced(frozenset(), ())])
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
            loop.remove_signal_handler(signal.SIGHUP)

    def _read_again(self) -> None:
        """SIGHUP, by which `systemctl reload` asks: the peers' keys are what is read again."""
        if self.peering is not None:
            self.peering.reread_keys()
        else:
            log("info", "SIGHUP: without [peers] there is nothing to read again; restart for another configuration")

    def _parts(self) -> Iterable[tuple[str, Coroutine[Any, Any, None]]]:
        yield "fib", self.fib.run()
        if self.exporter is not self.fib:  # which tells itself
            yield "exporter", self.exporter.run()
            yield "publisher", self._publisher.run()
        if self.config.roaming.interfaces:
            yield from self._sources()
        if self.peering is not None:
            yield from self.peering.parts()
        if self.discovery is not None:
            yield from self.discovery.parts()
        from roamroute.control import serve  # control.py shows this class: the import would be a circle at the top

        yield "pauses", collect_rarely(lambda: self.peering is not None and self.peering.is_handing_over)
        yield "control", serve(self, Path(self.config.control.socket))
        if self.config.metrics is not None:
            from roamroute.metrics import serve_metrics

            yield "metrics", serve_metrics(self, self.config.metrics)

    def _sources(self) -> Iterable[tuple[str, Coroutine[Any, Any, None]]]:
        yield "neighbours", self.neighbours.run()
        if self.config.packets.enabled:
            yield "packets", self.packets.run()
        if self.hostapd is not None:
            yield "hostapd", self.hostapd.run()
        elif self.config.stations.source == "nl80211":
            from roamroute.linux.stations import Nl80211Source  # only who asks for it pays

            yield "stations", Nl80211Source(self.config.roaming.interfaces, self.take, log).run()

    async def _follow_fib(self, changed: Callable[[FibChange], None]) -> None:
        roaming, numbers = self.config.roaming, self.config.kernel.numbers
        await ForeignRoutes(roaming.prefixes, numbers, changed, log, interfaces=roaming.interfaces).run()

    async def _withdraw_all(self) -> None:
        notify("STOPPING=1")
        if self.config.kernel.keep_on_stop or not self.is_synced:
            log("info", "stopped, routes are kept" if self.is_synced else "stopped before it was in sync")
            return
        withdrawn = frozenset(route.address for route in self._published())
        if self.discovery is not None:
            self.discovery.stop()
        self.drain()
        left = await self._publisher.withdraw_all(withdrawn)
        self.fib.clear()
        if self.peering is not None:
            self.peering.clear()
        log("info", f"stopped, {left} routes are left in the routing daemon" if left else "stopped, all withdrawn")

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._alarm.cancel()
        if self.exporter is not self.fib:
            await self.exporter.close()
        await self.fib.close()
        self.gateway.close()
        if self.discovery is not None:
            self.discovery.close()
        self.sender.close()
        if self.peering is not None:
            await self.peering.close()


def _follow_hostapd(config: Config, emit: Callable[[events.Event], None]) -> HostapdSource | None:
    if config.stations.source != "hostapd" or not config.roaming.interfaces:
        return None
    from roamroute.hostapd import HostapdSource, roaming_link_of

    return HostapdSource(Path(config.stations.hostapd_dir), roaming_link_of(config.roaming.interfaces), emit, log)
