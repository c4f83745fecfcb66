"""roamroute.lab.cli: from the command line to options."""

from __future__ import annotations

import argparse

import pytest
from unit.lab.fake_exporters import install, spec

from roamroute.errors import ConfigError
from roamroute.lab.cli import add_arguments, runs_from
from roamroute.lab.dumb import Stations
from roamroute.lab.options import LabOptions


def runs(*words: str) -> list[LabOptions]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return runs_from(parser.parse_args(words))


def options(*words: str) -> LabOptions:
    (only,) = runs(*words)
    return only


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


def test_every_routing_is_a_run_with_options_of_its_own_and_those_for_all() -> None:
    found = runs("--routing", "a", "--routing", "b,command=/opt/b -x,cost=7", "--routing-option", "mode=inject")
    assert [(run.routing, run.routing_options) for run in found] == [
        ("a", {"mode": "inject"}),
        ("b", {"mode": "inject", "command": "/opt/b -x", "cost": "7"}),
    ]


def test_an_option_of_one_routing_overrides_that_for_all() -> None:
    assert options("--routing", "a,cost=7", "--routing-option", "cost=1").routing_options == {"cost": "7"}


def test_the_same_run_is_done_once() -> None:
    assert len(runs("--routing", "a", "--routing", "b", "--routing", "a")) == 2


def test_all_takes_every_installed_routing_and_those_that_are_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, one=spec("one", "one"), two=spec("two", "two-a", "two-b"), broken=ImportError("no module"))
    found = runs("--all", "--routing", "one", "--routing", "two-a,command=x")
    assert [(run.routing, run.routing_options) for run in found] == [
        ("one", {}),
        ("two-a", {}),
        ("two-b", {}),
        ("broken", {}),
        ("two-a", {"command": "x"}),
    ]


@pytest.mark.parametrize("words", [("--all",), ("--routing", "a", "--routing", "b")])
def test_a_daemon_belongs_to_one_routing(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    install(monkeypatch, two=spec("two", "two-a", "two-b"))
    with pytest.raises(ConfigError, match="--routing NAME,command=COMMAND"):
        runs(*words, "--daemon", "/opt/daemon")


@pytest.mark.parametrize(
    "words", [("--aps", "1"), ("--roams", "0"), ("--mode", "magic"), ("--client-mtu", "9000"), ("--delay", "-1")]
)
def test_impossible_numbers_and_modes_are_refused(words: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        options(*words)
    assert refusal.value.code == 2


def test_handovers_stand_where_mode_roamroute_would_in_their_order() -> None:
    asked = options("--compare", "hand", "--handover", "full", "--handover", "claim", "--handover", "off")
    assert asked.modes == ("roamroute", "roamroute-claim", "roamroute-off", "hand")


def test_a_full_handover_is_mode_roamroute() -> None:
    assert options("--handover", "full") == LabOptions()


def test_a_handover_without_mode_roamroute_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="--handover: belongs to mode roamroute, which --mode hand leaves out"):
        options("--mode", "hand", "--handover", "claim")


@pytest.mark.parametrize("percent", ["-1", "100"])
def test_a_loss_is_a_part(percent: str) -> None:
    with pytest.raises(SystemExit):
        options("--peer-loss", percent)


def test_every_second_access_point_is_dumb_in_a_mixed_mesh() -> None:
    assert [Stations.MIXED.is_dumb(number) for number in (1, 2, 3, 4)] == [False, True, False, True]
    assert all(Stations.NONE.is_dumb(number) for number in (1, 2, 3))
    assert not any(Stations.HOSTAPD.is_dumb(number) for number in (1, 2, 3))


def test_stations_and_update_frames_are_chosen_by_option() -> None:
    assert options().stations is Stations.HOSTAPD
    asked = options("--stations", "mixed", "--no-update-frames", "--trust-update-frames")
    assert (asked.stations, asked.has_update_frames, asked.are_update_frames_trusted) == (Stations.MIXED, False, True)
