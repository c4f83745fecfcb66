"""The files that the lab writes for BIRD; tests/integration has the mesh that runs them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import pytest
from roamroute_bird.lab import LAB

from roamroute.errors import ConfigError, MachineUnfit
from roamroute.export import LabPeer, LabRouter

GATEWAY = LabPeer("gw", "gateway", 200, IPv6Address("fd44:0:0:a::200"), IPv4Address("10.44.200.200"))


def access_point(folder: Path, **options: str) -> LabRouter:
    return LabRouter(
        name="ap1",
        role="access-point",
        number=1,
        directory=folder,
        mesh_links=("r1",),
        router_address=IPv6Address("fd44:0:0:a::1"),
        router_address_ipv4=IPv4Address("10.44.200.1"),
        client_links=("wlan0",),
        roaming_prefixes=(IPv6Network("fd44:0:0:1::/64"),),
        options=options,
        others=(GATEWAY,),
    )


def written(folder: Path, routing: str, **options: str) -> str:
    LAB[routing].prepare(access_point(folder, **options))
    return (folder / "bird.conf").read_text()


@pytest.mark.parametrize("routing", LAB)
def test_an_access_point_runs_what_config_prints(tmp_path: Path, routing: str) -> None:
    text = written(tmp_path, routing)
    assert "filter roamroute_learn6 {" in text
    assert 'interface "r1" {' in text


def test_times_are_written_as_bird_reads_them(tmp_path: Path) -> None:
    assert "hello interval 50 ms; update interval 400 ms;" in written(
        tmp_path, "bird-babel", **{"hello-interval": "0.05", "update-interval": "0.4"}
    )
    assert "hello 1;" in written(tmp_path, "bird-ospf", **{"hello-interval": "0.2"})
    assert "tick 2;" in written(tmp_path, "bird-ospf", tick="2")


@pytest.mark.parametrize("option", ["hello-interval", "update-interval", "tick", "scan-time"])
def test_what_is_no_time_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        written(tmp_path, "bird-babel", **{option: "soon"})


def test_the_gateway_is_the_reflector(tmp_path: Path) -> None:
    assert "neighbor fd44:0:0:a::200 as 65000;" in written(tmp_path, "bird-ibgp")


def test_in_mode_inject_the_file_is_there_and_the_exporter_is_told(tmp_path: Path) -> None:
    daemon = LAB["bird-ospf"].prepare(access_point(tmp_path, mode="inject"))
    assert Path(daemon.exporter_settings["include"]).exists()
    assert daemon.exporter_settings["mode"] == "inject"
    assert daemon.exporter_settings["socket"] == str(tmp_path / "bird.ctl")


def test_a_program_that_is_not_bird_is_said() -> None:
    with pytest.raises(MachineUnfit, match="apt-get install bird2"):
        LAB["bird-ospf"].version({"command": "/nonexistent/bird"})
