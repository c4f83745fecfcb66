"""What an access point does in Neighbour Discovery: the DAD proxy, and router advertisements.

Exists only with `[dad]` or `[ra]`; nothing of it is loaded else. The pure parts decide, this performs: synchronously,
in the call in which a frame or a datagram has come, and without waiting for anybody.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from roamroute import events
from roamroute.alarm import Alarm
from roamroute.config import Config
from roamroute.dad import DadEffect, DadProxy, Defend, HandOut, Relay
from roamroute.effects import AdvertiseGateway, Effect
from roamroute.engine import Engine
from roamroute.hosts import Host
from roamroute.linux.discovery import DiscoveryTap
from roamroute.linux.frame_sender import FrameSender
from roamroute.logs import RepeatedWarnings, log
from roamroute.onlookers import Onlookers
from roamroute.other_routers import OtherRouters
from roamroute.ra import Advertise, Advertiser
from roamroute.values import Address, DadKind, DadMessage, Instant, Mac, PeerId, Seconds
from roamroute.wire.discovery import RouterSolicitation, advertisement, handed_out
from roamroute.wire.router_advertisements import ALL_NODES, HeardRouter, router_advertisement

if TYPE_CHECKING:
    from roamroute.peering import Peering

_LOOK_AGAIN_S: Seconds = 1.0


@attrs.frozen
class DadHeard:
    """A host on `link` asked for an address, or said that it has it."""

    link: str
    message: DadMessage


@attrs.frozen
class DadTold:
    """A peer told what one of its hosts has said."""

    peer: PeerId
    message: DadMessage


@attrs.frozen
class Advertised:
    """A router advertisement was sent, to one station or (None) to all."""

    link: str
    station: Mac | None
    lifetime_s: int


class Discovery:
    """Opens nothing before its `parts` run. `sender` is not closed; `onlookers` are shown what is heard and done."""

    def __init__(self, config: Config, sender: FrameSender, onlookers: Onlookers) -> None:
        roaming = config.roaming
        self._config = config
        self._onlookers = onlookers
        self._view = _View(None if config.peers is None else config.peers.address)
        self.tap = DiscoveryTap(roaming.interfaces, self._heard, log, stations=self._view.stations)
        self._sender = sender
        self.dad: DadProxy | None = None
        if config.dad.enabled:
            self.dad = DadProxy(
                roaming.interfaces,
                roaming.prefixes,
                self._view,
                mode=config.dad.mode,
                is_isolated=config.dad.isolated,
            )
        self.advertiser: Advertiser | None = None
        if config.ra is not None and config.ra.sender == "roamroute":
            self.advertiser = Advertiser(
                roaming.interfaces,
                config.ra.router(roaming.prefixes),
                needs_route=bool(config.ra.needs_route),
                seed=int.from_bytes(os.urandom(4), "big"),
            )
        self.other_routers = OtherRouters()
        self._warnings = RepeatedWarnings()
        self._peering: Peering | None = None
        self._dad_alarm = Alarm(self._dad_tick)
        self._advertiser_alarm = Alarm(self._advertiser_tick)

    def follow(self, engine: Engine, peering: Peering | None) -> None:
        """Whose hosts these are, and who is told of them; to be called before the first event."""
        self._view.engine = engine
        self._view.peering = self._peering = peering

    # -- what the daemon tells --------------------------------------------------------------------------------------

    def handled(self, event: events.Event | None, effects: Iterable[Effect]) -> None:
        """The engine has taken this event, and what it asked for has been done."""
        now = time.monotonic()
        advertiser = self.advertiser
        match event:
            case events.StationConnected(station=station):
                self._view.forget_stations()
                if advertiser is not None:
                    self._advertise(advertiser.connected(station.link, station.mac, now))
            case events.StationsResynced():
                self._view.forget_stations()
                self._greet(effects, now)
            case events.MacLearned() | events.StationAnnounced():  # where bridges stand in for associations
                self._greet(effects, now)
            case events.OwnAddressesChanged(addresses=addresses, macs=macs):
                self.tap.own_macs(macs)
                self._view.own_macs = macs
                self._view.addresses = addresses
            case events.NeighboursResynced(links=links):
                self.tap.link_changed()
                if advertiser is not None:
                    for link in sorted(links):
                        self._advertise(advertiser.link_up(link, now))
            case events.LinkLost(link=link):
                self.tap.link_changed()
                if advertiser is not None:
                    advertiser.link_lost(link)
            case events.Drained() if advertiser is not None:
                self._advertise(advertiser.drained(now))
            case events.Resumed() if advertiser is not None:
                self._advertise(advertiser.resumed(now))
            case events.StationLeft():
                self._view.forget_stations()
            case _:
                pass

    def _greet(self, effects: Iterable[Effect], now: Instant) -> None:
        if self.advertiser is not None:
            for effect in effects:
                if isinstance(effect, AdvertiseGateway):
                    self._advertise(self.advertiser.connected(effect.link, effect.mac, now))

    def told(self, peer: PeerId, message: DadMessage) -> None:
        """A peer told what one of its hosts has said; what our links had to say before must have been taken."""
        assert self.dad is not None
        self._perform(self.dad.told(peer, message, time.monotonic()), DadTold(peer, message))

    def stop(self) -> None:
        """The last advertisements: this router is none any more. Nothing follows."""
        if self.advertiser is not None:
            hosts = self._view.engine.hosts.values()
            stations = [(host.station_link, host.mac) for host in hosts if host.station_link is not None]
            self._advertise(self.advertiser.stopped(stations))

    # -- what comes in ----------------------------------------------------------------------------------------------

    def _heard(self, link: str, heard: DadMessage | RouterSolicitation | HeardRouter) -> None:
        now = time.monotonic()
        match heard:
            case DadMessage():
                if self.dad is not None:
                    effects = self.dad.heard(link, heard, now)
                    self._perform(effects, DadHeard(link, heard))
            case RouterSolicitation():
                if self.advertiser is not None:
                    self._advertise(self.advertiser.solicited(link, heard.mac, heard.source, now))
            case HeardRouter():
                if self.other_routers.heard(link, heard, now):
                    text = f"another router advertises link={link} mac={heard.mac} source={heard.source}"
                    line = self._warnings.admit(f"router {link}", text, now)
                    if line is not None:
                        log("info", line)

    def _route_changed(self, has_route: bool) -> None:
        assert self.advertiser is not None
        self._advertise(self.advertiser.route_changed(has_route, time.monotonic()))

    # -- what goes out ----------------------------------------------------------------------------------------------

    def _dad_tick(self) -> None:
        assert self.dad is not None
        self._perform(self.dad.tick(time.monotonic()))

    def _advertiser_tick(self) -> None:
        assert self.advertiser is not None
        self._advertise(self.advertiser.tick(time.monotonic()))

    def _perform(self, effects: Sequence[DadEffect], cause: DadHeard | DadTold | None = None) -> None:
        """The peers first: theirs is the longer way."""
        assert self.dad is not None
        for effect in effects:
            if isinstance(effect, Relay) and self._peering is not None:
                self._peering.channel.relay_dad(effect.message, effect.peers)
        for effect in effects:
            match effect:
                case HandOut(link=link, message=message, stations=stations):
                    self._emit(link, message, (None,) if stations is None else stations)
                case Defend():
                    self._defend(effect)
                case Relay():
                    pass
        self._dad_alarm.set(self.dad.next_wakeup)
        if self._onlookers:
            self._show([*effects] if cause is None else [cause, *effects])

    def _emit(self, link: str, message: DadMessage, stations: Iterable[Mac | None]) -> None:
        source = self._sender.mac_of(link)
        if source is None:
            return
        for frame in handed_out(source, message, stations):
            self._sender.send(link, frame)

    def _defend(self, effect: Defend) -> None:
        source = self._sender.mac_of(effect.link)
        if source is not None:
            answer = DadMessage(DadKind.ADVERTISEMENT, effect.target, source)
            self._sender.send(effect.link, advertisement(source, answer, effect.station))

    def _advertise(self, effects: Sequence[Advertise]) -> None:
        assert self.advertiser is not None
        for effect in effects:
            source = self._sender.mac_of(effect.link)
            if source is not None:
                to = ALL_NODES if effect.address is None else effect.address
                frame = router_advertisement(source, effect.station, effect.router, destination=to)
                self._sender.send(effect.link, frame)
        self._advertiser_alarm.set(self.advertiser.next_wakeup)
        if self._onlookers:
            self._show([Advertised(each.link, each.station, each.router.lifetime_s) for each in effects])

    def _show(self, values: Sequence[object]) -> None:
        """Later: what led to it may not have been shown."""

        def show() -> None:
            for value in values:
                self._onlookers.tell("discovery", value)

        asyncio.get_running_loop().call_soon(show)

    # -- running ----------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What is to run, each with its name."""
        yield "neighbour discovery", self.tap.run()
        ra = self._config.ra
        if self.advertiser is not None and ra is not None and ra.needs_route:
            from roamroute.linux.default_route import RouteWatch  # only who needs one looks

            yield "default route", RouteWatch(ra.needs_route, self._route_changed, log).run()

    def close(self) -> None:
        """Send nothing any more."""
        self._dad_alarm.cancel()
        self._advertiser_alarm.cancel()


