"""What BIRD says of itself and its protocols, from recorded replies."""

from __future__ import annotations

import pytest
from bird_transcripts import VERSIONS, said
from roamroute_bird.answers import Channel, Protocol, protocols_of, status_of
from roamroute_bird.protocol import Reply, ReplyReader

from roamroute.errors import MalformedInput

every_version = pytest.mark.parametrize("version", VERSIONS)


def reply(data: bytes) -> Reply:
    (one,) = ReplyReader().feed(data)
    return one


def protocols(version: str, command: str = "show protocols all") -> dict[str, Protocol]:
    return {protocol.name: protocol for protocol in protocols_of(reply(said("socket", version, command)))}


@every_version
def test_the_status_has_what_tells_a_restart_and_a_reconfiguration(version: str) -> None:
    status = status_of(reply(said("socket", version, "show status")))
    assert status.program.startswith(f"BIRD {version}")
    assert status.router_id == "10.0.0.1"
    assert status.booted.startswith("2026-11-22 08:28:0")
    assert status.configured == status.booted
    assert status.state == "Daemon is up and running"


@every_version
def test_a_reconfiguration_changes_its_time_and_not_that_of_the_start(version: str) -> None:
    before, after = (status_of(reply(said("socket", version, "show status", nth=nth))) for nth in (0, 1))
    assert before.booted == after.booted
    assert before.configured != after.configured


@every_version
def test_all_protocols_with_their_channels(version: str) -> None:
    found = protocols(version)
    assert set(found) == {"device1", "direct1", "kernel6", "kernel4", "babel1", "ospf6", "rr1"}
    assert {name for name, protocol in found.items() if protocol.is_routing} == {"babel1", "ospf6", "rr1"}
    assert all(protocol.is_up for protocol in found.values())
    assert found["rr1"].info.endswith("Established")
    assert found["rr1"].channels == (Channel("ipv6", "UP", "master6", 100, "ACCEPT", "hosts"),)
    assert [channel.family for channel in found["babel1"].channels] == ["ipv4", "ipv6"]
    assert [channel.export_filter for channel in found["babel1"].channels] == ["hosts4", "hosts"]
    assert found["kernel6"].channels[0].preference == 10


@every_version
def test_a_protocol_carries_the_families_of_its_channels(version: str) -> None:
    found = protocols(version)
    assert found["babel1"].carries(4)
    assert found["babel1"].carries(6)
    assert found["ospf6"].carries(6)
    assert not found["ospf6"].carries(4)
    assert not found["device1"].carries(6)


@every_version
def test_the_short_list_has_the_same_protocols(version: str) -> None:
    assert set(protocols(version, "show protocols")) == set(protocols(version))


@every_version
def test_a_protocol_that_was_disabled_is_not_up(version: str) -> None:
    assert not protocols(version, "show protocols rr1")["rr1"].is_up


@every_version
def test_no_protocol_at_all(version: str) -> None:
    assert protocols(version, 'show protocols "roamroute*"') == {}


def test_a_status_without_a_version_is_malformed() -> None:
    with pytest.raises(MalformedInput):
        status_of(reply(b"0013 Daemon is up and running\n"))


def test_a_protocol_without_a_state_is_malformed() -> None:
    with pytest.raises(MalformedInput):
        protocols_of(reply(b"1002-babel1 Babel ---\n0000 \n"))
