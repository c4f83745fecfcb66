"""How full the kernel's neighbour tables are: whether it collects, and whether new neighbours still find room.

The tables are those of the whole machine, whichever network namespace asks (Linux 6.18 neightbl_dump_info). Opens
nothing: who has a socket hands it over.

Above gc_thresh1 the kernel takes what is STALE for gc_stale_time, counted from its last confirmation or use; above
gc_thresh2, with each new neighbour, all that is STALE for more than 5 s; above gc_thresh3, when that frees nothing,
new neighbours are refused. An *episode* is a time in which that happens; it is told once, with what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from roamroute.linux.rtnetlink import Log, Requests
from roamroute.values import Instant, Seconds
from roamroute.wire import netlink
from roamroute.wire.neighbour_tables import RTM_GETNEIGHTBL, LinkTimes, TableEntry, decode_table, tables_body

LOOK_S: Seconds = 5.0
"""A look costs 0.1 ms of processor time, and the kernel's own collections are at least 5 s apart."""
_QUIET_S: Seconds = 60.0  # an episode has ended when nobody was refused for so long
_NEAR = 0.9  # of gc_thresh1: so that the schedule is ahead of the collector when it begins
_FAR = 0.8
_VERSIONS = {netlink.AF_INET: 4, netlink.AF_INET6: 6}
_REMEDY = (
    "roamroute check -c FILE; if it finds room enough, raise [neighbours] stations or see who fills the table "
    "(ip neigh), then roamroute config sysctl -c FILE > /etc/sysctl.d/90-roamroute.conf; sysctl --system"
)


@attrs.frozen
class NeighbourTables:
    """The tables by IP version, and the times by (IP version, interface index)."""

    tables: Mapping[int, TableEntry]
    times: Mapping[tuple[int, int], LinkTimes]


def read_tables(requests: Requests) -> NeighbourTables:
    """Ask the kernel. Raises: KernelRefused, MalformedInput."""
    tables: dict[int, TableEntry] = {}
    times: dict[tuple[int, int], LinkTimes] = {}
    for message in requests.dump(RTM_GETNEIGHTBL, tables_body()):
        entry = decode_table(message)
        if entry is None or entry.family not in _VERSIONS:
            continue
        version = _VERSIONS[entry.family]
        if isinstance(entry, TableEntry):
            tables[version] = entry
        else:
            times[version, entry.ifindex] = entry
    return NeighbourTables(tables, times)


class TableWatch:
    """Follows the tables from one look to the next."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.tables: Mapping[int, TableEntry] = {}
        """As of the last look, by IP version."""
        self.overflowing: dict[int, Instant] = {}
        """The IP versions whose episode goes on, with the time of the last refusal."""
        self.episodes = 0
        self._collecting: frozenset[int] = frozenset()
        self._after_s: tuple[tuple[str, int, Seconds], ...] = ()

    def status(self) -> dict[str, Any]:
        """For `roamroute status`: see docs/json.md, "neighbour_table"."""
        told: dict[str, Any] = {
            f"ipv{version}": {
                "entries": table.entries,
                "gc_thresh1": table.keep,
                "gc_thresh2": table.soft_limit,
                "gc_thresh3": table.hard_limit,
                "is_overflowing": version in self.overflowing,
            }
            for version, table in sorted(self.tables.items())
        }
        return told | {"overflows": self.episodes, "is_collecting": bool(self._after_s)}

    def look(self, read: NeighbourTables, now: Instant) -> bool:
        """Take a look; True when an episode has begun or ended, so that everything is to be dumped again."""
        is_news = False
        for version, table in read.tables.items():
            before = self.tables.get(version)
            self.tables = {**self.tables, version: table}
            if before is not None and table.overflows != before.overflows:
                is_news = self.refused(version, now) or is_news
        for version, last in tuple(self.overflowing.items()):
            if now - last >= _QUIET_S:
                del self.overflowing[version]
                self._log("info", f"neighbour table has room again version={version} {self._fill(version)}")
                is_news = True
        return is_news

    def refused(self, version: int, now: Instant) -> bool:
        """A neighbour was refused; True when that begins an episode."""
        is_news = version not in self.overflowing
        self.overflowing[version] = now
        if is_news:
            self.episodes += 1
            self._log(
                "warning",
                f"neighbour table overflow version={version} {self._fill(version)} "
                'because="new neighbours are not learnt, stale ones are thrown out; hosts that are known keep their '
                f'routes and are asked again" remedy="{_REMEDY}"',
            )
        return is_news

    def _fill(self, version: int) -> str:
        table = self.tables.get(version)
        return "entries=?" if table is None else f"entries={table.entries} gc_thresh3={table.hard_limit}"

    def collection(
        self, read: NeighbourTables, links: Mapping[int, str]
    ) -> tuple[tuple[str, int, Seconds], ...] | None:
        """Where on the links (by index) the kernel collects, as in `CollectionChanged`; None when that is as it was."""
        self._collecting = frozenset(
            version
            for version, table in read.tables.items()
            if table.entries >= (_FAR if version in self._collecting else _NEAR) * table.keep
        )
        after_s = tuple(
            (links[index], version, times.stale_ms / 1000)
            for (version, index), times in sorted(read.times.items())
            if version in self._collecting and index in links
        )
        if after_s == self._after_s:
            return None
        self._after_s = after_s
        return after_s