class _View:
    """What the DAD proxy asks (`roamroute.dad.View`), answered from the engine."""

    def __init__(self, me: PeerId | None) -> None:
        self._me = me
        self.engine: Engine
        self.peering: Peering | None = None
        self.own_macs: frozenset[Mac] = frozenset()
        self.addresses: frozenset[Address] = frozenset()
        self._stations: dict[str, tuple[Mac, ...]] = {}
        self._looked_at: Instant = float("-inf")

    @property
    def own_addresses(self) -> frozenset[Address]:
        """Those of this access point, and those under which it takes encapsulated packets."""
        segments = () if self.peering is None else self.peering.routes
        return self.addresses.union(route.address for route in segments)

    def stations(self, link: str) -> Collection[Mac]:
        """A host that no association vouches for may be missing for a second."""
        now = time.monotonic()
        if now - self._looked_at > _LOOK_AGAIN_S:
            self.forget_stations()
            self._looked_at = now
        if link not in self._stations:
            self._stations[link] = tuple(host.mac for host in self.engine.hosts.values() if _link_of(host) == link)
        return self._stations[link]

    def forget_stations(self) -> None:
        """Look again: one has come or gone."""
        self._stations.clear()

    def link_of(self, mac: Mac) -> str | None:
        """Where the host is; None for one that is not here."""
        host = self.engine.hosts.get(mac)
        return None if host is None else _link_of(host)

    def holder(self, address: Address) -> tuple[str, Mac] | None:
        """The link and the MAC of the host here that has the address."""
        entry = self.engine.entries.get(address)
        return None if entry is None else (entry.link, entry.mac)

    def announcer(self, address: Address) -> PeerId | None:
        """The peer that has claimed a host with this address, though its station may still be listed here."""
        host = self.engine.bound_host(address)
        return None if host is None or host.holder == self._me else host.holder


def _link_of(host: Host) -> str | None:
    if host.held_since is not None and host.is_proven_before(host.held_since):
        return None  # a station that is listed here still, and has associated at a peer since
    if host.station_link is None and host.entries:
        return next(iter(host.entries.values())).link
    return host.station_link
