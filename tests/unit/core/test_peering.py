"""The shell's part of what access points do together: keys, segments, what is taken for whom."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from roamroute import events
from roamroute.config import parse_config
from roamroute.delta import Delta
from roamroute.effects import SendAnswer, SendClaim
from roamroute.engine import Engine
from roamroute.errors import ConfigError
from roamroute.export import FibChange
from roamroute.hosts import Host
from roamroute.linux.forwarding import Forwarding
from roamroute.peering import Peering
from roamroute.segments import segments_of
from roamroute.values import Address, Answer, Basis, Claim, HostRoute, Mac, Verdict

ME, OTHER, NEW = (ip_address(f"fd44:0:0:a::{last}") for last in (1, 2, 3))
FIRST, SECOND = "5e" * 32, "a7" * 32

CONFIGURATION = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64"]
[peers]
address = "fd44:0:0:a::1"
discover = "fd44:0:0:a::/64"
key_file = "{key}"
[handover]
forwarding = false
"""


class Kept:
    """A peering that never runs, and what it told."""

    def __init__(self, directory: Path) -> None:
        self.key = directory / "key"
        self.write_key(FIRST)
        config = parse_config(CONFIGURATION.format(key=self.key))
        assert config.peers is not None
        self.peer_sets: list[frozenset[Any]] = []
        self.keys: list[tuple[bytes, ...]] = []
        self.finished: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.peering = Peering(
            config, config.peers, lambda _event: None, self._changed, lambda: None, self.finished.put_nowait
        )
        self.peering.channel.set_keys = lambda keys: self.keys.append(tuple(keys))  # type: ignore[method-assign]
        self.peering.channel.set_peers = lambda peers: None  # type: ignore[method-assign]

    def write_key(self, text: str) -> None:
        self.key.unlink(missing_ok=True)
        self.key.write_text(text)
        self.key.chmod(0o600)

    def _changed(self) -> None:
        self.peer_sets.append(self.peering.peers)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_keys_are_read_again(kept: Kept) -> None:
    kept.write_key(f"{SECOND}\n{FIRST}\n")
    kept.peering.reread_keys()
    assert kept.keys == [(bytes.fromhex(SECOND), bytes.fromhex(FIRST))]


