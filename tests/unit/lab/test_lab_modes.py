"""roamroute.lab.modes: what a mode makes of the configuration of an access point."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roamroute.lab import addresses
from roamroute.lab.modes import HANDOVERS, MODES
from roamroute.lab.roaming import Table, daemon_tables, router_tables
from roamroute.lab.topology import Mesh, Router


@pytest.fixture
def tables_of(tmp_path: Path) -> Any:
    """The configuration of one of two access points, in a mode."""
    access_points = [Router(f"ap{number}", "access-point", number, cast("Any", None)) for number in (1, 2)]
    sandbox = SimpleNamespace(subdirectory=lambda label: tmp_path / label)
    mesh = cast("Mesh", SimpleNamespace(sandbox=sandbox, access_points=access_points))
    hostapd = cast("Any", SimpleNamespace(control_directory=tmp_path))

    def tables(mode: str, *more_peers: Router) -> dict[str, Table]:
        return daemon_tables(
            mesh,
            access_points[0],
            hostapd,
            exporter="kernel",
            exporter_settings={},
            key_file=tmp_path / "peers.key",
            mode=MODES[mode],
            more_peers=more_peers,
        )

    tables.mesh = mesh  # type: ignore[attr-defined]
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


def test_a_gateway_that_is_a_peer_has_no_clients_and_the_access_points_know_it(tables_of: Any, tmp_path: Path) -> None:
    gateway = Router("gw", "gateway", addresses.GATEWAY_NUMBER, cast("Any", None))
    assert tables_of("roamroute", gateway)["peers"]["addresses"] == ["fd44:0:0:a::2", "fd44:0:0:a::200"]
    tables = router_tables(tables_of.mesh, gateway, tmp_path / "peers.key", MODES["roamroute"])
    assert tables["roaming"]["interfaces"] == []
    assert tables["peers"]["addresses"] == ["fd44:0:0:a::1", "fd44:0:0:a::2"]
    assert tables["peers"]["address"] == "fd44:0:0:a::200"
