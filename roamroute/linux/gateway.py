"""Telling a station that has just connected where its gateway is, so that it need not ask.

A Linux station empties its neighbour cache when the carrier drops (ndisc_evict_nocarrier), asks for its gateway before
the 4-way handshake has ended, which the access point drops, and asks again after a second: its uplink stands still for
so long. An unsolicited Neighbour Advertisement right after the association ends that (docs/linux-facts.md).

Only addresses that are on the link are told: the fixed gateway's, and the link's IPv4 addresses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from roamroute.linux.frame_sender import FrameSender
from roamroute.linux.rtnetlink import Log
from roamroute.values import Mac, Seconds
from roamroute.wire import advertisements

GATEWAY = IPv6Address("fe80::1")
REPEATED_AFTER_S: tuple[Seconds, ...] = (0.002, 0.005, 0.02, 0.1)
"""hostapd reports the station when it has sent its last message; the station may still be installing the keys.

With 802.11r (FT-PSK, wpa_supplicant 2.10) it always is: the first frame is lost.
"""


class GatewayAdvertiser:
    """Sends on any link. Never raises; what fails is told in the log, once a while."""

    def __init__(self, log: Log, sender: FrameSender | None = None, gateway: IPv6Address = GATEWAY) -> None:
        """`sender`: one that others use too and close; without it there will be one of our own.

        `gateway`: the fixed link-local address of the access points.
        """
        self._gateway = gateway
        self._sender = sender or FrameSender(log)
        self._is_sender_ours = sender is None
        self._pending: set[asyncio.TimerHandle] = set()

    def advertise(self, link: str, station: Mac) -> None:
        """Tell now, and four times more within 0.1 s."""
        frames = tuple(self._frames(link, station))
        self._send(link, frames)
        for delay_s in REPEATED_AFTER_S:
            self._later(delay_s, link, frames)

    def close(self) -> None:
        """Send nothing any more."""
        for timer in self._pending:
            timer.cancel()
        self._pending.clear()
        if self._is_sender_ours:
            self._sender.close()

    def _frames(self, link: str, station: Mac) -> Iterator[bytes]:
        mac = self._sender.mac_of(link)
        if mac is None:
            return
        for address in self._sender.addresses_of(link):
            if address == self._gateway and isinstance(address, IPv6Address):
                yield advertisements.neighbour_advertisement(mac, station, address)
            elif isinstance(address, IPv4Address):
                yield advertisements.arp_announcement(mac, station, address)

    def _later(self, delay_s: Seconds, link: str, frames: tuple[bytes, ...]) -> None:
        def send() -> None:
            self._pending.discard(timer)
            self._send(link, frames)

        timer = asyncio.get_running_loop().call_later(delay_s, send)
        self._pending.add(timer)

    def _send(self, link: str, frames: tuple[bytes, ...]) -> None:
        for frame in frames:
            self._sender.send(link, frame)
