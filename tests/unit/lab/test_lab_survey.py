"""roamroute.lab.survey: one table over several routings, and what becomes of one that fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from rich.console import Console
from unit.lab.fake_exporters import NoDaemon, install, spec
from unit.lab.test_lab_parts import DOWNLOAD, NEVER, NONE_LOST, roam

from roamroute.errors import MachineUnfit
from roamroute.lab import survey as module
from roamroute.lab.options import LabOptions
from roamroute.lab.report import Report
from roamroute.lab.roams import Roam, Walk
from roamroute.lab.survey import Row, Survey, survey
from roamroute.lab.waiting import NotReached

ONE = LabOptions(routing="one", routing_options={"command": "/opt/one", "cost": "7"})
TWO = LabOptions(routing="two")

Run = Callable[[LabOptions, Callable[[str], None]], Report]


def talking(number: int) -> Roam:
    return attrs.evolve(roam(number), behaviour="talking", uplink=attrs.evolve(NONE_LOST, gap_s=0.012))


def report(options: LabOptions, *roams: Roam, is_complete: bool = True) -> Report:
    walks = [Walk("roamroute", "silent", 1, 0.4), Walk("roamroute", "talking", 2, 0.4, DOWNLOAD)]
    return Report(options, {"roamroute": "0.1"}, 3.0, walks, roams, is_complete)


def well(options: LabOptions, progress: Callable[[str], None]) -> Report:
    return report(options, roam(1), roam(2), talking(1))


def surveyed(monkeypatch: pytest.MonkeyPatch, run: Run, *runs: LabOptions) -> Survey:
    install(monkeypatch, one=spec("one", "one"), two=spec("two", "two"))
    monkeypatch.setattr(module, "run", run)
    return survey(runs or (ONE, TWO), lambda line: None)


def printed(found: Survey) -> str:
    console = Console(record=True, width=160)
    found.print(console)
    return console.export_text()


def row_of(text: str, *words: str) -> list[str]:
    line = next(line for line in text.splitlines() if all(word in line for word in words))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_every_routing_has_a_line_for_each_kind_of_client(monkeypatch: pytest.MonkeyPatch) -> None:
    found = surveyed(monkeypatch, well)
    assert found.is_well()
    text = printed(found)
    gaps = ["100 ms", "100 ms", "100 ms"]
    assert row_of(text, "one", "silent") == [
        "one,cost=7",
        "nothing 1.0",
        "silent",
        "2",
        *gaps,
        "-",
        "-",
        "10.0",
        "-",
        "0",
    ]
    talks = ["", "", "talking", "1", *gaps, "12 ms", "12 ms", "10.0", "250 ms", "0"]
    assert [row_of(line, "talking") for line in text.splitlines() if "talking" in line] == [talks, talks]


def test_modes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    both = attrs.evolve(ONE, modes=("roamroute", "hand"))

    def run(options: LabOptions, progress: Callable[[str], None]) -> Report:
        return report(options, roam(1), attrs.evolve(roam(1), mode="hand"))

    text = printed(surveyed(monkeypatch, run, both))
    assert row_of(text, "silent, roamroute")[3] == "1"
    assert row_of(text, "silent, hand")[3] == "1"


def test_a_routing_that_fails_is_said_and_the_next_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(options: LabOptions, progress: Callable[[str], None]) -> Report:
        if options.routing == "one":
            raise NotReached("waited 60.0 s in vain until every router has a route to every other")
        return well(options, progress)

    found = surveyed(monkeypatch, run)
    assert [row.is_well() for row in found.rows] == [False, True]
    assert found.is_complete
    assert not found.is_well()
    text = printed(found)
    assert row_of(text, "one", "not measured")[:2] == ["one,cost=7", "nothing 1.0"]
    assert "one,cost=7: waited 60.0 s in vain until every router has a route to every other" in text


def test_a_daemon_that_is_not_installed_is_said_and_the_next_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(NoDaemon):
        def version(self, options: object) -> str:
            raise MachineUnfit("two is not installed: apt-get install two")

    install(monkeypatch, one=spec("one", "one"), two=attrs.evolve(spec("two"), lab={"two": Missing()}))
    monkeypatch.setattr(module, "run", well)
    found = survey([TWO, ONE], lambda line: None)
    assert [row.is_well() for row in found.rows] == [False, True]
    assert "two: two is not installed: apt-get install two" in printed(found)


def test_an_exporter_that_cannot_be_loaded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, one=spec("one", "one"), two=ImportError("no module named xyz"))
    monkeypatch.setattr(module, "run", well)
    assert "two: --routing: no installed exporter offers" in printed(survey([TWO, ONE], lambda line: None))


def test_roams_that_did_not_come_back_are_counted_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = surveyed(monkeypatch, lambda options, progress: report(options, roam(1), roam(2, downlink=NEVER)), TWO)
    text = printed(found)
    assert row_of(text, "two", "silent")[-1] == "1"
    assert "two: roamroute, silent, roam 2, ap1 to ap2: not back" in text
    assert not found.is_well()


def test_a_broken_download_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = attrs.evolve(DOWNLOAD, is_verified=False, error="connection reset")

    def run(options: LabOptions, progress: Callable[[str], None]) -> Report:
        return attrs.evolve(report(options, talking(1)), walks=[Walk("roamroute", "talking", 1, 0.4, broken)])

    text = printed(surveyed(monkeypatch, run, TWO))
    assert row_of(text, "two", "talking")[-1] == "1"
    assert "two: roamroute, talking, walk 1: TCP download: connection reset" in text


@pytest.mark.parametrize("has_begun", [True, False])
def test_an_interrupted_survey_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch, has_begun: bool) -> None:
    def run(options: LabOptions, progress: Callable[[str], None]) -> Report:
        if options.routing == "one":
            return well(options, progress)
        if not has_begun:
            raise KeyboardInterrupt
        return report(options, roam(1), is_complete=False)

    found = surveyed(monkeypatch, run, ONE, TWO, attrs.evolve(TWO, seed=2))
    assert [row.options.routing for row in found.rows] == ["one", "two"]
    assert not found.is_complete
    assert not found.is_well()
    assert "interrupted" in printed(found)


def test_every_run_keeps_its_logs_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [attrs.evolve(options, log_directory=Path("logs")) for options in (ONE, TWO, attrs.evolve(TWO, seed=2))]
    found = surveyed(monkeypatch, well, *runs)
    assert [str(row.options.log_directory) for row in found.rows] == ["logs/1-one", "logs/2-two", "logs/3-two"]


def test_the_json_holds_every_report_and_every_reason(tmp_path: Path) -> None:
    rows = [
        Row(ONE, "nothing 1.0", report(ONE, roam(1), roam(2, downlink=NEVER))),
        Row(TWO, "", None, "two is not installed"),
    ]
    Survey(rows).write_json(tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["schema"], found["is_complete"]) == (1, True)
    first, second = found["routings"]
    assert (first["routing"], first["options"], first["daemon"]) == ("one", dict(ONE.routing_options), "nothing 1.0")
    assert (first["error"], first["is_well"]) == (None, False)
    assert len(first["report"]["roams"]) == 2
    assert second == {
        "routing": "two",
        "options": {},
        "daemon": None,
        "error": "two is not installed",
        "is_well": False,
        "report": None,
    }
