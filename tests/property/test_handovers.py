"""The record of handovers under any order of events and effects: bounded, never wrong about the past, always ending."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from roamroute import effects, events
from roamroute.handovers import Handovers
from roamroute.hosts import Entry, Host
from roamroute.records import STEPS, Side, fields_of, report_of
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
    Station,
    Verdict,
)

ME, *OTHERS = (IPv6Address(f"fd44:0:0:a::{last}") for last in range(1, 5))
MACS = tuple(Mac(f"02:00:5e:44:00:{last:02x}") for last in range(3))
ADDRESSES = tuple(IPv6Address(f"fd44:0:0:1::{last}") for last in range(1, 5))
SEGMENT = IPv6Address("fd44:0:0:1:726f:616d:0:2")
PATIENCE_S = 60.0

macs = st.sampled_from(MACS)
addresses = st.sampled_from(ADDRESSES)
peers = st.sampled_from((ME, *OTHERS))
others = st.sampled_from(OTHERS)
sequences = st.integers(1, 6)
bases = st.sampled_from(Basis)
seconds = st.none() | st.floats(-1, 100)
claims = st.builds(Claim, macs, sequences, peers, bases, st.lists(addresses, max_size=2).map(tuple))
answers = st.builds(
    Answer,
    macs,
    sequences,
    st.sampled_from(Verdict),
    sequences,
    st.none() | peers,
    st.lists(addresses, max_size=2).map(tuple),
)
reports = st.builds(HandoverReport, macs, sequences, seconds, seconds, seconds, seconds)
routes = st.builds(HostRoute, addresses, st.just("wlan0"))
words = st.just("because")

happenings = st.one_of(
    st.builds(events.StationConnected, st.builds(Station, macs, st.just("wlan0"))),
    st.builds(
        events.NeighbourChanged,
        st.builds(Neighbour, st.just("wlan0"), addresses, st.sampled_from(Nud), st.none() | macs),
    ),
    st.builds(events.ClaimAnswered, others, answers),
    st.builds(events.HostClaimed, claims),
    st.builds(events.ForwardUsed, addresses),
    st.builds(events.ForeignRouteSeen, addresses, words),
    st.builds(events.HandoverReported, others, reports),
    st.just(events.Drained()),
)
performances = st.one_of(
    st.builds(effects.SendClaim, claims, words, st.none() | peers),
    st.builds(effects.DropClaim, macs, words),
    st.builds(effects.Announce, routes, words),
    st.builds(effects.Withdraw, routes, words),
    st.builds(effects.Forward, addresses, st.just(SEGMENT), others, words),
    st.builds(effects.EndForward, addresses, words),
    st.builds(effects.SendAnswer, others, answers, words),
    st.builds(effects.Note, words, words),
)


@st.composite
def hosts(draw: st.DrawFn) -> dict[Mac, Host]:
    """What an engine might believe at this moment; it need not fit to anything."""
    found = {}
    for mac in draw(st.sets(macs)):
        host = Host(mac, 0.0, draw(sequences), draw(st.none() | peers))
        host.hinted_by = draw(st.none() | others)
        for address in draw(st.sets(addresses, max_size=2)):
            host.entries[address] = Entry(address, "wlan0", mac, 0.0, is_wanted=draw(st.booleans()))
        host.binding = dict.fromkeys(draw(st.sets(addresses, max_size=2)), 0.0)
        found[mac] = host
    return found


steps = st.lists(
    st.tuples(
        st.floats(0, 20),
        st.one_of(happenings, performances, hosts(), st.frozensets(addresses)),
    ),
    max_size=40,
)


@given(steps, st.booleans())
def test_whatever_happens_every_record_ends_and_tells_steps_after_its_beginning(
    story: list[tuple[float, object]], is_exported_told: bool
) -> None:
    now = 100.0
    believed: dict[Mac, Host] = {}
    foreign: dict[Address, str] = {ADDRESSES[0]: "another"}
    handovers = Handovers(ME, believed, foreign, PATIENCE_S, is_exported_told=is_exported_told)
    finished = []
    for after_s, step in story:
        now += after_s
        if isinstance(step, dict):
            believed.clear()
            believed.update(step)
        elif isinstance(step, frozenset):
            handovers.exported(step, now)
        elif isinstance(step, events.Event):
            handovers.event(step, now)
        else:
            assert isinstance(step, effects.Effect)
            handovers.effect(step, now)
        handovers.tick(now)
        assert handovers.next_due is None or now < handovers.next_due <= now + PATIENCE_S + 15.0
        assert (handovers.next_due is None) == (not handovers.open_count)
        finished += handovers.take_finished()
    while handovers.next_due is not None:
        now = handovers.next_due
        handovers.tick(now)
    finished += handovers.take_finished()
    assert {id(record) for record in handovers} == {id(record) for record in finished[-100:]}
    for record in finished:
        fields = fields_of(record)
        assert set(fields["steps"]) == {f"{step}_s" for step in STEPS}
        assert all(value is None or value >= 0 for value in fields["steps"].values())
        assert fields["is_complete"]
        assert fields["from"] not in (None, fields["to"])
        assert (report_of(record) is not None) == (record.side is Side.FROM)
