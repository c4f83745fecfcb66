"""Which interface a BSS feeds, and what the operator is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from roamroute.hostapd import check_hostapd, hostapd_fragment, roaming_link_of


def test_a_bss_is_its_own_roaming_interface_or_a_port_of_it(tmp_path: Path) -> None:
    for bss, bridge in (("wlan0", None), ("wlan1", "br-lan"), ("wlan2", "br-guest")):
        (tmp_path / bss).mkdir()
        if bridge is not None:
            (tmp_path / bss / "master").symlink_to(f"../../../virtual/net/{bridge}")
    link_of = roaming_link_of(["wlan0", "br-lan"], tmp_path)
    assert [link_of(bss) for bss in ("wlan0", "wlan1", "wlan2", "wlan3")] == ["wlan0", "br-lan", None, None]


def test_a_bss_that_joins_the_bridge_later_is_found_then(tmp_path: Path) -> None:
    (tmp_path / "wlan1").mkdir()
    link_of = roaming_link_of(["br-lan"], tmp_path)
    assert link_of("wlan1") is None
    (tmp_path / "wlan1" / "master").symlink_to("../br-lan")
    assert link_of("wlan1") == "br-lan"


def test_an_absent_directory_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    (finding,) = asyncio.run(check_hostapd(tmp_path / "hostapd", lambda _: None, ["wlan0"]))
    assert finding.level == "error"
    assert f"ctrl_interface={tmp_path / 'hostapd'}" in finding.remedy


def test_an_empty_directory_serves_no_interface(tmp_path: Path) -> None:
    findings = asyncio.run(check_hostapd(tmp_path, lambda _: None, ["wlan0", "wlan1"]))
    assert [finding.level for finding in findings] == ["error", "error"]
    assert "belongs to wlan0" in findings[0].text


def test_the_fragment_names_the_directory_and_isolates_the_stations() -> None:
    lines = hostapd_fragment(Path("/var/run/hostapd"), ["br-lan"]).splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "ctrl_interface=/var/run/hostapd",
        "ap_isolate=1",
    ]
    assert "#bridge=br-lan" in lines
