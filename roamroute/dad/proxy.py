"""The DAD proxy's decisions: who else has to hear what a host says of an address.

The harm to avoid is a host that hears its own solicitation, or its own advertisement while it repeats DAD after a roam:
without RFC 7527, and for IPv4, it takes itself for a duplicate. The nonce is passed on as it came, and that a host may
know it again is not relied on. Instead:

1. What a peer told is handed out here and never told on; what an access point hands out is marked, and nobody hears it
   as a host's. So one transmission of a host is relayed once by each access point that hears it, and handed out once on
   each link of each other one, whatever the topology.
2. Where the sender may be listening (a station of the link, heard here a moment ago, or on a link that is joined with
   this one) a copy goes to the others by layer-2 unicast, else to the group in one frame. On the sender's own link
   there are copies only where the hosts do not hear each other (`is_isolated`).
3. A link that has heard a transmission itself gets no copy of it. Copies from an origin that is not known to be apart
   wait a little for that (`relations`).
4. An advertisement matters to those who have asked within the last seconds. Within this access point only they get it;
   from a peer also the group, as the draft has it, unless the mode is `targeted`.

Mode `targeted` asks only who is known to have the address: the holder here, the peer that announces it, and those who
have just asked for the same. It misses owners that nobody knows, and two hosts on two access points that ask at once.
Known holders and askers are always asked by unicast as well, for a multicast frame may get lost on the air or in a
bridge that snoops; that costs nothing unless there is a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

from roamroute.admission import Admission
from roamroute.dad.askers import Askers
from roamroute.dad.counters import DadCounters
from roamroute.dad.effects import DadEffect, Defend, HandOut, Relay
from roamroute.dad.fan_out import FanOut
from roamroute.dad.limits import Limits
from roamroute.dad.quotas import Quotas
from roamroute.dad.recent import Recent
from roamroute.dad.relations import Origin, Relation, Relations
from roamroute.dad.view import View
from roamroute.schedule import Timetable
from roamroute.values import (
    Address,
    DadKind,
    DadMessage,
    Instant,
    Mac,
    PeerId,
    Prefix,
    Seconds,
    is_group_mac,
)

DadMode = Literal["all", "targeted"]

COPY_S: Seconds = 0.05
"""The same message from two places within this time is one transmission, heard twice: a host that has roamed has to
associate, and waits a random while, before it asks again."""
_NONCE_S: Seconds = 2.0
"""A nonce is a host's own for as long as its question may come by any way."""
_PRESENT_S: Seconds = 2.0
"""A host that was heard on a link may be listening there; its association may not have been reported yet. What a peer
tells is a second old at most."""
_DEFAULTS = Limits()


@attrs.frozen
class _Held:
    """A copy that waits for the link to hear it itself."""

    link: str
    message: DadMessage


