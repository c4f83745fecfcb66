"""When a daemon is asked about which address."""

from __future__ import annotations

import itertools
from ipaddress import ip_address

from roamroute.adapter.agenda import FIRST_PAUSE_S, LAST_PAUSE_S, Agenda

ADDRESSES = tuple(ip_address(f"fd44:0:0:1::{number:x}") for number in range(1, 8))
A, B, C, *_ = ADDRESSES


def test_a_new_route_is_asked_for_at_once_and_again_after_pauses_that_double() -> None:
    agenda = Agenda()
    agenda.hold(A, 100.0)
    asked = []
    while (due := agenda.next_due) is not None and due < 120:
        assert agenda.due(due) == [A]
        asked.append(due)
        agenda.answered(A, due, is_exported=False)
    pauses = [round(later - sooner, 3) for sooner, later in itertools.pairwise(asked)]
    assert asked[0] == 100.0
    assert pauses == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 8.0]
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE_S, LAST_PAUSE_S)


def test_what_is_exported_is_not_asked_for_any_more() -> None:
    agenda = Agenda()
    agenda.hold(A, 100.0)
    agenda.answered(A, 100.0, is_exported=True)
    assert agenda.next_due is None
    assert agenda.held == (A,)


def test_publishing_again_begins_with_short_pauses() -> None:
    agenda = Agenda()
    agenda.hold(A, 100.0)
    for _ in range(5):
        agenda.answered(A, 100.0, is_exported=False)
    agenda.hold(A, 101.0)
    agenda.answered(A, 101.0, is_exported=False)
    assert agenda.next_due == 101.0 + FIRST_PAUSE_S


def test_what_is_dropped_is_forgotten_also_by_a_late_answer() -> None:
    agenda = Agenda()
    agenda.hold(A, 100.0)
    agenda.drop(A)
    agenda.drop(B)
    agenda.answered(A, 100.0, is_exported=False)
    assert (agenda.held, agenda.next_due) == ((), None)


def test_after_a_restart_everything_is_asked_for() -> None:
    agenda = Agenda()
    for address in (A, B):
        agenda.hold(address, 100.0)
        agenda.answered(address, 100.0, is_exported=True)
    agenda.ask_all(200.0)
    assert agenda.due(200.0) == [A, B]


def test_everybody_has_a_turn_before_anybody_has_two() -> None:
    agenda = Agenda()
    for address in ADDRESSES:
        agenda.hold(address, 100.0)
    first, second, third = agenda.turns(3), agenda.turns(3), agenda.turns(3)
    assert [*first, *second, *third[:1]] == list(ADDRESSES)
    assert third[1:] == first[:2]
    assert agenda.turns(99) == [*first[2:], *second, *third[:1], *first[:2]]
    agenda.hold(C, 200.0)
    assert len(agenda.turns(99)) == len(ADDRESSES)
