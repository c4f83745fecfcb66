"""Access points on a virtual clock: the daemon's own engine and its own peers' exchange, without kernel and sockets.

What crosses the network are the very datagrams that a daemon would send, so their octets are exact: payload, UDP and
IPv6 header, no link layer. The kernel's neighbour table is the one of the tests (`roamroute.testing.kernel`); stations
and hostapd are in this file: a station that roams says good-bye to nobody, answers solicitations where it is, and sends
nothing by itself; its old access point keeps a ghost until it is told to drop it. The routing daemon of the old access
point knows the new way `CONVERGED_S` after a roam.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Final
from unittest import mock

import attrs

from roamroute import effects, events
from roamroute.admission import Admission
from roamroute.engine import Engine
from roamroute.handovers import Handovers
from roamroute.peers import codec
from roamroute.peers.exchange import Exchange, Outcome
from roamroute.policy import Handover, Policy
from roamroute.records import report_of
from roamroute.segments import segments_of
from roamroute.testing.clock import Appointment, VirtualClock
from roamroute.testing.kernel import FakeKernel
from roamroute.values import Address, Instant, Mac, PeerId, Seconds, Station

HEADER_BYTES: Final = 40 + 8
"""IPv6 and UDP in front of every datagram."""
LATENCY_S: Seconds = 0.003
"""From access point to access point: some hops of Wi-Fi. The round trip is above 5 ms then, after which a claim is
repeated to the access point that held the host."""
CONVERGED_S: Seconds = 1.0
ROAMING_PREFIX = ip_network("fd44:0:0:1::/64")
MESH_PREFIX = ip_network("fd44:0:0:a::/64")
LINK = "wlan0"
KEY = bytes(range(32))
REST_S: Seconds = 40.0
"""After the start: every address has been probed, and every keepalive has found its own time."""


@attrs.frozen
class Size:
    """How many access points, hosts on all of them together, and addresses of each host."""

    access_points: int
    hosts: int
    addresses: int = 3

    def __str__(self) -> str:
        return f"{self.access_points} APs, {self.hosts} hosts"


@attrs.frozen
class Traffic:
    """What an average access point sent in some time, by kind of message; it received as much.

    `datagrams` and `octets` (headers included) per second; `greatest` is the octets of the access point that sent and
    received the most; `across` and `across_datagrams` are what a link that joins one half of the access points to the
    other carries in one direction; `processor` is seconds of processor time per second, engine and exchange only.
    """

    seconds: Seconds
    datagrams: dict[str, float]
    octets: dict[str, float]
    greatest: float
    across: float
    across_datagrams: float
    processor: float

    @property
    def total(self) -> float:
        """Octets per second that an average access point sent."""
        return sum(self.octets.values())


@attrs.define(eq=False)
class Host:
    """A station: where it is, and its addresses."""

    mac: Mac
    addresses: tuple[Address, ...]
    place: AccessPoint


class Simulation:
    """All access points with their hosts, shared out evenly, at one instant; nothing has been sent yet."""

    def __init__(
        self,
        size: Size,
        *,
        policy: Policy | None = None,
        handover: Handover | None = None,
        latency_s: Seconds = LATENCY_S,
        is_converging: bool = True,
        seed: int = 1,
    ) -> None:
        """`handover`: which parts the access points take part in, all by default; its segments are given here.
        `is_converging`: there is a routing daemon, and it knows the new way after a roam."""
        self.policy = policy or Policy()
        self.handover = handover or Handover()
        self.latency_s = latency_s
        self.is_converging = is_converging
        self.clock = VirtualClock()
        self.choice = random.Random(seed)
        self.access_points = [AccessPoint(self, number) for number in range(1, size.access_points + 1)]
        self.by_address = {one.address: one for one in self.access_points}
        self.hosts: dict[Mac, Host] = {}
        for number, place in zip(range(size.hosts), itertools.cycle(self.access_points), strict=False):
            mac = Mac(f"02:00:5e:{number >> 16:02x}:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}")
            own = tuple(ROAMING_PREFIX[self.choice.getrandbits(64)] for _ in range(size.addresses))
            self.hosts[mac] = Host(mac, own, place)
        self._octets: Counter[str] = Counter()
        self._datagrams: Counter[str] = Counter()
        self._by_access_point: Counter[PeerId] = Counter()
        self._across: Counter[str] = Counter()
        self._middle = self.access_points[size.access_points // 2].address
        self._opened = ""

    def start(self) -> Traffic:
        """Every daemon starts at once and finds its hosts; until nothing but keepalives is left."""
        here: dict[AccessPoint, list[Host]] = {one: [] for one in self.access_points}
        for host in self.hosts.values():
            here[host.place].append(host)
        with self._measured() as measured:
            for one, hosts in here.items():
                one.start(list(self.by_address), hosts)
            self.clock.run(REST_S)
        return measured[0]

    def rest(self, duration: Seconds) -> Traffic:
        """Nobody moves."""
        with self._measured() as measured:
            self.clock.run(duration)
        return measured[0]

    def roam(self, duration: Seconds, per_second: float) -> Traffic:
        """So many hosts a second, on all access points together, go to another one: any host, to any place."""
        hosts = list(self.hosts.values())
        begin = self.clock.now
        for number in range(round(duration * per_second)):
            self.clock.at(begin + (number + self.choice.random()) / per_second, lambda: self._move_one_of(hosts))
        with self._measured() as measured:
            self.clock.run(duration)
        return measured[0]

    def restart(self) -> Traffic:
        """One daemon starts anew, knows nothing, and finds its hosts; `greatest` is its own share."""
        former = self.access_points[0]
        former.stop()
        self.access_points[0] = new = AccessPoint(self, 1)
        self.by_address[new.address] = new
        hosts = [host for host in self.hosts.values() if host.place is former]
        for host in hosts:
            host.place = new
        with self._measured() as measured:
            new.start(list(self.by_address), hosts)
            self.clock.run(REST_S)
        return measured[0]

    def unknown(self) -> int:
        """Pairs of an access point and a host elsewhere of which it does not know all addresses."""
        return sum(
            host.mac not in one.engine.hosts or not one.engine.hosts[host.mac].binding.keys() >= set(host.addresses)
            for one in self.access_points
            for host in self.hosts.values()
            if host.place is not one
        )

    def misplaced(self) -> int:
        """Addresses that are not announced by exactly the access point where their host is."""
        wrong = 0
        for host in self.hosts.values():
            for address in host.addresses:
                holders = [one for one in self.access_points if address in one.engine.wanted]
                wrong += holders != [host.place]
        return wrong

    def deliver(self, source: AccessPoint, target: PeerId, datagram: bytes) -> None:
        """Carry a datagram; it is counted when it has been opened, because only then its contents are known."""
        self.clock.after(self.latency_s, lambda: self._arrive(source, self.by_address[target], datagram))

    def _arrive(self, source: AccessPoint, target: AccessPoint, datagram: bytes) -> None:
        self._opened = "hello" if datagram[3] == codec.HELLO else "not opened"
        target.receive(source.address, datagram)
        octets = len(datagram) + HEADER_BYTES
        self._octets[self._opened] += octets
        self._datagrams[self._opened] += 1
        self._by_access_point[source.address] += octets
        self._by_access_point[target.address] += octets
        if (int(source.address) < int(self._middle)) != (int(target.address) < int(self._middle)):
            self._across["octets"] += octets
            self._across["datagrams"] += 1

    def _move_one_of(self, hosts: list[Host]) -> None:
        host = self.choice.choice(hosts)
        former = host.place
        host.place = self.choice.choice([one for one in self.access_points if one is not former])
        host.place.connect(host)
        if self.is_converging:
            self.clock.after(CONVERGED_S, lambda: self.by_address[former.address].routes_changed(host))

    def _decode(self, plaintext: bytes, sender: PeerId) -> tuple[codec.Message, ...]:
        messages = codec.decode_messages(plaintext, sender)
        self._opened = type(messages[0]).__name__.lower() if messages else "empty"
        return messages

    @contextmanager
    def _measured(self) -> Iterator[list[Traffic]]:
        for counter in (self._octets, self._datagrams, self._by_access_point, self._across):
            counter.clear()
        begin, spent = self.clock.now, sum(one.processor_s for one in self.access_points)
        measured: list[Traffic] = []
        with mock.patch("roamroute.peers.session.decode_messages", self._decode):
            yield measured
        seconds = self.clock.now - begin
        share = seconds * len(self.access_points)
        measured.append(
            Traffic(
                seconds,
                {kind: count / share for kind, count in self._datagrams.most_common()},
                {kind: count / share for kind, count in self._octets.most_common()},
                max(self._by_access_point.values(), default=0) / seconds,
                self._across["octets"] / seconds / 2,
                self._across["datagrams"] / seconds / 2,
                (sum(one.processor_s for one in self.access_points) - spent) / share,
            )
        )


class AccessPoint:
    """One daemon: engine and exchange, with the kernel's neighbours and hostapd beside them."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        seed = simulation.choice.getrandbits(32)
        self.address: PeerId = MESH_PREFIX[number]
        handover = simulation.handover
        if handover.is_forwarding:
            handover = attrs.evolve(handover, segments=segments_of(self.address, (ROAMING_PREFIX,)))
        policy = simulation.policy
        admission = Admission((LINK,), (ROAMING_PREFIX,))
        self.engine = Engine(admission, policy, me=self.address, seed=seed, handover=handover)
        self.exchange = Exchange(self.address, (KEY,), random.Random(seed).randbytes)
        self.processor_s = 0.0
        self._handovers = Handovers(self.address, self.engine.hosts, self.engine.foreign, policy.forwarding_s)
        self._simulation = simulation
        self._clock = simulation.clock
        self._kernel = FakeKernel(self._clock, (LINK,), self._emit, self._answers, seed=seed)
        self._associated: set[Mac] = set()
        self._backlog: deque[events.Event] = deque()
        self._timer: Appointment | None = None
        self._timer_due: Instant = 0.0
        self._is_running = True

    def start(self, peers: Iterable[PeerId], hosts: Iterable[Host]) -> None:
        """Begin as a daemon does that finds these hosts here, in hostapd and in the neighbour table."""
        present = tuple(hosts)
        self._associated = {host.mac for host in present}
        for host in present:
            for address in host.addresses:
                self._kernel.solicited(LINK, address, host.mac)
        self._backlog.clear()
        self._emit(events.OwnAddressesChanged(frozenset(peers), frozenset()))
        self._emit(events.StationsResynced(frozenset({LINK}), tuple(Station(host.mac, LINK) for host in present)))
        self._emit(self._kernel.dump())
        self._carry(self.exchange.set_peers(peers, self._clock.now))

    def stop(self) -> None:
        """The daemon is gone, without a word."""
        self._is_running = False

    def connect(self, host: Host) -> None:
        """hostapd's AP-STA-CONNECTED."""
        self._associated.add(host.mac)
        self._emit(events.StationConnected(Station(host.mac, LINK)))
        for address in host.addresses:
            if address in self.engine.foreign:
                self._emit(events.ForeignRouteLost(address))

    def routes_changed(self, host: Host) -> None:
        """The routing daemon knows the way to the new place of a host that was here."""
        if host.place is not self:
            for address in host.addresses:
                self._emit(events.ForeignRouteSeen(address, str(host.place.address)))

    def receive(self, source: PeerId, datagram: bytes) -> None:
        """A datagram has come."""
        with self._working():
            outcome = self.exchange.receive(datagram, source, self._clock.now)
        self._carry(outcome)

    def _answers(self, link: str, address: Address, mac: Mac) -> bool:
        host = self._simulation.hosts[mac]
        return host.place is self and address in host.addresses

    def _emit(self, event: events.Event) -> None:
        """Queue an event; it is handled at this instant, after what is under way."""
        if not self._backlog:
            self._clock.after(0.0, self._handle_backlog)
        self._backlog.append(event)

    def _handle_backlog(self) -> None:
        if not self._is_running:
            return
        asked: list[effects.Effect] = []
        with self._working():
            while self._backlog:
                event = self._backlog.popleft()
                self._handovers.event(event, self._clock.now)
                asked += self.engine.handle(event, self._clock.now)
        self._perform(asked)

    def _tick(self) -> None:
        self._timer = None
        if not self._is_running:
            return
        with self._working():
            outcome = self.exchange.tick(self._clock.now)
            asked = self.engine.tick(self._clock.now)
            self._handovers.tick(self._clock.now)
        self._perform(asked)
        self._carry(outcome)

    def _perform(self, asked: Iterable[effects.Effect]) -> None:
        outcomes: list[Outcome] = []
        with self._working():
            for effect in asked:
                outcomes += self._performed(effect)
                self._handovers.effect(effect, self._clock.now)
            for record in self._handovers.take_finished():
                if (report := report_of(record)) is not None:
                    outcomes.append(self.exchange.send_report(record.destination, report))
        for outcome in outcomes:
            self._carry(outcome)
        self._rearm()

    def _performed(self, effect: effects.Effect) -> Iterator[Outcome]:
        now = self._clock.now
        match effect:
            case effects.SendClaim(claim=claim, first=first):
                yield self.exchange.send_claim(claim, now, first)
            case effects.DropClaim(mac=mac):
                self.exchange.drop_claim(mac)
            case effects.SendAnswer(peer=peer, answer=answer):
                yield self.exchange.send_answer(peer, answer, now)
            case effects.ShareHint(hint=hint):
                self.exchange.share_hint(hint, now)
            case effects.UnshareHint(mac=mac):
                self.exchange.unshare_hint(mac)
            case effects.Probe():
                self._kernel.probe(effect)
            case effects.Forget():
                self._kernel.forget(effect)
            case effects.Deauthenticate(mac=mac) if mac in self._associated:
                self._associated.discard(mac)
                self._emit(events.StationLeft(Station(mac, LINK)))
            case _:
                pass

    def _carry(self, outcome: Outcome) -> None:
        for peer, datagram in outcome.datagrams:
            self._simulation.deliver(self, peer, datagram)
        for event in outcome.events:
            self._emit(event)
        self._rearm()

    def _rearm(self) -> None:
        wakeups = (self.engine.next_wakeup, self.exchange.next_wakeup, self._handovers.next_due)
        dues = [due for due in wakeups if due is not None]
        if self._timer is not None:
            if not dues or self._timer_due <= min(dues):
                return  # early is safe
            self._timer.cancel()
            self._timer = None
        if dues:
            self._timer_due = min(dues)
            self._timer = self._clock.at(self._timer_due, self._tick)

    @contextmanager
    def _working(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.processor_s += time.process_time() - began
