"""Hears duplicate address detection and router discovery on client links, for the DAD proxy and router advertisements.

A packet socket of its own for each link: a flood of data or of other discovery cannot deafen it. Each message is told
at once. Whoever sends more than a host has reason to is not listened to for a while; all others still are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from roamroute.errors import MalformedInput
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log
from roamroute.linux.taps import Rate, Tap, Taps
from roamroute.values import DadMessage, Instant, Mac
from roamroute.wire import discovery, ethernet
from roamroute.wire.discovery import RouterSolicitation
from roamroute.wire.frames import MAX_WATCHED
from roamroute.wire.router_advertisements import HeardRouter

Heard = DadMessage | RouterSolicitation | HeardRouter

FRAMES_PER_SECOND = 2000
"""Of each link. 600 stations that arrive at once, each with a router solicitation and the DAD of two addresses."""
STATION_FRAMES_PER_SECOND = 100
"""Of each station: the DAD of 16 addresses, six times over."""
_BUFFER_BYTES = 2 << 20
"""Some 2,000 small frames, should the daemon be held up for a second."""


class DiscoveryTap:
    """Listens from `run` until it is cancelled; interfaces may come, go, and come back anew."""

    def __init__(
        self,
        links: Sequence[str],
        heard: Callable[[str, Heard], None],
        log: Log,
        *,
        frames_per_second: int = FRAMES_PER_SECOND,
        station_frames_per_second: int = STATION_FRAMES_PER_SECOND,
        stations: Callable[[str], Collection[Mac]] = lambda link: (),
        clock: Callable[[], Instant] = time.monotonic,
    ) -> None:
        """Opens nothing yet. `heard`: called in the loop with the link and the message.

        `stations`: those that are known to be on a link. When a flood comes from ever new senders, they are heard on.
        """
        self._stations = stations
        self._heard = heard
        self._repeats = Repeats(log, clock=clock)
        self._share = station_frames_per_second
        self._own: frozenset[bytes] = frozenset()
        self._taps = Taps(
            links,
            Rate(frames_per_second, discovery.SNAP_BYTES, _BUFFER_BYTES),
            self._repeats,
            program=self._program,
            heard=self._look_at_all,
            choose=self._choose,
            clock=clock,
        )
        self.heard_messages = 0
        self.malformed_frames = 0

    @property
    def dropped_frames(self) -> int:
        """Frames beyond the limit of a link, dropped unread."""
        return self._taps.dropped_frames

    @property
    def muted_stations(self) -> int:
        """How often a station was muted because it sent too much."""
        return self._taps.muted_stations

    async def run(self) -> None:
        """Listen until cancelled."""
        await self._taps.run()

    def link_changed(self) -> None:
        """Look which interfaces are there. Cheap: 3 us an interface."""
        self._taps.link_changed()

    def own_macs(self, macs: frozenset[Mac]) -> None:
        """Do not hear frames of these senders: they are ours."""
        self._own = frozenset(ethernet.octets(mac) for mac in macs)

    def _program(self, tap: Tap) -> bytes:
        return discovery.discovery_filter(tap.muted, tap.chosen)

    def _choose(self, tap: Tap) -> frozenset[Mac] | None:
        known = frozenset(self._stations(tap.link))
        return known if 0 < len(known) <= MAX_WATCHED else None

    def _look_at_all(self, tap: Tap, frames: list[bytes], now: Instant) -> None:
        for frame in frames:
            sender = frame[6:12]
            if sender in self._own:
                continue
            mac = Mac(sender.hex(":"))
            if self._taps.count(tap, mac, "") == self._share:
                self._taps.mute(tap, mac)
            if mac in tap.muted:
                continue  # came before the filter was changed
            try:
                message = discovery.parse(frame)
            except MalformedInput as error:
                self.malformed_frames += 1
                text = f'malformed neighbour discovery mac={mac} link={tap.link} because="{error}"'
                self._repeats.tell("debug", f"malformed {tap.link}", text)
                continue
            if message is not None:
                self.heard_messages += 1
                self._heard(tap.link, message)
