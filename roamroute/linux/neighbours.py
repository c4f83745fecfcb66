"""The neighbour source: what the kernel's neighbour cache, links, addresses and bridges say, as events; and probes.

One notification socket carries neighbours (RFC 4861 §7.3 states, IPv6 and IPv4), links and our own addresses, so that
their order is the kernel's. A second socket asks. Everything that one wake-up brought is handed over at once
(`emit_batch`), synchronously: between the kernel's notification and the engine stands no queue and no task.

The type of a message counts before the state in it: RTM_DELNEIGH carries the state that the entry had (Linux 6.18
sends STALE when a link goes down).

After any loss (ENOBUFS: the kernel dropped notifications because we were slow) everything is dumped again and emitted
as `NeighboursResynced`, and the log says so.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence

from roamroute.effects import Forget, Probe, Unlearn
from roamroute.errors import KernelRefused, MalformedInput
from roamroute.events import (
    CollectionChanged,
    Event,
    LinkLost,
    MacForgotten,
    MacLearned,
    NeighbourChanged,
    NeighbourRemoved,
    NeighboursResynced,
    OwnAddressesChanged,
    ProbesRefused,
)
from roamroute.linux import rtnetlink
from roamroute.linux.links import LinkTable
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log, Notifications, Refusal, Requests
from roamroute.linux.table_watch import LOOK_S, TableWatch, read_tables
from roamroute.values import Address, Mac, Neighbour, Nud, Seconds
from roamroute.wire import netlink
from roamroute.wire.netlink import Message, NeighbourEntry

_READ_LIMIT = 512
"""Datagrams handled before the loop gets its turn: 512 neighbour messages are about 2 ms of decoding."""
_RETRY_S: Seconds = 1.0
_LOSS_PAUSE_S: Seconds = 0.25
"""Under a flood that never ends we dump at most so often: a dump of 5,000 entries costs about 20 ms, 8 % of this."""
_GROUPS = (
    rtnetlink.GROUP_LINK,
    rtnetlink.GROUP_NEIGHBOUR,
    rtnetlink.GROUP_IPV4_ADDRESS,
    rtnetlink.GROUP_IPV6_ADDRESS,
)
_FOREIGN_MADE = netlink.NTF_PROXY | netlink.NTF_EXT_LEARNED
_FIXED = Nud.PERMANENT | Nud.NOARP
_NUD = {state.value: state for state in Nud}
_HARMLESS = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENETDOWN})
"""What a probe or a deletion meets when the entry or the interface has just gone."""


class NeighbourSource:
    """Follows the neighbour tables of the roaming interfaces; interfaces may come, go, and come back anew."""

    def __init__(
        self,
        links: Sequence[str],
        emit_batch: Callable[[list[Event]], None],
        log: Log,
        *,
        is_following_bridge: bool = False,
        receive_buffer_bytes: int = 4 << 20,
    ) -> None:
        """Opens nothing yet.

        `emit_batch` is called in the loop, with events in the kernel's order, never with an empty list.
        `is_following_bridge`: also report which port a bridge among `links` learns a MAC on.
        """
        self._emit_batch = emit_batch
        self._log = log
        self._repeats = Repeats(log)
        self._is_following_bridge = is_following_bridge
        self._receive_buffer_bytes = receive_buffer_bytes
        self._table = LinkTable(links)
        self._macs: dict[Mac, dict[str, int]] = {}
        """By bridge, the index of the port on which it is."""
        self._fixed: set[tuple[str, Address]] = set()
        """The operator's PERMANENT and NOARP entries: a probe would turn them into ordinary ones, with any MAC."""
        self._notifications: Notifications | None = None
        self._requests: Requests | None = None
        self._pending: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._lost_at: float = float("-inf")
        self.watch = TableWatch(log)
        """How full the kernel's tables are."""
        self.lost_messages = 0
        """How often the kernel dropped notifications."""

    @property
    def up(self) -> frozenset[str]:
        """The roaming interfaces that exist and are up."""
        return self._table.up

    async def run(self) -> None:
        """Follow the kernel until cancelled."""
        try:
            while True:
                try:
                    self._open()
                    break
                except OSError as error:
                    self._log("error", f'netlink cannot be opened because="{error}"')
                    await asyncio.sleep(_RETRY_S)
            await asyncio.get_running_loop().create_future()
        finally:
            self._close()

    def resync(self) -> None:
        """Dump everything and emit it, now."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        if self._notifications is None:
            return
        events: list[Event] = []
        self._resync_into(events)
        if events:
            self._emit_batch(events)

    def probe(self, effects: Sequence[Probe]) -> None:
        """Put the entries into NUD_PROBE, all in one send; entries that do not exist are made, fixed ones are left.

        Where the table is full, `ProbesRefused` says for which of them. On a link that is down nobody is asked, though
        the kernel would make the entry.
        """
        bodies = []
        addresses: list[Address] = []
        up = self._table.up
        for effect in effects:
            index = self._table.index(effect.link) if effect.link in up else None
            if index is not None and (effect.link, effect.address) not in self._fixed:
                body = netlink.neighbour_body(index, effect.address, effect.mac, Nud.PROBE)
                bodies.append((netlink.RTM_NEWNEIGH, netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE, body))
                addresses.append(effect.address)
        full = [addresses[each.position] for each in self._ask("probe", bodies) if each.errno == errno.ENOBUFS]
        if full:
            if not self.watch.overflowing:
                self._look()  # tells of it, with how full the table is
            for version in {each.version for each in full}:
                self.watch.refused(version, asyncio.get_running_loop().time())
            self._emit_batch([ProbesRefused(tuple(full))])

    def forget(self, effects: Sequence[Forget]) -> None:
        """Delete the entries, all in one send; an entry that is not there is no error."""
        bodies = []
        for effect in effects:
            index = self._table.index(effect.link)
            if index is not None and (effect.link, effect.address) not in self._fixed:
                bodies.append((netlink.RTM_DELNEIGH, 0, netlink.neighbour_body(index, effect.address, None, 0)))
        self._ask("forget", bodies)

    def unlearn(self, effects: Sequence[Unlearn]) -> None:
        """Delete what bridges have learnt of these MACs, all in one send. It is not told as `MacForgotten`."""
        bodies = []
        for effect in effects:
            ports = self._macs.get(effect.mac, {})
            for bridge in [effect.link] if effect.link is not None else list(ports):
                if (port := self._forget_mac(effect.mac, bridge)) is not None:
                    body = netlink.neighbour_body(
                        port, None, effect.mac, 0, flags=netlink.NTF_MASTER, family=netlink.AF_BRIDGE
                    )
                    bodies.append((netlink.RTM_DELNEIGH, 0, body))
        self._ask("unlearn", bodies)

    def _ask(self, what: str, bodies: list[tuple[int, int, bytes]]) -> list[Refusal]:
        if not bodies or self._requests is None:
            return []
        try:
            refusals = self._requests.transact(bodies)
        except KernelRefused as error:
            self._repeats.tell("warning", f"{what} lost", f'{what} failed because="{error}"')
            return []
        told = next((each for each in refusals if each.errno not in (*_HARMLESS, errno.ENOBUFS)), None)
        if told is not None:  # ENOBUFS: the table is full, which is told as such
            text = f'{what} refused entries={len(refusals)} because="{told}"'
            self._repeats.tell("warning", f"{what} {told.errno}", text)
        return refusals

    def _open(self) -> None:
        try:
            self._requests = Requests()
            self._notifications = Notifications(_GROUPS, self._receive_buffer_bytes)
            asyncio.get_running_loop().add_reader(self._notifications.fileno(), self._readable)
        except OSError:
            self._close()
            raise
        self.resync()
        self._look()

    def _look(self) -> None:
        """See how full the tables are, now and every `LOOK_S`."""
        loop = asyncio.get_running_loop()
        if self._looking is not None:
            self._looking.cancel()
        self._looking = loop.call_later(LOOK_S, self._look)
        if self._requests is None:
            return
        try:
            read = read_tables(self._requests)
        except (KernelRefused, MalformedInput) as error:
            self._repeats.tell("warning", "tables", f'the neighbour tables cannot be looked at because="{error}"')
            return
        if self.watch.look(read, loop.time()):
            self._later(_LOSS_PAUSE_S, self.resync)
        after_s = self.watch.collection(read, self._table.roaming)
        if after_s is not None:
            self._emit_batch([CollectionChanged(after_s)])

    def _close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        if self._notifications is not None:
            asyncio.get_running_loop().remove_reader(self._notifications.fileno())
            self._notifications.close()
            self._notifications = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def _readable(self) -> None:
        if self._notifications is None:
            return
        try:
            messages, is_lossy = self._notifications.read(_READ_LIMIT)
        except OSError as error:
            self._log("warning", f'netlink broke, reopening because="{error}"')
            self._close()
            try:
                self._open()
            except OSError as failure:
                self._log("error", f'netlink cannot be reopened because="{failure}"')
                self._later(_RETRY_S, self._reopen)
            return
        events: list[Event] = []
        needs_resync = self._follow(messages, events)
        if is_lossy:
            self.lost_messages += 1
            self._repeats.tell(
                "warning", "loss", 'kernel notifications were lost, dumping again because="ENOBUFS: we read too slowly"'
            )
            now = asyncio.get_running_loop().time()
            if now - self._lost_at < _LOSS_PAUSE_S:
                self._later(_LOSS_PAUSE_S, self.resync)
            else:
                needs_resync = True
            self._lost_at = now
        if needs_resync:
            self._resync_into(events)
        if events:
            self._emit_batch(events)

    def _reopen(self) -> None:
        self._pending = None
        try:
            self._open()
        except OSError:
            self._later(_RETRY_S, self._reopen)

    def _later(self, delay_s: Seconds, call: Callable[[], None]) -> None:
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(delay_s, call)

    def _follow(self, messages: Sequence[Message], events: list[Event]) -> bool:
        """Turn messages into events; return whether a roaming interface came up, so that a dump is due."""
        table = self._table
        needs_resync = False
        is_about_us = any(message.kind < netlink.RTM_NEWROUTE for message in messages)
        before = (table.addresses, table.macs) if is_about_us else None
        for message in messages:
            try:
                match message.kind:
                    case netlink.RTM_NEWNEIGH | netlink.RTM_DELNEIGH:
                        self._follow_neighbour(message, events)
                    case netlink.RTM_NEWLINK | netlink.RTM_DELLINK:
                        link = netlink.decode_link(message)
                        if link.family != netlink.AF_UNSPEC:
                            continue  # AF_BRIDGE speaks of a port: RTM_DELLINK there only means "left the bridge"
                        is_new = message.kind == netlink.RTM_NEWLINK
                        lost, came = table.update(link) if is_new else table.remove(link.ifindex)
                        events.extend(LinkLost(name) for name in lost)
                        needs_resync = needs_resync or came
                    case netlink.RTM_NEWADDR | netlink.RTM_DELADDR:
                        entry = netlink.decode_address(message)
                        if entry is not None:
                            is_new = message.kind == netlink.RTM_NEWADDR
                            (table.add_address if is_new else table.remove_address)(entry)
                    case _:
                        pass
            except MalformedInput as error:
                self._repeats.tell("warning", "malformed", f'kernel message skipped because="{error}"')
        if before is not None and before != (table.addresses, table.macs):
            events.append(OwnAddressesChanged(table.addresses, table.macs))
        return needs_resync

    def _follow_neighbour(self, message: Message, events: list[Event]) -> None:
        name = self._table.roaming.get(netlink.interface_of(message))
        if name is None and not (self._is_following_bridge and message.data[message.start] == netlink.AF_BRIDGE):
            return
        entry = netlink.decode_neighbour(message)
        if entry.family == netlink.AF_BRIDGE:
            self._follow_bridge(entry, message.kind == netlink.RTM_NEWNEIGH, events)
        elif name is None or entry.address is None:
            return
        elif message.kind == netlink.RTM_DELNEIGH:
            self._fixed.discard((name, entry.address))
            events.append(NeighbourRemoved(name, entry.address))
        else:
            self._note_fixed(name, entry.address, entry.state)
            events.append(NeighbourChanged(_neighbour(name, entry)))

    def _note_fixed(self, link: str, address: Address, state: int) -> None:
        if state & _FIXED:
            self._fixed.add((link, address))
        elif self._fixed:
            self._fixed.discard((link, address))

    def _follow_bridge(self, entry: NeighbourEntry, is_learned: bool, events: list[Event]) -> None:
        """A forwarding entry: `index` is the port, `master` the bridge."""
        bridge = self._table.roaming.get(entry.master) if entry.master is not None else None
        if bridge is None or entry.mac is None or not self._is_following_bridge or entry.state & Nud.PERMANENT:
            return  # PERMANENT: the bridge's and its ports' own
        if not is_learned:
            if self._forget_mac(entry.mac, bridge) is not None:
                events.append(MacForgotten(entry.mac, bridge))
            return
        ports = self._macs.setdefault(entry.mac, {})
        if ports.get(bridge) != entry.ifindex:
            ports[bridge] = entry.ifindex
            events.append(MacLearned(entry.mac, bridge, self._table.name(entry.ifindex)))

    def _forget_mac(self, mac: Mac, bridge: str) -> int | None:
        """Returns the index of the port on which it was."""
        ports = self._macs.get(mac, {})
        port = ports.pop(bridge, None)
        if not ports:
            self._macs.pop(mac, None)
        return port

    def _resync_into(self, events: list[Event]) -> None:
        """Dump links, addresses, neighbours and bridges, in this order: each is read in the light of the one before."""
        if self._notifications is None or self._requests is None:
            return
        try:
            # What waits in the socket is older than the dump that follows: links and neighbours are in it.
            for _ in range(64):
                messages, _lossy = self._notifications.read(_READ_LIMIT)
                if len(messages) < _READ_LIMIT:
                    break
            links = self._requests.dump(netlink.RTM_GETLINK, netlink.link_body())
            addresses = self._requests.dump(netlink.RTM_GETADDR, netlink.address_body())
            lost = self._table.replace(
                [netlink.decode_link(each) for each in links],
                [ours for each in addresses if (ours := netlink.decode_address(each)) is not None],
            )
            whole = netlink.neighbour_body(0, None, None, 0, family=netlink.AF_UNSPEC)
            dumped = self._requests.dump(netlink.RTM_GETNEIGH, whole)
            up = {index: name for index, name in self._table.roaming.items() if name in self._table.up}
            neighbours = [
                _neighbour(up[entry.ifindex], entry)
                for each in dumped
                if netlink.interface_of(each) in up and (entry := netlink.decode_neighbour(each)).address is not None
            ]
            bridged = self._dump_bridges()
        except (KernelRefused, MalformedInput, OSError) as error:
            self._repeats.tell("error", "dump", f'neighbours cannot be dumped, trying again because="{error}"')
            self._later(_RETRY_S, self.resync)
            return
        self._fixed = {(each.link, each.address) for each in neighbours if each.nud & _FIXED}
        events.extend(LinkLost(name) for name in lost)
        events.append(OwnAddressesChanged(self._table.addresses, self._table.macs))
        events.append(NeighboursResynced(self._table.up, tuple(neighbours)))
        forgotten = {(mac, bridge) for mac, ports in self._macs.items() for bridge in ports}
        for bridge_entry in bridged:
            self._follow_bridge(bridge_entry, True, events)
            forgotten -= {(bridge_entry.mac, self._table.name(bridge_entry.master or 0))}
        for mac, bridge in forgotten:
            self._forget_mac(mac, bridge)
            events.append(MacForgotten(mac, bridge))

    def _dump_bridges(self) -> list[NeighbourEntry]:
        if not self._is_following_bridge or self._requests is None:
            return []
        entries = []
        for index, name in self._table.roaming.items():
            if self._table.kind(index) == "bridge" and name in self._table.up:
                body = netlink.neighbour_body(0, None, None, 0, family=netlink.AF_BRIDGE, master=index)
                dumped = self._requests.dump(netlink.RTM_GETNEIGH, body)
                entries += [netlink.decode_neighbour(each) for each in dumped]
        return entries


def _neighbour(link: str, entry: NeighbourEntry) -> Neighbour:
    assert entry.address is not None
    state = _NUD.get(entry.state, Nud.NONE)
    return Neighbour(link, entry.address, state, entry.mac, bool(entry.flags & _FOREIGN_MADE))
