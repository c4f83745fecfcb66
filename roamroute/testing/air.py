"""A small world for several engines: access points, a lossy network between them, and stations that move.

Everything is deterministic from one seed and runs in virtual time, so a thousand roams take seconds and a failure
repeats itself. What is modelled is what the engine can see; numbers are those of docs/facts (a station roams without a
word to its old access point, hostapd keeps a ghost of it, a probe is answered after 3 ms or fails after 3.07 s).

    world = World(seed=1, policy=Policy())
    here, there = world.access_point("a"), world.access_point("b")
    phone = world.station(addresses=("fd44::1",))
    phone.roam(here); world.run(1.0)
    phone.roam(there); world.run(1.0)
    assert world.announcers(phone.addresses[0]) == [there]
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network

import attrs

from roamroute import effects, events
from roamroute.admission import Admission
from roamroute.delta import fold
from roamroute.engine import Engine
from roamroute.policy import Handover, Policy
from roamroute.segments import segments_of
from roamroute.testing.clock import Appointment, VirtualClock
from roamroute.testing.courier import ClaimCourier, HintCourier, Message, Network
from roamroute.testing.kernel import FakeKernel
from roamroute.values import (
    Address,
    Answer,
    Claim,
    HostRoute,
    Instant,
    Mac,
    PeerId,
    Prefix,
    Seconds,
    Segments,
    Station,
)

ROAMING_PREFIX: Prefix = ip_network("fd44:0:0:1::/64")
LINK = "wlan0"
INACTIVITY_S: Seconds = 300.0  # hostapd's ap_max_inactivity: so long lives a ghost


class AccessPoint:
    """One router: an engine, its neighbour table, its hostapd and its end of the peers' channel."""

    def __init__(
        self, world: World, name: str, peer: PeerId, links: Sequence[str], policy: Policy, handover: Handover
    ) -> None:
        self.world = world
        self.name = name
        self.peer = peer
        self.links = tuple(links)
        self.policy = policy
        self.handover = handover
        self.is_running = True
        self.associated: dict[Mac, str] = {}
        """What hostapd believes: MAC to link, ghosts included."""
        self.wanted: dict[Address, HostRoute] = {}
        """The fold of what the engine asked for since its start; equal to `engine.wanted` or the engine is wrong."""
        self.effects: list[tuple[Instant, effects.Effect]] = []
        """Everything that was asked for, when the world records."""
        self.forwards: dict[Address, effects.Forward] = {}
        """The fold of what the engine asked to send on; equal to `engine.forwards`."""
        self.watching: dict[Mac, str] = {}
        self.learned: set[tuple[Mac, str]] = set()
        """What the bridges behind it have learnt, where they carry the Wi-Fi: MAC and link."""
        self.joined: list[AccessPoint] = []
        """Others on the same layer 2: a station of theirs hears this one, and is heard."""
        self.generation = 0
        self._timer: Appointment | None = None
        self._timer_due: Instant | None = None
        self._inactivity: dict[Mac, Appointment] = {}
        self.kernel = FakeKernel(world.clock, links, self._netlink, self._answers, seed=world.random.getrandbits(32))
        self.courier = ClaimCourier(self, world.network)
        self.hints = HintCourier(self, world.network)
        self.engine = self._new_engine()

    def __repr__(self) -> str:
        return f"<AccessPoint {self.name}>"

    @property
    def neighbours(self) -> list[PeerId]:
        """All other access points' peer identifiers."""
        return [other.peer for other in self.world.access_points if other is not self]

    def delivers(self, address: Address) -> bool:
        """True when packets for the address go out of a client link: the table that decapsulated packets meet."""
        return address in self.engine.wanted and address not in self.engine.lingering

    # -- the shell --------------------------------------------------------------------------------------------------

    def emit(self, event: events.Event) -> None:
        """Queue an event for the engine; it is handled at this instant, after what is already queued."""
        generation = self.generation
        self.world.clock.after(0.0, lambda: self._handle(event, generation))

    def _netlink(self, event: events.Event) -> None:
        """The kernel's events are read a moment after they have happened, in order."""
        if isinstance(event, events.LinkLost):  # a bridge that goes down forgets everything
            self.learned = {(mac, link) for mac, link in self.learned if link != event.link}
        generation = self.generation
        self.world.clock.after(self.world.netlink_latency, lambda: self._handle(event, generation))

    def received(self, source: PeerId, message: Message) -> None:
        """A datagram came."""
        if isinstance(message, Claim):
            self._handle(events.HostClaimed(message), self.generation)
        elif isinstance(message, Answer):
            self.courier.answered(source, message)
            self._handle(events.ClaimAnswered(source, message), self.generation)
        elif (hint := self.hints.received(source, message)) is not None:
            self._handle(events.HostHinted(hint), self.generation)

    def _handle(self, event: events.Event, generation: int) -> None:
        if not self.is_running or generation != self.generation:
            return
        if self.world.log is not None:
            self.world.log(f"{self.world.clock.now:10.4f} {self.name} <- {event}")
        self._perform(self.engine.handle(event, self.world.clock.now))

    def _tick(self) -> None:
        self._timer = self._timer_due = None
        if self.is_running:
            self._perform(self.engine.tick(self.world.clock.now))

    def _perform(self, asked: list[effects.Effect]) -> None:
        now = self.world.clock.now
        if asked:
            fold(self.wanted, asked)
        for effect in asked:
            if self.world.log is not None:
                self.world.log(f"{now:10.4f} {self.name} -> {effect}")
            if self.world.is_recording:
                self.effects.append((now, effect))
            match effect:
                case effects.Probe():
                    self.kernel.probe(effect)
                case effects.Forget():
                    self.kernel.forget(effect)
                case effects.SendClaim():
                    self.courier.send(effect)
                case effects.DropClaim(mac=mac):
                    self.courier.drop(mac)
                case effects.SendAnswer(peer=peer, answer=answer):
                    self.world.network.send(self.peer, peer, answer)
                case effects.Deauthenticate(mac=mac, link=link):
                    self._deauthenticated(mac, link)
                case effects.Watch(link=link, mac=mac):
                    self.watching[mac] = link
                case effects.Unwatch(mac=mac):
                    self.watching.pop(mac, None)
                case effects.Announce() | effects.Withdraw() | effects.AdvertiseGateway() | effects.Note():
                    pass
                case effects.Unlearn(mac=mac, link=of):
                    self.learned -= {(mac, each) for each in (self.links if of is None else (of,))}
                case effects.Forward(address=address):
                    self.forwards[address] = effect
                case effects.EndForward(address=address):
                    del self.forwards[address]
                case effects.ShareHint(hint=hint):
                    self.hints.share(hint)
                case effects.UnshareHint(mac=mac):
                    self.hints.unshare(mac)
        self._arm()

    def _arm(self) -> None:
        due = self.engine.next_wakeup
        if due != self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = None if due is None else self.world.clock.at(due, self._tick)

    def _new_engine(self) -> Engine:
        admission = Admission(self.links, self.world.prefixes)
        seed = self.world.random.getrandbits(32)
        return Engine(admission, self.policy, me=self.peer, seed=seed, handover=self.handover)

    # -- what may happen to it --------------------------------------------------------------------------------------

    def start(self) -> None:
        """The daemon starts: its sources resynchronise, its peers join."""
        self.generation += 1
        self.is_running = True
        left = frozenset(address for address, route in self.wanted.items() if not route.is_lingering)
        self.wanted = {}
        self.forwards = {}
        self.watching = {}
        self.engine = self._new_engine()
        self.engine.announced_before = left
        others = frozenset(other.peer for other in self.world.access_points)
        self.emit(events.OwnAddressesChanged(others, frozenset()))
        self.resync()
        for mac, link in sorted(self.learned):
            self.emit(events.MacLearned(mac, link, "port"))
        for other in self.world.access_points:
            if other is not self and other.is_running and not self.world.network.is_cut(self.peer, other.peer):
                self.met(other.peer)
                other.met(self.peer)

    def met(self, peer: PeerId) -> None:
        """A session with the peer stands (anew)."""
        self.hints.joined(peer)
        self.emit(events.PeerJoined(peer))

    def kill(self) -> None:
        """The daemon dies; kernel and hostapd go on."""
        self.is_running = False
        self.generation += 1
        self.courier.close()
        self.hints.close()
        self.watching = {}
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_due = None

    def restart(self) -> None:
        """kill -9, and a new start that knows nothing."""
        self.kill()
        self.start()

    def resync(self) -> None:
        """Both sources tell all they know."""
        self.resync_stations()
        self.kernel.resync()

    def resync_stations(self) -> None:
        """hostapd's source reconnects and lists its stations."""
        stations = tuple(Station(mac, link) for mac, link in self.associated.items())
        self.emit(events.StationsResynced(frozenset(self.links), stations))

    def restart_hostapd(self) -> None:
        """hostapd starts anew, without any station; those that were here must associate again."""
        for mac in list(self.associated):
            self._forget_station(mac)
            station = self.world.stations.get(mac)
            if station is not None and station.access_point is self:
                station.access_point = None
        self.resync_stations()

    # -- stations ---------------------------------------------------------------------------------------------------

    @property
    def is_dumb(self) -> bool:
        """True where a bridge carries the Wi-Fi, and tells of a station only what it learns from its frames."""
        return self.policy.is_following_bridges

    def heard(self, mac: Mac, link: str) -> None:
        """A frame of the station came over the bridge; of what it knows already it does not tell."""
        for here in (self, *self.joined):
            if here.is_dumb and (mac, link) not in here.learned:
                here.learned.add((mac, link))
                here.emit(events.MacLearned(mac, link, "port"))

    def connected(self, mac: Mac, link: str) -> None:
        """A station has associated and passed the 4-way handshake."""
        if self.is_dumb:
            if self.world.random.random() < 0.5:  # not every access point sends layer-2 update frames
                self.emit(events.StationAnnounced(mac, link))
                self.heard(mac, link)
            return
        former = self.associated.get(mac)
        if former is not None:
            self.emit(events.StationLeft(Station(mac, former), is_reauthenticating=True))
        self._forget_station(mac)
        self.associated[mac] = link
        self.emit(events.StationConnected(Station(mac, link)))

    def left(self, mac: Mac) -> None:
        """hostapd drops a station: it said good-bye, or was inactive too long."""
        if self.is_dumb:
            self._aged(mac)
        link = self.associated.get(mac)
        if link is not None:
            self._forget_station(mac)
            self.emit(events.StationLeft(Station(mac, link)))

    def ghosted(self, mac: Mac) -> None:
        """The station has gone without a word; hostapd finds out late, and so does a bridge."""
        self._inactivity[mac] = self.world.clock.after(INACTIVITY_S, lambda: self.left(mac))

    def _aged(self, mac: Mac) -> None:
        for _, link in sorted(pair for pair in self.learned if pair[0] == mac):
            self.learned.discard((mac, link))
            self.emit(events.MacForgotten(mac, link))

    def _forget_station(self, mac: Mac) -> None:
        self.associated.pop(mac, None)
        timer = self._inactivity.pop(mac, None)
        if timer is not None:
            timer.cancel()

    def _deauthenticated(self, mac: Mac, link: str) -> None:
        if self.associated.get(mac) == link:
            self.left(mac)
            station = self.world.stations.get(mac)
            if station is not None and station.access_point is self:
                # It notices with its next frame, is told that it is not associated, and comes back.
                station.disturbed += 1
                station.access_point = None
                self.world.clock.after(1.0, lambda: station.come_back(self))

    def _answers(self, link: str, address: Address, mac: Mac) -> bool:
        station = self.world.stations.get(mac)
        return (
            station is not None
            and station.access_point in (self, *self.joined)
            and station.link == link
            and self.world.clock.now >= station.asleep_until
            and address in station.addresses
        )


