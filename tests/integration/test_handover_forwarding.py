"""What still arrives at the old access point is sent on to the new one, for as long as it must be.

No routing daemon runs: the routers go on sending a client's packets to where it was first, and what the client receives
elsewhere has been sent on.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from roamroute.lab import addresses
from roamroute.lab.radio import Client
from roamroute.lab.roaming import toml_text
from roamroute.lab.topology import Router
from roamroute.lab.traffic import Download
from roamroute.lab.waiting import wait_until

from .still_mesh import LINGER_S, TABLES, StillMesh, make_still_mesh, silence
from .wiretap import tapped
from .world import LIMIT_S, MARKS, all_addresses, is_answered

DOWNLOAD_BYTES_PER_SECOND = 400_000.0
CROSSINGS = 6
"""On the wires between routers and access points a packet is seen once on its way to the old access point, twice in the
tunnel; a client that goes back while it is on its way costs as much again."""

pytestmark = MARKS


@pytest.fixture(scope="module")
def still() -> Iterator[StillMesh]:
    with make_still_mesh() as new:
        yield new


@pytest.fixture
def client(still: StillMesh) -> Iterator[Client]:
    """A client at the first access point, to which the routers will send its packets for ever."""
    still.repair()
    with still.client_at(still.access_points[0], has_ipv4=True) as new:
        yield new


@pytest.mark.parametrize("family", ["ipv6", "ipv4"])
def test_every_packet_reaches_the_client_by_the_old_access_point(still: StillMesh, client: Client, family: str) -> None:
    first, second, _ = still.access_points
    address = client.main_address if family == "ipv6" else client.address_ipv4
    silence(client)
    with still.downlink(address) as downlink, tapped((still.mesh.router_of(first).namespace, [first.name])) as (tap,):
        downlink.wait_arriving(time.monotonic())
        client.roam(second)
        downlink.wait_arriving(client.connected_at)
        begun = time.monotonic()
        wait_until(lambda: len(downlink.numbers(begun, time.monotonic())) > 200, "200 packets are sent", LIMIT_S)
        assert not downlink.lost(begun, time.monotonic())
        assert not downlink.repeated()
        tunnels = tap.tunnels(address)
    segment = still.segments(second).for_address(address)  # type: ignore[arg-type]
    assert {(packet.source, packet.destination) for packet in tunnels} == {(str(first.address), str(segment))}


def test_the_routes_are_in_tables_of_their_own(still: StillMesh, client: Client) -> None:
    first, second, _ = still.access_points
    client.roam(second)
    for address in all_addresses(client):
        still.wait_forwarded(first, address, second)
    for family in ("-6", "-4"):
        assert "encap" not in first.namespace.run("ip", family, "route", "show", "table", "main")
        assert "encap" not in second.namespace.run("ip", family, "route", "show", "table", "main")
    still.wait_here(second, *all_addresses(client))


def test_packets_of_the_greatest_size_that_fits_pass(still: StillMesh, client: Client) -> None:
    """The tunnel's header is one IPv6 header: 1460 of 1500 octets are left."""
    _, second, _ = still.access_points
    client.roam(second)
    wait_until(lambda: is_answered(still.server, client.main_address), "it is reached", LIMIT_S)
    still.server.run("ping", "-c1", "-W2", "-s", str(1460 - 48), str(client.main_address))


def test_a_download_goes_on_whose_packets_are_too_big_for_the_tunnel(still: StillMesh, client: Client) -> None:
    """Every link has 1500 octets, the tunnel 1460: the sender is told."""
    _, second, third = still.access_points
    download = Download(
        still.sandbox, still.server, addresses.SERVER, client.namespace, client.main_address, DOWNLOAD_BYTES_PER_SECOND
    )
    wait_until(download.has_begun, "the download has begun", LIMIT_S)
    for access_point in (second, third):
        client.roam(access_point)
        still.wait_here(access_point, *client.addresses)
    result = download.finish()
    assert result.is_verified, result.error


def test_it_ends_when_nothing_arrives_any_more_and_at_its_limit_when_something_does(
    still: StillMesh, client: Client
) -> None:
    first, second, _ = still.access_points
    used, unused = client.addresses
    with still.changed(first, changes={"policy": {"forwarding_s": 2.0, "forwarding_limit_s": 6.0}}):
        still.join(client, first)
        with still.downlink(used) as downlink:
            client.roam(second)
            still.wait_forwarded(first, used, second)
            still.wait_forwarded(first, unused, second)
            still.wait_not_forwarded(first, unused, 5.0)
            assert still.forwarded(first, used), "it is not extended although packets arrive"
            downlink.wait_arriving(time.monotonic())
            still.wait_not_forwarded(first, used, 8.0)
            assert time.monotonic() - client.connected_at > 5.0


