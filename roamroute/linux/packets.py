"""The packet source: addresses that the neighbour cache cannot know, from stations' own frames.

A DAD solicitation makes no neighbour entry, and a station with a cached gateway sends data and no neighbour discovery
at all. One packet socket for each roaming interface sees ND and ARP always, and the source addresses of data only from
stations that are watched (`watch`), which ends when their addresses are known.

A flood cannot hurt (`taps`): a watched station that sends much data is looked at for a part of each second only; one
that sends too much ND is not listened to for a while (the neighbour cache still learns it). The same address of the
same station is reported once a second. Nothing here is believed: an `AddressSeen` is a candidate that the engine has
confirmed by the kernel.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from roamroute.errors import MalformedInput
from roamroute.events import AddressSeen, Event, StationAnnounced
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log
from roamroute.linux.taps import Rate, Tap, Taps
from roamroute.values import Address, Instant, Mac, Prefix, Seconds
from roamroute.wire import frames

_SAME_AGAIN_S: Seconds = 1.0
_REMEMBERED = 4096
_SHARE = 0.2
"""Of the frames of a second that one station may have. 100 suffice for the DAD of 16 addresses, six times over."""
_BUFFER_BYTES = 256 * 1024
_DATA, _DISCOVERY = "data", "discovery"


class PacketSource:
    """Reports which addresses the frames of stations name; interfaces may come, go, and come back anew."""

    def __init__(
        self,
        links: Sequence[str],
        prefixes: Sequence[Prefix],
        emit_batch: Callable[[list[Event]], None],
        log: Log,
        *,
        is_hearing_update_frames: bool = False,
        frames_per_second: int = 500,
        clock: Callable[[], Instant] = time.monotonic,
    ) -> None:
        """Opens nothing yet.

        `prefixes`: only addresses inside them are reported. `is_hearing_update_frames`: also report the stations that
        bridges behind us announce. `frames_per_second`: of each interface; a frame costs some 15 us.
        """
        self._is_hearing_update_frames = is_hearing_update_frames
        self._prefixes = tuple(prefixes)
        self._emit_batch = emit_batch
        self._repeats = Repeats(log, clock=clock)
        self._share = int(frames_per_second * _SHARE)
        self._own: frozenset[Mac] = frozenset()
        self._watched: dict[str, dict[Mac, None]] = {link: {} for link in links}
        self._resting: dict[str, set[Mac]] = {link: set() for link in links}
        """Stations whose data has been looked at enough in this second."""
        self._reported: dict[tuple[str, Mac, Address], Instant] = {}
        self._taps = Taps(
            links,
            Rate(frames_per_second, frames.SNAP_BYTES, _BUFFER_BYTES),
            self._repeats,
            program=self._program,
            heard=self._heard,
            shrink=self._watch_fewer,
            clock=clock,
        )

    @property
    def dropped_frames(self) -> int:
        """Frames beyond the limit, dropped unread."""
        return self._taps.dropped_frames

    async def run(self) -> None:
        """Listen until cancelled."""
        await self._taps.run()

    def link_changed(self) -> None:
        """Look which interfaces are there. Cheap: 3 us an interface."""
        self._taps.link_changed()

    def own_macs(self, macs: frozenset[Mac]) -> None:
        """Never report frames of these senders: they are ours."""
        self._own = macs

    def watch(self, link: str, mac: Mac) -> None:
        """Report the source addresses of this station's data too. Above 500 stations the oldest is given up."""
        watched = self._watched.get(link)
        if watched is None:
            return
        watched.pop(mac, None)
        watched[mac] = None
        if len(watched) > frames.MAX_WATCHED:
            del watched[next(iter(watched))]
            self._repeats.tell("warning", "watch", f"too many stations to watch limit={frames.MAX_WATCHED} link={link}")
        self._reported = {key: told for key, told in self._reported.items() if key[1] != mac}
        self._taps.refilter(link)

    def unwatch(self, link: str, mac: Mac) -> None:
        """Do not look at this station's data any more."""
        if mac in self._watched.get(link, {}):
            del self._watched[link][mac]
            self._taps.refilter(link)

    def _program(self, tap: Tap) -> bytes:
        resting = self._resting[tap.link]
        watched = [mac for mac in self._watched[tap.link] if mac not in resting]
        return frames.station_filter(watched, tap.muted, is_hearing_update_frames=self._is_hearing_update_frames)

    def _watch_fewer(self, tap: Tap) -> bool:
        watched = self._watched[tap.link]
        if not watched:
            return False
        for mac in list(watched)[: (len(watched) + 1) // 2]:
            del watched[mac]
        text = f"too many stations to watch for net.core.optmem_max limit={len(watched)} link={tap.link}"
        self._repeats.tell("warning", "watch", text)
        return True

    def _heard(self, tap: Tap, received: list[bytes], now: Instant) -> None:
        events: list[Event] = []
        for frame in received:
            self._look(tap, frame, now, events)
        if events:
            self._emit_batch(events)

    def _look(self, tap: Tap, frame: bytes, now: Instant, events: list[Event]) -> None:
        if self._is_hearing_update_frames and (mac := frames.announced_station(frame)) is not None:
            self._count(tap, mac, _DISCOVERY, now)
            if mac not in self._own:
                events.append(StationAnnounced(mac, tap.link))
            return
        try:
            seen = frames.parse(frame)
        except MalformedInput:  # anybody may send such; the kernel drops it as well
            self._count(tap, Mac(frame[6:12].hex(":")), _DISCOVERY, now)
            return
        if seen is not None:
            self._count(tap, seen.mac, _DATA if seen.telling is frames.Telling.DATA else _DISCOVERY, now)
        if seen is None or seen.mac in self._own or not any(seen.address in prefix for prefix in self._prefixes):
            return
        if seen.telling is frames.Telling.DATA and seen.mac not in self._watched[tap.link]:
            return  # came through before the filter was changed
        key = (tap.link, seen.mac, seen.address)
        if now - self._reported.get(key, float("-inf")) < _SAME_AGAIN_S:
            return
        self._reported.pop(key, None)
        self._reported[key] = now
        if len(self._reported) > _REMEMBERED:
            del self._reported[next(iter(self._reported))]
        events.append(AddressSeen(tap.link, seen.mac, seen.address))

    def _count(self, tap: Tap, mac: Mac, kind: str, now: Instant) -> None:
        """Keep a station to its share."""
        if self._taps.count(tap, mac, kind) != self._share:
            return
        if kind == _DISCOVERY:
            self._taps.mute(tap, mac)
            return
        self._resting[tap.link].add(mac)
        asyncio.get_running_loop().call_later(max(tap.refill_at - now, 0.0), self._wake, tap.link, mac)
        self._taps.refilter(tap.link)

    def _wake(self, link: str, mac: Mac) -> None:
        self._resting[link].discard(mac)
        self._taps.refilter(link)
