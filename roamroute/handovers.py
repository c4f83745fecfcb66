"""What happened in each handover, step by step, as this access point has seen it. Pure.

Fed with every event before the engine takes it, and with every effect when it has been performed. The access point that
a host has come to keeps a record from the association (or from the claim, where there was none), the one that it has
left keeps one from the claim's arrival. When its routing daemon knows the new way, the latter tells the former how its
side went, in a `HandoverReport`; both records are finished then. A host that was nobody's before is no handover.

Everything is bounded: so many records are open, so many finished ones are kept, each is open for a limited time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import attrs

from roamroute import effects, events
from roamroute.hosts import Host
from roamroute.records import Histogram, Outcome, Record, Side
from roamroute.values import Address, HandoverReport, Instant, Mac, Nud, PeerId, Seconds, Verdict

_OPEN = 512
_FINISHED = 100
_CONNECTIONS = 64  # associations of which the claim has not been seen: it comes in the same batch
_SETTLED_S: Seconds = 2.0  # some addresses were seen elsewhere so long ago, and no more: the host has left the others
_REPORT_S: Seconds = 15.0  # the new access point waits so much longer than the old one


@attrs.frozen
class _Connection:
    """An association: when, who held the host then, and whether its addresses had been told ahead."""

    at: Instant
    holder: PeerId | None = None
    is_hinted: bool = False


class Handovers:
    """All records. `hosts` and `foreign` are the engine's live views; `is_exported_told`: `exported` will be called."""

    def __init__(
        self,
        me: PeerId,
        hosts: Mapping[Mac, Host],
        foreign: Mapping[Address, str],
        patience_s: Seconds,
        *,
        is_exported_told: bool = False,
    ) -> None:
        """`patience_s`: how long the old access point waits for its routing daemon, usually as long as it forwards."""
        self._me = me
        self._hosts = hosts
        self._foreign = foreign
        self._patience_s = patience_s
        self._is_exported_told = is_exported_told
        self._coming: dict[Mac, Record] = {}
        self._going: dict[Mac, Record] = {}
        self._given_up: dict[Address, Record] = {}
        """The addresses of those that go."""
        self._connected: dict[Mac, _Connection] = {}
        """Live associations of which the claim is being made."""
        self._finished: deque[Record] = deque(maxlen=_FINISHED)
        self._fresh: list[Record] = []
        self._next_due: Instant | None = None
        self.histograms: dict[tuple[Side, str], Histogram] = {}
        self._on_event: dict[type, Callable[[Any, Instant], None]] = {
            events.StationConnected: self._station_connected,
            events.NeighbourChanged: self._neighbour_changed,
            events.ClaimAnswered: self._claim_answered,
            events.HostClaimed: self._host_claimed,
            events.ForwardUsed: self._forward_used,
            events.ForeignRouteSeen: self._foreign_route_seen,
            events.HandoverReported: self._reported,
        }
        self._on_effect: dict[type, Callable[[Any, Instant], None]] = {
            effects.SendClaim: self._claim_sent,
            effects.DropClaim: self._claim_dropped,
            effects.Announce: self._route_announced,
            effects.Withdraw: self._route_withdrawn,
            effects.Forward: self._forwarding,
            effects.SendAnswer: self._answer_sent,
        }

    # -- what others may look at ------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Record]:
        """All handovers that are open or remembered, the latest first."""
        known = [record for record in (*self._coming.values(), *self._going.values()) if record.is_handover]
        return iter(sorted((*known, *self._finished), key=lambda record: -record.began))

    @property
    def next_due(self) -> Instant | None:
        """When `tick` is due, or None. It may have nothing to do then."""
        return self._next_due

    @property
    def is_waiting_for_export(self) -> bool:
        """True while `exported` would be news."""
        return any("announced" in each.reached and "exported" not in each.reached for each in self._coming.values())

    @property
    def open_count(self) -> int:
        """How many are open, those that may turn out to be none included."""
        return len(self._coming) + len(self._going)

    @property
    def is_busy(self) -> bool:
        """True while one is under way: its host is not announced yet, or its former holder has not answered."""
        return any(not {"announced", "claimed"} <= each.reached.keys() for each in self._coming.values())

    def take_finished(self) -> list[Record]:
        """Those that have been finished since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh

    # -- what happens -----------------------------------------------------------------------------------------------

    def event(self, event: events.Event, now: Instant) -> None:
        """Take an event, before the engine does."""
        take = self._on_event.get(type(event))
        if take is not None:
            take(event, now)

    def effect(self, effect: effects.Effect, now: Instant) -> None:
        """Take an effect, when it has been performed; a claim before what was done for the same host after it."""
        take = self._on_effect.get(type(effect))
        if take is not None:
            take(effect, now)

    def exported(self, exported: Container[Address], now: Instant) -> None:
        """Take what the routing daemon confirms."""
        for record in list(self._coming.values()):
            is_waiting = "announced" in record.reached and "exported" not in record.reached
            if is_waiting and all(address in exported for address in record.addresses):
                record.reached["exported"] = now
                self._conclude(record)

    def tick(self, now: Instant) -> None:
        """Finish what has waited long enough; harmless when nothing has."""
        for record in [*self._coming.values(), *self._going.values()]:
            if record.due <= now:
                is_complete = record.is_told and (record.side is Side.TO or bool(record.elsewhere))
                self._finish(record, Outcome.COMPLETE if is_complete else Outcome.LAPSED)
        self._next_due = min((record.due for record in (*self._coming.values(), *self._going.values())), default=None)

    def _end_by(self, record: Record, due: Instant) -> None:
        """Wait no longer than until then."""
        record.due = min(record.due, due)
        if self._next_due is None or record.due < self._next_due:
            self._next_due = record.due

    # -- a host comes -----------------------------------------------------------------------------------------------

    def _station_connected(self, event: events.StationConnected, now: Instant) -> None:
        mac = event.station.mac
        host = self._hosts.get(mac)
        self._connected[mac] = (
            _Connection(now) if host is None else _Connection(now, host.holder, host.hinted_by is not None)
        )
        while len(self._connected) > _CONNECTIONS:
            del self._connected[next(iter(self._connected))]

    def _claim_sent(self, effect: effects.SendClaim, now: Instant) -> None:
        claim = effect.claim
        if (going := self._going.get(claim.mac)) is not None:
            self._finish(going, Outcome.SUPERSEDED)
        connected = self._connected.pop(claim.mac, None)
        former = effect.first if effect.first is not None or connected is None else connected.holder
        if former == self._me:
            former = None
        record = self._coming.get(claim.mac)
        if record is not None:
            if claim.sequence not in record.numbers:
                record.numbers.append(claim.sequence)
                record.sent = now
                record.origin = record.origin or former
        elif connected is not None or former is not None:
            self._come(effect, connected, former, now)

    def _come(
        self, effect: effects.SendClaim, connected: _Connection | None, former: PeerId | None, now: Instant
    ) -> None:
        claim = effect.claim
        began = now if connected is None else connected.at
        record = Record(
            mac=claim.mac,
            numbers=[claim.sequence],
            side=Side.TO,
            origin=former,
            destination=self._me,
            trigger=claim.basis,
            because=effect.because,
            began=began,
            due=began + self._patience_s + _REPORT_S,
            is_hinted=connected is not None and connected.is_hinted,
            sent=now,
        )
        if connected is not None:
            record.reached["connected"] = began
        self._open(self._coming, record)

    def _route_announced(self, effect: effects.Announce, now: Instant) -> None:
        address = effect.route.address
        if effect.route.is_lingering:
            return
        for record in self._coming.values():
            host = self._hosts.get(record.mac)
            if host is not None and address in host.entries:
                record.addresses.add(address)
                if "announced" not in record.reached:
                    record.reached["announced"] = now
                    record.known_by = record.known_by or ("hint" if record.is_hinted else "memory")
                return

    def _neighbour_changed(self, event: events.NeighbourChanged, now: Instant) -> None:
        neighbour = event.neighbour
        record = None if neighbour.mac is None else self._coming.get(neighbour.mac)
        if record is not None and neighbour.nud is Nud.REACHABLE and not neighbour.address.is_link_local:
            record.reached.setdefault("confirmed", now)
            if "announced" not in record.reached and not record.is_hinted:
                record.known_by = record.known_by or "discovery"

    def _claim_answered(self, event: events.ClaimAnswered, now: Instant) -> None:
        answer = event.answer
        record = self._coming.get(answer.mac)
        if record is None or answer.claimed != record.number:
            return
        if answer.verdict is Verdict.REFUSED:
            record.origin = answer.holder if answer.holder not in (None, self._me) else record.origin
        elif answer.addresses and record.origin is None:
            record.origin = event.peer
        if answer.verdict in (Verdict.ACCEPTED, Verdict.PENDING) and event.peer == record.origin:
            record.reached.setdefault("claimed", now)
            if answer.addresses and "announced" not in record.reached and not record.is_hinted:
                record.known_by = record.known_by or "answer"

    def _claim_dropped(self, effect: effects.DropClaim, now: Instant) -> None:
        record = self._coming.get(effect.mac)
        if record is not None:
            self._finish(record, Outcome.SUPERSEDED)

    def _reported(self, event: events.HandoverReported, now: Instant) -> None:
        report = event.report
        record = self._told_of(report)
        if record is None:
            return
        record.origin = event.peer
        record.is_told = True
        # The claim arrived there about half way between its sending and the answer.
        came = record.sent + (record.reached.get("claimed", record.sent) - record.sent) / 2
        for step, after_s in (
            ("diverted", report.diverted_s),
            ("forwarded", report.forwarded_s),
            ("converged", report.converged_s),
            ("withdrawn", report.withdrawn_s),
        ):
            if after_s is not None:
                record.reached[step] = came + after_s
        if record.outcome is None:
            self._conclude(record)

    def _told_of(self, report: HandoverReport) -> Record | None:
        """The record that the report is about; a host that has moved on is told of a little later."""
        for record in (self._coming.get(report.mac), *reversed(self._finished)):
            if record is not None and record.mac == report.mac and record.side is Side.TO:
                return record if report.sequence in record.numbers else None
        return None

    def _conclude(self, record: Record) -> None:
        """Finish the record of a host that has come when nothing more is expected."""
        is_confirmed = "exported" in record.reached or not self._is_exported_told
        if record.is_told and (is_confirmed or "announced" not in record.reached):
            self._finish(record, Outcome.COMPLETE)

    # -- a host goes ------------------------------------------------------------------------------------------------

    def _host_claimed(self, event: events.HostClaimed, now: Instant) -> None:
        claim = event.claim
        host = self._hosts.get(claim.mac)
        if host is None or claim.order <= host.order or claim.peer == self._me:
            return
        if (going := self._going.get(claim.mac)) is not None:
            if not going.is_told and going.destination == claim.peer and claim.sequence == going.number:
                return  # the claim that is on trial, repeated
            self._finish(going, Outcome.SUPERSEDED)
        if host.holder != self._me:
            return
        record = Record(
            mac=claim.mac,
            numbers=[claim.sequence],
            side=Side.FROM,
            origin=self._me,
            destination=claim.peer,
            trigger=claim.basis,
            because=f"claimed by {claim.peer}",
            began=now,
            due=now + self._patience_s,
        )
        record.reached["claimed"] = now
        self._open(self._going, record)
        for entry in host.entries.values():
            if entry.is_wanted:
                self._give_up(record, entry.address)

    def _give_up(self, record: Record, address: Address) -> None:
        record.addresses.add(address)
        self._given_up[address] = record

    def _answer_sent(self, effect: effects.SendAnswer, now: Instant) -> None:
        answer = effect.answer
        record = self._going.get(answer.mac)
        if record is None or record.destination != effect.peer or record.number != answer.claimed:
            return
        host = self._hosts.get(answer.mac)
        if host is not None and host.holder == effect.peer:
            record.is_told = True
            if not record.addresses:
                self._end_by(record, now + _SETTLED_S)  # nothing to hand over, nothing to wait for
            self._go(record)
        elif answer.verdict in (Verdict.REFUSED, Verdict.KEPT):
            self._finish(record, Outcome.SUPERSEDED)

    def _route_withdrawn(self, effect: effects.Withdraw, now: Instant) -> None:
        record = self._given_up.get(effect.route.address)
        if record is not None:
            record.reached["withdrawn"] = now
            record.withdrawn.add(effect.route.address)
            if effect.route.address in self._foreign:
                # Perhaps that of the one before: when the new way was learnt cannot be told.
                record.elsewhere.add(effect.route.address)
                self._end_by(record, now + _SETTLED_S)
            self._go(record)

    def _forwarding(self, effect: effects.Forward, now: Instant) -> None:
        record = self._given_up.get(effect.address)
        for each in self._going.values() if record is None else ():
            host = self._hosts.get(each.mac)
            if each.destination == effect.peer and host is not None and effect.address in host.binding:
                self._give_up(each, effect.address)
                record = each
        if record is not None and record.destination == effect.peer:
            record.reached.setdefault("diverted", now)

    def _forward_used(self, event: events.ForwardUsed, now: Instant) -> None:
        record = self._given_up.get(event.address)
        if record is not None:
            record.reached.setdefault("forwarded", now)

    def _foreign_route_seen(self, event: events.ForeignRouteSeen, now: Instant) -> None:
        record = self._given_up.get(event.address)
        if record is None:
            return
        if event.address not in record.elsewhere or "converged" not in record.reached:
            record.elsewhere.add(event.address)
            record.reached["converged"] = now
            if record.withdrawn:
                self._end_by(record, now + _SETTLED_S)
        self._go(record)

    def _go(self, record: Record) -> None:
        """Finish the record of a host that has gone when all its addresses are known elsewhere, and not here."""
        if record.is_told and "converged" in record.reached and record.addresses <= record.elsewhere & record.withdrawn:
            self._finish(record, Outcome.COMPLETE)

    # -- the end ----------------------------------------------------------------------------------------------------

    def _open(self, records: dict[Mac, Record], record: Record) -> None:
        records[record.mac] = record
        self._end_by(record, record.due)
        if len(records) > _OPEN:
            self._finish(next(iter(records.values())), Outcome.LAPSED)

    def _finish(self, record: Record, outcome: Outcome) -> None:
        record.outcome = outcome
        del (self._coming if record.side is Side.TO else self._going)[record.mac]
        for address in record.addresses:
            if self._given_up.get(address) is record:
                del self._given_up[address]
        if not record.is_handover:
            return
        for step in record.reached:
            after_s = record.after(step)
            if after_s:
                self.histograms.setdefault((record.side, step), Histogram()).add(after_s)
        self._finished.append(record)
        self._fresh.append(record)
