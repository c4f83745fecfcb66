"""Sending on to the next access point what still arrives for a host, and taking what the others send on to us.

By segment routing over IPv6 in the kernel (RFC 8986), in three routing tables that no routing daemon looks into, behind
policy rules of ours (`forward_rules`):

- *forwards* (the first table): for each address that is sent on, a route that encapsulates towards the peer's segment;
- *delivery* (the second): host routes out of client links only. A decapsulated packet is looked up there and nowhere
  else, so it goes through one tunnel at most, and cannot loop however the access points disagree;
- *segments* (the third): our own, for each peer apart, by the source address: nobody else's packets are taken.

Level-triggered: what others delete, and what goes with an interface, is put back. Nothing here raises into the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv6Address

import attrs

from roamroute.delta import Delta
from roamroute.effects import EndForward, Forward
from roamroute.errors import KernelRefused, MalformedInput
from roamroute.events import Event
from roamroute.export import ExporterContext, FibNeeds, KernelNumbers
from roamroute.linux import rtnetlink
from roamroute.linux.fib import KernelFib
from roamroute.linux.forward_rules import STAND_IN, reconcile_rules, wanted_rules
from roamroute.linux.forward_watch import ForwardWatch
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log, Notifications, Refusal, Requests
from roamroute.linux.tunnel_source import TunnelSource
from roamroute.segments import segment_prefix
from roamroute.values import Address, HostRoute, Instant, PeerId, Prefix, Seconds, Segments
from roamroute.wire import netlink, segment_routes
from roamroute.wire.segment_routes import Mode, SegmentEntry

_METRIC = 8
_PUT = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
_LOOK_S: Seconds = 1.0
_REPAIR_S: Seconds = 0.05
_GROUPS = (
    *(rtnetlink.GROUP_LINK, rtnetlink.GROUP_IPV6_ADDRESS, rtnetlink.GROUP_IPV6_ROUTE, rtnetlink.GROUP_IPV4_ROUTE),
    *(rtnetlink.GROUP_IPV4_RULE, rtnetlink.GROUP_IPV6_RULE),
)
_BUFFER_BYTES = 1 << 18
_READ_LIMIT = 512
_GONE = frozenset({errno.ESRCH, errno.ENOENT})

Body = tuple[int, int, bytes]
Failures = (KernelRefused, MalformedInput, OSError)


@attrs.frozen
class ForwardingStatus:
    """What `status` shows."""

    forwards: Mapping[Address, IPv6Address]
    """The addresses whose packets are sent on, and to which segment."""
    taken: Mapping[PeerId, int]
    """Packets that our segments have taken from each peer since it joined."""
    refused: int
    """Packets that a peer sent to our segments and that could not be decapsulated."""


class Forwarding:
    """Owns the three tables, the rules, and the source address of encapsulated packets."""

    def __init__(
        self,
        prefixes: Sequence[Prefix],
        interfaces: Sequence[str],
        me: PeerId,
        segments: Segments,
        *,
        tables: int,
        rule_priority: int,
        numbers: KernelNumbers,
        emit: Callable[[Event], None],
        log: Log,
        changed: Callable[[], None] = lambda: None,
        limit_s: Seconds = 300.0,
        clock: Callable[[], Instant] = time.monotonic,
    ) -> None:
        """Opens nothing yet: see `open`.

        `interfaces`: the client links; without any, packets are sent on and none are taken. `limit_s`: no forward
        lasts longer; one minute later the kernel forgets it by itself should we have died (IPv6). `changed` is called
        when `why_not` has changed.
        """
        self._prefixes = tuple(prefixes)
        self._interfaces = tuple(interfaces)
        self._me = me
        self._segments = segments if interfaces else Segments()
        self._tables = tables
        self._rule_priority = rule_priority
        self._numbers = numbers
        self._log = log
        self._changed = changed
        self._expires_s = int(limit_s) + 60
        self._repeats = Repeats(log, clock=clock)
        self._within = segment_prefix(prefixes)
        self._mode: Mode | None = None
        self._index: int | None = None
        self._requests: Requests | None = None
        self._source: TunnelSource | None = None
        self._notifications: Notifications | None = None
        self._repair: asyncio.TimerHandle | None = None
        self._forwards: dict[Address, Forward] = {}
        self._installed: dict[Address, IPv6Address] = {}
        self._watch = (
            ForwardWatch(me, self._within, emit, self._repeats, clock)
            if isinstance(me, IPv6Address) and self._within is not None
            else None
        )
        self._is_running = False
        self._peers: frozenset[PeerId] = frozenset()
        self._why_not: str | None = "not opened yet"
        delivery = ExporterContext(
            self._interfaces, self._prefixes, attrs.evolve(numbers, table=tables + 1, metric=_METRIC), log=log
        )
        self._delivery = KernelFib(delivery, FibNeeds, lambda _route: True, clock=clock)

    @property
    def why_not(self) -> str | None:
        """None: this machine sends on and takes. Else the reason and what to do; it may change at any time."""
        return self._why_not

    def open(self) -> None:
        """Remove what an earlier run left, put the rules in, find out what the kernel can do. Never raises."""
        try:
            self._opened()
            self._flush()
            self._look()
        except Failures as error:
            self._fail(f"the kernel does not answer over netlink: {error}")

    def set_peers(self, peers: frozenset[PeerId]) -> None:
        """Take encapsulated packets from these, and from nobody else. Never raises."""
        if peers != self._peers:
            self._peers = peers
            self._attempt(self._reconcile_segments)

    def forward(self, effects: Sequence[Forward | EndForward]) -> None:
        """Carry the effects out, now and in one batch. Never raises; what the kernel refuses is tried again."""
        bodies: list[Body] = []
        addresses: list[Address] = []
        for effect in effects:
            address = effect.address
            if isinstance(effect, Forward):
                self._forwards[address] = effect
                if self._is_sending:
                    self._installed[address] = effect.segment
                    bodies.append((netlink.RTM_NEWROUTE, _PUT, self._forward_body(address, effect.segment)))
                    addresses.append(address)
            else:
                self._forwards.pop(address, None)
                if self._installed.pop(address, None) is not None:
                    bodies.append((netlink.RTM_DELROUTE, 0, self._forward_body(address, None)))
                    addresses.append(address)
        if not bodies:
            return
        try:
            refusals = self._opened().transact(bodies)
        except Failures as error:
            self._repeats.tell("error", "batch", f'forwards lost, looking again because="{error}"')
            self._repair_in(_REPAIR_S)
            return
        for refusal in refusals:
            self._refused(addresses[refusal.position], bodies[refusal.position], refusal)
        if self._watch is not None and self._is_running:
            self._watch.follow(self._installed.keys())

    def deliver(self, delta: Delta) -> None:
        """The host routes of our own hosts have changed. Never raises."""
        if self._interfaces:
            announced, withdrawn = self._delivered(delta.announced), self._delivered(delta.withdrawn)
            if announced or withdrawn:
                self._delivery.apply(Delta(announced, withdrawn))

    def deliver_all(self, routes: Iterable[HostRoute]) -> None:
        """These are all host routes of our own hosts. Never raises."""
        if self._interfaces:
            stand_in = (HostRoute(STAND_IN, self._interfaces[0]),) if self._has_stand_in else ()
            self._delivery.apply_all((*self._delivered(routes), *stand_in))

    def status(self) -> ForwardingStatus:
        """What is there now; asks the kernel for its counters."""
        taken: dict[PeerId, int] = {}
        refused = 0
        with contextlib.suppress(*Failures):
            for entry in self._dump(netlink.AF_INET6, self._tables + 2):
                if entry.counters is not None and entry.source is not None:
                    taken[entry.source] = taken.get(entry.source, 0) + entry.counters.packets
                    refused += entry.counters.errors
        return ForwardingStatus(dict(self._installed), taken, refused)

    async def run(self) -> None:
        """Keep it true until cancelled; opens, where that has not been done."""
        if self._requests is None:
            self.open()
        delivery = asyncio.create_task(self._delivery.run()) if self._interfaces else None
        self._is_running = True
        try:
            while True:
                if self._notifications is None:
                    self._listen()
                await asyncio.sleep(_LOOK_S)
                if self._why_not is not None:
                    self._attempt(self._look)
        finally:
            self._is_running = False
            if self._watch is not None:
                self._watch.close()
            if delivery is not None:
                delivery.cancel()
                await asyncio.gather(delivery, return_exceptions=True)
            self._deafen()

    def clear(self) -> None:
        """Remove everything of ours: for the very end. Never raises."""
        self._deafen()
        self._forwards.clear()
        self._peers = frozenset()
        if self._requests is None:
            return
        with contextlib.suppress(*Failures):
            reconcile_rules(self._requests, (), self._numbers.protocol)
            self._flush()
            self._delivery.clear()
            if self._source is not None:
                self._source.release()

    async def close(self) -> None:
        """Close the sockets; what is in the kernel stays."""
        self._deafen()
        await self._delivery.close()
        if self._source is not None:
            self._source.close()
            self._source = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    # what should be there, and what is

    @property
    def _is_sending(self) -> bool:
        return self._mode is not None and self._index is not None

    @property
    def _has_stand_in(self) -> bool:
        return len(self._interfaces) == 1 and self._segments.ipv4 is not None

    def _look(self) -> None:
        """Make all of it true, from the bottom. Raises: KernelRefused, MalformedInput, OSError."""
        before = self._why_not
        self._why_not = None
        self._reconcile_rules()
        self._take_source()
        self._choose_link()
        if self._index is not None:
            self._choose_mode()
            self._reconcile_segments()
            self._reconcile_forwards()
        if self._why_not != before:
            if self._why_not is not None:
                self._log("warning", f'packets are not sent on because="{self._why_not}"')
            self._changed()

    def _fail(self, why: str) -> None:
        """Remember the first reason."""
        if self._why_not is None:
            self._why_not = why

    def _reconcile_rules(self) -> None:
        wanted = wanted_rules(
            *(self._prefixes, self._interfaces, self._me, self._segments),
            tables=self._tables,
            priority=self._rule_priority,
            protocol=self._numbers.protocol,
        )
        for rule, refusal in reconcile_rules(self._opened(), wanted, self._numbers.protocol):
            self._fail(f"the kernel refused a policy rule of priority {rule.priority}: {refusal}")

    def _take_source(self) -> None:
        if not isinstance(self._me, IPv6Address):
            self._fail("our mesh address is IPv4: packets are sent on over IPv6, set an IPv6 address in peers.address")
            return
        try:
            if self._source is None:
                self._source = TunnelSource(self._me)
            taken = self._source.take()
        except KernelRefused as error:
            remedy = "the kernel needs CONFIG_IPV6_SEG6_LWTUNNEL"
            self._fail(f"{remedy}: {error}" if error.errno == errno.ENOENT else f"segment routing: {error}")
            return
        if taken is not None:
            self._fail(f"another program has set the source of segment routing to {taken} (ip sr tunsrc set ::)")

    def _choose_link(self) -> None:
        """Any interface that is up and speaks IPv6 will do for a route's; one that clients do not use rather."""
        requests = self._opened()
        links = [netlink.decode_link(each) for each in requests.dump(netlink.RTM_GETLINK, netlink.link_body())]
        body = netlink.address_body(netlink.AF_INET6)
        addresses = [netlink.decode_address(each) for each in requests.dump(netlink.RTM_GETADDR, body)]
        speaking = {entry.ifindex for entry in addresses if entry is not None and entry.address.version == 6}
        usable = [
            link
            for link in links
            if link.flags & netlink.IFF_UP and not link.flags & netlink.IFF_LOOPBACK and link.ifindex in speaking
        ]
        if self._index not in {link.ifindex for link in usable if link.name not in self._interfaces}:
            usable.sort(key=lambda link: (link.name in self._interfaces, link.ifindex))
            self._index = usable[0].ifindex if usable else None
        if self._index is None:
            self._fail("no interface with an IPv6 address is up")

    def _choose_mode(self) -> None:
        """Find out how the kernel encapsulates, by an address that is nobody's."""
        if self._mode is not None or self._within is None or self._index is None:
            if self._within is None:
                self._fail("no IPv6 prefix of /64 or shorter among the roaming prefixes")
            return
        nobody = self._within[0]
        number = 0
        for mode in (Mode.ENCAP_RED, Mode.ENCAP):
            body = self._forward_body(nobody, nobody, mode)
            refusals = self._opened().transact([(netlink.RTM_NEWROUTE, _PUT, body)])
            if not refusals:
                self._mode = mode
                self._opened().transact([(netlink.RTM_DELROUTE, 0, self._forward_body(nobody, None))])
                return
            number = refusals[0].errno
        self._fail(f"the kernel needs CONFIG_IPV6_SEG6_LWTUNNEL: {Refusal(0, number)}")

    def _reconcile_segments(self) -> None:
        if self._index is None or not self._interfaces:
            return
        wanted = dict(self._wanted_segments())
        table = self._tables + 2
        present = {
            (entry.destination, entry.source): entry
            for entry in self._dump(netlink.AF_INET6, table)
            if entry.protocol == self._numbers.protocol
        }
        bodies: list[Body] = []
        for (segment, source), action in wanted.items():
            if (segment, source) not in present:
                body = self._segment_body(segment, source, self._index, action)
                bodies.append((netlink.RTM_NEWROUTE, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, body))
        bodies += [
            (netlink.RTM_DELROUTE, 0, self._segment_body(entry.destination, entry.source, None, None))
            for key, entry in present.items()
            if key not in wanted and isinstance(entry.destination, IPv6Address)
        ]
        for refusal in self._opened().transact(bodies) if bodies else ():
            if bodies[refusal.position][0] == netlink.RTM_NEWROUTE:
                self._fail(f"the kernel takes no encapsulated packets: {refusal}")

    def _wanted_segments(self) -> Iterable[tuple[tuple[IPv6Address, IPv6Address], bytes]]:
        stand_in = STAND_IN.packed if self._has_stand_in else bytes(4)
        actions = (
            (self._segments.ipv6, segment_routes.decapsulate6_action(self._tables + 1)),
            (self._segments.ipv4, segment_routes.decapsulate4_action(stand_in)),
        )
        for segment, action in actions:
            for peer in self._peers:
                if segment is not None and isinstance(peer, IPv6Address):
                    yield (segment, peer), action

    def _reconcile_forwards(self) -> None:
        if not self._is_sending:
            return
        present: dict[Address, IPv6Address | None] = {}
        for family in (netlink.AF_INET6, netlink.AF_INET):
            for entry in self._dump(family, self._tables):
                if entry.protocol == self._numbers.protocol and entry.destination is not None:
                    present[entry.destination] = entry.segment
        ours = {address: segment for address, segment in present.items() if segment is not None}
        self._installed = ours
        if self._watch is not None and self._is_running:
            self._watch.follow(self._installed.keys())
        self.forward([each for each in self._forwards.values() if ours.get(each.address) != each.segment])
        self.forward([EndForward(each, "not wanted") for each in ours if each not in self._forwards])

    def _flush(self) -> None:
        """Delete all routes of ours in the first and the third table. Raises: KernelRefused, MalformedInput, OSError"""
        bodies: list[Body] = []
        for family, table in (
            *((netlink.AF_INET6, self._tables), (netlink.AF_INET, self._tables)),
            (netlink.AF_INET6, self._tables + 2),
        ):
            for entry in self._dump(family, table):
                if entry.protocol != self._numbers.protocol or entry.destination is None:
                    continue
                if table == self._tables:
                    body = self._forward_body(entry.destination, None)
                elif isinstance(entry.destination, IPv6Address):
                    body = self._segment_body(entry.destination, entry.source, None, None)
                else:
                    continue
                bodies.append((netlink.RTM_DELROUTE, 0, body))
        if bodies:
            self._opened().transact(bodies)
        self._installed.clear()

    def _dump(self, family: int, table: int) -> list[SegmentEntry]:
        body = netlink.route_filter_body(family, table=table)
        messages = self._opened().dump(netlink.RTM_GETROUTE, body, none_if=errno.ENOENT)
        entries = [segment_routes.decode_segment_route(each) for each in messages]
        return [entry for entry in entries if entry.table == table]

    # messages

    def _forward_body(self, address: Address, segment: IPv6Address | None, mode: Mode | None = None) -> bytes:
        return segment_routes.forward_body(
            *(address, segment, self._index if segment is not None else None),
            table=self._tables,
            protocol=self._numbers.protocol,
            metric=_METRIC,
            mode=mode or self._mode or Mode.ENCAP_RED,
            expires_s=self._expires_s if segment is not None else 0,
        )

    def _segment_body(
        self, segment: IPv6Address, source: Address | None, index: int | None, action: bytes | None
    ) -> bytes:
        return segment_routes.segment_body(
            *(segment, source if isinstance(source, IPv6Address) else None, index, action),
            table=self._tables + 2,
            protocol=self._numbers.protocol,
            metric=_METRIC,
        )

    def _delivered(self, routes: Iterable[HostRoute]) -> tuple[HostRoute, ...]:
        """IPv4 goes by the stand-in; segments are no hosts."""
        within = self._within
        return tuple(
            route
            for route in routes
            if isinstance(route.address, IPv6Address) and (within is None or route.address not in within)
        )

    def _refused(self, address: Address, body: Body, refusal: Refusal) -> None:
        if body[0] == netlink.RTM_DELROUTE and refusal.errno in _GONE:
            return
        self._installed.pop(address, None)
        text = f'kernel refused to send on address={address} because="{refusal}"'
        self._repeats.tell("warning", f"forward {refusal.errno}", text)
        self._repair_in(_LOOK_S)

    def _opened(self) -> Requests:
        if self._requests is None:
            self._requests = Requests()
        return self._requests

    # listening

    def _listen(self) -> None:
        try:
            program = rtnetlink.table_filter((self._tables, self._tables + 2), ignored_port=self._opened().port)
            self._notifications = Notifications(_GROUPS, _BUFFER_BYTES, program)
        except OSError as error:
            self._repeats.tell("error", "open", f'netlink cannot be opened because="{error}"')
            return
        asyncio.get_running_loop().add_reader(self._notifications.fileno(), self._readable)
        self._attempt(self._look)

    def _deafen(self) -> None:
        if self._repair is not None:
            self._repair.cancel()
            self._repair = None
        if self._notifications is not None:
            asyncio.get_running_loop().remove_reader(self._notifications.fileno())
            self._notifications.close()
            self._notifications = None

    def _readable(self) -> None:
        """Something changed that may concern us: look, a little later, for changes come in bursts."""
        if self._notifications is None:
            return
        try:
            messages, is_lossy = self._notifications.read(_READ_LIMIT)
        except OSError as error:
            self._repeats.tell("warning", "broken", f'netlink broke, reopening because="{error}"')
            self._deafen()
            return
        if is_lossy or any(message.port != self._opened().port for message in messages):
            self._repair_in(_REPAIR_S)

    def _repair_in(self, delay_s: Seconds) -> None:
        if self._repair is None and self._notifications is not None:
            self._repair = asyncio.get_running_loop().call_later(delay_s, self._repair_now)

    def _repair_now(self) -> None:
        self._repair = None
        self._attempt(self._look)

    def _attempt(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Failures as error:
            self._repeats.tell("error", "look", f'forwarding cannot be looked at, trying again because="{error}"')
            self._repair_in(_LOOK_S)
