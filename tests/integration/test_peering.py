"""The daemon with its peers: segments that come and go, keys that change under it, what `check` and `watch` say."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from roamroute.lab.radio import Client
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

from .still_mesh import StillMesh, make_still_mesh
from .world import LIMIT_S, MARKS

pytestmark = MARKS


@pytest.fixture(scope="module")
def still() -> Iterator[StillMesh]:
    with make_still_mesh() as new:
        yield new


@pytest.fixture
def first(still: StillMesh) -> Router:
    still.repair()
    return still.access_points[0]


def segments_announced(still: StillMesh, router: Router) -> list[bool]:
    segments = still.segments(router)
    return [still.is_announced(router, segment) for segment in (segments.ipv6, segments.ipv4)]


def wait_segments(still: StillMesh, router: Router, *, are_announced: bool) -> None:
    wait_until(
        lambda: segments_announced(still, router) == 2 * [are_announced],
        f"the segments of {router.name} are {'' if are_announced else 'not '}announced",
        LIMIT_S,
    )


def findings(still: StillMesh, router: Router) -> dict[str, str]:
    """What `check` says of the handover and the peers: text to level."""
    done = still.command(router, "check", "--json")
    told = json.loads(done.stdout)["findings"]
    return {each["text"]: each["level"] for each in told if each["subject"] in ("handover", "peers")}


def test_segments_are_routed_like_hosts_and_counted_as_none(still: StillMesh, first: Router) -> None:
    wait_segments(still, first, are_announced=True)
    routes = still.status(first)["routes"]
    assert (routes["wanted"], routes["installed"]) == (0, 0)


def test_a_drain_withdraws_the_segments_too(still: StillMesh, first: Router) -> None:
    assert still.command(first, "drain").returncode == 0
    wait_segments(still, first, are_announced=False)
    assert still.command(first, "drain", "--resume").returncode == 0
    wait_segments(still, first, are_announced=True)


def test_when_another_program_takes_the_tunnel_source_nobody_is_told_to_send_to_us(
    still: StillMesh, first: Router
) -> None:
    wait_segments(still, first, are_announced=True)
    first.namespace.run("ip", "sr", "tunsrc", "set", "fd44::77")
    try:
        wait_segments(still, first, are_announced=False)
        assert "fd44::77" in still.status(first)["handover"]["why_not"]
        assert any("fd44::77" in text for text, level in findings(still, first).items() if level == "warning")
    finally:
        first.namespace.run("ip", "sr", "tunsrc", "set", "::")
    wait_segments(still, first, are_announced=True)
    assert still.status(first)["handover"]["why_not"] is None


def test_a_bad_key_file_leaves_the_old_keys(still: StillMesh, first: Router) -> None:
    good = still.key_file.read_text()
    still.key_file.write_text("no key\n")
    try:
        wait_until(lambda: "the old keys are kept" in still.log(first), "the mistake is told", LIMIT_S)
    finally:
        still.key_file.write_text(good)
    wait_until(lambda: "keys were read again: 1" in still.log(first), "the key is read again", LIMIT_S)
    still.wait_peers(first)
    assert still.log(first).count("the old keys are kept") == 1
    assert all(peer["has_own_key"] for peer in still.status(first)["peers"]["peers"])


def test_check_finds_that_packets_can_be_sent_on(still: StillMesh, first: Router) -> None:
    told = findings(still, first)
    assert told["the kernel can do segment routing (SRv6)"] == "ok"
    assert told["all 2 answer"] == "ok"
    assert "error" not in told.values()


def test_watch_prints_a_line_for_each_handover(still: StillMesh, first: Router) -> None:
    _, second, third = still.access_points
    log = second.namespace.sandbox.directory / "watch.log"
    configuration = str(still.daemons[second.name].configuration)
    watching = second.namespace.start(sys.executable, "-m", "roamroute", "watch", "-c", configuration, log=log)
    try:
        with still.client_at(first) as client:
            still.wait_hinted(second, client)
            wait_until(lambda: "<- host-hinted" in log.read_text(), "watch is there", LIMIT_S)
            client.roam(second)
            wait_until(lambda: is_known_at(still, second, client), "the client is at the second", LIMIT_S)
            client.roam(third)  # which ends the record
            wanted = f"== handover mac={client.mac} "
            wait_until(lambda: wanted in log.read_text(), "the handover is told", LIMIT_S)
    finally:
        second.namespace.sandbox.stop(watching)
    (line,) = [each for each in log.read_text().splitlines() if wanted in each and "side=to" in each]
    assert f"from={first.address} to={second.address} trigger=association is_hinted=true known_by=hint" in line
    assert "announced_ms=" in line


def is_known_at(still: StillMesh, router: Router, client: Client) -> bool:
    return still.is_announced(router, client.main_address)


def test_a_gateway_without_client_links_sends_on_both_ip_versions(still: StillMesh, first: Router) -> None:
    second = still.access_points[1]
    with still.gateway_as_peer(), still.client_at(first, has_ipv4=True) as client:
        still.wait_hinted(still.gateway, client)
        client.roam(second)
        for address in (client.main_address, client.address_ipv4):
            still.wait_forwarded(still.gateway, address, second)
        status = still.status(still.gateway)
        assert status["handover"]["is_forwarding"]
        assert status["handover"]["segments"] == []
        assert {each["peer"] for each in status["handover"]["forwards"] if each["is_installed"]} == {
            str(second.address)
        }
        assert (status["routes"]["wanted"], status["routes"]["installed"]) == (0, 0)
        shown = still.command(still.gateway, "status").stdout
        assert f"{client.address_ipv4} to {second.address}" in shown
        # The gateway has no segments, and no access point misses them.
        peers = {peer["peer"]: peer for peer in still.status(first)["peers"]["peers"]}
        assert peers[str(still.gateway.address)]["segments"] == []
        assert not [text for text, level in findings(still, first).items() if level == "error"]
        assert not [text for text, level in findings(still, still.gateway).items() if level == "error"]
