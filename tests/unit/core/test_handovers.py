"""The record of each handover, at both access points."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import attrs

from roamroute import effects, events
from roamroute.handovers import Handovers
from roamroute.hosts import Entry, Host
from roamroute.records import Outcome, Record, Side, fields_of, report_of
from roamroute.values import (
    Address,
    Answer,
    Basis,
    Claim,
    HandoverReport,
    HostRoute,
    Mac,
    Neighbour,
    Nud,
    PeerId,
    Station,
    Verdict,
)

OLD, NEW, THIRD = (IPv6Address(f"fd44:0:0:a::{last}") for last in (1, 2, 3))
MAC = Mac("02:00:5e:44:00:01")
A, B = (ip_address(f"fd44:0:0:1::{last}") for last in "ab")
SEGMENT = IPv6Address("fd44:0:0:1:726f:616d:0:2")
CLAIM = Claim(MAC, 7, NEW, Basis.ASSOCIATION, (A,))
CONNECTED = events.StationConnected(Station(MAC, "wlan0"))


class Watched:
    """The records of one access point, over an engine of which only the views exist."""

    def __init__(self, me: PeerId, *addresses: Address, is_exported_told: bool = False) -> None:
        self.hosts: dict[Mac, Host] = {}
        self.foreign: dict[Address, str] = {}
        self.handovers = Handovers(me, self.hosts, self.foreign, 60.0, is_exported_told=is_exported_told)
        host = Host(MAC, 0.0, sequence=6, holder=OLD)
        host.entries = {each: Entry(each, "wlan0", MAC, 0.0, Nud.REACHABLE, is_wanted=True) for each in addresses}
        self.hosts[MAC] = host

    @property
    def host(self) -> Host:
        return self.hosts[MAC]

    def finished(self) -> Record:
        (record,) = self.handovers.take_finished()
        return record

    def come(self, *, is_hinted: bool = True) -> None:
        """The station connects at 10.0, the claim is out after 1 ms, the route in the FIB after 2 ms."""
        self.host.hinted_by = OLD if is_hinted else None
        self.handovers.event(CONNECTED, 10.0)
        self.host.holder = NEW
        self.host.entries[A] = Entry(A, "wlan0", MAC, 10.0)
        self.handovers.effect(effects.SendClaim(CLAIM, "station connected", OLD), 10.001)
        self.handovers.effect(effects.Announce(HostRoute(A, "wlan0"), "station connected"), 10.002)

    def be_answered(self, at: float = 10.005) -> None:
        answer = Answer(MAC, 7, Verdict.ACCEPTED, 7, NEW, (A,))
        self.handovers.event(events.ClaimAnswered(OLD, answer), at)

    def be_told(self, at: float, **steps: float) -> None:
        self.handovers.event(events.HandoverReported(OLD, HandoverReport(MAC, 7, **steps)), at)

    def go(self, claim: Claim = CLAIM, *, is_lingering: bool = False) -> None:
        """The claim arrives at 20.0 and is followed; after 1 ms what arrives is sent on, and the route is withdrawn."""
        self.handovers.event(events.HostClaimed(claim), 20.0)
        addresses = [*self.host.entries]
        self.host.holder = claim.peer
        self.host.entries = {}
        for address in addresses:
            self.handovers.effect(effects.Forward(address, SEGMENT, claim.peer, "claimed"), 20.001)
            if not is_lingering:
                self.withdraw(address, 20.001)
        answer = Answer(MAC, claim.sequence, Verdict.ACCEPTED, claim.sequence, claim.peer, tuple(addresses))
        self.handovers.effect(effects.SendAnswer(claim.peer, answer, "claimed"), 20.001)

    def withdraw(self, address: Address, at: float) -> None:
        self.handovers.effect(effects.Withdraw(HostRoute(address, "wlan0"), "claimed"), at)


def steps_of(record: Record) -> dict[str, float]:
    return {step: round(record.after(step) or 0.0, 6) for step in record.reached}


def test_the_new_access_point_s_record_begins_with_the_association() -> None:
    new = Watched(NEW)
    new.come()
    (record,) = new.handovers
    assert (record.side, record.origin, record.destination) == (Side.TO, OLD, NEW)
    assert (record.trigger, record.is_hinted, record.known_by) == (Basis.ASSOCIATION, True, "hint")
    assert steps_of(record) == {"connected": 0.0, "announced": 0.002}


def test_the_former_holder_s_report_completes_it_on_our_clock() -> None:
    new = Watched(NEW)
    new.come()
    new.be_answered(10.005)
    assert not new.handovers.take_finished()
    new.be_told(10.5, withdrawn_s=0.001, forwarded_s=0.002, converged_s=0.4)
    record = new.finished()
    assert record.outcome is Outcome.COMPLETE
    assert steps_of(record) == {
        "connected": 0.0,
        "announced": 0.002,
        "claimed": 0.005,
        "withdrawn": 0.004,
        "forwarded": 0.005,
        "converged": 0.403,
    }


def test_where_the_routing_daemon_confirms_the_record_waits_for_it() -> None:
    new = Watched(NEW, is_exported_told=True)
    new.come()
    new.be_told(10.4, converged_s=0.3)
    assert new.handovers.is_waiting_for_export
    new.handovers.exported(frozenset({B}), 10.5)
    assert not new.handovers.take_finished()
    new.handovers.exported(frozenset({A, B}), 10.6)
    assert steps_of(new.finished())["exported"] == 0.6


def test_without_a_hint_the_answer_is_what_makes_the_addresses_known() -> None:
    new = Watched(NEW)
    new.host.holder = None
    new.handovers.event(CONNECTED, 10.0)
    new.host.holder = NEW
    new.handovers.effect(effects.SendClaim(CLAIM, "station connected"), 10.001)
    assert not list(new.handovers)  # perhaps it was nobody's
    new.be_answered(10.004)
    new.host.entries[A] = Entry(A, "wlan0", MAC, 10.0)
    new.handovers.effect(effects.Announce(HostRoute(A, "wlan0"), "handed over"), 10.005)
    (record,) = new.handovers
    assert (record.origin, record.known_by, record.is_hinted) == (OLD, "answer", False)


def test_a_route_that_lingers_announces_nobody() -> None:
    new = Watched(NEW)
    new.host.hinted_by = OLD
    new.handovers.event(CONNECTED, 10.0)
    new.host.entries[A] = Entry(A, "wlan0", MAC, 10.0)
    new.handovers.effect(effects.SendClaim(CLAIM, "station connected", OLD), 10.001)
    new.handovers.effect(effects.Announce(HostRoute(A, "wlan0", is_lingering=True), "claimed"), 10.002)
    (record,) = new.handovers
    assert "announced" not in record.reached


def test_the_host_s_own_packets_may_make_the_addresses_known() -> None:
    new = Watched(NEW)
    new.handovers.event(CONNECTED, 10.0)
    new.handovers.effect(effects.SendClaim(CLAIM, "station connected", OLD), 10.001)
    new.host.entries[A] = Entry(A, "wlan0", MAC, 10.0)
    new.handovers.event(events.NeighbourChanged(Neighbour("wlan0", A, Nud.REACHABLE, MAC)), 10.1)
    new.handovers.effect(effects.Announce(HostRoute(A, "wlan0"), "confirmed"), 10.1)
    (record,) = new.handovers
    assert record.known_by == "discovery"
    assert steps_of(record)["confirmed"] == 0.1


def test_a_host_that_was_nobody_s_is_no_handover() -> None:
    new = Watched(NEW)
    new.host.holder = None
    new.handovers.event(CONNECTED, 10.0)
    new.handovers.effect(effects.SendClaim(CLAIM, "station connected"), 10.0)
    new.handovers.tick(200.0)
    assert not new.handovers.take_finished()
    assert not list(new.handovers)
    assert not new.handovers.open_count


def test_a_claim_that_is_repeated_after_a_refusal_is_the_same_handover() -> None:
    new = Watched(NEW)
    new.handovers.event(CONNECTED, 10.0)
    new.handovers.effect(effects.SendClaim(CLAIM, "station connected"), 10.001)
    refusal = Answer(MAC, 7, Verdict.REFUSED, 9, OLD)
    new.handovers.event(events.ClaimAnswered(OLD, refusal), 10.004)
    again = attrs.evolve(CLAIM, sequence=10)
    new.handovers.effect(effects.SendClaim(again, "claim refused", OLD), 10.005)
    (record,) = new.handovers
    assert (record.number, record.numbers, record.origin) == (10, [7, 10], OLD)
    new.be_answered(10.006)  # of the first claim
    assert "claimed" not in record.reached
    new.handovers.event(events.ClaimAnswered(OLD, Answer(MAC, 10, Verdict.ACCEPTED, 10, NEW)), 10.008)
    assert steps_of(record)["claimed"] == 0.008


def test_a_repetition_for_a_peer_that_missed_the_claim_is_no_handover() -> None:
    new = Watched(NEW)
    new.handovers.effect(effects.SendClaim(CLAIM, "1 peers have not heard it"), 90.0)
    assert not list(new.handovers)


def test_a_claim_that_is_lost_ends_the_record() -> None:
    new = Watched(NEW)
    new.come()
    new.handovers.effect(effects.DropClaim(MAC, "claimed by another"), 10.3)
    assert new.finished().outcome is Outcome.SUPERSEDED


def test_without_a_report_the_record_lapses() -> None:
    new = Watched(NEW)
    new.come()
    assert new.handovers.next_due is not None
    new.handovers.tick(new.handovers.next_due)
    assert new.finished().outcome is Outcome.LAPSED


def test_the_old_access_point_s_record_begins_with_the_claim_and_ends_with_the_foreign_routes() -> None:
    old = Watched(OLD, A, B)
    old.go()
    old.handovers.event(events.ForwardUsed(A), 20.003)
    old.handovers.event(events.ForeignRouteSeen(A, "babel"), 20.5)
    assert not old.handovers.take_finished()
    old.handovers.event(events.ForeignRouteSeen(B, "babel"), 20.6)
    record = old.finished()
    assert (record.side, record.origin, record.destination) == (Side.FROM, OLD, NEW)
    steps = {"diverted": 0.001, "withdrawn": 0.001, "forwarded": 0.003, "converged": 0.6}
    assert steps_of(record) == {"claimed": 0.0, **steps}
    report = report_of(record)
    assert report is not None
    assert {step: round(getattr(report, f"{step}_s"), 6) for step in steps} == steps


def test_while_the_old_route_lingers_the_record_stays_open() -> None:
    old = Watched(OLD, A)
    old.go(is_lingering=True)
    old.handovers.event(events.ForeignRouteSeen(A, "ospf"), 20.3)
    assert not old.handovers.take_finished()
    old.withdraw(A, 28.0)
    assert steps_of(old.finished()) == {"claimed": 0.0, "diverted": 0.001, "converged": 0.3, "withdrawn": 8.0}


def test_addresses_that_the_host_left_behind_do_not_keep_the_record_open() -> None:
    old = Watched(OLD, A, B)
    old.go()
    old.handovers.event(events.ForeignRouteSeen(A, "babel"), 20.5)
    assert old.handovers.next_due == 22.5
    old.handovers.tick(22.5)
    assert steps_of(old.finished())["converged"] == 0.5


def test_when_a_foreign_route_was_there_all_the_time_nobody_knows_when_the_new_way_was_learnt() -> None:
    old = Watched(OLD, A)
    old.foreign[A] = "ospf"
    old.go()
    assert old.handovers.next_due == 22.001
    old.handovers.tick(22.001)
    record = old.finished()
    assert record.outcome is Outcome.COMPLETE
    assert "converged" not in record.reached


def test_when_the_host_moves_on_before_that_the_former_holder_still_tells() -> None:
    old = Watched(OLD, A)
    old.go()
    old.handovers.effect(effects.SendClaim(Claim(MAC, 8, OLD, Basis.ASSOCIATION), "station connected", NEW), 20.2)
    record = old.finished()
    assert record.outcome is Outcome.SUPERSEDED
    assert report_of(record) == HandoverReport(
        MAC, 7, withdrawn_s=record.after("withdrawn"), diverted_s=record.after("diverted")
    )


def test_when_it_moves_on_to_a_third_access_point_too() -> None:
    old = Watched(OLD, A)
    old.go(is_lingering=True)
    old.host.sequence = 7
    old.handovers.event(events.HostClaimed(Claim(MAC, 8, THIRD, Basis.ASSOCIATION)), 20.2)
    assert old.finished().outcome is Outcome.SUPERSEDED


def test_a_report_on_a_host_that_has_moved_on_still_tells() -> None:
    new = Watched(NEW)
    new.come()
    new.be_answered(10.005)
    new.handovers.effect(effects.DropClaim(MAC, "claimed by another"), 10.3)
    record = new.finished()
    new.be_told(10.301, diverted_s=0.001)
    assert not new.handovers.take_finished()
    assert steps_of(record)["diverted"] == 0.004


def test_a_claim_that_is_refused_leaves_no_record() -> None:
    old = Watched(OLD, A)
    claim = Claim(MAC, 9, NEW, Basis.NEIGHBOUR)
    old.handovers.event(events.HostClaimed(claim), 20.0)
    old.handovers.effect(effects.SendAnswer(NEW, Answer(MAC, 9, Verdict.PENDING, 6, OLD), "on trial"), 20.0)
    assert not list(old.handovers)
    old.host.sequence = 10
    old.handovers.effect(effects.SendAnswer(NEW, Answer(MAC, 9, Verdict.KEPT, 10, OLD), "still here"), 20.1)
    assert not old.handovers.take_finished()
    assert not old.handovers.open_count


def test_a_claim_for_what_another_holds_is_not_our_handover() -> None:
    third = Watched(THIRD)
    third.go()
    assert not list(third.handovers)
    assert not third.handovers.take_finished()


def test_the_json_form_has_every_step() -> None:
    new = Watched(NEW)
    new.come()
    (record,) = new.handovers
    fields = fields_of(record)
    assert fields["steps"] == {
        "connected_s": 0.0,
        "announced_s": 0.002,
        "confirmed_s": None,
        "claimed_s": None,
        "diverted_s": None,
        "withdrawn_s": None,
        "forwarded_s": None,
        "converged_s": None,
        "exported_s": None,
    }
    assert (fields["from"], fields["to"], fields["side"]) == (str(OLD), str(NEW), "to")
    assert (fields["is_complete"], fields["trigger"], fields["addresses"]) == (False, "association", [str(A)])


def test_steps_of_finished_handovers_are_counted() -> None:
    new = Watched(NEW)
    new.come()
    new.be_answered(10.005)
    new.be_told(10.5, converged_s=0.4)
    histogram = new.handovers.histograms[Side.TO, "announced"]
    assert sum(histogram.counts) == 1
    assert abs(histogram.sum_s - 0.002) < 1e-6
