"""roamroute.lab.installed: which routing a name means."""

from __future__ import annotations

import pytest
from unit.lab.fake_exporters import install, spec

from roamroute.errors import ConfigError, MachineUnfit
from roamroute.lab.installed import find_routing


@pytest.fixture(autouse=True)
def exporters(monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        broken=SyntaxError("no module named xyz"),
        kernel=spec("kernel"),
        one=spec("one", "one-way"),
        two=spec("two", "two-a", "two-b"),
    )


def test_a_routing_is_found_by_its_name_with_its_exporter() -> None:
    found = find_routing("two-b")
    assert (found.name, found.exporter.name) == ("two-b", "two")


def test_an_exporter_with_one_routing_may_be_named_instead() -> None:
    assert find_routing("one").name == "one-way"


def test_an_exporter_with_several_is_no_choice() -> None:
    with pytest.raises(ConfigError, match='the exporter "two" has several: choose one of "two-a", "two-b"'):
        find_routing("two")


def test_without_a_name_it_is_the_first() -> None:
    assert find_routing("").name == "one-way"


@pytest.mark.parametrize("name", ["nonsense", "kernel"])
def test_an_unknown_name_is_answered_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ConfigError, match=f'no installed exporter offers "{name}"; known here: "one-way", "two-a", '):
        find_routing(name)


def test_a_broken_exporter_is_no_obstacle_for_the_others_and_says_why_when_it_is_asked_for() -> None:
    with pytest.raises(ConfigError, match='"broken"; the exporter cannot be loaded: no module named xyz; known here: '):
        find_routing("broken")


def test_two_exporters_with_the_same_routing_are_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, one=spec("one", "same"), two=spec("two", "same"))
    with pytest.raises(ConfigError, match='"same" is offered by the exporters "one" and "two"'):
        find_routing("same")


def test_where_no_exporter_knows_the_lab_the_machine_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, kernel=spec("kernel"), broken=ImportError("no module named xyz"))
    with pytest.raises(MachineUnfit, match="broken: no module named xyz"):
        find_routing("")
