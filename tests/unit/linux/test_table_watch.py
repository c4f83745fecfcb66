"""Overflow of the neighbour table: told once in an episode. Collection: told when it begins near, and when it ends."""

from __future__ import annotations

from roamroute.linux.table_watch import NeighbourTables, TableWatch
from roamroute.wire.neighbour_tables import LinkTimes, TableEntry


class Logged:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, level: str, line: str) -> None:
        self.lines.append(f"{level} {line}")


def tables(entries: int = 10, overflows: int = 5, stale_ms: int = 60_000, version: int = 6) -> NeighbourTables:
    family = 10 if version == 6 else 2
    table = TableEntry(family, 128, 512, 1024, entries, overflows)
    times = LinkTimes(family, 7, 30_000, 1000, stale_ms, 3)
    other = LinkTimes(family, 8, 30_000, 1000, 1000, 3)
    return NeighbourTables({version: table}, {(version, 7): times, (version, 8): other})


def test_what_overflowed_before_our_start_is_no_episode() -> None:
    log = Logged()
    watch = TableWatch(log)
    assert not watch.look(tables(overflows=8792), 0.0)
    assert not watch.look(tables(overflows=8792), 5.0)
    assert (log.lines, watch.episodes) == ([], 0)


def test_an_overflow_is_told_once_however_long_it_lasts() -> None:
    log = Logged()
    watch = TableWatch(log)
    watch.look(tables(), 0.0)
    assert watch.look(tables(entries=1024, overflows=6), 5.0)
    for second in range(10, 300, 5):
        assert not watch.look(tables(entries=1024, overflows=second), float(second))
    (line,) = log.lines
    assert line.startswith("warning neighbour table overflow version=6 entries=1024 gc_thresh3=1024")
    assert "config sysctl" in line
    assert watch.episodes == 1
    assert watch.status()["ipv6"]["is_overflowing"]


def test_a_refused_probe_begins_an_episode_too() -> None:
    watch = TableWatch(Logged())
    watch.look(tables(), 0.0)
    assert watch.refused(6, 1.0)
    assert not watch.refused(6, 2.0)
    assert watch.refused(4, 2.0)
    assert watch.episodes == 2


def test_an_episode_ends_a_minute_after_the_last_refusal_and_everything_is_dumped_again() -> None:
    log = Logged()
    watch = TableWatch(log)
    watch.look(tables(), 0.0)
    watch.look(tables(overflows=6), 5.0)
    assert not watch.look(tables(overflows=6), 60.0)
    assert watch.look(tables(overflows=6), 65.0)
    assert log.lines[-1].startswith("info neighbour table has room again version=6")
    assert not watch.status()["ipv6"]["is_overflowing"]
    assert watch.look(tables(overflows=7), 70.0)
    assert watch.episodes == 2


def test_below_the_first_limit_nothing_is_collected() -> None:
    assert TableWatch(Logged()).collection(tables(entries=100), {7: "wlan0"}) is None


def test_a_collection_is_told_before_it_begins_and_not_at_every_look() -> None:
    watch = TableWatch(Logged())
    assert watch.collection(tables(entries=116), {7: "wlan0"}) == (("wlan0", 6, 60.0),)
    assert watch.collection(tables(entries=110), {7: "wlan0"}) is None
    assert watch.status()["is_collecting"]
    assert watch.collection(tables(entries=100), {7: "wlan0"}) == ()
    assert watch.collection(tables(entries=110), {7: "wlan0"}) is None


def test_each_ip_version_has_a_table_of_its_own() -> None:
    six, four = tables(entries=10), tables(entries=200, stale_ms=30_000, version=4)
    both = NeighbourTables({**six.tables, **four.tables}, {**six.times, **four.times})
    assert TableWatch(Logged()).collection(both, {7: "wlan0"}) == (("wlan0", 4, 30.0),)
