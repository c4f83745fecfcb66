"""From a change of what is wanted to the single route messages that bring it about, and what is believed installed.

No socket, no clock: `KernelFib` sends the steps and tells what was refused. Our routes come in these forms:

- *live*: unicast on the client's link, `protocol`, `metric`: what stations are reached by;
- *lingering*: the same of a host that has moved on, with `lingering_protocol` or another metric, or both, where the
  daemon announces it worse then;
- *parked*: unreachable, without a link, `withdrawing_protocol`, `parked_metric`: keeps a withdrawn address known to a
  routing daemon that must poison it before it may forget it, and loses in the FIB against every other route; when the
  poison has had its time it becomes *dormant*, the same with `dormant_protocol`;
- *hidden*: `hidden_protocol`, for the moment before a deletion, so that a daemon which filters by protocol sees a route
  change and no deletion;
- *reserved*: as parked, but for the addresses of a kick, which lie outside the roaming prefixes.

The order of the steps of one route matters: the first one never takes an address away that is kept in another form.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence

import attrs

from roamroute.export import FibNeeds, KernelNumbers
from roamroute.values import Address, HostRoute, Instant, Prefix
from roamroute.wire import netlink

_ADD = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
_PUT = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
_NO_NEEDS = FibNeeds()
_CHANGE = netlink.NLM_F_REPLACE
"""Replaces what is there with the same metric, makes nothing."""


class Action(enum.Enum):
    """What a step does, for reading the kernel's refusal."""

    ANNOUNCE = "announce"
    MOVE = "move"
    PARK = "park"
    HIDE = "hide"
    DELETE = "delete"
    KICK = "kick"


@attrs.frozen
class Step:
    """One route message; `kind` and `flags` are netlink's. `link` is None for an unreachable route."""

    action: Action
    address: Address
    link: str | None
    kind: int
    flags: int
    protocol: int
    metric: int


@attrs.frozen
class Parked:
    """A withdrawn route, and since when it is parked. After a restart its link is not known: ""."""

    route: HostRoute
    since: Instant
    is_dormant: bool = False


@attrs.frozen
class Found:
    """One of our routes as the kernel dumps it; `link` is None for an unreachable one."""

    address: Address
    link: str | None
    protocol: int
    metric: int


