"""Greeting, the whole state, then changes: against the recordings."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roamroute_babeld.protocol import MONITOR
from roamroute_babeld.session import Session, Stage
from roamroute_babeld.tables import DORMANT, POISON
from roamroute_babeld.version import Version, parse_version, quirks_of

from roamroute.errors import DaemonRefused, MalformedInput

DATA = Path(__file__).parents[2] / "data" / "babeld"
HOST, HOST4 = ip_address("fd44:0:0:1::77"), ip_address("10.44.0.77")


@pytest.mark.parametrize("version", ["1.12.1", "1.13.1"])
def test_a_recording_is_followed_from_the_greeting_to_the_end(version: str) -> None:
    session = Session()
    data = (DATA / f"monitor-{version}.txt").read_bytes()
    seen: dict[object, list[int | None]] = {HOST: [], HOST4: []}
    stages = [session.stage]
    for line in data.splitlines(keepends=True):
        to_send, _ = session.receive(line)
        if session.stage is not stages[-1]:
            stages.append(session.stage)
        assert (to_send == MONITOR) == (stages[-1] is Stage.LOADING and line == b"ok\n")
        for host, metrics in seen.items():
            metric = session.tables.metric_of(host)  # type: ignore[arg-type]
            if not metrics or metrics[-1] != metric:
                metrics.append(metric)
    assert stages == [Stage.GREETING, Stage.LOADING, Stage.FOLLOWING]
    assert session.greeting.version == parse_version(version)
    assert seen[HOST] == seen[HOST4] == [None, 0, POISON, DORMANT, None]
    assert {metric for _, metric in session.tables.originators(HOST)} == {192}


@pytest.mark.parametrize("answer", [b"bad\n", b"no such thing\n"])
def test_a_refused_monitor_is_an_error(answer: bytes) -> None:
    session = Session()
    session.receive(b"BABEL 1.0\nversion babeld-1.13.1\nok\n")
    with pytest.raises(DaemonRefused, match="monitor"):
        session.receive(answer)


@given(st.binary())
def test_any_bytes_end_in_a_state_or_an_error(data: bytes) -> None:
    session = Session()
    try:
        session.receive(b"ok\n" + data)
    except (MalformedInput, DaemonRefused):
        return
    assert session.stage in Stage


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("babeld-1.12.1", Version(1, 12, 1)),
        ("babeld-1.13.1-1", Version(1, 13, 1)),
        ("1.14", Version(1, 14)),
        ("babeld-git", None),
        ("", None),
    ],
)
def test_versions_are_read(text: str, version: Version | None) -> None:
    assert parse_version(text) == version


def test_the_broken_versions_are_known() -> None:
    wrong = {text: quirks_of(parse_version(text)) for text in ("1.12.1", "1.12.2", "1.13", "1.13.1", "1.14", "1.15")}
    assert [text for text, quirks in wrong.items() if quirks.text] == ["1.12.1", "1.13", "1.13.1", "1.14"]
    assert [text for text, quirks in wrong.items() if quirks.coalesces] == ["1.12.1", "1.12.2"]
