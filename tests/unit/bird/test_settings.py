"""`[exporters.bird]`."""

from __future__ import annotations

from typing import Any

import pytest
from roamroute_bird.settings import DEFAULT_INCLUDE, DEFAULT_SOCKET, Settings, parse

from roamroute.errors import ConfigError


def test_nothing_has_to_be_said() -> None:
    settings = parse({})
    assert settings == Settings(DEFAULT_SOCKET, (), "kernel", DEFAULT_INCLUDE, "", (), (), 65000, ())
    assert not settings.injects
    assert settings.birdc == f"birdc -s {DEFAULT_SOCKET}"


def test_a_command_takes_the_place_of_the_socket() -> None:
    settings = parse({"command": ["sudo", "birdc"], "mode": "inject", "routing": "ospf", "protocols": ["ospf6"]})
    assert settings.command == ("sudo", "birdc")
    assert settings.birdc == "sudo birdc"
    assert settings.injects
    assert settings.protocols == ("ospf6",)


def test_a_socket_and_a_command_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match=r"exporters\.bird\.command"):
        parse({"socket": "/run/bird.ctl", "command": ["birdc"]})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("socket", 7),
        ("socket", ""),
        ("command", "birdc"),
        ("command", [1]),
        ("mode", "socket"),
        ("include", False),
        ("include", "hosts.conf"),
        ("routing", "rip"),
        ("mesh", "mesh0"),
        ("reflectors", ["rr1"]),
        ("as_number", 0),
        ("as_number", 6.5),
        ("protocols", "babel1"),
        ("protocols", ["babel'1"]),
    ],
)
def test_a_mistake_is_told_with_its_path(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({key: value})
    assert caught.value.mistakes[0].startswith(f"exporters.bird.{key}: must be ")