class DadProxy:
    """`now`: monotonic seconds, never less than in an earlier call. After each call re-arm a timer at `next_wakeup`.

    `is_isolated`: hosts on one link do not hear each other (hostapd's ap_isolate, isolated bridge ports).
    """

    def __init__(
        self,
        links: Iterable[str],
        prefixes: Iterable[Prefix],
        view: View,
        *,
        mode: DadMode = "all",
        is_isolated: bool = True,
        limits: Limits = _DEFAULTS,
    ) -> None:
        self._links = tuple(links)
        self._admission = Admission(self._links, prefixes)
        self._view = view
        self._is_for_all = mode == "all"
        self._is_isolated = is_isolated
        self._most_held = limits.messages_remembered
        self.counters = DadCounters()
        self._quotas = Quotas(limits, self.counters)
        self._fan_out = FanOut(limits, self.counters)
        self._askers = Askers(limits.targets_remembered)
        self._relations = Relations()
        self._present: Recent[Mac, str] = Recent(_PRESENT_S, limits.stations_remembered)
        self._nonces: Recent[tuple[Address, bytes], Mac] = Recent(_NONCE_S, limits.messages_remembered)
        self._heard: Recent[tuple[str, DadMessage], bool] = Recent(COPY_S, limits.messages_remembered)
        self._handed: Recent[tuple[str, DadMessage], Origin] = Recent(COPY_S, limits.messages_remembered)
        self._held: dict[_Held, Origin] = {}
        self._due: Timetable[_Held] = Timetable()

    def heard(self, link: str, message: DadMessage, now: Instant) -> list[DadEffect]:
        """A host said this on `link`; frames that an access point made are not to be given here."""
        is_question = message.kind is DadKind.SOLICITATION
        if is_question:
            self.counters.heard_solicitations += 1
        else:
            self.counters.heard_advertisements += 1
        if link not in self._links or not self._is_acceptable(message, now):
            return []
        if message.mac in self._view.own_macs:
            self.counters.refused_own += 1
            return []
        # A question repeated at once is one: whoever asks by hand may have been answered within milliseconds. A holder
        # that was asked by group and by unicast answers twice.
        is_repeat = not is_question and self._heard.get((link, message), now, self._copy_s(message, now)) is not None
        is_copy = self._note_heard(link, message, now)
        if is_repeat:
            self.counters.repeats += 1
            return []
        if not self._quotas.allow_heard(link, message, self._view.link_of(message.mac) is not None, now):
            return []
        if self._is_ours(message.target):
            return self._defend(link, message, now)
        if not self._is_believed(link, message, now):
            return []
        effects: list[DadEffect] = []
        if is_copy:
            self.counters.repeats += 1
        else:
            effects += self._relay(message, now)
        if self._is_isolated:
            effects += self._hand_out_beside_sender(link, message, now)
        for other in self._links:
            if other != link:
                effects += self._pass_on(other, message, link, now)
        if is_question:
            self._askers.add(message.target, link, message.mac, now)
        return effects

    def told(self, peer: PeerId, message: DadMessage, now: Instant) -> list[DadEffect]:
        """`peer` heard this; the channel has authenticated the peer."""
        is_question = message.kind is DadKind.SOLICITATION
        if is_question:
            self.counters.told_solicitations += 1
        else:
            self.counters.told_advertisements += 1
        if not self._is_acceptable(message, now):
            return []
        # Access points may share one MAC, and an advertisement may be a peer's defence of its own address.
        if is_question and message.mac in self._view.own_macs:
            self.counters.refused_own += 1
            return []
        if not self._quotas.allow_told(peer, now):
            return []
        if self._is_ours(message.target):
            return self._defend_at(peer, message, now)
        if not self._is_believed(peer, message, now):
            return []
        if is_question:
            self._askers.add(message.target, peer, message.mac, now)
        effects: list[DadEffect] = []
        for link in self._links:
            effects += self._pass_on(link, message, peer, now)
        return effects

    def tick(self, now: Instant) -> list[DadEffect]:
        """Do what is due."""
        effects: list[DadEffect] = []
        for held in self._due.pop_due(now):
            origin = self._held.pop(held)
            # Before the relation is updated: the first copy ever from another link of ours goes out by unicast.
            effects += self._hand_out(held.link, held.message, origin, now)
            self._relations.missed(held.link, origin, now)
        return effects + list[DadEffect](self._fan_out.tick(now))

    @property
    def next_wakeup(self) -> Instant | None:
        """When `tick` has something to do; None: not before the next message."""
        times = [when for when in (self._due.next_due, self._fan_out.next_wakeup) if when is not None]
        return min(times, default=None)

    # -- what is taken up -------------------------------------------------------------------------------------------

    def _is_acceptable(self, message: DadMessage, now: Instant) -> bool:
        if not self._is_ours(message.target) and not self._admission.admits_address(message.target):
            self.counters.refused_outside += 1
            return False
        if is_group_mac(message.mac):
            self.counters.refused_own += 1
            return False
        if message.nonce:
            key = (message.target, message.nonce)
            first = self._nonces.get(key, now)
            if first is not None and first != message.mac:
                self.counters.refused_echo += 1
                return False
            self._nonces.put(key, message.mac, now)
        return True

    def _is_ours(self, target: Address) -> bool:
        """Addresses of this machine in a roaming prefix, and the segments of all access points."""
        return self._admission.is_segment(target) or (
            target in self._view.own_addresses and self._admission.admits_address(target)
        )

    def _is_believed(self, origin: Origin, message: DadMessage, now: Instant) -> bool:
        """Whether it may cost another host the address: an answer, or a question for what another has just asked for
        (RFC 4862 §5.4.3), by a host that does not do that all the time."""
        if message.kind is DadKind.SOLICITATION:
            if not self._askers.has_other(message.target, message.mac, now):
                return True
        elif isinstance(origin, str):
            holder = self._view.holder(message.target)
            if holder is not None and holder[1] == message.mac:
                return True
        elif self._view.announcer(message.target) == origin:
            return True
        return self._quotas.allow_target(origin, message, now)

    def _note_heard(self, link: str, message: DadMessage, now: Instant) -> bool:
        """Remember it; True when another link of ours has just heard the same transmission."""
        copy_s = self._copy_s(message, now)
        self._heard.put((link, message), True, now)
        self._present.put(message.mac, link, now)
        origin = self._handed.get((link, message), now, copy_s)
        held = _Held(link, message)
        if held in self._held:
            origin = self._held.pop(held)
            self._due.cancel(held)
            self.counters.repeats += 1
        if origin is not None:
            self._relations.joined(link, origin, now)
        is_copy = False
        for other in self._links:
            if other != link and self._heard.get((other, message), now, copy_s):
                self._relations.joined(link, other, now)
                is_copy = True
        return is_copy

    def _copy_s(self, message: DadMessage, now: Instant) -> Seconds:
        """Within this time the same again is a copy; an advertisement may be the answer to a new question."""
        asked = self._askers.last(message.target, now) if message.kind is DadKind.ADVERTISEMENT else None
        return COPY_S if asked is None else min(COPY_S, now - asked)

    # -- who hears of it --------------------------------------------------------------------------------------------

    def _relay(self, message: DadMessage, now: Instant) -> list[DadEffect]:
        if self._is_for_all:
            self.counters.relayed += 1
            return [Relay(message)]
        peers = dict.fromkeys(self._askers.peers(message.target, now))
        if message.kind is DadKind.SOLICITATION:
            announcer = self._view.announcer(message.target)
            if announcer is not None:
                peers[announcer] = None
        if not peers:
            return []
        self.counters.relayed += 1
        return [Relay(message, tuple(peers))]

    def _hand_out_beside_sender(self, link: str, message: DadMessage, now: Instant) -> list[DadEffect]:
        first = self._concerned(link, message, now)
        effects = self._to_stations(link, message, first)
        if message.kind is DadKind.SOLICITATION and self._is_for_all:
            effects += self._fan_out.add(link, message, self._view.stations(link), self._spared(message, first), now)
        return effects

    def _pass_on(self, link: str, message: DadMessage, origin: Origin, now: Instant) -> list[DadEffect]:
        """From `origin` to `link`, which may be about to hear it by itself."""
        copy_s = self._copy_s(message, now)
        if self._heard.get((link, message), now, copy_s):
            self._relations.joined(link, origin, now)
            self.counters.repeats += 1
            return []
        held = _Held(link, message)
        first = self._handed.get((link, message), now, copy_s)
        is_handed = first is not None and (first != origin or message.kind is DadKind.ADVERTISEMENT)
        if held in self._held or is_handed:
            self.counters.repeats += 1
            return []
        hold_s = self._relations.hold_s(link, origin, now)
        if hold_s > 0.0 and len(self._held) < self._most_held:
            self._held[held] = origin
            self._due.set(held, now + hold_s)
            return []
        return self._hand_out(link, message, origin, now)

    def _hand_out(self, link: str, message: DadMessage, origin: Origin, now: Instant) -> list[DadEffect]:
        """To everybody on `link` whom it concerns, but never to its sender."""
        self._handed.put((link, message), origin, now)
        first = self._concerned(link, message, now)
        effects = self._to_stations(link, message, first)
        is_from_here = isinstance(origin, str)
        if message.kind is DadKind.SOLICITATION:
            if not self._is_for_all and (is_from_here or self._view.holder(message.target) is not None):
                return effects
            if self._may_listen(link, message.mac, origin, now):
                return effects + self._fan_out.add(
                    link, message, self._view.stations(link), self._spared(message, first), now
                )
        elif not self._is_for_all or is_from_here or self._may_listen(link, message.mac, origin, now):
            self.counters.unasked += not (self._is_for_all or is_from_here or effects)
            return effects
        self.counters.group_frames += 1
        return [HandOut(link, message), *effects]

    def _may_listen(self, link: str, mac: Mac, origin: Origin, now: Instant) -> bool:
        """Whether the host may hear what is said to the group on `link`."""
        if self._relations.between(link, origin, now) is Relation.JOINED:
            return True
        places = {self._view.link_of(mac), self._present.get(mac, now)}
        return any(
            place == link or self._relations.between(link, place, now) is not Relation.APART
            for place in places
            if place is not None
        )

    def _concerned(self, link: str, message: DadMessage, now: Instant) -> list[Mac]:
        """Those on `link` who have asked for the target; for a question also who is known to have it."""
        found = dict.fromkeys(self._askers.on(link, message.target, now))
        if message.kind is DadKind.SOLICITATION:
            holder = self._view.holder(message.target)
            if holder is not None and holder[0] == link:
                found[holder[1]] = None
        found.pop(message.mac, None)
        return list(found)

    def _spared(self, message: DadMessage, first: list[Mac]) -> frozenset[Mac]:
        return self._view.own_macs.union((message.mac, *first))

    def _to_stations(self, link: str, message: DadMessage, stations: list[Mac]) -> list[DadEffect]:
        if not stations:
            return []
        self.counters.unicast_frames += len(stations)
        return [HandOut(link, message, tuple(stations))]

    # -- addresses of ours ------------------------------------------------------------------------------------------

    def _defend(self, link: str, message: DadMessage, now: Instant) -> list[DadEffect]:
        if message.kind is not DadKind.SOLICITATION:
            self.counters.refused_own += 1
            return []
        if not self._quotas.allow_defence(now):
            return []
        self.counters.defended += 1
        return [Defend(link, message.target, message.mac)]

    def _defend_at(self, peer: PeerId, message: DadMessage, now: Instant) -> list[DadEffect]:
        """At a peer's host, which the peer's own link cannot answer. Segments every access point defends by itself."""
        own_macs = self._view.own_macs
        if message.kind is not DadKind.SOLICITATION or self._admission.is_segment(message.target) or not own_macs:
            self.counters.refused_own += 1
            return []
        if not self._quotas.allow_defence(now):
            return []
        self.counters.defended += 1
        return [Relay(DadMessage(DadKind.ADVERTISEMENT, message.target, min(own_macs)), (peer,))]