@attrs.define(eq=False)
class RoamingStation:
    """A client: one MAC, its addresses, and where it is."""

    world: World
    mac: Mac
    addresses: tuple[Address, ...]
    access_point: AccessPoint | None = None
    link: str = LINK
    asleep_until: Instant = 0.0
    disturbed: int = 0
    """How often it was deauthenticated although it was there."""

    def roam(self, target: AccessPoint, link: str | None = None, says_goodbye: bool = False) -> None:
        """Associate with `target`; the old access point is told only by one that says good-bye."""
        former = self.access_point
        self.asleep_until = 0.0
        if former is not None and former is not target:
            if says_goodbye and not former.is_dumb:
                former.left(self.mac)
            else:
                former.ghosted(self.mac)
        self.access_point = target
        self.link = link or target.links[0]
        target.connected(self.mac, self.link)

    def come_back(self, target: AccessPoint) -> None:
        """Associate again with the access point that dropped it, unless it has gone elsewhere meanwhile."""
        if self.access_point is None:
            self.roam(target)

    def speak(self, addresses: Iterable[Address] | None = None) -> None:
        """Send neighbour solicitations from each address, as at DHCP or address lifetime events and after a roam."""
        if self.access_point is not None:
            self.access_point.heard(self.mac, self.link)
            for address in self.addresses if addresses is None else addresses:
                self.access_point.kernel.solicited(self.link, address, self.mac)

    def send_data(self) -> None:
        """Send a packet from each address, with a cached gateway: no neighbour discovery; seen only while watched."""
        here = self.access_point
        if here is not None:
            here.heard(self.mac, self.link)
        if here is not None and here.watching.get(self.mac) == self.link:
            for address in self.addresses:
                here.emit(events.AddressSeen(self.link, self.mac, address))

    def sleep(self, duration: Seconds) -> None:
        """Answer nothing for a while; stays associated."""
        self.asleep_until = self.world.clock.now + duration

    def vanish(self) -> None:
        """Out of range, without a word."""
        if self.access_point is not None:
            self.access_point.ghosted(self.mac)
            self.access_point = None


