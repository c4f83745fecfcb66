"""What `check` says of the handover: the key, the kernel, what others have put where ours goes, room in the mesh."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import attrs
import pytest

from roamroute import segments
from roamroute.check_handover import check_handover, check_running
from roamroute.config import Config, parse_config
from roamroute.export import Finding
from roamroute.linux import machine, surroundings
from roamroute.wire.rules import Rule

ME = IPv6Address("fd44:0:0:a::1")

CONFIGURATION = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64"]
[peers]
address = "fd44:0:0:a::1"
addresses = ["fd44:0:0:a::2"]
key_file = "{key}"
"""


class Surroundings:
    """A machine on which all is well, to be made worse."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.source: IPv6Address | None = IPv6Address("::")
        self.rules: tuple[Rule, ...] = ()
        self.protocols: frozenset[int] = frozenset()
        self.mtus = {"wlan0": 1500, "mesh0": 1600}
        self.kernel = (6, 1)
        patch.setattr(surroundings, "segment_source", lambda: self.source)
        self.missing: tuple[str, ...] = ()
        patch.setattr(surroundings, "missing_options", lambda: self.missing)
        patch.setattr(surroundings, "policy_rules", lambda: self.rules)
        patch.setattr(surroundings, "table_protocols", lambda _tables: self.protocols)
        patch.setattr(surroundings, "mtu", self.mtus.get)
        self.strict: frozenset[str] = frozenset()
        patch.setattr(surroundings, "filters_reverse_path", lambda link: link in self.strict)
        patch.setattr(surroundings, "mesh_links", lambda _clients: ("mesh0",))
        patch.setattr(machine, "links", lambda: ("lo", "mesh0"))
        patch.setattr(machine, "addresses", lambda link: ((ME, 128),) if link == "lo" else ())
        patch.setattr(machine, "kernel_version", lambda: self.kernel)


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    return Surroundings(monkeypatch)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("5e" * 32)
    path.chmod(0o600)
    return path


def config_with(key: Path, more: str = "") -> Config:
    return parse_config(CONFIGURATION.format(key=key) + more)


def told(config: Config, level: str) -> list[str]:
    return [finding.text for finding in check_handover(config) if finding.level == level]


def bad(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in findings if finding.level != "ok"]


def test_where_all_is_well_nothing_is_to_be_done(around: Surroundings, key: Path) -> None:
    assert bad(list(check_handover(config_with(key)))) == []


def test_without_peers_a_roam_is_slow() -> None:
    (finding,) = check_handover(parse_config('[roaming]\ninterfaces = ["a"]\nprefixes = ["fd44::/64"]'))
    assert finding.level == "warning"
    assert "20 to 34 s" in finding.text


def test_a_kernel_without_segment_routing_is_told(around: Surroundings, key: Path) -> None:
    around.source = None
    (text,) = told(config_with(key), "warning")
    assert "cannot do segment routing" in text


def test_a_kernel_that_lacks_an_option_is_told(around: Surroundings, key: Path) -> None:
    around.missing = ("CONFIG_IPV6_SUBTREES",)
    assert told(config_with(key), "warning") == []
    assert any("without CONFIG_IPV6_SUBTREES" in text for text in told(config_with(key), "ok"))
    around.missing = ("CONFIG_IPV6_SEG6_LWTUNNEL",)
    (text,) = told(config_with(key), "warning")
    assert "cannot do segment routing" in text


def test_another_program_s_source_is_told(around: Surroundings, key: Path) -> None:
    around.source = IPv6Address("fd44::77")
    (text,) = told(config_with(key), "warning")
    assert "fd44::77" in text
    around.source = ME
    assert told(config_with(key), "warning") == []


def test_rules_and_routes_of_others_where_ours_go_are_errors(around: Surroundings, key: Path) -> None:
    ours = Rule(family=10, priority=4544, action=1, protocol=144)
    around.rules = (ours, attrs.evolve(ours, priority=4546, protocol=3), attrs.evolve(ours, priority=100, protocol=3))
    around.protocols = frozenset({144, 4})
    first, second = told(config_with(key), "error")
    assert "priority 4546, which" in first
    assert "protocol 4 are in the tables 4544 to 4546" in second


@pytest.mark.parametrize(
    ("mesh", "kernel", "fits"),
    [(1540, (6, 1), None), (1500, (6, 1), "1460"), (1540, (5, 15), "1476"), (1564, (5, 15), None)],
)
def test_packets_that_are_sent_on_need_room_for_a_header(
    around: Surroundings, key: Path, mesh: int, kernel: tuple[int, int], fits: str | None
) -> None:
    around.mtus["mesh0"], around.kernel = mesh, kernel
    texts = told(config_with(key), "warning")
    assert (fits is None) == (texts == [])
    assert all(f"longer than {fits} bytes do not fit through mesh0 (MTU {mesh})" in text for text in texts)


def test_a_strict_rp_filter_is_told_where_there_is_ipv4(around: Surroundings, key: Path) -> None:
    around.strict = frozenset({"mesh0"})
    assert told(config_with(key), "warning") == []
    config = parse_config(CONFIGURATION.format(key=key).replace('64"]', '64", "10.44.0.0/16"]'))
    (finding,) = (each for each in check_handover(config) if each.level == "warning")
    assert "strict on mesh0" in finding.text
    assert finding.remedy == "sysctl -w net.ipv4.conf.mesh0.rp_filter=2"


def test_several_keys_are_no_mistake(around: Surroundings, key: Path) -> None:
    key.write_text("5e" * 32 + "\n" + "a7" * 32)
    assert any("has 2 keys" in text for text in told(config_with(key), "ok"))


def test_segments_that_collide_are_an_error(around: Surroundings, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_DIGEST_BITS", 0)  # now all have the same
    (text,) = told(config_with(key), "error")
    assert "fd44:0:0:a::1 and fd44:0:0:a::2 have the same segment" in text


def test_what_forwarding_cannot_do_by_configuration_is_told(around: Surroundings, key: Path) -> None:
    text = CONFIGURATION.format(key=key).replace('"wlan0"', '"wlan0", "wlan1"').replace('64"]', '64", "10.44.0.0/16"]')
    assert any("IPv4 addresses are not taken" in each for each in told(parse_config(text), "warning"))
    text = CONFIGURATION.format(key=key).replace("fd44:0:0:1::/64", "10.44.0.0/16")
    assert any("no roaming prefix is IPv6" in each for each in told(parse_config(text), "warning"))
    assert told(config_with(key, "[handover]\nforwarding = false"), "warning") == []


PEER = {
    "peer": "fd44:0:0:a::2",
    "is_up": True,
    "has_own_key": True,
    "capabilities": ["hints", "segments"],
    "segments": [{"segment": "fd44::1", "is_routed": True}],
}
STATUS: dict[str, Any] = {"peers": {"peers": [PEER]}, "handover": {"why_not": None, "segments": ["fd44::2"]}}


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [
        ({}, "ok", "all 1 answer"),
        ({"is_up": False}, "error", "none of them answers"),
        ({"has_own_key": False}, "warning", "do not use our first key: fd44:0:0:a::2"),
        ({"segments": [{"segment": "fd44::1", "is_routed": False}]}, "warning", "no route to the segments"),
        ({"segments": [{"segment": "fd44::2", "is_routed": True}]}, "error", "two access points have the segment"),
    ],
)
def test_what_the_running_daemon_knows_of_its_peers_is_told(change: dict[str, Any], level: str, text: str) -> None:
    status = {**STATUS, "peers": {"peers": [{**PEER, **change}]}}
    assert any(finding.level == level and text in finding.text for finding in check_running(status))
