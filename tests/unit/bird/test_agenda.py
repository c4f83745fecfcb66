"""When which address is asked for."""

from __future__ import annotations

from ipaddress import ip_address

from roamroute_bird.agenda import FIRST_PAUSE_S, LAST_PAUSE_S, Agenda

A, B, C = (ip_address(f"fd44::{letter}") for letter in "abc")


def test_what_is_new_is_due_at_once() -> None:
    agenda = Agenda()
    assert agenda.next_due is None
    agenda.hold(A, 5.0)
    assert agenda.next_due == 5.0
    assert agenda.due(4.9) == []
    assert agenda.due(5.0) == [A]


def test_what_is_exported_is_not_due_any_more() -> None:
    agenda = Agenda()
    agenda.hold(A, 0.0)
    agenda.answered(A, 1.0, is_exported=True)
    assert agenda.due(1e9) == []


def test_what_is_not_exported_is_asked_again_after_pauses_that_double_to_a_bound() -> None:
    agenda, now, pauses = Agenda(), 0.0, []
    agenda.hold(A, now)
    for _ in range(14):
        agenda.answered(A, now, is_exported=False)
        assert agenda.next_due is not None
        pauses.append(agenda.next_due - now)
        now = agenda.next_due
    assert [round(pause, 3) for pause in pauses[:4]] == [FIRST_PAUSE_S * factor for factor in (1, 2, 4, 8)]
    assert pauses[-1] == LAST_PAUSE_S


def test_holding_again_begins_anew() -> None:
    agenda = Agenda()
    agenda.hold(A, 0.0)
    for _ in range(5):
        agenda.answered(A, 0.0, is_exported=False)
    agenda.hold(A, 1.0)
    agenda.answered(A, 1.0, is_exported=False)
    assert agenda.next_due == 1.0 + FIRST_PAUSE_S


def test_what_is_dropped_is_forgotten_also_when_an_answer_comes_late() -> None:
    agenda = Agenda()
    agenda.hold(A, 0.0)
    agenda.drop(A)
    agenda.answered(A, 1.0, is_exported=False)
    assert agenda.due(1e9) == []
    assert agenda.turns(9) == []
    agenda.drop(A)


def test_everybody_has_a_turn_before_anybody_has_a_second_one() -> None:
    agenda = Agenda()
    for address in (A, B, C):
        agenda.hold(address, 0.0)
    assert agenda.turns(2) == [A, B]
    assert agenda.turns(2) == [C, A]
    agenda.drop(B)
    assert agenda.turns(9) == [C, A]


def test_all_can_be_asked_for_anew() -> None:
    agenda = Agenda()
    for address in (A, B):
        agenda.hold(address, 0.0)
        agenda.answered(address, 0.0, is_exported=True)
    agenda.ask_all(7.0)
    assert agenda.due(7.0) == [A, B]