def test_a_further_roam_turns_it_to_the_next_access_point(still: StillMesh, client: Client) -> None:
    first, second, third = still.access_points
    silence(client)
    with still.downlink(client.main_address) as downlink:
        for access_point in (second, third, second, third):
            client.roam(access_point)
            still.wait_forwarded(first, client.main_address, access_point)
            downlink.wait_arriving(client.connected_at)


def test_it_ends_at_once_when_the_client_comes_back(still: StillMesh, client: Client) -> None:
    first, second, _ = still.access_points
    router = still.mesh.router_of(first).namespace
    silence(client)
    with still.downlink(client.main_address) as downlink, tapped((router, [first.name, second.name])) as (tap,):
        client.roam(second)
        downlink.wait_arriving(client.connected_at)
        client.roam(first)
        still.wait_not_forwarded(first, client.main_address, 2.0)
        downlink.wait_arriving(time.monotonic())
        begun = time.monotonic()
        downlink.wait_arriving(begun + 0.2)
        assert not downlink.lost(begun, begun + 0.2)
        seen = tap.probes()
    assert {seen[downlink.flow, number] for number in downlink.numbers(begun, begun + 0.2)} == {1}
    assert max(seen.values()) <= CROSSINGS


@pytest.mark.parametrize("family", ["ipv6", "ipv4"])
def test_no_packet_runs_in_circles_while_a_client_bounces_between_three(
    still: StillMesh, client: Client, family: str
) -> None:
    address = client.main_address if family == "ipv6" else client.address_ipv4
    wires = [(still.mesh.router_of(each).namespace, [each.name]) for each in still.access_points]
    silence(client)
    with still.downlink(address, rate=500.0) as downlink, tapped(*wires) as taps:
        for place in (1, 2, 0, 2, 1, 0, 1, 0, 2, 1, 2, 0):
            client.leave()
            client.attach(still.access_points[place], layer_2_down_s=0.0)
        downlink.wait_arriving(client.connected_at)
        still.wait_here(still.access_points[0], *client.addresses)
        counted = sum((tap.probes() for tap in taps), start=Counter[tuple[int, int]]())
        assert not downlink.repeated()
    assert counted
    assert max(counted.values()) <= CROSSINGS, counted.most_common(5)


def test_nothing_of_it_is_left_after_a_stop(still: StillMesh, client: Client) -> None:
    first, second, _ = still.access_points
    client.roam(second)
    still.wait_forwarded(first, client.main_address, second)
    for router in (first, second):
        assert _is_prepared(router)
    for router in (first, second):
        still.daemons[router.name].stop()
    for router in (first, second):
        assert not _traces(router)
        assert "::" in router.namespace.run("ip", "sr", "tunsrc", "show").split()


def test_a_killed_one_goes_on_and_its_successor_ends_it(still: StillMesh, client: Client) -> None:
    first, second, _ = still.access_points
    silence(client)
    with still.downlink(client.main_address) as downlink:
        client.roam(second)
        downlink.wait_arriving(client.connected_at)
        still.wait_here(second, *client.addresses)
        before = _rules(first)
        still.daemons[first.name].kill()
        downlink.wait_arriving(time.monotonic())
        still.daemons[first.name].start()
        still.daemons[first.name].wait_ready()
        still.wait_not_forwarded(first, client.main_address)
        assert _rules(first) == before
    still.wait_peers(first)
    client.roam(first)
    still.wait_here(first, *client.addresses)
    client.roam(second)
    still.wait_forwarded(first, client.main_address, second)


def test_nothing_is_prepared_and_nobody_forwards_where_it_is_off(still: StillMesh, client: Client) -> None:
    first, second, third = still.access_points
    off = {"handover": {"forwarding": False}}
    with still.changed(second, changes=off):
        assert not _traces(second)
        still.join(client, first)
        client.roam(second)
        still.wait_here(second, *client.addresses)
        assert not still.forwarded(first, client.main_address)
        client.roam(third)
        still.wait_here(third, *client.addresses)
        still.wait_forwarded(first, client.main_address, third)
        assert not still.forwarded(second, client.main_address)


def test_without_peers_a_start_clears_up_what_one_with_them_left_and_a_reload_ends_nothing(still: StillMesh) -> None:
    first = still.access_points[0]
    daemon = still.daemons[first.name]
    try:
        daemon.kill()
        assert _traces(first)
        tables = still.tables(first)
        del tables["peers"]
        daemon.configuration.write_text(toml_text(tables))
        daemon.start()
        daemon.wait_ready()
        assert not _traces(first)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "nothing to read again" in daemon.log.read_text(), "it says so", LIMIT_S)
        daemon.raise_if_ended()
    finally:
        still.restart(first)


