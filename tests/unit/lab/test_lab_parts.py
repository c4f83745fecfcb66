"""roamroute.lab: addresses, configuration text, downloads and the report, without a lab."""

from __future__ import annotations

import json
import math
import tomllib
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import attrs
import pytest
from rich.console import Console

from roamroute.lab import addresses
from roamroute.lab.gaps import FlowGap
from roamroute.lab.options import LabOptions
from roamroute.lab.report import Report
from roamroute.lab.roaming import toml_text, write_key
from roamroute.lab.roams import Roam, Walk
from roamroute.lab.traffic import DownloadResult
from roamroute.lab.waiting import NotReached, wait_until

NONE_LOST = FlowGap(gap_s=0.1, outage_s=0.16, lost=15, lost_after=10, last_lost_s=0.09)
NEVER = FlowGap(gap_s=math.inf, outage_s=math.inf, lost=3000, lost_after=2995, last_lost_s=29.9)
DOWNLOAD = DownloadResult(3000, True, "", ((1.0, 1000), (1.25, 2000), (1.3, 3000)), ended_at=1.4)


def roam(number: int, *, downlink: FlowGap = NONE_LOST, is_first_visit: bool = False) -> Roam:
    return Roam(
        mode="roamroute",
        behaviour="silent",
        number=number,
        walk=1,
        mac=addresses.host_mac(1),
        origin="ap1",
        destination="ap2",
        is_same_router=True,
        is_first_visit=is_first_visit,
        connected_at=float(number),
        layer_2_s=0.052,
        downlink=downlink,
        all_addresses=downlink,
        correspondent=NONE_LOST,
    )


def report(*roams: Roam) -> Report:
    walk = Walk("roamroute", "silent", 1, 0.4, DOWNLOAD)
    return Report(LabOptions(json_file=Path("x.json")), {"roamroute": "0.1"}, 3.0, [walk], roams)


def test_access_points_have_the_addresses_of_the_documentation() -> None:
    assert addresses.router_address(2) == IPv6Address("fd44:0:0:a::2")
    assert addresses.router_address(101) == IPv6Address("fd44:0:0:a::101")


def test_addresses_of_clients_differ_and_lie_in_the_roaming_prefix() -> None:
    found = [address for identity in (1, 2, 0xF001) for address in addresses.host_addresses(identity, 8)]
    assert len(set(found)) == 24
    assert all(address in addresses.ROAMING_PREFIX for address in found)


def test_an_ipv4_client_never_gets_the_gateways_address() -> None:
    taken = {addresses.host_address_ipv4(identity) for identity in range(1000)}
    assert addresses.CLIENT_GATEWAY_IPV4 not in taken
    assert IPv4Address("10.44.0.255") not in taken


def test_a_configuration_survives_toml() -> None:
    tables = {"roaming": {"interfaces": ["wlan0"], "n": 3, "f": 0.5}, "a.b": {"yes": True, "path": 'C:\\"x"'}}
    assert tomllib.loads(toml_text(tables)) == {"roaming": tables["roaming"], "a": {"b": tables["a.b"]}}


def test_the_peers_key_is_for_root_alone(tmp_path: Path) -> None:
    path = write_key(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32


def test_a_stall_is_the_longest_time_between_two_reads() -> None:
    assert DOWNLOAD.longest_stall_s() == pytest.approx(0.25)


def test_a_stall_belongs_to_the_roam_in_whose_time_it_reaches() -> None:
    assert DOWNLOAD.longest_stall_s(1.2, 1.28) == pytest.approx(0.25)
    assert DOWNLOAD.longest_stall_s(1.26, 2.0) == pytest.approx(0.05)


def test_a_download_that_never_ended_stood_still_until_the_lab_ended_it() -> None:
    stuck = attrs.evolve(DOWNLOAD, is_verified=False, ended_at=31.3)
    assert stuck.longest_stall_s() == pytest.approx(30.0)


def test_a_run_is_not_well_when_a_roam_failed_but_the_plain_idea_may_fail() -> None:
    assert report(roam(1)).is_well()
    assert not report(roam(1, downlink=NEVER)).is_well()
    assert report(attrs.evolve(roam(1, downlink=NEVER), mode="plain")).is_well()


def test_first_visits_and_returns_are_summed_up_apart() -> None:
    summaries = report(roam(1, is_first_visit=True), roam(2), roam(3)).summaries()
    counts = {one.visits: one.roams for one in summaries if one.direction == "downlink"}
    assert counts == {"all": 3, "first visits": 1, "returns": 2}


def test_the_json_holds_every_roam_and_no_infinity() -> None:
    text = json.dumps(report(roam(1), roam(2, downlink=NEVER)).as_json(), allow_nan=False)
    roams = json.loads(text)["roams"]
    assert [one["downlink"]["gap_s"] for one in roams] == [0.1, None]
    assert [one["has_failed"] for one in roams] == [False, True]


def test_a_failure_is_counted_and_printed() -> None:
    console = Console(record=True, width=160)
    found = report(roam(1), roam(2, downlink=NEVER))
    found.print(console)
    printed = console.export_text()
    assert "over 30 s" in printed
    assert "did not come back within 30 s: roamroute, silent, roam 2, ap1 to ap2" in printed


def test_the_other_addresses_alone_do_not_make_a_failure() -> None:
    assert not attrs.evolve(roam(1), all_addresses=NEVER).has_failed


def test_a_wait_says_what_it_waited_for() -> None:
    with pytest.raises(NotReached, match="until the moon is blue"):
        wait_until(lambda: False, "the moon is blue", 0.0, poll_s=0.0)
