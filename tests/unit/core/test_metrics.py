"""The Prometheus endpoint: what it says of handovers."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.request
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from roamroute.config import MetricsSection, parse_config
from roamroute.daemon import Daemon
from roamroute.effects import DropClaim, SendClaim
from roamroute.events import ClaimAnswered, StationConnected
from roamroute.metrics import serve_metrics
from roamroute.testing.exporters import FAKE_SPEC
from roamroute.values import Answer, Basis, Claim, Mac, Station, Verdict

ME, OTHER = IPv6Address("fd44:0:0:a::1"), IPv6Address("fd44:0:0:a::2")
MAC = Mac("02:00:5e:44:00:01")
CONFIGURATION = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64"]
exporter = "fake"
[peers]
address = "fd44:0:0:a::1"
addresses = ["fd44:0:0:a::2"]
key_file = "{key}"
[handover]
forwarding = false
"""


def daemon_with_a_handover(directory: Path) -> Daemon:
    key = directory / "key"
    key.write_text("5e" * 32)
    key.chmod(0o600)
    daemon = Daemon(parse_config(CONFIGURATION.format(key=key)), FAKE_SPEC)
    assert daemon.peering is not None
    handovers = daemon.peering.handovers
    assert handovers is not None
    now = time.monotonic()
    handovers.event(StationConnected(Station(MAC, "wlan0")), now)
    handovers.effect(SendClaim(Claim(MAC, 2, ME, Basis.ASSOCIATION), "station connected", OTHER), now)
    handovers.event(ClaimAnswered(OTHER, Answer(MAC, 2, Verdict.ACCEPTED, 2, ME)), now + 0.004)
    handovers.effect(DropClaim(MAC, "claimed by another"), now + 1.0)
    return daemon


async def scraped(daemon: Daemon) -> str:
    pytest.importorskip("prometheus_client")
    with socket.socket(socket.AF_INET6) as asker:
        asker.bind(("::1", 0))
        port = asker.getsockname()[1]
    serving = asyncio.create_task(serve_metrics(daemon, MetricsSection(port)))
    try:
        await asyncio.sleep(0)
        reply = await asyncio.to_thread(urllib.request.urlopen, f"http://[::1]:{port}/metrics", None, 10)
        with reply:
            return str(reply.read(), "ascii")
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_the_steps_of_handovers_are_a_histogram(tmp_path: Path) -> None:
    text = await scraped(daemon_with_a_handover(tmp_path))
    assert 'roamroute_handover_seconds_bucket{le="0.002",side="to",step="claimed"} 0.0' in text
    assert 'roamroute_handover_seconds_bucket{le="0.005",side="to",step="claimed"} 1.0' in text
    assert 'roamroute_handover_seconds_count{side="to",step="claimed"} 1.0' in text
    assert "roamroute_forwarding 0.0" in text


async def test_what_neighbour_discovery_does_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("5e" * 32)
    file.chmod(0o600)
    text = await scraped(Daemon(parse_config(CONFIGURATION.format(key=file) + "[ra]\n"), FAKE_SPEC))
    assert 'roamroute_dad_total{what="relayed"} 0.0' in text
    assert 'roamroute_tap_total{what="malformed"} 0.0' in text
    assert "roamroute_ra_lifetime_seconds 9000.0" in text
    assert "roamroute_neighbour_table_overflows_total 0.0" in text
