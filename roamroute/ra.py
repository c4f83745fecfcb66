"""When router advertisements are sent, to whom, and with which lifetime (RFC 4861 §6.2, RFC 7772). Pure.

All access points say the same (`AdvertisedRouter`), from the same address: a client has one default router wherever it
is. What differs is whether this one can be used now: while it is drained, or has lost the routes that it needs, it says
a router lifetime of 0, and a client that comes from elsewhere drops its default route. The next access point gives it
back with the advertisement that it sends to every station as soon as that is connected.

Batteries (RFC 7772): a solicitation is answered to the one that asked, never to all, and to all nodes something is sent
every 7.5 to 30 minutes. A station is told at its connection: the rare multicast is only there to renew lifetimes.

One thing is not as RFC 4861 §6.2.6 has it: an answer is not delayed by up to 0.5 s. That keeps the routers of a link
from answering a solicitation at the same moment; here one access point hears it, and answers one station.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable
from ipaddress import IPv6Address

import attrs

from roamroute.schedule import Budget, Timetable
from roamroute.values import AdvertisedRouter, Instant, Mac, Seconds

INITIAL_ADVERTISEMENTS = 3
"""MAX_INITIAL_RTR_ADVERTISEMENTS, RFC 4861 §10; also after what we say has changed (§6.2.4)."""
INITIAL_INTERVAL_S: Seconds = 16.0
"""MAX_INITIAL_RTR_ADVERT_INTERVAL: the first ones are not further apart."""
FINAL_ADVERTISEMENTS = 3
"""MAX_FINAL_RTR_ADVERTISEMENTS: with lifetime 0; Wi-Fi does not acknowledge a multicast frame, so more than one."""
MIN_DELAY_S: Seconds = 3.0
"""MIN_DELAY_BETWEEN_RAS: between two advertisements to all nodes of a link, whatever their reason."""
REPEATED_AFTER_S: tuple[Seconds, ...] = (0.02, 0.1)
"""An advertisement to a station that has just connected, again: hostapd reports it when it has sent its own last frame,
and the station may still be installing its keys (with 802.11r it always is: docs/linux-facts.md). Three frames of 100
to 250 octets at each connection."""
LOST_ROUTE_AFTER_S: Seconds = 5.0
"""A route that is needed must be away for so long: a routing daemon that restarts is without it for some seconds."""
ANSWERS_PER_STATION_S = 0.5
"""A host asks three times, 4 s apart (RFC 4861 §6.3.7), then ever more rarely (RFC 7559); …"""
ANSWERS_BURST = 4
"""… and each time it has associated."""
ANSWERS_PER_S = 50.0
"""To all stations together, at a link each: 50 frames of 250 octets at 6 Mb/s take 2 % of the air."""
ANSWERS_TOTAL_BURST = 200
"""200 stations that ask at once (the link has just come up) are all answered at once."""
CONNECTIONS_PER_S = 50.0
"""Apart from the answers, which anybody can use up under invented addresses: an association is vouched for. …"""
CONNECTIONS_BURST = 2007
"""… As many stations as an access point has association identifiers for (IEEE 802.11-2020 §9.4.1.8)."""
STATIONS_REMEMBERED = 1024
"""For their limits; whoever solicits under ever new link-layer addresses meets the total limit instead."""


@attrs.frozen
class Advertise:
    """Send one router advertisement on `link`, now.

    `station` None: to all nodes, by multicast. Else in a frame to that station alone; `address` is the link-local
    address that it asked from, None where that is not known: then the packet goes to ff02::1 all the same (RFC 6085).
    `router` is what to say; its `lifetime_s` is 0 where this router is not to be used.
    """

    link: str
    router: AdvertisedRouter
    station: Mac | None = None
    address: IPv6Address | None = None


class Advertiser:
    """The advertisements of one access point on its roaming `links`. Not reentrant; `now` never goes back.

    Every method returns what is to be sent at once. `tick` is to be called at `next_wakeup`; early is harmless.
    A link is silent until `link_up`. With `needs_route` all are silent until `route_changed` has been called once.
    `counters`: "multicast", "solicited", "connected" (frames sent for that reason), "refused" (limits).
    """

    def __init__(
        self, links: Collection[str], router: AdvertisedRouter, *, needs_route: bool = False, seed: int = 0
    ) -> None:
        self.router = router
        self._unusable = attrs.evolve(router, lifetime_s=0)
        self._random = random.Random(seed)
        self._links = {link: _Link() for link in links}
        self._has_route: bool | None = None if needs_route else True
        self._is_drained = False
        self._is_stopped = False
        self._lost_at: Instant | None = None
        """When the loss of the route counts; apart from the rest, because it changes what the rest says."""
        self._due: Timetable[_Due] = Timetable()
        self._total = {link: Budget(ANSWERS_PER_S, ANSWERS_TOTAL_BURST) for link in links}
        self._connections = {link: Budget(CONNECTIONS_PER_S, CONNECTIONS_BURST) for link in links}
        self._answers: OrderedDict[tuple[str, Mac], Budget] = OrderedDict()
        self.counters: Counter[str] = Counter()

    @property
    def next_wakeup(self) -> Instant | None:
        """When `tick` has something to do; None: never, unless something happens."""
        due = self._due.next_due
        if self._lost_at is None or due is None:
            return due if self._lost_at is None else self._lost_at
        return min(due, self._lost_at)

    @property
    def lifetime_s(self) -> int:
        """The router lifetime that is advertised now."""
        return self._said.lifetime_s

    @property
    def reason(self) -> str:
        """Why this router is not to be used now; "" where it is."""
        if self._is_stopped:
            return "stopped"
        if self._is_drained:
            return "drained"
        return "" if self._has_route else "no route"

    # -- what happens ---------------------------------------------------------------------------------------------

    def link_up(self, link: str, now: Instant) -> list[Advertise]:
        """`link` can carry frames (again), or is so at the start: the first advertisements to all. Idempotent."""
        state = self._links.get(link)
        if state is None or state.is_up:
            return []
        state.is_up = True
        return self._begin((link,), now)

    def link_lost(self, link: str) -> None:
        """Nothing can be sent on `link`; whoever was to be told there is told again when it has connected."""
        state = self._links.get(link)
        if state is None:
            return
        state.is_up = False
        state.repeats.clear()
        self._due.cancel(_Due(link))
        self._due.cancel(_Due(link, is_repeat=True))

    def connected(self, link: str, station: Mac, now: Instant) -> list[Advertise]:
        """A station has associated: it is told at once, and again, without asking."""
        if not self._speaks_on(link):
            return []
        if not self._connections[link].take(now):
            self.counters["refused"] += 1
            return []
        repeats = self._links[link].repeats
        repeats[:] = [each for each in repeats if each[1] != station]
        repeats += [(now + delay_s, station) for delay_s in REPEATED_AFTER_S]
        repeats.sort()
        self._due.set(_Due(link, is_repeat=True), repeats[0][0])
        return [self._to_station(link, station, None, "connected")]

    def solicited(self, link: str, station: Mac, source: IPv6Address, now: Instant) -> list[Advertise]:
        """A router solicitation of `station`, from `source` or from the unspecified address (RFC 4861 §6.2.6)."""
        if not self._speaks_on(link):
            return []
        if not (self._budget(link, station).take(now) and self._total[link].take(now)):
            self.counters["refused"] += 1
            return []
        return [self._to_station(link, station, source if source.is_link_local else None, "solicited")]

    def route_changed(self, has_route: bool, now: Instant) -> list[Advertise]:
        """The routes that this router needs are there, or not; a loss counts after `LOST_ROUTE_AFTER_S`."""
        if self._has_route is None:
            self._has_route = has_route
            return self._begin(self._links, now)
        if has_route:
            self._lost_at = None
            return self._change(now, has_route=True)
        if self._has_route and self._lost_at is None:
            self._lost_at = now + LOST_ROUTE_AFTER_S
        return []

    def drained(self, now: Instant) -> list[Advertise]:
        """Everything is withdrawn: no host is to use this router (RFC 4861 §6.2.5)."""
        return self._change(now, is_drained=True)

    def resumed(self, now: Instant) -> list[Advertise]:
        """The drain has ended."""
        return self._change(now, is_drained=False)

    def stopped(self, stations: Iterable[tuple[str, Mac]] = ()) -> list[Advertise]:
        """The last words, to be sent before the end: one to all nodes, and one to each of `stations` (link, MAC).

        There is no time for three, and stations acknowledge what is sent to them alone. Nothing follows.
        """
        was_speaking = [link for link in self._links if self._speaks_on(link)]
        self._is_stopped = True
        for link in self._links:
            self.link_lost(link)
        self._lost_at = None
        told = [Advertise(link, self._unusable) for link in was_speaking]
        return told + [Advertise(link, self._unusable, mac) for link, mac in stations if link in was_speaking]

    def tick(self, now: Instant) -> list[Advertise]:
        """What is due."""
        told: list[Advertise] = []
        if self._lost_at is not None and self._lost_at <= now:
            self._lost_at = None
            told += self._change(now, has_route=False)
        for due in self._due.pop_due(now):
            if due.is_repeat:
                told += self._repeat(due.link, now)
            else:
                told += self._to_all(due.link, now)
        return told

    # -- to all nodes -----------------------------------------------------------------------------------------------

    def _change(
        self, now: Instant, *, is_drained: bool | None = None, has_route: bool | None = None
    ) -> list[Advertise]:
        before = self.reason
        self._is_drained = self._is_drained if is_drained is None else is_drained
        self._has_route = self._has_route if has_route is None else has_route
        if bool(before) == bool(self.reason):
            return []
        return self._begin(self._links, now)

    def _begin(self, links: Iterable[str], now: Instant) -> list[Advertise]:
        """What we say is new on these links: the first of some advertisements, at once where the last is 3 s past."""
        told: list[Advertise] = []
        for link in links:
            if not self._speaks_on(link):
                continue
            state = self._links[link]
            state.hurried = FINAL_ADVERTISEMENTS if self.reason else INITIAL_ADVERTISEMENTS
            if state.told_at is None or now - state.told_at >= MIN_DELAY_S:
                told += self._to_all(link, now)
            else:
                self._due.set(_Due(link), state.told_at + MIN_DELAY_S)
        return told

    def _to_all(self, link: str, now: Instant) -> list[Advertise]:
        state = self._links[link]
        state.told_at = now
        state.hurried = max(0, state.hurried - 1)
        self._due.set(_Due(link), now + self._pause_s(state.hurried))
        self.counters["multicast"] += 1
        return [Advertise(link, self._said)]

    def _pause_s(self, hurried: int) -> Seconds:
        """Until the next one to all. Bad news is quick: a client sends into nowhere until it knows."""
        if hurried and self.reason:
            return MIN_DELAY_S
        pause_s = self._random.uniform(self.router.interval_min_s, self.router.interval_max_s)
        return max(MIN_DELAY_S, min(pause_s, INITIAL_INTERVAL_S) if hurried else pause_s)

    # -- to one station ---------------------------------------------------------------------------------------------

    def _repeat(self, link: str, now: Instant) -> list[Advertise]:
        repeats = self._links[link].repeats
        due = [station for when, station in repeats if when <= now]
        repeats[:] = [each for each in repeats if each[0] > now]
        if repeats:
            self._due.set(_Due(link, is_repeat=True), repeats[0][0])
        return [self._to_station(link, station, None, "connected") for station in due]

    def _to_station(self, link: str, station: Mac, address: IPv6Address | None, reason: str) -> Advertise:
        self.counters[reason] += 1
        return Advertise(link, self._said, station, address)

    def _budget(self, link: str, station: Mac) -> Budget:
        budget = self._answers.get((link, station))
        if budget is None:
            budget = self._answers[link, station] = Budget(ANSWERS_PER_STATION_S, ANSWERS_BURST)
            if len(self._answers) > STATIONS_REMEMBERED:
                self._answers.popitem(last=False)
        else:
            self._answers.move_to_end((link, station))
        return budget

    @property
    def _said(self) -> AdvertisedRouter:
        return self._unusable if self.reason else self.router

    def _speaks_on(self, link: str) -> bool:
        state = self._links.get(link)
        return state is not None and state.is_up and self._has_route is not None and not self._is_stopped


@attrs.frozen
class _Due:
    """What can be due: the next advertisement to all nodes of a link, or repeats to stations there."""

    link: str
    is_repeat: bool = False


@attrs.define
class _Link:
    is_up: bool = False
    told_at: Instant | None = None
    """Of the last advertisement to all; kept while the link is down, so that a flapping one is limited too."""
    hurried: int = 0
    """So many more follow quickly."""
    repeats: list[tuple[Instant, Mac]] = attrs.Factory(list)
    """In the order in which they are due."""
