"""roamroute.lab.anatomy: from what the access points remember to the anatomy of a roam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from roamroute.lab.anatomy import Anatomy, find_anatomy, read_records, summed_up

MAC = "02:00:00:01:00:01"
NAMES = {"fd44:0:0:a::1": "ap1", "fd44:0:0:a::2": "ap2"}
ANATOMY = Anatomy(
    former="ap1",
    is_hinted=True,
    known_by="hint",
    outcome="converged",
    steps={"connected": 0.0, "announced": 0.0006, "claimed": 0.0019, "converged": 0.118},
)


def record(time: float, **fields: Any) -> dict[str, Any]:
    steps = {"connected_s": 0.0, "announced_s": 0.0006, "claimed_s": 0.0019, "forwarded_s": None, "converged_s": 0.118}
    known = {
        "mac": MAC,
        "side": "to",
        "time": time,
        "from": "fd44:0:0:a::1",
        "to": "fd44:0:0:a::2",
        "is_hinted": True,
        "known_by": "hint",
        "outcome": "converged",
        "steps": steps,
    }
    return {**known, **fields}


def found(*records: dict[str, Any], connected_at: float = 100.0) -> Anatomy | None:
    return find_anatomy({"ap2": records}, "ap2", MAC, connected_at, NAMES)


def test_a_record_becomes_the_anatomy_of_the_roam_that_it_began_with() -> None:
    assert found(record(98.0, is_hinted=False), record(100.001), record(102.0, is_hinted=False)) == ANATOMY


@pytest.mark.parametrize(
    "fields",
    [{"side": "from"}, {"mac": "02:00:00:01:00:02"}, {"time": 98.0}],
    ids=["the other side", "another client", "another roam"],
)
def test_what_is_not_of_this_roam_is_left_alone(fields: dict[str, Any]) -> None:
    assert found({**record(100.0), **fields}) is None


def test_an_access_point_that_says_nothing_is_none_that_knows_nothing() -> None:
    assert find_anatomy({}, "ap2", MAC, 100.0, NAMES) is None


def test_a_daemon_that_does_not_answer_has_no_records(tmp_path: Path) -> None:
    assert read_records({"ap1": tmp_path / "nobody"}) == {"ap1": ()}


def test_the_line_has_milliseconds_in_the_order_of_the_steps() -> None:
    assert ANATOMY.text() == "hinted, from ap1: connected 0, announced +0.6, claimed +1.9, converged +118 ms"


def test_where_nobody_hinted_the_line_says_how_the_addresses_were_known() -> None:
    told = attrs.evolve(ANATOMY, is_hinted=False, known_by="memory", former=None, steps={"connected": 0.0})
    assert told.text() == "known by memory, from nobody known: connected 0 ms"


def test_a_step_is_summed_up_over_the_handovers_in_which_it_has_happened() -> None:
    other = attrs.evolve(ANATOMY, steps={"announced": 0.0010})
    steps = {one.step: one for one in summed_up("roamroute", "silent", [ANATOMY, other])}
    assert list(steps) == ["connected", "announced", "claimed", "converged"]
    assert steps["announced"].roams == 2
    assert steps["announced"].median_s == pytest.approx(0.0008)
    assert steps["converged"].roams == 1
