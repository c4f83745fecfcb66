"""What `check` says of duplicate address detection."""

from __future__ import annotations

from typing import Any

import pytest

from roamroute.check_dad import check_dad

QUIET = {"heard_messages": 9, "malformed_frames": 0, "dropped_frames": 0, "muted_stations": 0}


def peer(*capabilities: str, is_up: bool = True) -> dict[str, Any]:
    return {"peer": "fd44:0:0:a::2", "is_up": is_up, "capabilities": list(capabilities)}


@pytest.mark.parametrize(
    ("peers", "tap", "level", "text"),
    [
        (None, QUIET, "ok", "looked for at 0 peers and here"),
        ([peer("dad", "hints")], QUIET, "ok", "looked for at 1 peers and here"),
        ([peer("hints", "router")], QUIET, "ok", "looked for at 0 peers and here"),
        ([peer("hints")], QUIET, "warning", "no DAD proxy runs at fd44:0:0:a::2"),
        ([peer(is_up=False)], QUIET, "ok", "looked for at 0 peers and here"),
        (None, {**QUIET, "dropped_frames": 7}, "warning", "7 frames were not read"),
        (None, {**QUIET, "muted_stations": 2}, "warning", "2 times a station was not listened to"),
    ],
)
def test_what_is_found(peers: list[dict[str, Any]] | None, tap: dict[str, int], level: str, text: str) -> None:
    status = {"dad": {}, "tap": tap, "peers": None if peers is None else {"peers": peers}}
    assert any(finding.level == level and text in finding.text for finding in check_dad(status))


def test_where_the_proxy_is_off_nothing_is_said() -> None:
    assert not list(check_dad({"dad": None, "tap": None, "peers": None}))
