"""What `status` says of the three views: wanted, installed, exported."""

from __future__ import annotations

from ipaddress import ip_address

import attrs
import pytest

from roamroute.config import parse_config
from roamroute.control import status_of
from roamroute.daemon import Daemon
from roamroute.export import Exporter, ExporterContext, ExportReport, FibNeeds
from roamroute.tables import print_status
from roamroute.testing.exporters import FAKE_SPEC, FakeDaemon, FakeExporter
from roamroute.values import Address, HostRoute

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
