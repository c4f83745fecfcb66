"""What `status` says of the three views: wanted, installed, exported."""

from __future__ import annotations

import json
import time
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import attrs
import pytest

from roamroute.config import parse_config
from roamroute.control import status_of
from roamroute.daemon import Daemon
from roamroute.effects import SendClaim
from roamroute.export import Exporter, ExporterContext, ExportReport, FibNeeds
from roamroute.tables import print_status
from roamroute.testing.exporters import FAKE_SPEC, FakeDaemon, FakeExporter
from roamroute.values import Address, Basis, Claim, HostRoute, Mac

A, B = (ip_address(f"fd44:0:0:1::{last}") for last in "ab")

CONFIGURATION = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64"]
exporter = "fake"
"""


def daemon_with(installed: frozenset[Address] | None, *, installs: bool) -> Daemon:
    """A daemon that was never run, with an exporter that reports this."""

    class Reporting(FakeExporter):
        def report(self) -> ExportReport:
            return ExportReport(is_connected=True, daemon="fake 1.0", exported=frozenset({A}), installed=installed)

    def create(_settings: object, context: ExporterContext) -> Exporter:
        return Reporting(context, FakeDaemon(routes={A: HostRoute(A, "wlan0")}), FibNeeds(installs=installs))

    return Daemon(parse_config(CONFIGURATION), attrs.evolve(FAKE_SPEC, create=create))


@pytest.mark.parametrize(
    ("installed", "installs", "count"),
    [(None, True, 0), (frozenset({A, B}), False, 2), (None, False, None)],
    ids=["the kernel exporter installs", "the routing daemon installs", "nobody can tell"],
)
def test_installed_is_what_whoever_installs_says(
    installed: frozenset[Address] | None, installs: bool, count: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    status = status_of(daemon_with(installed, installs=installs))
    assert status["routes"]["installed"] == count
    print_status(status)
    assert f"installed {'unknown' if count is None else count}, exported" in capsys.readouterr().out


PEERS = """
[peers]
address = "fd44:0:0:a::1"
addresses = ["fd44:0:0:a::2"]
key_file = "{key}"
"""


def test_the_peers_and_the_handover_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_text("5e" * 32)
    key.chmod(0o600)
    configuration = CONFIGURATION + PEERS.format(key=key) + "[handover]\nforwarding = false\n"
    daemon = Daemon(parse_config(configuration), FAKE_SPEC)
    assert daemon.peering is not None
    assert daemon.peering.handovers is not None
    me, mac = IPv6Address("fd44:0:0:a::1"), Mac("02:00:5e:44:00:01")
    claim = SendClaim(Claim(mac, 2, me, Basis.ASSOCIATION), "station connected", IPv6Address("fd44:0:0:a::2"))
    daemon.peering.handovers.effect(claim, time.monotonic())
    status = status_of(daemon)
    assert status["handover"]["why_not"] == "switched off by [handover] forwarding = false"
    assert [(record["from"], record["to"], record["side"]) for record in status["handovers"]] == [
        ("fd44:0:0:a::2", "fd44:0:0:a::1", "to")
    ]
    assert json.loads(json.dumps(status)) == status
    print_status(status)
    shown = capsys.readouterr().out
    assert "forwarding: NO, switched off by [handover] forwarding = false" in shown
    assert "02:00:5e:44:00:01" in shown
