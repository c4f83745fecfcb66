"""roamroute.lab.routing: daemons are started and stopped in order, and what is wrong with one is said with its log.

The daemons are shell scripts; a third party's would be started the same way.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import pytest
from unit.lab.fake_exporters import spec

from roamroute.errors import DaemonGone
from roamroute.export import LabDaemon, LabRouter
from roamroute.lab import routing as module
from roamroute.lab.installed import InstalledRouting
from roamroute.lab.namespaces import CommandFailed, Sandbox
from roamroute.lab.routing import MeshRouting
from roamroute.lab.topology import Mesh
from roamroute.lab.waiting import NotReached, wait_until

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "nft", "nsenter", "setpriv", "sysctl")]

GATEWAY_LINK_LOCAL = "fe80::1:1"

Prepare = Callable[[LabRouter], LabDaemon]


@attrs.frozen
class Scripts:
    """A routing whose daemons are what `prepare` says."""

    prepare: Prepare

    def version(self, options: Mapping[str, str]) -> str:
        return "scripts 1.0"


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Sandbox() as sandbox:
        yield Mesh(sandbox, access_point_count=2)


def routing_of(mesh: Mesh, prepare: Prepare, **options: str) -> MeshRouting:
    return MeshRouting(mesh, InstalledRouting("scripts", spec("scripts"), Scripts(prepare)), options)


def shell(text: str) -> tuple[str, ...]:
    return ("sh", "-c", text)


def daemon(journal: Path, name: str) -> tuple[str, ...]:
    """A daemon that notes its start and its end in the journal, and makes `ready-NAME` a moment after its start."""
    note = f'echo "$1 {name}" >>{journal}'
    ready = journal.parent / f"ready-{name}"
    return shell(
        f"note() {{ {note}; }}; trap 'note stop; exit 0' TERM; sleep 0.05; note start; touch {ready}; "
        "while :; do sleep 0.02; done"
    )


def two_daemons(router: LabRouter) -> LabDaemon:
    journal = router.directory.parent.parent / "journal"
    names = [f"{router.name}-first", f"{router.name}-second"]
    return LabDaemon(
        tuple(daemon(journal, name) for name in names),
        ready_files=tuple(journal.parent / f"ready-{name}" for name in names),
    )


def test_every_command_is_started_when_the_one_before_is_ready_and_stopped_in_the_opposite_order(mesh: Mesh) -> None:
    journal = mesh.sandbox.directory / "journal"
    routing = routing_of(mesh, two_daemons)
    routing.start()
    routing.stop()
    words = [line.split() for line in journal.read_text().splitlines()]
    count = len(mesh.all_routers)
    order = [(action, name.rpartition("-")[2]) for action, name in words]
    stages = [("start", "first"), ("start", "second"), ("stop", "second"), ("stop", "first")]
    assert order == [stage for stage in stages for _ in range(count)]


def test_one_routers_daemons_can_be_killed_and_started_again(mesh: Mesh) -> None:
    routing = routing_of(mesh, two_daemons)
    routing.start()
    router, other = mesh.access_points
    before = routing.processes(router)
    routing.kill(router)
    assert [process.returncode for process in before] == [-9, -9]
    assert routing.processes(router) == ()
    assert all(process.poll() is None for process in routing.processes(other))
    routing.start_on(router)
    assert [process.poll() for process in routing.processes(router)] == [None, None]
    routing.stop()


def test_a_ready_file_of_an_earlier_start_does_not_count(mesh: Mesh) -> None:
    def prepare(router: LabRouter) -> LabDaemon:
        ready = router.directory / "ready"
        ready.touch()
        return LabDaemon((shell(f"sleep 0.1; test ! -e {ready} && touch {ready} && sleep 10"),), ready_files=(ready,))

    routing = routing_of(mesh, prepare)
    routing.start_on(mesh.gateway)
    assert [process.poll() for process in routing.processes(mesh.gateway)] == [None]
    routing.stop()


def test_a_daemon_that_ends_at_its_start_is_an_error_with_the_end_of_its_logs(mesh: Mesh) -> None:
    def prepare(router: LabRouter) -> LabDaemon:
        (router.directory / "own.log").write_text("line 7: syntax error\n")
        return LabDaemon((shell("echo cannot go on; exit 3"),), ready_files=(router.directory / "never",))

    routing = routing_of(mesh, prepare)
    with pytest.raises(DaemonGone) as failure:
        routing.start_on(mesh.gateway)
    assert "the routing daemon of gw ended with exit code 3: sh -c echo cannot go on; exit 3" in str(failure.value)
    assert "daemon.log ends:\ncannot go on" in str(failure.value)
    assert "own.log ends:\nline 7: syntax error" in str(failure.value)
    routing.stop()


def test_a_daemon_that_ends_later_ends_the_waiting_for_routes(mesh: Mesh) -> None:
    routing = routing_of(mesh, lambda router: LabDaemon((shell("sleep 0.3; kill -SEGV $$"),)))
    routing.start()
    with pytest.raises(DaemonGone, match="was ended by signal 11"):
        routing.wait_converged()
    routing.stop()


def test_a_daemon_that_never_gets_ready_is_named_with_what_it_did_not_make(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_LIMIT_S", 0.3)
    routing = routing_of(mesh, lambda router: LabDaemon((("sleep", "10"),), ready_files=(router.directory / "up",)))
    with pytest.raises(NotReached, match=r"on gw sleep has not made .*/gw/routing/up; its log is empty"):
        routing.start()
    routing.stop()


def test_a_command_that_ends_well_was_a_step_of_the_start(mesh: Mesh) -> None:
    seen = mesh.sandbox.directory / "seen"
    ready = mesh.sandbox.directory / "loaded"

    def prepare(router: LabRouter) -> LabDaemon:
        return LabDaemon((shell(f"touch {ready}"), shell(f"echo x >>{seen}")), ready_files=(ready,))

    routing = routing_of(mesh, prepare)
    routing.start_on(mesh.gateway)
    wait_until(seen.exists, "the second step is done", 5.0)
    routing.stop()


def test_a_router_knows_its_own_addresses_and_all_others(mesh: Mesh) -> None:
    seen: dict[str, LabRouter] = {}

    def prepare(router: LabRouter) -> LabDaemon:
        seen[router.name] = router
        return LabDaemon((("true",),), {"router": router.name})

    routing = routing_of(mesh, prepare, cost="7")
    routing.start()
    first = seen["ap1"]
    assert routing.exporter_settings(mesh.access_points[0]) == {"router": "ap1"}
    assert dict(first.options) == {"cost": "7"}
    assert (str(first.router_address_ipv4), str(first.link_local)) == ("10.44.200.1", "fe80::a:1")
    assert {peer.name: peer.role for peer in first.others} == {
        "gw": "gateway",
        "r1": "router",
        "r2": "router",
        "ap2": "access-point",
    }
    neighbours = {peer.name: (peer.link, str(peer.link_local)) for peer in first.others if peer.link is not None}
    assert neighbours == {"r1": ("r1", "fe80::a:101")}
    assert [prefix.prefixlen for prefix in seen["gw"].announces] == [0, 0]
    for here, there in itertools.permutations(seen.values(), 2):
        peer = next(peer for peer in here.others if peer.name == there.name)
        assert (peer.router_address, peer.router_address_ipv4) == (there.router_address, there.router_address_ipv4)
    routing.stop()


def test_routes_of_any_protocol_count_for_convergence_but_an_unreachable_one_does_not(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONVERGENCE_LIMIT_S", 0.5)
    routing = routing_of(mesh, lambda router: LabDaemon((("true",),)))
    routing.start()
    for router in mesh.all_routers:
        for other in mesh.all_routers:
            if other is not router:
                router.namespace.ip(f"route replace {other.address} dev lo proto 42")
        if router.role != "gateway":
            router.namespace.ip("route replace ::/0 dev lo proto 43", "route replace 0.0.0.0/0 dev lo proto 44")
    routing.wait_converged()
    ap2 = mesh.access_points[1]
    ap2.namespace.ip(f"route del {mesh.gateway.address}", f"route add unreachable {mesh.gateway.address} metric 9")
    with pytest.raises(NotReached, match=f"every other; ap2 lacks {mesh.gateway.address}; its log is empty"):
        routing.wait_converged()
    ap2.namespace.ip(f"route replace {mesh.gateway.address} dev lo", "route del 0.0.0.0/0")
    with pytest.raises(NotReached, match=r"ap2 lacks default \(IPv4\)"):
        routing.wait_converged()
    routing.stop()


def test_a_router_that_sends_a_packet_back_does_not_redirect_its_sender(mesh: Mesh) -> None:
    gateway, server = mesh.gateway.namespace, mesh.server
    gateway.ip("addr flush dev server scope link", f"addr add {GATEWAY_LINK_LOCAL}/64 dev server nodad")
    gateway.ip("route add 2001:db8::/32 via fe80::2 dev server")
    server.ip("addr add fe80::2/64 dev gw nodad", f"route replace default via {GATEWAY_LINK_LOCAL} dev gw")

    def is_redirected(address: str) -> bool:
        with contextlib.suppress(CommandFailed):
            server.run("ping", "-c2", "-i0.1", "-W1", address)
        return address in server.run("ip", "-6", "route", "show", "cache")

    assert not is_redirected("2001:db8::1")
    gateway.run("nft", "delete", "table", "ip6", "roamroute")
    assert is_redirected("2001:db8::2")