class World:
    """All of it. `log` takes one line per event and effect, for reading a failure."""

    def __init__(
        self,
        seed: int = 0,
        policy: Policy | None = None,
        prefixes: Sequence[Prefix] = (ROAMING_PREFIX,),
        is_recording: bool = False,
        log: Callable[[str], None] | None = None,
        handover: Handover | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.clock = VirtualClock()
        self.policy = policy or Policy()
        self.handover = handover or Handover()
        self.prefixes = tuple(prefixes)
        self.network = Network(self.clock, self.random)
        self.access_points: list[AccessPoint] = []
        self.stations: dict[Mac, RoamingStation] = {}
        self.netlink_latency: Seconds = 0.0
        self.is_recording = is_recording
        self.log = log
        self._numbers = itertools.count(1)

    def access_point(
        self,
        name: str,
        links: Sequence[str] = (LINK,),
        policy: Policy | None = None,
        handover: Handover | None = None,
    ) -> AccessPoint:
        """Make an access point and start it; without links it is a router that only takes part as a peer.

        It has the segments of its mesh address, unless it does not forward.
        """
        peer = IPv6Address(0xFD4400000000000A << 64 | len(self.access_points) + 1)
        handover = handover or self.handover
        if handover.is_forwarding:
            segments = segments_of(peer, self.prefixes) if links else Segments()
            handover = attrs.evolve(handover, segments=segments, is_forwarding_all=True)
        made = AccessPoint(self, name, peer, links, policy or self.policy, handover)
        self.access_points.append(made)
        self.network.attach(made)
        made.start()
        return made

    def station(self, addresses: Sequence[str | Address] = (), count: int = 1) -> RoamingStation:
        """Make a station with these addresses, or with `count` addresses of its own in the first roaming prefix."""
        number = next(self._numbers)
        mac = Mac("02:00:5e:44:" + f"{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}")
        own = tuple(ip_address(address) for address in addresses) or tuple(
            self.prefixes[0][number << 8 | index] for index in range(1, count + 1)
        )
        made = RoamingStation(self, mac, own)
        self.stations[mac] = made
        return made

    def run(self, duration: Seconds) -> None:
        """Let time pass."""
        self.clock.run(duration)

    def announcers(self, address: Address) -> list[AccessPoint]:
        """The running access points that have `address` now, and want a route for it; without those that linger."""
        return [one for one in self.access_points if one.is_running and one.delivers(address)]

    def lingerers(self, address: Address) -> list[AccessPoint]:
        """The running access points that want a route for `address` although its host is elsewhere."""
        return [one for one in self.access_points if one.is_running and address in one.engine.lingering]

    def carry(self, address: Address, entry: AccessPoint) -> AccessPoint | None:
        """Where a packet leaves the mesh that routing brings to `entry`; None when it is dropped.

        What was sent on goes out of a client link or nowhere: it is looked up in a table that holds nothing else.
        """
        forward = entry.forwards.get(address)
        ends = [entry] if forward is None else [one for one in self.access_points if one.peer == forward.peer]
        return next((one for one in ends if one.is_running and one.delivers(address)), None)

    def holders(self, mac: Mac) -> set[PeerId | None]:
        """Who the access points that know the host believe holds it; one element when they agree."""
        known = [one.engine.hosts.get(mac) for one in self.access_points if one.is_running]
        return {host.holder for host in known if host is not None}

    def cut(self, one: AccessPoint, other: AccessPoint) -> None:
        """Nothing passes between the two; their sessions are lost after 35 s."""
        pair = frozenset((one.peer, other.peer))
        self.network.cut.add(pair)
        self.clock.after(35.0, lambda: self._lose_session(pair, one, other))

    def mend(self, one: AccessPoint, other: AccessPoint) -> None:
        """Messages pass again, and the session is set up anew."""
        self.network.cut.discard(frozenset((one.peer, other.peer)))
        one.met(other.peer)
        other.met(one.peer)

    def _lose_session(self, pair: frozenset[PeerId], one: AccessPoint, other: AccessPoint) -> None:
        if pair in self.network.cut:
            one.emit(events.PeerLost(other.peer))
            other.emit(events.PeerLost(one.peer))