class Belief:
    """What we believe to be in the kernel, and the steps from there."""

    def __init__(self, numbers: KernelNumbers, prefixes: Sequence[Prefix]) -> None:
        self._numbers = numbers
        self._prefixes = tuple(prefixes)
        self.installed: dict[Address, HostRoute] = {}
        self.parked: dict[Address, Parked] = {}
        """In the order of parking: the first is the oldest."""
        self.reserved: dict[Address, int] = {}
        """The reserved routes that are there, and with which protocol number."""
        self._forms: dict[Address, tuple[int, int]] = {}
        """Protocol and metric of those live routes that have others than usual."""
        self._dropped: dict[Address, HostRoute] = {}
        """Live routes that vanished without us (with their link, say): a withdrawal has to park them all the same."""

    def announce(self, routes: Iterable[HostRoute], needs: FibNeeds = _NO_NEEDS) -> list[Step]:
        """The steps that install `routes`; those that are installed already need none."""
        steps: list[Step] = []
        for route in routes:
            address = route.address
            here = self.installed.get(address)
            before, form = self._form(address), self._form_of(route, needs)
            self.installed[address] = route
            if here is not None and here.link == route.link and before == form:
                continue
            self._take_form(address, form)
            if here is None:
                steps.append(self._live(Action.ANNOUNCE, route, _ADD))
            else:  # replacing leaves no gap, nor does another metric: first it stands beside, then the old one goes
                steps.append(self._live(Action.MOVE, route, _PUT))
                if before[1] != form[1]:
                    steps.append(_delete(here, before))
            self._dropped.pop(address, None)
            steps += self.unpark((address,))
        return steps

    def withdraw(self, routes: Iterable[HostRoute], needs: FibNeeds, now: Instant) -> list[Step]:
        """The steps that withdraw `routes`: delete them, or park them where the daemon needs that."""
        steps: list[Step] = []
        for route in routes:
            address = route.address
            here = self.installed.pop(address, None)
            form = self._forms.pop(address, self._usual)
            vanished = self._dropped.pop(address, None)
            if needs.parks and (here or vanished) and address not in self.parked:
                steps.append(self._unreachable(Action.PARK, address, _PUT, self._numbers.withdrawing_protocol))
                self.parked[address] = Parked(route, now)
            if here is None:
                continue
            if needs.parks:
                hidden, metric = self._numbers.hidden_protocol, form[1]
                steps.append(Step(Action.HIDE, address, here.link, netlink.RTM_NEWROUTE, _CHANGE, hidden, metric))
                steps.append(Step(Action.DELETE, address, here.link, netlink.RTM_DELROUTE, 0, hidden, metric))
            else:
                steps.append(_delete(here, form))
        return steps

    def unpark(self, addresses: Iterable[Address]) -> list[Step]:
        """The steps that remove the parked routes of addresses that are installed: hidden, then deleted."""
        steps: list[Step] = []
        hidden = self._numbers.hidden_protocol
        for address in addresses:
            if self.parked.pop(address, None) is not None:
                steps.append(self._unreachable(Action.HIDE, address, _CHANGE, hidden))
                steps.append(self._unreachable(Action.DELETE, address, 0, hidden))
        return steps

    def settle(self, needs: FibNeeds, now: Instant) -> list[Step]:
        """The steps that make dormant what has been parked for long enough."""
        if needs.dormant_after_s is None:
            return []
        limit = now - needs.dormant_after_s
        due = [address for address, parked in self._settling(needs) if parked.since <= limit]
        for address in due:
            self.parked[address] = attrs.evolve(self.parked[address], is_dormant=True)
        dormant = self._numbers.dormant_protocol
        return [self._unreachable(Action.PARK, address, _CHANGE, dormant) for address in due]

    def next_due(self, needs: FibNeeds) -> Instant | None:
        """When the next parked route is to become dormant, or may be deleted where none becomes so."""
        if needs.dormant_after_s is None:
            oldest = next(iter(self.parked.values()), None)
            return oldest.since + needs.parked_for_s if oldest is not None else None
        since = min((parked.since for _, parked in self._settling(needs)), default=None)
        return since + needs.dormant_after_s if since is not None else None

    def _settling(self, needs: FibNeeds) -> list[tuple[Address, Parked]]:
        """The parked routes that may become dormant, were they old enough."""
        candidates = self.parked if needs.settled is None else needs.settled & self.parked.keys()
        return [(address, self.parked[address]) for address in candidates if not self.parked[address].is_dormant]

    def release(self, needs: FibNeeds, now: Instant, may_delete: Callable[[HostRoute], bool]) -> tuple[list[Step], int]:
        """The steps that end the parking of what has been parked long enough.

        Above `needs.parked_limit` the oldest quarter goes at once, whether or not the daemon agrees: one disturbance
        for many withdrawals. Returns also how many went without its agreement.
        """
        going: list[Address] = []
        for address, parked in self.parked.items():
            if needs.parks and now - parked.since < needs.parked_for_s:
                break  # in the order of parking: the rest is younger
            if may_delete(parked.route):
                going.append(address)
        forced = 0
        if len(self.parked) - len(going) > needs.parked_limit:
            agreed = set(going)
            oldest = [address for address in self.parked if address not in agreed]
            oldest = oldest[: max(len(oldest) - needs.parked_limit, needs.parked_limit // 4)]
            forced = sum(not may_delete(self.parked[address].route) for address in oldest)
            going += oldest
        return [self._delete_parked(address, self.parked.pop(address)) for address in going], forced

    def reserve(self, addresses: Iterable[Address]) -> list[Step]:
        """The steps that make those reserved routes that are missing."""
        protocol = self._numbers.withdrawing_protocol
        missing = [address for address in addresses if address not in self.reserved]
        self.reserved.update((address, protocol) for address in missing)
        return [self._unreachable(Action.KICK, address, _PUT, protocol) for address in missing]

    def flip(self, addresses: Iterable[Address]) -> list[Step]:
        """The steps that give each reserved route the other of the two protocol numbers."""
        live, other = self._numbers.protocol, self._numbers.withdrawing_protocol
        steps = []
        for address in addresses:
            protocol = live if self.reserved.get(address, other) == other else other
            self.reserved[address] = protocol
            steps.append(self._unreachable(Action.KICK, address, _PUT, protocol))
        return steps

    def unreserve(self, addresses: Iterable[Address]) -> list[Step]:
        """The steps that delete reserved routes."""
        present = [(address, self.reserved.pop(address)) for address in addresses if address in self.reserved]
        return [
            self._unreachable(Action.KICK, address, 0, protocol, netlink.RTM_DELROUTE) for address, protocol in present
        ]

    def clear(self) -> list[Step]:
        """The steps that remove everything of ours at once: live, parked and reserved."""
        steps = [_delete(route, self._form(address)) for address, route in self.installed.items()]
        steps += [self._delete_parked(address, parked) for address, parked in self.parked.items()]
        steps += self.unreserve(tuple(self.reserved))
        self.installed.clear()
        self._forms.clear()
        self.parked.clear()
        self._dropped.clear()
        return steps

    def adopt(self, found: Iterable[Found], now: Instant, needs: FibNeeds = _NO_NEEDS) -> list[Step]:
        """Believe what the kernel dumped; return the deletions of what fits no scheme of ours.

        A hidden route, a second live one for an address or one with another metric is left over from a crash or from an
        older configuration.
        """
        numbers = self._numbers
        since = {address: parked.since for address, parked in self.parked.items()}
        parking = (numbers.withdrawing_protocol, numbers.dormant_protocol)
        before = self.installed
        self.installed, self.reserved = {}, {}
        self._forms.clear()
        parked: dict[Address, Parked] = {}
        extra: list[Step] = []
        for each in found:
            address = each.address
            is_ours_now = each.protocol in (numbers.protocol, *parking)
            is_live = each.protocol in (numbers.protocol, numbers.lingering_protocol)
            if each.link is None and is_ours_now and each.metric == numbers.parked_metric:
                if not any(address in prefix for prefix in self._prefixes):
                    self.reserved[address] = each.protocol
                    continue
                if each.protocol in parking and address not in parked:
                    is_dormant = each.protocol == numbers.dormant_protocol
                    parked[address] = Parked(HostRoute(address, ""), since.get(address, now), is_dormant)
                    continue
            elif each.link is not None and is_live and each.metric in (numbers.metric, needs.lingering_metric):
                form = (each.protocol, each.metric)
                route, known = HostRoute(address, each.link, form != self._usual), self.installed.get(address)
                if known is None or _is_on(before.get(address), each.link):
                    if known is not None:
                        extra.append(_delete(known, self._form(address)))
                    self.installed[address] = route
                    self._take_form(address, form)
                    continue
            extra.append(Step(Action.DELETE, address, each.link, netlink.RTM_DELROUTE, 0, each.protocol, each.metric))
        self.parked = dict(sorted(parked.items(), key=lambda item: (item[1].since, not item[1].is_dormant)))
        self._dropped |= {address: route for address, route in before.items() if address not in self.installed}
        return extra

    def without_live(self, deletions: Iterable[Step]) -> list[Step]:
        """Those of `adopt`'s deletions that hit nothing that has become a live route since."""
        live = {(route.address, route.link, *self._form(address)) for address, route in self.installed.items()}
        return [step for step in deletions if (step.address, step.link, step.protocol, step.metric) not in live]

    def undo(self, step: Step) -> None:
        """The kernel refused `step`: do not believe in its effect."""
        match step.action:
            case Action.ANNOUNCE | Action.MOVE:
                here = self.installed.get(step.address)
                if here is not None and here.link == step.link:
                    del self.installed[step.address]
                    self._forms.pop(step.address, None)
            case Action.PARK:
                self.parked.pop(step.address, None)
            case Action.KICK:
                self.reserved.pop(step.address, None)
            case Action.HIDE | Action.DELETE:
                pass  # it was gone already

    def drop(self, address: Address) -> None:
        """Somebody else deleted the live route of `address`."""
        route = self.installed.pop(address, None)
        self._forms.pop(address, None)
        if route is not None:
            self._dropped[address] = route

    def drop_link(self, link: str) -> None:
        """The interface went: the kernel has deleted its routes (those of IPv4 without saying so)."""
        for address in [address for address, route in self.installed.items() if route.link == link]:
            self.drop(address)

    def metric(self, address: Address) -> int:
        """Of the live route of `address`."""
        return self._form(address)[1]

    @property
    def _usual(self) -> tuple[int, int]:
        return self._numbers.protocol, self._numbers.metric

    def _form(self, address: Address) -> tuple[int, int]:
        return self._forms.get(address, self._usual)

    def _form_of(self, route: HostRoute, needs: FibNeeds) -> tuple[int, int]:
        protocol, metric = self._usual
        if route.is_lingering:
            protocol = self._numbers.lingering_protocol if needs.demotes else protocol
            metric = metric if needs.lingering_metric is None else needs.lingering_metric
        return protocol, metric

    def _take_form(self, address: Address, form: tuple[int, int]) -> None:
        if form == self._usual:
            self._forms.pop(address, None)
        else:
            self._forms[address] = form

    def _live(self, action: Action, route: HostRoute, flags: int) -> Step:
        protocol, metric = self._form(route.address)
        return Step(action, route.address, route.link, netlink.RTM_NEWROUTE, flags, protocol, metric)

    def _delete_parked(self, address: Address, parked: Parked) -> Step:
        numbers = self._numbers
        protocol = numbers.dormant_protocol if parked.is_dormant else numbers.withdrawing_protocol
        return self._unreachable(Action.DELETE, address, 0, protocol)

    def _unreachable(
        self, action: Action, address: Address, flags: int, protocol: int, kind: int = netlink.RTM_NEWROUTE
    ) -> Step:
        kind = netlink.RTM_DELROUTE if action is Action.DELETE else kind
        return Step(action, address, None, kind, flags, protocol, self._numbers.parked_metric)


def _delete(route: HostRoute, form: tuple[int, int]) -> Step:
    return Step(Action.DELETE, route.address, route.link, netlink.RTM_DELROUTE, 0, *form)


def _is_on(route: HostRoute | None, link: str) -> bool:
    return route is not None and route.link == link
