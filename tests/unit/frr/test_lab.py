"""How the lab starts FRR, with a folder of programs that only say their version."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import attrs
import pytest
from roamroute_frr.lab import FrrLab

from roamroute.errors import MachineUnfit
from roamroute.export import LabPeer, LabRouter


def folder_of(tmp_path: Path, version: str) -> str:
    folder = tmp_path / "programs"
    folder.mkdir()
    zebra = folder / "zebra"
    zebra.write_text(f"#!/bin/sh\necho zebra version {version}\n", encoding="utf-8")
    zebra.chmod(0o755)
    return str(folder)


def router_of(tmp_path: Path, command: str, **options: str) -> LabRouter:
    directory = tmp_path / "router"
    directory.mkdir()
    gateway = LabPeer("gw", "gateway", 200, ip_address("fd44:0:0:a::200"), ip_address("10.44.200.200"), "gw")
    return LabRouter(
        name="ap1",
        role="access-point",
        number=1,
        directory=directory,
        mesh_links=("gw",),
        router_address=ip_address("fd44:0:0:a::1"),
        client_links=("wlan0",),
        roaming_prefixes=(ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/24")),
        options={"command": command, **options},
        others=(gateway,),
        router_address_ipv4=ip_address("10.44.200.1"),
    )


def configuration(router: LabRouter) -> str:
    return (router.directory / "etc/frr.conf").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("version", "routing", "mode", "programs"),
    [
        ("8.4.4", "ospf", "kernel", ["zebra", "ospf6d", "ospfd"]),
        ("10.3", "ospf", "kernel", ["mgmtd", "zebra", "ospf6d", "ospfd"]),
        ("8.4.4", "ibgp", "inject", ["zebra", "staticd", "ospf6d", "ospfd", "bgpd"]),
        ("10.3", "ibgp", "inject", ["mgmtd", "zebra", "staticd", "ospf6d", "ospfd", "bgpd"]),
    ],
)
def test_the_daemons_are_started_in_the_order_in_which_they_need_each_other(
    tmp_path: Path, version: str, routing: str, mode: str, programs: list[str]
) -> None:
    router = router_of(tmp_path, folder_of(tmp_path, version), mode=mode)
    daemon = FrrLab(routing).prepare(router)
    assert [path.name for path in daemon.ready_files if path is not None] == [
        *(f"{each}.vty" for each in programs),
        "loaded",
    ]
    started = [[Path(word).name for word in command] for command in daemon.commands]
    assert all(program in command for program, command in zip(programs, started[:-1], strict=True))
    assert "-b" in started[-1]
    assert daemon.exporter_settings["routing"] == routing
    assert daemon.exporter_settings["mode"] == mode


def test_what_a_run_before_has_left_is_not_taken_for_ready(tmp_path: Path) -> None:
    router = router_of(tmp_path, folder_of(tmp_path, "8.4.4"))
    left_over = [router.directory / name for name in ("zebra.vty", "zserv.api", "loaded", "zebra.pid")]
    for path in left_over:
        path.touch()
    FrrLab("ospf").prepare(router)
    assert [path for path in left_over if path.exists()] == []


def test_an_access_point_is_a_client_of_the_gateway_s_reflector(tmp_path: Path) -> None:
    router = router_of(tmp_path, folder_of(tmp_path, "10.3"))
    FrrLab("ibgp").prepare(router)
    assert " neighbor fd44:0:0:a::200 remote-as internal" in configuration(router)
    assert "route-reflector-client" not in configuration(router)


def test_the_gateway_reflects_and_announces_default_routes(tmp_path: Path) -> None:
    router = router_of(tmp_path, folder_of(tmp_path, "10.3"))
    peer = attrs.evolve(router.others[0], role="access-point", router_address=ip_address("fd44:0:0:a::7"))
    gateway = attrs.evolve(
        router, role="gateway", client_links=(), announces=(ip_network("::/0"), ip_network("0.0.0.0/0")), others=(peer,)
    )
    FrrLab("ibgp").prepare(gateway)
    text = configuration(gateway)
    assert "  neighbor fd44:0:0:a::7 route-reflector-client" in text
    assert "  network ::/0" in text
    assert "redistribute" not in text


@pytest.mark.parametrize(("given", "taken"), [("1", 1), ("0.2", 1), ("2.4", 2)])
def test_ospf_takes_whole_seconds_for_its_hellos(tmp_path: Path, given: str, taken: int) -> None:
    router = router_of(tmp_path, folder_of(tmp_path, "10.3"), **{"hello-interval": given})
    FrrLab("ospf").prepare(router)
    assert f" ipv6 ospf6 hello-interval {taken}\n" in configuration(router)


def test_the_version_is_the_one_of_the_folder(tmp_path: Path) -> None:
    assert FrrLab("ospf").version({"command": folder_of(tmp_path, "10.3")}) == "FRR 10.3"


def test_a_folder_without_frr_is_said_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MachineUnfit, match="apt-get install frr"):
        FrrLab("ospf").version({"command": str(tmp_path)})
