"""roamroute.lab.modes: what a mode makes of the configuration of an access point."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roamroute.lab.modes import HANDOVERS, MODES
from roamroute.lab.roaming import Table, daemon_tables
from roamroute.lab.topology import Mesh, Router


@pytest.fixture
def tables_of(tmp_path: Path) -> Any:
    """The configuration of one of two access points, in a mode."""
    access_points = [Router(f"ap{number}", "access-point", number, cast("Any", None)) for number in (1, 2)]
    sandbox = SimpleNamespace(subdirectory=lambda label: tmp_path / label)
    mesh = cast("Mesh", SimpleNamespace(sandbox=sandbox, access_points=access_points))
    hostapd = cast("Any", SimpleNamespace(control_directory=tmp_path))

    def tables(mode: str) -> dict[str, Table]:
        return daemon_tables(
            mesh,
            access_points[0],
            hostapd,
            exporter="kernel",
            exporter_settings={},
            key_file=tmp_path / "peers.key",
            mode=MODES[mode],
        )

    return tables


def test_the_full_handover_is_what_roamroute_does_by_itself(tables_of: Any) -> None:
    tables = tables_of(HANDOVERS["full"])
    assert tables["peers"]["addresses"] == ["fd44:0:0:a::2"]
    assert "handover" not in tables


def test_claims_alone_are_peers_without_hints_and_forwarding(tables_of: Any) -> None:
    tables = tables_of(HANDOVERS["claim"])
    assert "peers" in tables
    assert tables["handover"] == {"hints": False, "forwarding": False}


def test_without_handover_there_are_no_peers_but_the_packet_source(tables_of: Any) -> None:
    tables = tables_of(HANDOVERS["off"])
    assert "peers" not in tables
    assert "packets" not in tables


def test_the_plain_idea_has_no_packet_source_either(tables_of: Any) -> None:
    tables = tables_of("plain")
    assert "peers" not in tables
    assert tables["packets"] == {"enabled": False}