def test_keys_that_cannot_be_used_leave_the_old_ones(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.write_key("not a key")
    with caplog.at_level(logging.ERROR):
        kept.peering.reread_keys()
    assert kept.keys == []
    assert "the old keys are kept" in caplog.text


def test_a_key_file_is_looked_at_again_only_when_it_has_changed(kept: Kept) -> None:
    assert not kept.peering.look_at_keys()
    kept.write_key("not a key")
    assert kept.peering.look_at_keys()
    assert not kept.peering.look_at_keys()  # it was told once
    kept.key.unlink()
    assert kept.peering.look_at_keys()
    kept.write_key(SECOND)
    assert kept.peering.look_at_keys()
    assert kept.keys == [(bytes.fromhex(SECOND),)]


def test_a_start_with_a_bad_key_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    config = parse_config(CONFIGURATION.format(key=tmp_path / "absent"))
    assert config.peers is not None
    with pytest.raises(ConfigError, match="absent"):
        Peering(config, config.peers, lambda _event: None, lambda: None, lambda: None, lambda _: None)


def test_what_discovery_finds_are_peers(kept: Kept) -> None:
    kept.peering.peers_discovered(FibChange(foreign={OTHER: "babel", NEW: "babel", ME: "babel"}))
    kept.peering.peers_discovered(FibChange(lost=frozenset({NEW})))
    assert kept.peer_sets == [{OTHER, NEW}, {OTHER}]
    assert kept.peering.addresses == {ME, OTHER}


def test_a_route_to_a_peer_s_segment_is_no_host_s(kept: Kept) -> None:
    segment = segments_of(OTHER, (ip_network("fd44:0:0:1::/64"),)).ipv6
    assert segment is not None
    assert kept.peering.is_segment(events.ForeignRouteSeen(segment, "babel"))
    assert kept.peering.routed_segments == {segment}
    assert kept.peering.is_segment(events.ForeignRouteLost(segment))
    assert not kept.peering.routed_segments
    assert not kept.peering.is_segment(events.ForeignRouteSeen(ip_address("fd44:0:0:1::a"), "babel"))


def test_a_peer_has_the_segments_that_it_has_named(kept: Kept) -> None:
    assert kept.peering.segments_of(OTHER) == ()  # perhaps it has no client links
    segments = segments_of(OTHER, (ip_network("fd44:0:0:1::/64"),))
    claim = Claim(Mac("02:00:5e:44:00:01"), 1, OTHER, Basis.ASSOCIATION, segments=segments)
    kept.peering.before(events.HostClaimed(claim), 1.0)
    assert kept.peering.segments_of(OTHER) == (segments.ipv6,)
    kept.peering.before(events.PeerJoined(OTHER), 2.0)  # restarted, perhaps with another configuration
    assert kept.peering.segments_of(OTHER) == ()


def test_without_forwarding_nobody_is_told_of_segments(kept: Kept) -> None:
    assert kept.peering.why_not == "switched off by [handover] forwarding = false"
    assert kept.peering.routes == ()
    handover = kept.peering.handover
    assert (handover.is_sharing_hints, handover.is_forwarding, bool(handover.segments)) == (True, False, False)


class Taking:
    """Instead of the kernel's part: notes for whom packets are taken."""

    why_not = None

    def __init__(self) -> None:
        self.routes: dict[Address, HostRoute] = {}

    def deliver(self, delta: Delta) -> None:
        for route in delta.withdrawn:
            if self.routes.get(route.address) == route:
                del self.routes[route.address]
        self.routes.update({route.address: route for route in delta.announced})

    def deliver_all(self, routes: list[HostRoute]) -> None:
        self.routes = {route.address: route for route in routes}


@attrs.define
class Wanting:
    """Instead of an engine."""

    hosts: dict[Mac, Host]
    foreign: dict[Address, str] = attrs.field(factory=dict)


def test_packets_are_taken_for_hosts_that_are_here_and_not_for_those_whose_route_lingers(kept: Kept) -> None:
    address = ip_address("fd44:0:0:1::a")
    here, gone = HostRoute(address, "wlan0"), HostRoute(address, "wlan0", is_lingering=True)
    taking = Taking()
    kept.peering.forwarding = cast(Forwarding, taking)
    kept.peering.deliver(Delta(announced=(here,)))
    assert taking.routes == {address: here}
    kept.peering.deliver(Delta(announced=(gone,)))
    assert taking.routes == {}
    kept.peering.deliver_all([gone])
    assert taking.routes == {}
    kept.peering.deliver(Delta(announced=(here,)))
    assert taking.routes == {address: here}


async def test_a_record_that_ends_earlier_than_another_is_not_kept_waiting(kept: Kept) -> None:
    mac, other = Mac("02:00:5e:44:00:01"), Mac("02:00:5e:44:00:02")
    host = Host(other, 0.0, sequence=1, holder=ME)
    kept.peering.follow(cast(Engine, Wanting({other: host})), is_exported_told=False)
    now = time.monotonic()
    claim = SendClaim(Claim(mac, 2, ME, Basis.ASSOCIATION), "station connected", OTHER)
    kept.peering.after([claim], now, now)  # for more than a minute
    taking = Claim(other, 2, OTHER, Basis.ASSOCIATION)
    kept.peering.before(events.HostClaimed(taking), now - 1.9)
    host.holder = OTHER
    answer = SendAnswer(OTHER, Answer(other, 2, Verdict.ACCEPTED, 2, OTHER), "claimed")
    kept.peering.after([answer], now - 1.9, now - 1.9)  # nothing was here: over after two seconds
    async with asyncio.timeout(10):
        record = await kept.finished.get()
    assert record["mac"] == other
    await kept.peering.close()
