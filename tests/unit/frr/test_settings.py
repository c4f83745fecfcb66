"""The table `[exporters.frr]`."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from roamroute_frr.settings import Settings, parse

from roamroute.errors import ConfigError


def test_an_empty_table_means_vtysh_and_routes_from_the_kernel() -> None:
    assert parse({}) == Settings(command=("vtysh",), mode="kernel", routing="")


def test_every_key_is_read() -> None:
    table = {
        "command": ["sudo", "vtysh"],
        "mode": "inject",
        "routing": "ibgp",
        "mesh": ["mesh0"],
        "reflectors": ["fd44:0:0:a::1", "10.44.255.1"],
        "as_number": 4200000000,
    }
    settings = parse(table)
    assert settings.command == ("sudo", "vtysh")
    assert settings.injects
    assert settings.reflectors == (ip_address("fd44:0:0:a::1"), ip_address("10.44.255.1"))
    assert settings.as_number == 4200000000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("command", []),
        ("command", "vtysh"),
        ("mode", "both"),
        ("routing", "babel"),
        ("mesh", "mesh0"),
        ("reflectors", ["nowhere"]),
        ("as_number", 0),
        ("as_number", 1.5),
        ("vtysh", "x"),
    ],
)
def test_a_mistake_has_its_path(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({key: value})
    assert caught.value.mistakes[0].startswith(f"exporters.frr.{key}: ")
