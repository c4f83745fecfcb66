"""A mesh whose hosts do duplicate address detection: real `DadProxy` cores, layer 2 and the peers' channel simulated.

Deterministic from the random source that it is given, in virtual time. Hosts behave as RFC 4862 §5.4 and RFC 5227 say:
with or without a nonce (RFC 7527), they answer for what they have, begin again after a roam, and remember who made them
think that somebody else has their address. Whoever that was, the network knows the truth.

    network = DadNetwork(Random(1), segments=[["a.wlan0"], ["b.wlan0"]])
    owner, other = network.host("b.wlan0"), network.host("a.wlan0")
    owner.take(ADDRESS); other.ask(ADDRESS); network.run(2.0)
    assert other.lost == {ADDRESS: owner.mac}
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from ipaddress import IPv6Address
from random import Random

import attrs

from roamroute.dad import DadEffect, DadMode, DadProxy, Defend, HandOut, Relay
from roamroute.testing.air import ROAMING_PREFIX
from roamroute.testing.clock import Appointment, VirtualClock
from roamroute.values import Address, DadKind, DadMessage, Instant, Mac, PeerId, Seconds

RETRANS_TIMER_S: Seconds = 1.0
"""RFC 4861 §10."""
MOST_RELAYS = 5_000
"""More is a loop, which ends here: the network delivers no more between access points."""
_GATHERED_S: Seconds = 0.3
"""A roam and the random delay before DAD are over by then, at the earliest 30 ms after the host has left."""

MakeProxy = Callable[..., DadProxy]


@attrs.frozen
class Frame:
    """What goes over one layer 2. `origin`: the host whose word it is, in truth; `maker` None: that host sent it."""

    message: DadMessage
    origin: Mac
    maker: str | None = None
    stations: tuple[Mac, ...] | None = None


@attrs.frozen
class Collision:
    """`host` gave up `target`, or found it used by another, because of what `origin` had said: itself, when false."""

    host: Mac
    target: Address
    origin: Mac
    when: Instant

    @property
    def is_false(self) -> bool:
        """The host was deceived by its own word."""
        return self.host == self.origin


@attrs.define(eq=False)
class Use:
    """`host` asks for `target`, or has it, between two times; `is_taken`: whether it has it."""

    host: Host
    target: Address
    is_taken: bool
    begin: Instant
    end: Instant = float("inf")


class Host:
    """A client: `asking` are its tentative addresses with their nonce, `taken` those it uses."""

    def __init__(
        self, network: DadNetwork, mac: Mac, segment: Segment, has_nonce: bool, is_known: bool, is_associated: bool
    ) -> None:
        self.network = network
        self.mac = mac
        self.has_nonce = has_nonce
        self.is_known = is_known
        """Whether its addresses have host routes; one that is silent has none."""
        self.is_associated = is_associated
        """Whether an association tells its access point that it is there."""
        self.segment: Segment | None = segment
        self.asking: dict[Address, bytes] = {}
        self.taken: set[Address] = set()
        self.lost: dict[Address, Mac] = {}
        self.moves: list[Instant] = []
        """When it left a link or came to one."""
        self._uses: dict[Address, Use] = {}
        self._timers: dict[Address, Appointment] = {}
        segment.join(self)

    def take(self, target: Address) -> None:
        """Use it without a question, as if DAD had been done before."""
        self.taken.add(target)
        self._use(target, True)

    def ask(self, target: Address) -> None:
        """Begin DAD: one solicitation, then RetransTimer."""
        if self.segment is None:
            return
        self.taken.discard(target)
        self._use(target, False)
        nonce = self.network.random.randbytes(6) if self.has_nonce else b""
        self.asking[target] = nonce
        self._stop_waiting(target)
        self._timers[target] = self.network.clock.after(RETRANS_TIMER_S, partial(self._succeed, target))
        self._send(DadMessage(DadKind.SOLICITATION, target, self.mac, nonce))

    def announce(self, target: Address) -> None:
        """Say unasked that it is ours (ndisc_notify, RFC 9131, RFC 5227 §2.3)."""
        self._send(DadMessage(DadKind.ADVERTISEMENT, target, self.mac))

    def roam(self, link: str, *, is_repeating: bool = True) -> None:
        """Leave without a word, associate elsewhere, and begin DAD again for all addresses."""
        network = self.network
        if self.segment is not None:
            self.segment.leave(self)
        self.segment = None
        self.moves.append(network.clock.now)
        away_s = network.random.uniform(0.03, _GATHERED_S / 2)
        network.clock.after(away_s, partial(self._arrive, network.segment_of(link), is_repeating))

    def hear(self, frame: Frame) -> None:
        """What the network has brought."""
        message = frame.message
        target = message.target
        if target in self.taken:
            if message.kind is DadKind.SOLICITATION:
                self._send(DadMessage(DadKind.ADVERTISEMENT, target, self.mac))
            else:
                self.network.collide(self, target, frame.origin)
            return
        if target not in self.asking:
            return
        is_mine = message.kind is DadKind.SOLICITATION and message.nonce and message.nonce == self.asking[target]
        if not is_mine:
            del self.asking[target]
            self._stop_waiting(target)
            self._use(target, None)
            self.lost[target] = frame.origin
            self.network.collide(self, target, frame.origin)

    def _arrive(self, segment: Segment, is_repeating: bool) -> None:
        if self.segment is not None:
            return
        self.segment = segment
        self.moves.append(self.network.clock.now)
        segment.join(self)
        for target in sorted({*self.asking, *self.taken}) if is_repeating else ():
            self.taken.discard(target)
            self.asking.setdefault(target, b"")
            self._stop_waiting(target)
            self._use(target, None)
            wait_s = self.network.random.uniform(0.0, _GATHERED_S / 2)
            self.network.clock.after(wait_s, partial(self.ask, target))

    def _succeed(self, target: Address) -> None:
        if self.asking.pop(target, None) is not None:
            self.take(target)

    def _use(self, target: Address, is_taken: bool | None) -> None:
        now = self.network.clock.now
        if target in self._uses:
            self._uses.pop(target).end = now
        if is_taken is not None:
            self._uses[target] = Use(self, target, is_taken, now)
            self.network.uses.append(self._uses[target])

    def _stop_waiting(self, target: Address) -> None:
        if target in self._timers:
            self._timers.pop(target).cancel()

    def _send(self, message: DadMessage) -> None:
        if self.segment is not None:
            self.network.transmissions += 1
            self.segment.carry(Frame(message, self.mac), self)


class Segment:
    """One layer 2: the links of access points, and hosts. Isolated hosts are heard by access points only."""

    def __init__(self, network: DadNetwork, is_isolated: bool) -> None:
        self.network = network
        self.is_isolated = is_isolated
        self.links: list[tuple[AccessPoint, str]] = []
        self.hosts: dict[Mac, Host] = {}

    def join(self, host: Host) -> None:
        """The access points on whose links it is know it from now on, if it associates."""
        self.hosts[host.mac] = host
        for access_point, link in self.links if host.is_associated else ():
            access_point.associated[host.mac] = link

    def leave(self, host: Host) -> None:
        """Nobody notices; a peer's claim, a while after it has gone, tells."""
        del self.hosts[host.mac]
        for access_point, link in self.links:
            gone = partial(access_point.forget, host.mac, link)
            self.network.later((0.0, 2 * _GATHERED_S), gone)

    def carry(self, frame: Frame, sender: Host | AccessPoint) -> None:
        """Deliver to all whom it reaches, each after a short while of its own."""
        network = self.network
        is_of_host = frame.maker is None
        for host in list(self.hosts.values()) if not (is_of_host and self.is_isolated) else ():
            if host is not sender and (frame.stations is None or host.mac in frame.stations):
                network.later(network.air_s, partial(self._reach, host, frame))
        for access_point, link in self.links if is_of_host or (network.is_mark_lost and frame.stations is None) else ():
            if access_point is not sender:
                network.later(network.air_s, partial(access_point.hear, link, frame))

    def _reach(self, host: Host, frame: Frame) -> None:
        if host.segment is self:
            host.hear(frame)