def test_with_the_whole_handover_off_a_client_roams_as_before(still: StillMesh, client: Client) -> None:
    first, second, _ = still.access_points
    with still.changed(*still.access_points, changes={"handover": {"forwarding": False, "hints": False}}):
        still.join(client, first)
        client.roam(second)
        still.wait_here(second, *all_addresses(client))
        still.lead(second, *all_addresses(client))
        for address in all_addresses(client):
            wait_until(lambda: is_answered(still.server, address), f"{address} answers", LIMIT_S)  # noqa: B023
        assert not any(_traces(router) for router in still.access_points)


def test_a_gateway_sends_on_by_itself_when_the_old_access_point_is_dead(still: StillMesh, client: Client) -> None:
    first, second, third = still.access_points
    with still.gateway_as_peer():
        still.join(client, first)
        for router in (second, third, still.gateway):
            still.wait_hinted(router, client)
        silence(client)
        with still.downlink(client.main_address) as downlink:
            downlink.wait_arriving(time.monotonic())
            client.leave()
            still.daemons[first.name].kill()
            with _unplugged(still, first):
                for access_point in (second, third):
                    client.roam(access_point)
                    still.wait_forwarded(still.gateway, client.main_address, access_point)
                    downlink.wait_arriving(client.connected_at)
            # Every packet comes this way: that does not keep it in the tunnel when the routers know the way by now.
            still.lead(third, *client.addresses)
            still.wait_not_forwarded(still.gateway, client.main_address, LINGER_S + 10.0)
            downlink.wait_arriving(time.monotonic())
        still.repair()


def test_a_handover_is_one_record_on_both_sides(still: StillMesh, client: Client) -> None:
    first, second, _ = still.access_points
    silence(client)
    with still.downlink(client.main_address) as downlink:
        client.roam(second)
        downlink.wait_arriving(client.connected_at)
        still.wait_here(second, *client.addresses)
        wait_until(lambda: _record(still, first, client, "from") is not None, "the old one has a record", LIMIT_S)
    new, old = (_record(still, router, client, side) for router, side in ((second, "to"), (first, "from")))
    assert new is not None
    assert old is not None
    for record in (new, old):
        assert record["from"] == str(first.address)
        assert record["to"] == str(second.address)
    assert new["number"] == old["number"]
    assert new["trigger"] == "association"
    assert new["is_hinted"]
    assert new["steps"]["connected_s"] == 0
    assert new["steps"]["announced_s"] >= 0
    assert new["steps"]["claimed_s"] > 0
    assert old["steps"]["forwarded_s"] > 0


def _record(still: StillMesh, router: Router, client: Client, side: str) -> dict[str, Any] | None:
    """The newest record of a handover of the client's, as one side tells it."""
    records = still.status(router)["handovers"]
    return next((record for record in records if record["mac"] == client.mac and record["side"] == side), None)


def _rules(router: Router) -> list[str]:
    """The policy rules of the handover."""
    rules = [line for family in ("-6", "-4") for line in router.namespace.run("ip", family, "rule").splitlines()]
    return [rule for rule in rules if any(str(table) in rule for table in TABLES)]


def _traces(router: Router) -> list[str]:
    """Everything that the handover has put into the kernel of a router."""
    found = _rules(router)
    for family in ("-6", "-4"):
        routes = router.namespace.run("ip", family, "route", "show", "table", "all").splitlines()
        found += [route for route in routes if any(f"table {table}" in route for table in TABLES)]
    filters = router.namespace.run("nft", "list", "tables").splitlines()
    return found + [each for each in filters if "roamroute_guard" in each]


def _is_prepared(router: Router) -> bool:
    traces = _traces(router)
    return all(any(kind in trace for trace in traces) for kind in ("lookup 4544", "encap", "roamroute_guard"))


@contextlib.contextmanager
def _unplugged(still: StillMesh, access_point: Router) -> Iterator[None]:
    """Let nothing pass between the access point and the mesh for the length of the block."""
    router, link = still.mesh.router_of(access_point).namespace, access_point.name
    chains = [
        f"chain {hook} {{ type filter hook {hook} priority 0; iifname {link} drop; oifname {link} drop; }}"
        for hook in ("input", "forward", "output")
    ]
    router.run("nft", "-f", "-", stdin=f"table inet unplugged {{ {'; '.join(chains)}; }}")
    try:
        yield
    finally:
        router.run("nft", "delete", "table", "inet", "unplugged")
