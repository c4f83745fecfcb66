"""What `roamroute check` and the start of the daemon say of the neighbour table."""

from __future__ import annotations

import pytest

from roamroute.check_neighbours import judge
from roamroute.config import parse_config
from roamroute.export import Finding
from roamroute.linux.table_watch import NeighbourTables
from roamroute.sysctl import neighbour_table
from roamroute.wire.neighbour_tables import LinkTimes, TableEntry
from roamroute.wire.netlink import AF_INET6

CONFIG = parse_config(
    '[roaming]\ninterfaces = ["wlan0"]\nprefixes = ["fd44:0:0:1::/64"]\n[neighbours]\nstations = 2000'
)
NEEDED = neighbour_table(CONFIG)
DEFAULTS = (128, 512, 1024)
ENOUGH = (NEEDED.keep, NEEDED.soft_limit, NEEDED.hard_limit)


def findings(limits: tuple[int, int, int] = ENOUGH, **times: int) -> list[Finding]:
    usual = {"base_reachable_ms": 30000, "retrans_ms": 1000, "stale_ms": 60000, "unicast_solicitations": 3}
    link = LinkTimes(AF_INET6, 7, **(usual | times))
    other = LinkTimes(AF_INET6, 8, 1, 1, 1, 1)
    tables = {6: TableEntry(AF_INET6, *limits, entries=40, overflows=0)}
    return list(judge(CONFIG, NeighbourTables(tables, {(6, 7): link, (6, 8): other}), {7: "wlan0"}))


def test_a_table_that_is_large_enough_is_well_and_says_how_full_it_is() -> None:
    (room,) = findings()
    assert (room.level, room.subject) == ("ok", "ipv6 neighbour table")
    assert "40 are there" in room.text


def test_the_kernels_defaults_are_too_small_for_two_thousand_stations() -> None:
    room, collection = findings(DEFAULTS)
    assert room.level == "error"
    assert "room for 1024" in room.text
    assert "config sysctl" in room.remedy
    assert collection.level == "warning"
    assert "gc_stale_time=" in collection.remedy


@pytest.mark.parametrize("times", [{"retrans_ms": 200}, {"unicast_solicitations": 1}])
def test_times_that_would_kill_sleepers_are_warned_of(times: dict[str, int]) -> None:
    finding = findings(ENOUGH, **times)[1]
    assert (finding.level, finding.subject) == ("warning", "wlan0")


def test_a_round_of_the_kernel_must_end_before_we_take_its_silence_for_a_failure() -> None:
    finding = findings(retrans_ms=2000)[1]
    assert finding.level == "error"
    assert "policy.trial_s" in finding.text


def test_a_stale_time_is_no_matter_where_nothing_is_collected() -> None:
    assert len(findings(stale_ms=1000)) == 1


def test_a_soft_limit_that_is_too_low_is_warned_of() -> None:
    assert findings((NEEDED.keep, NEEDED.keep, NEEDED.hard_limit))[0].level == "warning"
