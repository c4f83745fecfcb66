"""What `check` says of the client links of a router behind dumb access points."""

from __future__ import annotations

import pytest

from roamroute.check_bridges import check_bridge
from roamroute.linux.machine import Interface


@pytest.mark.parametrize(
    ("is_bridge", "ports", "level", "words"),
    [
        (True, ("eth1", "eth2"), "ok", "eth1, eth2"),
        (True, (), "error", "no port"),
        (False, (), "warning", "is no bridge"),
    ],
)
def test_a_client_link_should_be_a_bridge_with_ports(
    is_bridge: bool, ports: tuple[str, ...], level: str, words: str
) -> None:
    (finding,) = check_bridge(Interface("br0", True, True, None, is_bridge, ports))
    assert finding.level == level
    assert words in finding.text
    assert bool(finding.remedy) == (level != "ok")