class AccessPoint:
    """A proxy, and what its access point knows; also the proxy's `View`."""

    def __init__(self, network: DadNetwork, name: str, number: int, links: Sequence[str]) -> None:
        self.network = network
        self.name = name
        self.peer: PeerId = IPv6Address(f"fd44:0:0:a::{number:x}")
        self.links = tuple(links)
        self.own_macs = frozenset(Mac(f"02:aa:00:00:{number:02x}:{place:02x}") for place in range(len(links)))
        self.own_addresses: frozenset[Address] = frozenset()
        self.associated: dict[Mac, str] = {}
        self.proxy: DadProxy
        self._alarm: Appointment | None = None

    def hear(self, link: str, frame: Frame) -> None:
        """A frame from layer 2."""
        message = frame.message
        if frame.maker is not None:  # a mark that was lost: the frame seems to be that of a host with the maker's MAC
            message = attrs.evolve(message, mac=min(self.network.access_points[frame.maker].own_macs))
            self.network.origins[message] = frame.origin
        self._perform(self.proxy.heard(link, message, self.network.clock.now))

    def told(self, peer: PeerId, message: DadMessage) -> None:
        """A datagram from a peer."""
        self._perform(self.proxy.told(peer, message, self.network.clock.now))

    def stations(self, link: str) -> Collection[Mac]:
        """Those that are there, and those that have left for elsewhere a moment ago."""
        return [mac for mac, known in self.associated.items() if known == link]

    def link_of(self, mac: Mac) -> str | None:
        """Where it is, or was last."""
        return self.associated.get(mac)

    def forget(self, mac: Mac, link: str) -> None:
        """It has left `link`, unless it has come back."""
        if self.associated.get(mac) == link and mac not in self.network.segment_of(f"{self.name}.{link}").hosts:
            del self.associated[mac]

    def holder(self, address: Address) -> tuple[str, Mac] | None:
        """A host of ours with a host route."""
        for link in self.links:
            for host in self.network.segment_of(f"{self.name}.{link}").hosts.values():
                if host.is_known and address in host.taken:
                    return link, host.mac
        return None

    def announcer(self, address: Address) -> PeerId | None:
        """The peer with the host route."""
        for access_point in self.network.access_points.values():
            if access_point is not self and access_point.holder(address) is not None:
                return access_point.peer
        return None

    def _perform(self, effects: list[DadEffect]) -> None:
        network = self.network
        for effect in effects:
            match effect:
                case Relay(message=message, peers=peers):
                    for access_point in network.access_points.values():
                        if access_point is not self and (peers is None or access_point.peer in peers):
                            network.relays += 1
                            network.tell(self, access_point, message)
                case HandOut(link=link, message=message, stations=stations):
                    if stations is None:
                        network.group_frames += 1
                    else:
                        network.unicast_frames += len(stations)
                    frame = Frame(message, network.origins.get(message, message.mac), self.name, stations)
                    network.segment_of(f"{self.name}.{link}").carry(frame, self)
                case Defend(link=link, target=target, station=station):
                    network.defences += 1
                    own = DadMessage(DadKind.ADVERTISEMENT, target, min(self.own_macs))
                    network.segment_of(f"{self.name}.{link}").carry(Frame(own, own.mac, self.name, (station,)), self)
        if self._alarm is not None:
            self._alarm.cancel()
        due = self.proxy.next_wakeup
        self._alarm = None if due is None else network.clock.at(due, self._tick)

    def _tick(self) -> None:
        self._perform(self.proxy.tick(self.network.clock.now))


