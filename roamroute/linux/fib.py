"""The exporter called `kernel`: host routes in the kernel's FIB, which is the bus to the routing daemons.

Declarative: told what is wanted, it finds the difference to what is installed and sends it in one batch of route
messages; the kernel carries them out inside the send (Linux 6.18: 2 us a route, docs/linux-facts.md).

It owns the host routes with its three protocol numbers, in its table, on the roaming interfaces, and changes no other:
ours goes beside a foreign route for the same address (babeld's has metric 1024, BIRD's 32, FRR's 20; ours 8), new ones
are made with NLM_F_EXCL, deletions name protocol, metric and interface. Only a route that we believe to be ours is
replaced.

What we believe is kept right by route and link notifications: what others delete is put back, and when an interface
goes the kernel takes its routes along (those of IPv4 without a word). After a loss, and on `publish_all`, our routes
are dumped; what is there already is left alone, so a restart makes no flap.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from roamroute.delta import Delta, difference
from roamroute.errors import ConfigError, KernelRefused, MalformedInput
from roamroute.events import ForeignRouteLost, ForeignRouteSeen
from roamroute.export import Exporter, ExporterContext, ExporterSpec, ExportReport, FibChange, FibNeeds, Problem
from roamroute.linux import rtnetlink
from roamroute.linux.kick import Kicker
from roamroute.linux.pace import PORTION, Pacer
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Notifications, Refusal, Requests
from roamroute.linux.steps import Action, Belief, Found, Step
from roamroute.values import Address, HostRoute, Instant, Seconds
from roamroute.wire import netlink
from roamroute.wire.netlink import Message

_TICK_S: Seconds = 1.0
_REPAIR_S: Seconds = 0.05  # somebody's `ip route flush` comes as a burst of notifications: one dump serves them all
_GROUPS = (rtnetlink.GROUP_LINK, rtnetlink.GROUP_IPV4_ROUTE, rtnetlink.GROUP_IPV6_ROUTE)
_BUFFER_BYTES = 1 << 20
_READ_LIMIT = 512
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.ENETDOWN, errno.ENETUNREACH})
"""How the kernel says that a route to be hidden or deleted, or its interface, is not there (any more)."""


class KernelFib:
    """Installs host routes; the only one that touches the FIB."""

    def __init__(
        self,
        context: ExporterContext,
        needs: Callable[[], FibNeeds],
        may_delete: Callable[[HostRoute], bool],
        *,
        is_reporting_foreign: bool = False,
        portion: int | None = None,
        clock: Callable[[], Instant] = time.monotonic,
    ) -> None:
        """Opens nothing yet.

        `needs` and `may_delete` are the routing daemon's exporter's. `is_reporting_foreign`: emit other protocols' host
        routes inside the prefixes as foreign routes, where no adapter does. `portion`: so many messages in 10 ms (see
        `pace`), whether or not a daemon needs that.
        """
        self._context = context
        self._numbers = context.kernel
        self._needs = needs
        self._may_delete = may_delete
        self._is_reporting_foreign = is_reporting_foreign
        self._clock = clock
        self._repeats = Repeats(context.log, clock=clock)
        self._wanted: dict[Address, HostRoute] = {}
        self._refused: dict[Address, str] = {}
        self._is_whole = False
        """False before the first `apply_all`: until then routes of an earlier run are left alone."""
        self._lingering_form: tuple[bool, int | None] = (False, None)
        self._belief = Belief(context.kernel, context.prefixes)
        self._kicker = Kicker(self._belief, self._send, self._call_later, clock)
        self._is_paced = portion is not None
        self._pacer = Pacer(self._send_now, self._call_later, clock, portion or PORTION)
        self._requests: Requests | None = None
        self._notifications: Notifications | None = None
        self._repair: asyncio.TimerHandle | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._up: dict[str, int] = {}

    @property
    def installed(self) -> Mapping[Address, HostRoute]:
        """The live routes that are in the kernel."""
        return self._belief.installed

    @property
    def parked(self) -> Mapping[Address, HostRoute]:
        """The withdrawn routes that stay, with the worst metric, until the daemon can do without them."""
        return {address: parked.route for address, parked in self._belief.parked.items()}

    @property
    def refused(self) -> Mapping[Address, str]:
        """The wanted routes that the kernel did not take, and why; they are tried again every second."""
        return self._refused

    def apply(self, delta: Delta) -> None:
        """Install and withdraw, now and synchronously; idempotent. Some microseconds a route. Never raises.

        What the kernel refuses stays wanted: see `refused`.
        """
        for route in delta.withdrawn:
            if self._wanted.get(route.address, route) == route:
                self._wanted.pop(route.address, None)
                self._refused.pop(route.address, None)
        for route in delta.announced:
            self._wanted[route.address] = route
        needs = self._needs()
        if not needs.installs:
            return
        steps = self._belief.announce(delta.announced, needs)
        withdrawn = [route for route in delta.withdrawn if route.address not in self._wanted]
        steps += self._belief.withdraw(withdrawn, needs, self._clock())
        self._carry_out(steps, needs)

    def apply_all(self, wanted: Sequence[HostRoute]) -> None:
        """Make `wanted` the whole truth, now and synchronously: dump ours, send the difference. Never raises."""
        self._is_whole = True
        self._wanted = {route.address: route for route in wanted}
        self._refused = {address: why for address, why in self._refused.items() if address in self._wanted}
        self._reconcile()

    def left_by_an_earlier_run(self) -> frozenset[Address]:
        """The addresses whose live routes are in the kernel before the first `apply_all`; none after a failure."""
        self._dump_ours()
        return frozenset(address for address, route in self.installed.items() if not route.is_lingering)

    async def publish(self, delta: Delta) -> None:
        """As `apply`."""
        self.apply(delta)

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        """As `apply_all`."""
        self.apply_all(wanted)

    def clear(self) -> None:
        """Remove everything of ours: live, parked and reserved. For the very end.

        A daemon that needs parking must have had its time after `apply_all(())` before.
        """
        self._kicker.cancel()
        self._pacer.discard()
        self._wanted.clear()
        self._refused.clear()
        extra = self._dump_ours() or []
        self._send_now(extra + self._belief.clear())

    def tick(self) -> None:
        """End the parking of what may go, try again what was refused."""
        needs = self._needs()
        self._settle(needs)
        released, forced = self._belief.release(needs, self._clock(), self._may_delete)
        if forced:
            text = f"too many parked routes, deleted={len(released)} although the routing daemon may be disturbed"
            self._repeats.tell("warning", "parked", text)
        self._send(released)
        missing = [self._wanted[address] for address in self._refused if address in self._wanted]
        if needs.installs and missing:
            before = len(self._refused)
            self._send(self._belief.announce(missing, needs))
            if len(self._refused) < before:
                self._send(self._kicker.follow(needs.kick))
                self._context.changed()

    def look_again(self) -> None:
        """What the routing daemon needs has changed."""
        needs = self._needs()
        form = (needs.demotes, needs.lingering_metric)
        if needs.installs and form != self._lingering_form:
            lingering = [route for route in self._wanted.values() if route.is_lingering]
            self._carry_out(self._belief.announce(lingering, needs), needs)
        self._lingering_form = form
        self._settle(needs)
        self._settle_in_time(needs)

    def _settle(self, needs: FibNeeds) -> None:
        settled = self._belief.settle(needs, self._clock())
        if settled:
            self._send(settled + self._kicker.follow(needs.kick))

    def _settle_in_time(self, needs: FibNeeds) -> None:
        """A tick would be late for what is parked for less than a second."""
        due = self._belief.next_due(needs) if self._settling is None else None
        if due is not None and 0 <= (wait_s := due - self._clock()) < _TICK_S:
            self._settling = self._call_later(wait_s, self._settle_now)

    def _settle_now(self) -> None:
        self._settling = None
        self.tick()
        self._settle_in_time(self._needs())

    def needs(self) -> FibNeeds:
        """What the routing daemon beside us needs."""
        return self._needs()

    def may_delete(self, route: HostRoute) -> bool:
        """Whether the routing daemon beside us can do without the parked route."""
        return self._may_delete(route)

    def report(self) -> ExportReport:
        """The kernel cannot know what is exported; problems are the refused routes, by reason."""
        reasons: dict[str, int] = {}
        for why in self._refused.values():
            reasons[why] = reasons.get(why, 0) + 1
        problems = tuple(
            Problem(f"the kernel refused host routes: {why}", _remedy(why), count) for why, count in reasons.items()
        )
        return ExportReport(is_connected=True, daemon=f"Linux {os.uname().release}", problems=problems)

    async def run(self) -> None:
        """Keep what is installed true until cancelled: repair, end parking, try again."""
        foreign = None
        try:
            if self._is_reporting_foreign:
                foreign = asyncio.create_task(self._context.follow_fib(self._report_foreign))
            while True:
                if self._notifications is None:
                    self._listen()
                await asyncio.sleep(_TICK_S)
                self.tick()
        finally:
            if foreign is not None:
                foreign.cancel()
            self._deafen()

    async def close(self) -> None:
        """Close the sockets; the routes stay."""
        self._deafen()
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    # what we believe, and what is there

    def _reconcile(self) -> None:
        self._pacer.discard()
        extra = self._dump_ours()
        if extra is None:
            return
        needs = self._needs()
        wanted = self._wanted if needs.installs else {}
        here = self._belief.installed
        self._refused = {at: why for at, why in self._refused.items() if here.get(at) != wanted.get(at)}
        delta = difference(self._belief.installed, wanted)
        # What stands where ours must go is deleted first, the rest only when ours are there.
        steps = [step for step in extra if step.metric == self._numbers.metric]
        steps += self._belief.announce(delta.announced, needs)
        steps += self._belief.unpark([address for address in self._belief.parked if address in wanted])
        if self._is_whole:
            steps += self._belief.withdraw(delta.withdrawn, needs, self._clock())
        steps += self._belief.without_live(step for step in extra if step.metric != self._numbers.metric)
        self._carry_out(steps, needs)

    def _dump_ours(self) -> list[Step] | None:
        """Believe what the kernel says; return the deletions of what is left over, None after a failure."""
        links = {index: name for name in self._context.interfaces if (index := _index(name)) is not None}
        numbers = self._numbers
        ours = (
            *(numbers.protocol, numbers.withdrawing_protocol, numbers.hidden_protocol),
            *(numbers.dormant_protocol, numbers.lingering_protocol),
        )
        found: list[Found] = []
        try:
            requests = self._opened()
            for family in (netlink.AF_INET6, netlink.AF_INET):
                for protocol in ours:
                    body = netlink.route_filter_body(family, table=self._numbers.table, protocol=protocol)
                    for message in requests.dump(netlink.RTM_GETROUTE, body, none_if=errno.ENOENT):
                        route = self._own(message, links)
                        if route is not None and route.protocol == protocol:
                            found.append(route)
        except (KernelRefused, MalformedInput, OSError) as error:
            self._repeats.tell("error", "dump", f'our routes cannot be dumped, trying again because="{error}"')
            self._repair_in(_TICK_S)
            return None
        return self._belief.adopt(found, self._clock(), self._needs())

    def _own(self, message: Message, links: Mapping[int, str]) -> Found | None:
        """One of our host routes, or None for any other."""
        entry = netlink.decode_route(message)
        address = entry.destination
        if address is None or entry.prefix_length != address.max_prefixlen or entry.table != self._numbers.table:
            return None
        if entry.kind == netlink.RTN_UNREACHABLE:  # IPv6 shows the loopback as its link
            return Found(address, None, entry.protocol, entry.metric)
        link = links.get(entry.ifindex) if entry.ifindex is not None else None
        if link is None or entry.gateway is not None or entry.kind != netlink.RTN_UNICAST:
            return None
        return Found(address, link, entry.protocol, entry.metric)

    # sending

    def _carry_out(self, steps: list[Step], needs: FibNeeds) -> None:
        if not steps:
            return
        refused = dict(self._refused)
        self._send(steps + self._kicker.follow(needs.kick))
        self._settle_in_time(needs)
        if refused != self._refused:
            self._context.changed()

    def _send(self, steps: list[Step]) -> None:
        """Send the steps in order; a routing daemon that listens gets them in portions that it can take."""
        needs = self._needs()
        self._pacer.send(steps, is_paced=self._is_paced or needs.parks or needs.kick is not None)

    def _send_now(self, steps: Sequence[Step]) -> None:
        """Send the steps in order and learn from what the kernel refuses."""
        numbers = self._numbers
        indexes = {link: _index(link) for link in {step.link for step in steps} if link is not None}
        sent: list[Step] = []
        bodies: list[tuple[int, int, bytes]] = []
        for step in steps:
            protocol, metric, table = step.protocol, step.metric, numbers.table
            if step.link is None:
                body = netlink.unreachable_route_body(step.address, protocol=protocol, metric=metric, table=table)
            elif (index := indexes[step.link]) is not None:
                body = netlink.host_route_body(step.address, index, protocol=protocol, metric=metric, table=table)
            else:
                self._refuse(step, errno.ENODEV)
                continue
            sent.append(step)
            bodies.append((step.kind, step.flags, body))
            if step.action in (Action.ANNOUNCE, Action.MOVE):
                self._refused.pop(step.address, None)
        if not bodies:
            return
        try:
            refusals: Sequence[Refusal] = self._opened().transact(bodies)
        except (KernelRefused, OSError) as error:
            self._repeats.tell("error", "batch", f'route messages lost, dumping ours because="{error}"')
            self._repair_in(_REPAIR_S)
            return
        for refusal in refusals:
            self._refuse(sent[refusal.position], refusal.errno)

    def _refuse(self, step: Step, number: int) -> None:
        if (step.action is Action.HIDE or step.kind == netlink.RTM_DELROUTE) and number in _GONE:
            return
        self._belief.undo(step)
        where = f" on {step.link}" if step.link is not None else ""
        why = f"{errno.errorcode.get(number, str(number))} ({os.strerror(number)}){where}"
        if step.action in (Action.ANNOUNCE, Action.MOVE):
            if (wanted := self._wanted.get(step.address)) is not None and wanted.link == step.link:
                self._refused[step.address] = why
            if number == errno.EEXIST:
                self._repair_in(_REPAIR_S)  # one of ours that we did not know of? the dump tells
        text = f'kernel refused to {step.action.value} address={step.address} because="{why}"'
        self._repeats.tell("warning", f"{step.action.value} {number} {step.link}", text)

    def _opened(self) -> Requests:
        if self._requests is None:
            self._requests = Requests()
        return self._requests

    def _call_later(self, delay_s: Seconds, call: Callable[[], None]) -> asyncio.TimerHandle | None:
        """Only while `run` runs is there a loop to rely on."""
        return asyncio.get_running_loop().call_later(delay_s, call) if self._notifications is not None else None

    # listening

    def _listen(self) -> None:
        """Follow routes and links; what happened before is found by a dump."""
        try:
            program = rtnetlink.host_route_filter(ignored_port=self._opened().port, table=self._numbers.table)
            self._notifications = Notifications(_GROUPS, _BUFFER_BYTES, program)
            asyncio.get_running_loop().add_reader(self._notifications.fileno(), self._readable)
        except OSError as error:
            self._repeats.tell("error", "open", f'netlink cannot be opened because="{error}"')
            return
        try:
            links = [
                netlink.decode_link(each) for each in self._opened().dump(netlink.RTM_GETLINK, netlink.link_body())
            ]
        except (KernelRefused, MalformedInput, OSError):
            links = []  # they are learnt from notifications
        roaming = self._context.interfaces
        self._up = {link.name: link.ifindex for link in links if link.name in roaming and link.flags & netlink.IFF_UP}
        if self._wanted:
            self._reconcile()

    def _deafen(self) -> None:
        self._pacer.flush()
        self._kicker.cancel()
        for timer in (self._repair, self._settling):
            if timer is not None:
                timer.cancel()
        self._repair = self._settling = None
        if self._notifications is not None:
            asyncio.get_running_loop().remove_reader(self._notifications.fileno())
            self._notifications.close()
            self._notifications = None

    def _readable(self) -> None:
        if self._notifications is None:
            return
        try:
            messages, is_lossy = self._notifications.read(_READ_LIMIT)
        except OSError as error:
            self._repeats.tell("warning", "broken", f'netlink broke, reopening because="{error}"')
            self._deafen()
            self._listen()
            return
        if is_lossy:
            self._repeats.tell("warning", "loss", 'route notifications were lost, dumping ours because="ENOBUFS"')
            self._repair_in(_REPAIR_S)
        for message in messages:
            try:
                if message.kind in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK):
                    self._follow_link(message)
                elif message.kind in (netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE):
                    self._follow_route(message)
            except MalformedInput as error:
                self._repeats.tell("warning", "malformed", f'kernel message skipped because="{error}"')

    def _follow_link(self, message: Message) -> None:
        link = netlink.decode_link(message)
        if link.family != netlink.AF_UNSPEC:
            return
        is_up = message.kind == netlink.RTM_NEWLINK and bool(link.flags & netlink.IFF_UP)
        for name, index in list(self._up.items()):
            if index == link.ifindex and (not is_up or name != link.name):
                del self._up[name]
                self._belief.drop_link(name)
        if is_up and link.name in self._context.interfaces and self._up.get(link.name) != link.ifindex:
            self._up[link.name] = link.ifindex
            self._repair_in(0)

    def _follow_route(self, message: Message) -> None:
        """Others changed one of our routes, or one that stands where ours should."""
        if self._requests is not None and message.port == self._requests.port:
            return
        entry = netlink.decode_route(message)
        if entry.table != self._numbers.table or entry.destination is None:
            return
        if entry.metric == self._numbers.parked_metric and entry.destination in self._belief.parked:
            self._repair_in(_REPAIR_S)
            return
        if entry.metric not in (self._numbers.metric, self._belief.metric(entry.destination)):
            return
        here = self._belief.installed.get(entry.destination)
        is_ours = entry.protocol in (self._numbers.protocol, self._numbers.lingering_protocol)
        if here is not None and message.kind == netlink.RTM_DELROUTE and is_ours and _index(here.link) == entry.ifindex:
            self._belief.drop(entry.destination)
            self._repair_in(_REPAIR_S)
        elif here is not None and message.kind == netlink.RTM_NEWROUTE:
            self._repair_in(_REPAIR_S)  # replaced ours, or stands beside it: the dump tells
        elif entry.destination in self._refused:
            self._repair_in(_REPAIR_S)  # what was in the way may have gone

    def _repair_in(self, delay_s: Seconds) -> None:
        """Dump and mend soon; needs the loop that `run` runs in, without it the next `apply_all` does it."""
        if self._repair is None and self._notifications is not None:
            self._repair = asyncio.get_running_loop().call_later(delay_s, self._repair_now)

    def _repair_now(self) -> None:
        self._repair = None
        self._reconcile()

    def _report_foreign(self, change: FibChange) -> None:
        for address in change.lost:
            self._context.emit(ForeignRouteLost(address))
        for address, origin in change.foreign.items():
            self._context.emit(ForeignRouteSeen(address, origin))


def _index(link: str) -> int | None:
    """The interface's index now; asking costs 3 us, a stale answer costs a route."""
    try:
        return socket.if_nametoindex(link)
    except OSError:
        return None


def _remedy(why: str) -> str:
    if why.startswith("EEXIST"):
        return "another program's route for the address has our metric: set kernel.metric to one that nobody uses"
    if why.startswith(("ENETDOWN", "ENODEV")):
        return "set the interface up"
    return "see the kernel's log"


def _parse(table: Mapping[str, Any]) -> None:
    if table:
        raise ConfigError(tuple(f"exporters.kernel.{key}: unknown key; this exporter has no settings" for key in table))


def _create(_settings: object, context: ExporterContext) -> Exporter:
    return KernelFib(context, FibNeeds, lambda _route: True, is_reporting_foreign=True)


SPEC = ExporterSpec(name="kernel", parse=_parse, create=_create)
