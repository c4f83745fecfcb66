"""roamroute.lab.cli: from the command line to options."""

from __future__ import annotations

import argparse

import pytest

from roamroute.errors import ConfigError
from roamroute.lab.cli import add_arguments, options_from
from roamroute.lab.options import LabOptions


def options(*words: str) -> LabOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options_from(parser.parse_args(words))


def test_without_options_the_defaults_are_those_of_lab_options() -> None:
    assert options() == LabOptions()


def test_the_first_mode_is_the_one_asked_for_and_comparisons_follow_once() -> None:
    asked = options("--mode", "hand", "--compare", "plain", "--compare", "hand")
    assert asked.modes == ("hand", "plain")


def test_comparisons_may_have_fewer_roams() -> None:
    asked = options("--roams", "50", "--compare", "plain", "--compare-roams", "3")
    assert (asked.roams_in("roamroute"), asked.roams_in("plain")) == (50, 3)


def test_talk_leaves_out_the_silent_client() -> None:
    assert options("--talk").behaviours == ("talking",)


def test_the_routing_daemons_options_are_passed_as_text() -> None:
    asked = options("--daemon", "/opt/daemon -x", "--hello-interval", "0.2", "--routing-option", "cost=7")
    assert asked.routing_options == {"command": "/opt/daemon -x", "hello-interval": "0.2", "cost": "7"}


def test_a_routing_option_without_a_value_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        options("--routing-option", "cost")


@pytest.mark.parametrize("words", [("--aps", "1"), ("--roams", "0"), ("--mode", "magic")])
def test_impossible_numbers_and_modes_are_refused(words: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        options(*words)
    assert refusal.value.code == 2
