"""Packet sockets on interfaces that come and go, which no flood can use to keep the daemon busy.

The kernel filters. What passes is read up to a limit each second and dropped beyond, in the kernel. A station that is
found to send too much can be muted, by the filter as well, so that the others still get through.

Solicitations go to groups that we are not in, so the interface is asked for all groups. A bridge with multicast
snooping keeps from itself what is for groups that only its ports have joined, as a host has that solicits. Since Linux
6.16 it gives way to who asks for all groups; before, only to the promiscuous mode (br_input.c,
br_handle_frame_finish).

A packet socket is never closed while the daemon runs: that waits for an RCU grace period, 5 to 60 ms (Linux 6.18
packet_release). One whose interface has gone waits for it to come back, and is bound anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence

import attrs

from roamroute.errors import KernelRefused, MalformedInput
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Requests, ask_for_receive_buffer, attach_filter
from roamroute.values import Instant, Mac, Seconds
from roamroute.wire import ethernet, netlink
from roamroute.wire.tunnelled import nothing_filter

_LOOK_S: Seconds = 1.0
_SECOND: Seconds = 1.0
_AT_ONCE = 64
"""Frames read before others have their turn in the loop: about a millisecond."""
_DRAINED = 8192
_MUTED_S: Seconds = 10.0
_MOST_MUTED = 64
# linux/socket.h, linux/if_packet.h
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_DROP_MEMBERSHIP = 263, 1, 2
_PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 6, 23
_PACKET_MR_PROMISC, _PACKET_MR_ALLMULTI = 1, 2
_BRIDGE_YIELDS_SINCE = (6, 16)


@attrs.frozen
class Rate:
    """`frames_per_second`: of each interface. `buffer_bytes`: what the kernel keeps until we come to read."""

    frames_per_second: int
    snap_bytes: int
    buffer_bytes: int


class Tap:
    """A packet socket on one interface."""

    def __init__(self, link: str, rate: Rate) -> None:
        """Bound to nothing yet. Raises: OSError."""
        self.link = link
        self.index = 0
        """Of the interface it is bound to; 0: of none."""
        self._membership = b""
        self.frames_left = 0
        self.refill_at: Instant = float("-inf")
        self.is_paused = False
        self.counts: dict[tuple[Mac, str], int] = {}
        """Frames of each sender in this second, by what the caller tells apart."""
        self.chosen: frozenset[Mac] | None = None
        """Too much comes from too many: only these are heard."""
        self.muted: set[Mac] = set()
        """Stations that are not listened to for a while."""
        # Protocol 0 receives nothing: the filter stands before the first frame can come.
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self.socket.setblocking(False)
            ask_for_receive_buffer(self.socket, rate.buffer_bytes)
            with contextlib.suppress(OSError):  # before Linux 4.20 the filter alone does it, at the price of a clone
                self.socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            attach_filter(self.socket, nothing_filter())
        except OSError:
            self.socket.close()
            raise

    def bind(self, index: int) -> None:
        """Listen on the interface that has this index now. Raises: OSError."""
        self.index = index
        self.socket.bind((self.link, ethernet.ETH_P_ALL))
        self._membership = struct.pack("@iHH8x", index, _membership(index), 0)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, self._membership)

    def leave(self) -> None:
        """The interface has gone, or has another name now: listen to nothing."""
        self.index = 0
        with contextlib.suppress(OSError):  # of an interface that has gone the kernel has forgotten it
            self.socket.setsockopt(_SOL_PACKET, _PACKET_DROP_MEMBERSHIP, self._membership)
        with contextlib.suppress(OSError):
            attach_filter(self.socket, nothing_filter())
        self.drain()

    def drain(self) -> int:
        """Throw away what is there; return how many frames were lost with it."""
        lost = 0
        for _ in range(_DRAINED):
            try:
                self.socket.recv(1)
            except BlockingIOError:
                break
            except OSError:  # ENETDOWN, once
                continue
            lost += 1
        dropped: int = struct.unpack("=II", self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        return lost + dropped


class Taps:
    """One tap for each of some interfaces, from `run` until it is cancelled."""

    def __init__(
        self,
        links: Sequence[str],
        rate: Rate,
        repeats: Repeats,
        *,
        program: Callable[[Tap], bytes],
        heard: Callable[[Tap, list[bytes], Instant], None],
        shrink: Callable[[Tap], bool] = lambda tap: False,
        choose: Callable[[Tap], frozenset[Mac] | None] = lambda tap: None,
        clock: Callable[[], Instant] = time.monotonic,
    ) -> None:
        """Opens nothing yet.

        `program`: the filter that a tap has to have now. `shrink`: the kernel has no room for it, let it be shorter;
        False when it cannot be. `choose`: who is heard on when there is too much; None: nobody, until the second is
        over. `program` has to heed it.
        """
        self._links = tuple(links)
        self._rate = rate
        self._repeats = repeats
        self._program = program
        self._heard = heard
        self._shrink = shrink
        self._choose = choose
        self._clock = clock
        self._taps: dict[str, Tap] = {}
        self._is_running = False
        self.dropped_frames = 0
        """Frames beyond the limit, dropped unread."""
        self.muted_stations = 0
        """How often a station was muted."""

    async def run(self) -> None:
        """Listen until cancelled."""
        self._is_running = True
        try:
            while True:
                self.link_changed()
                await asyncio.sleep(_LOOK_S)
        finally:
            self._is_running = False
            taps, self._taps = self._taps, {}
            for tap in taps.values():
                asyncio.get_running_loop().remove_reader(tap.socket.fileno())
                tap.socket.close()

    def link_changed(self) -> None:
        """Look which interfaces are there, listen accordingly. Cheap: 3 us an interface."""
        if not self._is_running:
            return
        for link in self._links:
            try:
                index = socket.if_nametoindex(link)
            except OSError:
                index = 0
            tap = self._taps.get(link)
            if tap is not None and tap.index and tap.index != index:
                asyncio.get_running_loop().remove_reader(tap.socket.fileno())
                tap.leave()
            if index and (tap is None or not tap.index):
                self._listen(link, index)

    def refilter(self, link: str) -> None:
        """The filter is to be another: put it in place. The kernel swaps filters without losing a frame."""
        tap = self._taps.get(link)
        if tap is None or tap.is_paused or not tap.index:
            return
        while True:
            try:
                attach_filter(tap.socket, self._program(tap))
                return
            except OSError as error:
                if error.errno != errno.ENOMEM or not self._shrink(tap):
                    self._repeats.tell(
                        "error", f"filter {link}", f'packet filter refused link={link} because="{error}"'
                    )
                    return

    def count(self, tap: Tap, mac: Mac, kind: str) -> int:
        """How many frames of this kind the station has sent in this second, with this one."""
        count = tap.counts.get((mac, kind), 0) + 1
        tap.counts[mac, kind] = count
        return count

    def mute(self, tap: Tap, mac: Mac) -> None:
        """Do not listen to the station for a while; of very many only to the first."""
        if mac in tap.muted or len(tap.muted) >= _MOST_MUTED:
            return
        tap.muted.add(mac)
        self.muted_stations += 1
        text = f"station sends too much, not listened to for {_MUTED_S:g} s mac={mac} link={tap.link}"
        self._repeats.tell("warning", f"muted {tap.link}", text)
        asyncio.get_running_loop().call_later(_MUTED_S, self._unmute, tap, mac)
        self.refilter(tap.link)

    def _unmute(self, tap: Tap, mac: Mac) -> None:
        tap.muted.discard(mac)
        self.refilter(tap.link)

    def _listen(self, link: str, index: int) -> None:
        try:
            tap = self._taps.get(link) or Tap(link, self._rate)
            self._taps[link] = tap
            tap.bind(index)
        except OSError as error:
            if link in self._taps:
                self._taps[link].index = 0
            self._repeats.tell("error", f"open {link}", f'no packet socket link={link} because="{error}"')
            return
        self.refilter(link)
        if not tap.is_paused:
            asyncio.get_running_loop().add_reader(tap.socket.fileno(), self._readable, tap)

    def _readable(self, tap: Tap) -> None:
        now = self._clock()
        if now >= tap.refill_at:
            tap.refill_at = now + _SECOND
            tap.frames_left = self._rate.frames_per_second
            tap.counts.clear()
        frames: list[bytes] = []
        for _ in range(min(tap.frames_left, _AT_ONCE)):
            try:
                frame = tap.socket.recv(self._rate.snap_bytes)
            except BlockingIOError:
                break
            except OSError as error:  # ENETDOWN once when the interface goes down; the socket stays usable
                self._repeats.tell("debug", f"read {tap.link}", f'packet socket link={tap.link} because="{error}"')
                break
            if tap.chosen is not None and Mac(frame[6:12].hex(":")) not in tap.chosen:
                self.dropped_frames += 1  # came before the filter was changed
                continue
            tap.frames_left -= 1
            frames.append(frame)
        if frames:
            self._heard(tap, frames, now)
        if tap.frames_left > 0 or tap.is_paused:
            return
        if tap.chosen is None:
            tap.chosen = self._choose(tap)
            if tap.chosen is not None:
                self._select(tap, tap.refill_at - now)
                return
        self._pause(tap, tap.refill_at - now)

    def _select(self, tap: Tap, delay_s: Seconds) -> None:
        """Too much: hear only the chosen until the second is over, half as many frames again."""
        tap.frames_left = self._rate.frames_per_second // 2
        self.refilter(tap.link)
        self._tell_flood(tap, 0)
        asyncio.get_running_loop().call_later(max(delay_s, 0.0), self._select_no_longer, tap)

    def _select_no_longer(self, tap: Tap) -> None:
        tap.chosen = None
        self.refilter(tap.link)

    def _pause(self, tap: Tap, delay_s: Seconds) -> None:
        """Too much: let the kernel drop what comes until the second is over."""
        tap.is_paused = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(tap.socket.fileno())
        loop.call_later(max(delay_s, 0.0), self._resume, tap)

    def _resume(self, tap: Tap) -> None:
        if self._taps.get(tap.link) is not tap:
            return
        tap.is_paused = False
        if not tap.index:
            return
        dropped = tap.drain()
        if dropped:
            self.dropped_frames += dropped
            self._tell_flood(tap, dropped)
        self.refilter(tap.link)
        asyncio.get_running_loop().add_reader(tap.socket.fileno(), self._readable, tap)

    def _tell_flood(self, tap: Tap, dropped: int) -> None:
        limit = self._rate.frames_per_second
        fate = f"dropped={dropped}" if tap.chosen is None else f"heard_on={len(tap.chosen)}"
        text = f"too many frames from stations link={tap.link} limit={limit}/s {fate}"
        self._repeats.tell("warning", f"flood {tap.link}", text)


def kernel_version() -> tuple[int, ...]:
    """Of this machine: (6, 18)."""
    digits = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(part) for part in digits if part.isdigit())


def _membership(index: int) -> int:
    if kernel_version() >= _BRIDGE_YIELDS_SINCE:
        return _PACKET_MR_ALLMULTI
    try:
        requests = Requests()
        try:
            (answer,) = requests.get(netlink.RTM_GETLINK, netlink.link_body(index=index))
        finally:
            requests.close()
        return _PACKET_MR_PROMISC if netlink.decode_link(answer).has_snooping else _PACKET_MR_ALLMULTI
    except (KernelRefused, MalformedInput, OSError):
        return _PACKET_MR_ALLMULTI
