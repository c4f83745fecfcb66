"""The packet source: addresses that the neighbour cache cannot know, from stations' own frames.

A DAD solicitation makes no neighbour entry, and a station with a cached gateway sends data and no neighbour discovery
at all. One packet socket for each roaming interface sees ND and ARP always, and the source addresses of data only from
stations that are watched (`watch`), which ends when their addresses are known.

A flood cannot hurt: the kernel filters; what passes is read up to a limit each second and dropped beyond, in the
kernel. A watched station that sends much data is looked at for a part of each second only; one that sends too much ND
is not listened to for a while (the neighbour cache still learns it). The same address of the same station is reported
once a second. Nothing here is believed: an `AddressSeen` is a candidate that the engine has confirmed by the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Sequence

from roamroute.errors import MalformedInput
from roamroute.events import AddressSeen, Event
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log, attach_filter
from roamroute.values import Address, Instant, Mac, Prefix, Seconds
from roamroute.wire import ethernet, frames

_LOOK_S: Seconds = 1.0
_SECOND: Seconds = 1.0
_SAME_AGAIN_S: Seconds = 1.0
_REMEMBERED = 4096
_SHARE = 0.2
"""Of the frames of a second that one station may have. 100 suffice for the DAD of 16 addresses, six times over."""
_MUTED_S: Seconds = 10.0
_MOST_MUTED = 64
_BUFFER_BYTES = 256 * 1024
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 263, 6, 23  # linux/socket.h, linux/if_packet.h


class _Tap:
    """A packet socket on one interface."""

    def __init__(self, link: str, index: int) -> None:
        """Raises: OSError."""
        self.link = link
        self.index = index
        self.frames_left = 0
        self.refill_at: Instant = float("-inf")
        self.is_paused = False
        self.counts: dict[tuple[Mac, bool], int] = {}
        """Frames of each sender in this second, ND and data apart."""
        self.resting: set[Mac] = set()
        """Stations whose data has been looked at enough in this second."""
        self.muted: dict[Mac, Instant] = {}
        """Stations that are not listened to, and until when."""
        # Protocol 0 receives nothing: the filter stands before the first frame can come.
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            with contextlib.suppress(OSError):  # before Linux 4.20 the filter alone does it, at the price of a clone
                self.socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self.filter(())
            self.socket.bind((link, ethernet.ETH_P_ALL))
        except OSError:
            self.socket.close()
            raise

    def filter(self, watched: Sequence[Mac]) -> None:
        """Let ND and ARP pass, and data of `watched`; the kernel swaps filters without losing a frame.

        Raises: OSError, ENOMEM when the filter is too large for net.core.optmem_max.
        """
        attach_filter(self.socket, frames.station_filter(watched, self.muted))


class PacketSource:
    """Reports which addresses the frames of stations name; interfaces may come, go, and come back anew."""

    def __init__(
        self,
        links: Sequence[str],
        prefixes: Sequence[Prefix],
        emit_batch: Callable[[list[Event]], None],
        log: Log,
        *,
        frames_per_second: int = 500,
        clock: Callable[[], Instant] = time.monotonic,
    ) -> None:
        """Opens nothing yet.

        `prefixes`: only addresses inside them are reported. `frames_per_second`: of each interface; a frame costs
        some 15 us.
        """
        self._links = tuple(links)
        self._prefixes = tuple(prefixes)
        self._emit_batch = emit_batch
        self._repeats = Repeats(log, clock=clock)
        self._frames_per_second = frames_per_second
        self._clock = clock
        self._own: frozenset[Mac] = frozenset()
        self._watched: dict[str, dict[Mac, None]] = {link: {} for link in self._links}
        self._reported: dict[tuple[str, Mac, Address], Instant] = {}
        self._taps: dict[str, _Tap] = {}
        self._is_running = False
        self.dropped_frames = 0
        """Frames beyond the limit, dropped unread."""

    async def run(self) -> None:
        """Listen until cancelled."""
        self._is_running = True
        try:
            while True:
                self.link_changed()
                await asyncio.sleep(_LOOK_S)
        finally:
            self._is_running = False
            for link in list(self._taps):
                self._close(link)

    def link_changed(self) -> None:
        """Look which interfaces are there, open and close sockets accordingly. Cheap: 3 us an interface."""
        if not self._is_running:
            return
        for link in self._links:
            try:
                index = socket.if_nametoindex(link)
            except OSError:
                index = 0
            tap = self._taps.get(link)
            if tap is not None and tap.index != index:
                self._close(link)
            if index and link not in self._taps:
                self._open(link, index)

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
        self._refilter(link)

    def unwatch(self, link: str, mac: Mac) -> None:
        """Do not look at this station's data any more."""
        if mac in self._watched.get(link, {}):
            del self._watched[link][mac]
            self._refilter(link)

    def _open(self, link: str, index: int) -> None:
        try:
            tap = _Tap(link, index)
        except OSError as error:
            self._repeats.tell("error", f"open {link}", f'no packet socket link={link} because="{error}"')
            return
        self._taps[link] = tap
        self._refilter(link)
        asyncio.get_running_loop().add_reader(tap.socket.fileno(), self._readable, tap)

    def _close(self, link: str) -> None:
        tap = self._taps.pop(link)
        asyncio.get_running_loop().remove_reader(tap.socket.fileno())
        tap.socket.close()

    def _refilter(self, link: str) -> None:
        tap = self._taps.get(link)
        if tap is None or tap.is_paused:
            return
        watched = self._watched[link]
        while True:
            try:
                tap.filter([mac for mac in watched if mac not in tap.resting])
                return
            except OSError as error:
                if error.errno != errno.ENOMEM or not watched:
                    self._repeats.tell(
                        "error", f"filter {link}", f'packet filter refused link={link} because="{error}"'
                    )
                    return
            for mac in list(watched)[: (len(watched) + 1) // 2]:
                del watched[mac]
            text = f"too many stations to watch for net.core.optmem_max limit={len(watched)} link={link}"
            self._repeats.tell("warning", "watch", text)

    def _readable(self, tap: _Tap) -> None:
        now = self._clock()
        if now >= tap.refill_at:
            tap.refill_at = now + _SECOND
            tap.frames_left = self._frames_per_second
            tap.counts.clear()
        events: list[Event] = []
        while tap.frames_left > 0:
            try:
                frame = tap.socket.recv(frames.SNAP_BYTES)
            except BlockingIOError:
                break
            except OSError as error:  # ENETDOWN once when the interface goes down; the socket stays usable
                self._repeats.tell("debug", f"read {tap.link}", f'packet socket link={tap.link} because="{error}"')
                break
            tap.frames_left -= 1
            self._look(tap, frame, now, events)
        if tap.frames_left <= 0:
            self._pause(tap, tap.refill_at - now)
        if events:
            self._emit_batch(events)

    def _look(self, tap: _Tap, frame: bytes, now: Instant, events: list[Event]) -> None:
        try:
            seen = frames.parse(frame)
        except MalformedInput:
            return  # anybody may send such; the kernel drops it as well
        if seen is not None:
            self._count(tap, seen.mac, seen.telling is frames.Telling.DATA, now)
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

    def _count(self, tap: _Tap, mac: Mac, is_data: bool, now: Instant) -> None:
        """Keep a station to its share."""
        count = tap.counts.get((mac, is_data), 0) + 1
        tap.counts[mac, is_data] = count
        if count != int(self._frames_per_second * _SHARE):
            return
        loop = asyncio.get_running_loop()
        if is_data:
            tap.resting.add(mac)
            loop.call_later(max(tap.refill_at - now, 0.0), self._wake, tap, mac)
        elif mac not in tap.muted and len(tap.muted) < _MOST_MUTED:
            tap.muted[mac] = now + _MUTED_S
            text = f"station sends too much, not listened to for {_MUTED_S:g} s mac={mac} link={tap.link}"
            self._repeats.tell("warning", f"muted {tap.link}", text)
            loop.call_later(_MUTED_S, self._unmute, tap, mac)
        self._refilter(tap.link)

    def _wake(self, tap: _Tap, mac: Mac) -> None:
        tap.resting.discard(mac)
        if self._taps.get(tap.link) is tap:
            self._refilter(tap.link)

    def _unmute(self, tap: _Tap, mac: Mac) -> None:
        tap.muted.pop(mac, None)
        if self._taps.get(tap.link) is tap:
            self._refilter(tap.link)

    def _pause(self, tap: _Tap, delay_s: Seconds) -> None:
        """Too much: let the kernel drop what comes until the second is over."""
        tap.is_paused = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(tap.socket.fileno())
        loop.call_later(max(delay_s, 0.0), self._resume, tap)

    def _resume(self, tap: _Tap) -> None:
        if self._taps.get(tap.link) is not tap:
            return
        tap.is_paused = False
        dropped = self._drain(tap)
        if dropped:
            self.dropped_frames += dropped
            text = f"too many frames from stations link={tap.link} limit={self._frames_per_second}/s dropped={dropped}"
            self._repeats.tell("warning", f"flood {tap.link}", text)
        self._refilter(tap.link)
        asyncio.get_running_loop().add_reader(tap.socket.fileno(), self._readable, tap)

    def _drain(self, tap: _Tap) -> int:
        """Throw away what piled up in the pause (it is stale by now); return how many frames were lost in it."""
        lost = 0
        with contextlib.suppress(OSError):
            for _ in range(_REMEMBERED):  # the buffer holds some 300 frames
                tap.socket.recv(1)
                lost += 1
        dropped: int = struct.unpack("=II", tap.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        return lost + dropped
