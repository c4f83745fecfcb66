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
from roamroute.linux import client_guard
from roamroute.linux.client_guard import ClientGuard, remove_guard
from roamroute.linux.fib import KernelFib
from roamroute.linux.forward_rules import STAND_IN, former_sources, reconcile_rules, wanted_rules
from roamroute.linux.forward_watch import ForwardWatch
from roamroute.linux.pace import PORTION_BESIDE
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log, Refusal, Requests
from roamroute.linux.segment_table import SegmentTable
from roamroute.linux.too_big import TooBigRelay
from roamroute.linux.tunnel_changes import TunnelChanges
from roamroute.linux.tunnel_source import TunnelSource
from roamroute.linux.tunnel_tables import METRIC, Body, TunnelTables, find_link
from roamroute.segments import segment_prefix
from roamroute.values import Address, HostRoute, Instant, PeerId, Prefix, Seconds, Segments
from roamroute.wire import netlink
from roamroute.wire.segment_routes import Mode

_LOOK_S: Seconds = 1.0
_REPAIR_S: Seconds = 0.05
_RETRIED = 512
_GONE = frozenset({errno.ESRCH, errno.ENOENT})

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
    told_too_big: int
    """How often a sender was told that its packets are too big for being sent on."""


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
        self._segments = _possible(segments, self._interfaces)
        # A minute more than a forward may last.
        self._tables = TunnelTables(tables, numbers.protocol, int(limit_s) + 60)
        self._rule_priority = rule_priority
        self._numbers = numbers
        self._log = log
        self._changed = changed
        self._repeats = Repeats(log, clock=clock)
        self._taking = SegmentTable(self._segments, self._tables, self._repeats)
        self._within = segment_prefix(prefixes)
        self._mode: Mode | None = None
        self._index: int | None = None
        self._requests: Requests | None = None
        self._source: TunnelSource | None = None
        self._former_sources: frozenset[IPv6Address] = frozenset()
        self._guard: ClientGuard | None = None
        self.is_guarded = False
        """Whether what clients send to segments is dropped before it is routed; else the policy rules must do."""
        self._changes: TunnelChanges | None = None
        self._repair: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._forwards: dict[Address, Forward] = {}
        self._installed: dict[Address, IPv6Address] = {}
        self._here: set[Address] = set()
        """The addresses of our own hosts: their packets do not tell whether the routing has converged."""
        self._watch: ForwardWatch | None = None
        self._relay: TooBigRelay | None = None
        if isinstance(me, IPv6Address) and self._within is not None:
            self._watch = ForwardWatch(me, self._within, emit, self._repeats, lambda: self._here, clock)
            self._relay = TooBigRelay(me, self._repeats)
        self._is_running = False
        self._why_not: str | None = "not opened yet"
        delivered = attrs.evolve(numbers, table=self._tables.delivery, metric=METRIC)
        delivery = ExporterContext(self._interfaces, self._prefixes, delivered, log=log)
        self._delivery = KernelFib(delivery, FibNeeds, lambda _route: True, portion=PORTION_BESIDE, clock=clock)

    @property
    def segments(self) -> Segments:
        """Those of ours that are taken. That for IPv4 needs exactly one client link: see `forward_rules.STAND_IN`."""
        return self._segments

    @property
    def why_not(self) -> str | None:
        """None: this machine sends on and takes. Else the reason and what to do; it may change at any time."""
        return self._why_not

    def open(self) -> None:
        """Remove what an earlier run left, put the rules in, find out what the kernel can do. Never raises."""
        try:
            self._former_sources = former_sources(self._opened(), self._numbers.protocol)
            self._tables.flush(self._opened())
            self._make_true()
        except Failures as error:
            self._why_not = f"the kernel does not answer over netlink: {error}"

    def set_peers(self, peers: frozenset[PeerId]) -> None:
        """Take encapsulated packets from these, and from nobody else. Never raises."""
        if peers != self._taking.peers:
            self._taking.peers = peers
            if self._requests is not None:
                self._attempt(self._look_at_segments)

    def forward(self, effects: Sequence[Forward | EndForward]) -> None:
        """Carry the effects out, now and in one batch. Never raises; what the kernel refuses is tried again."""
        bodies: list[Body] = []
        addresses: list[Address] = []
        for effect in effects:
            address = effect.address
            if isinstance(effect, Forward):
                self._forwards[address] = effect
                if self._mode is None or self._index is None:
                    continue
                self._installed[address] = effect.segment
                bodies.append(self._tables.forward(address, effect.segment, self._index, self._mode))
            else:
                self._forwards.pop(address, None)
                if self._installed.pop(address, None) is None:
                    continue
                bodies.append(self._tables.end_forward(address))
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
        if self._is_running:  # what depends on the forwards itself must not wait for sockets
            asyncio.get_running_loop().call_soon(self._follow_packets)

    def deliver(self, delta: Delta) -> None:
        """The host routes of our own hosts have changed. Never raises."""
        if self._interfaces:
            announced, withdrawn = self._delivered(delta.announced), self._delivered(delta.withdrawn)
            if announced or withdrawn:
                self._delivery.apply(Delta(announced, withdrawn))
            self._here.difference_update(route.address for route in delta.withdrawn)
            self._here.update(route.address for route in delta.announced)

    def deliver_all(self, routes: Iterable[HostRoute]) -> None:
        """These are all host routes of our own hosts. Never raises."""
        if self._interfaces:
            known = tuple(routes)
            stand_in = (HostRoute(STAND_IN, self._interfaces[0]),) if self._segments.ipv4 is not None else ()
            self._delivery.apply_all((*self._delivered(known), *stand_in))
            self._here = {route.address for route in known}

    def status(self) -> ForwardingStatus:
        """What is there now; asks the kernel for its counters."""
        taken: dict[PeerId, int] = {}
        refused = 0
        with contextlib.suppress(*Failures):
            taken, refused = self._taking.taken(self._opened())
        return ForwardingStatus(
            dict(self._installed), taken, refused, self._relay.told if self._relay is not None else 0
        )

    async def run(self) -> None:
        """Keep it true until cancelled; opens, where that has not been done."""
        if self._requests is None:
            self.open()
        delivery = asyncio.create_task(self._delivery.run()) if self._interfaces else None
        self._is_running = True
        try:
            while True:
                if self._changes is None:
                    self._listen()
                await asyncio.sleep(_LOOK_S)
                if self._why_not is not None or not self._is_undisturbed():
                    self._attempt(self._look)
        finally:
            self._is_running = False
            if self._watch is not None:
                self._watch.close()
            if self._relay is not None:
                self._relay.close()
            if delivery is not None:
                delivery.cancel()
                await asyncio.gather(delivery, return_exceptions=True)
            self._deafen()

    def clear(self) -> None:
        """Remove everything of ours: for the very end. Never raises."""
        self._deafen()
        self._forwards.clear()
        self._taking.peers = frozenset()
        if self._requests is None:
            return
        with contextlib.suppress(*Failures):
            reconcile_rules(self._requests, (), self._numbers.protocol)
            self._tables.flush(self._requests)
            self._delivery.clear()
            remove_guard()
            if self._source is not None:
                self._source.release()

    async def close(self) -> None:
        """Close the sockets; what is in the kernel stays."""
        self._deafen()
        await self._delivery.close()
        for opened in (self._source, self._guard):
            if opened is not None:
                opened.close()
        self._source = self._guard = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    # what should be there, and what is

    def _look(self) -> None:
        """Make all of it true, and tell whether it works. Raises: KernelRefused, MalformedInput, OSError."""
        before = self._why_not
        self._make_true()
        if self._why_not != before:
            self._changed()

    def _look_at_segments(self) -> None:
        """As `_look`, but for the forwards, of which there may be thousands."""
        before = self._why_not
        if self._index is not None and self._interfaces:
            self._take(self._index)
        if self._why_not != before:
            self._changed()

    def _make_true(self) -> None:
        """From the bottom up. Raises: KernelRefused, MalformedInput, OSError."""
        self._why_not = None
        self._reconcile_rules()
        self._put_guard()
        self._take_source()
        self._index = find_link(self._opened(), self._interfaces, self._index)
        if self._index is None:
            self._fail("no interface with an IPv6 address is up")
        elif self._within is None:
            self._fail("no roaming prefix is IPv6 and a /64 or shorter")
        else:
            self._find_mode(self._within[0], self._index)
            if self._interfaces:
                self._take(self._index)
            self._reconcile_forwards()
        if self._why_not is not None:
            self._repeats.tell("warning", self._why_not, f'packets are not sent on because="{self._why_not}"')

    def _fail(self, why: str) -> None:
        """Remember the first reason."""
        if self._why_not is None:
            self._why_not = why

    def _reconcile_rules(self) -> None:
        wanted = wanted_rules(
            *(self._prefixes, self._interfaces, self._me, self._segments),
            tables=self._tables.forwards,
            priority=self._rule_priority,
            protocol=self._numbers.protocol,
            senders=self._taking.rule_senders,
        )
        for rule, refusal in reconcile_rules(self._opened(), wanted, self._numbers.protocol):
            self._fail(f"the kernel refused a policy rule of priority {rule.priority}: {refusal}")

    def _put_guard(self) -> None:
        if not self._interfaces or self._within is None:
            return
        try:
            if self._guard is None:
                self._guard = ClientGuard(self._interfaces, self._within)
            self._guard.reconcile()
            self.is_guarded = True
        except Failures as error:  # all the same, the policy rules prohibit nearly all of it
            self.is_guarded = False
            self._repeats.tell("warning", "guard", client_guard.explain(error))

    def _take_source(self) -> None:
        if not isinstance(self._me, IPv6Address):
            self._fail("our mesh address is IPv4: packets are sent on over IPv6, set an IPv6 address in peers.address")
            return
        try:
            if self._source is None:
                self._source = TunnelSource(self._me, self._former_sources)
            taken = self._source.take()
        except KernelRefused as error:
            remedy = "the kernel needs CONFIG_IPV6_SEG6_LWTUNNEL"
            self._fail(f"{remedy}: {error}" if error.errno == errno.ENOENT else f"segment routing: {error}")
            return
        if taken is not None:
            self._fail(f"another program has set the source of segment routing to {taken} (ip sr tunsrc set ::)")

    def _take(self, index: int) -> None:
        why_not = self._taking.reconcile(self._opened(), index)
        if self._taking.rule_senders is not None:
            self._reconcile_rules()
        if why_not is not None:
            self._fail(why_not)

    def _is_undisturbed(self) -> bool:
        """Of what there is no notification for."""
        try:
            is_ours = self._source is None or self._source.current() == self._me
            return is_ours and (self._guard is None or not self.is_guarded or self._guard.is_whole())
        except Failures:
            return False

    def _find_mode(self, nobody: IPv6Address, index: int) -> None:
        if self._mode is None:
            found = self._tables.find_mode(self._opened(), nobody, index)
            if isinstance(found, Mode):
                self._mode = found
            else:
                self._fail(f"the kernel needs CONFIG_IPV6_SEG6_LWTUNNEL: {found}")

    def _reconcile_forwards(self) -> None:
        if self._mode is None:
            return
        present = self._tables.sent_on(self._opened())
        self._installed = {address: segment for address, segment in present.items() if segment is not None}
        ended = [EndForward(address, "not wanted") for address in self._installed if address not in self._forwards]
        missing = [each for each in self._forwards.values() if self._installed.get(each.address) != each.segment]
        self.forward([*missing, *ended])

    def _follow_packets(self) -> None:
        if self._is_running:
            if self._watch is not None:
                self._watch.follow(self._installed.keys())
            if self._relay is not None:
                self._relay.follow(self._installed)

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
        # The kernel takes memory for an encapsulation where it must not wait for it: thousands at once need some time.
        is_short = refusal.errno == errno.ENOMEM
        text = f'kernel refused to send on, trying again address={address} because="{refusal}"'
        self._repeats.tell("debug" if is_short else "warning", f"forward {refusal.errno}", text)
        self._retry_in(_REPAIR_S if is_short else _LOOK_S)

    def _retry_in(self, delay_s: Seconds) -> None:
        if self._retry is None and self._is_running:
            self._retry = asyncio.get_running_loop().call_later(delay_s, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        missing = [each for each in self._forwards.values() if self._installed.get(each.address) != each.segment]
        self.forward(missing[:_RETRIED])
        if len(missing) > _RETRIED:
            self._retry_in(_REPAIR_S)

    def _opened(self) -> Requests:
        if self._requests is None:
            self._requests = Requests()
        return self._requests

    # listening

    def _listen(self) -> None:
        try:
            self._changes = TunnelChanges(self._tables, self._opened().port)
        except OSError as error:
            self._repeats.tell("error", "open", f'netlink cannot be opened because="{error}"')
            return
        asyncio.get_running_loop().add_reader(self._changes.fileno(), self._readable)
        self._attempt(self._look)

    def _deafen(self) -> None:
        for timer in (self._repair, self._retry):
            if timer is not None:
                timer.cancel()
        self._repair = self._retry = None
        if self._changes is not None:
            asyncio.get_running_loop().remove_reader(self._changes.fileno())
            self._changes.close()
            self._changes = None

    def _readable(self) -> None:
        """Something changed that may concern us: look, a little later, for changes come in bursts."""
        if self._changes is None:
            return
        try:
            if self._changes.read(self._index):
                self._repair_in(_REPAIR_S)
        except OSError as error:
            self._repeats.tell("warning", "broken", f'netlink broke, reopening because="{error}"')
            self._deafen()

    def _repair_in(self, delay_s: Seconds) -> None:
        if self._repair is None and self._changes is not None:
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


def _possible(segments: Segments, interfaces: Sequence[str]) -> Segments:
    if not interfaces:
        return Segments()
    return segments if len(interfaces) == 1 else attrs.evolve(segments, ipv4=None)