class DadNetwork:
    """Segments are named by the links on them, `ACCESS_POINT.LINK`; a segment with several links joins them.

    `loss` and `duplication`: of messages between access points; `channel_s`, `air_s`: the range of their delays.
    `is_mark_lost`: frames that access points made are heard as hosts' by others.
    """

    def __init__(
        self,
        random: Random,
        segments: Sequence[Sequence[str]],
        *,
        is_isolated: bool = False,
        mode: DadMode = "all",
        loss: float = 0.0,
        duplication: float = 0.0,
        channel_s: tuple[Seconds, Seconds] = (0.0003, 0.02),
        air_s: tuple[Seconds, Seconds] = (0.0002, 0.002),
        is_mark_lost: bool = False,
        make_proxy: MakeProxy = DadProxy,
    ) -> None:
        self.random = random
        self.clock = VirtualClock()
        self.loss, self.duplication = loss, duplication
        self.channel_s, self.air_s = channel_s, air_s
        self.is_mark_lost = is_mark_lost
        self.hosts: dict[Mac, Host] = {}
        self.origins: dict[DadMessage, Mac] = {}
        """Whose word a message is whose MAC does not tell."""
        self.collisions: list[Collision] = []
        self.uses: list[Use] = []
        self.transmissions = self.relays = self.group_frames = self.unicast_frames = self.defences = 0
        self.access_points: dict[str, AccessPoint] = {}
        self._segments: dict[str, Segment] = {}
        names = dict.fromkeys(link.split(".")[0] for links in segments for link in links)
        for number, name in enumerate(names, 1):
            own = [link.split(".")[1] for links in segments for link in links if link.split(".")[0] == name]
            access_point = AccessPoint(self, name, number, own)
            access_point.proxy = make_proxy(own, (ROAMING_PREFIX,), access_point, mode=mode, is_isolated=is_isolated)
            self.access_points[name] = access_point
        for links in segments:
            segment = Segment(self, is_isolated)
            for link in links:
                name, own_link = link.split(".")
                segment.links.append((self.access_points[name], own_link))
                self._segments[link] = segment

    def host(self, link: str, *, has_nonce: bool = True, is_known: bool = True, is_associated: bool = True) -> Host:
        """A new host on the segment of `link`."""
        mac = Mac(f"02:00:00:00:{len(self.hosts) >> 8:02x}:{len(self.hosts) & 255:02x}")
        self.hosts[mac] = Host(self, mac, self.segment_of(link), has_nonce, is_known, is_associated)
        return self.hosts[mac]

    def segment_of(self, link: str) -> Segment:
        """The layer 2 on which `ACCESS_POINT.LINK` is."""
        return self._segments[link]

    def tell(self, sender: AccessPoint, receiver: AccessPoint, message: DadMessage) -> None:
        """The channel: each copy is lost, or comes after a while; none does when a loop has filled it."""
        if self.relays > MOST_RELAYS:
            return
        copies = 1 + (self.random.random() < self.duplication)
        for _ in range(copies):
            if self.random.random() >= self.loss:
                self.later(self.channel_s, partial(receiver.told, sender.peer, message))

    def collide(self, host: Host, target: Address, origin: Mac) -> None:
        """A host has found that somebody else has its address."""
        self.collisions.append(Collision(host.mac, target, origin, self.clock.now))

    def later(self, range_s: tuple[Seconds, Seconds], action: Callable[[], None]) -> None:
        """Do it after a time in the range."""
        self.clock.after(self.random.uniform(*range_s), action)

    def run(self, duration: Seconds) -> None:
        """Let time pass."""
        self.clock.run(duration)
