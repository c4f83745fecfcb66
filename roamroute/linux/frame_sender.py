"""Sends Ethernet frames of our own making on any link."""

from __future__ import annotations

import socket

from roamroute.errors import KernelRefused, MalformedInput
from roamroute.linux.facing import KnownFaces
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log, ask_for_send_buffer
from roamroute.values import Address, Mac

_BUFFER_BYTES = 4 << 20
"""A frame counts some 1 KiB until the radio has sent it; a question to each of a thousand stations fits."""


class FrameSender:
    """One packet socket for all links, opened at the first need and kept. Never raises: what fails is told in the log,
    once a while."""

    def __init__(self, log: Log) -> None:
        """Opens nothing yet."""
        self._repeats = Repeats(log)
        self._faces = KnownFaces()
        self._socket: socket.socket | None = None
        self.sent_frames = 0
        self.failed_frames = 0

    def send(self, link: str, frame: bytes) -> bool:
        """Send a whole Ethernet frame now, without waiting; False when the kernel did not take it."""
        try:
            if self._socket is None:
                kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                self._socket = socket.socket(socket.AF_PACKET, kind, 0)  # protocol 0: it receives nothing
                ask_for_send_buffer(self._socket, _BUFFER_BYTES)
            self._socket.sendto(frame, (link, 0))
        except OSError as error:
            self.failed_frames += 1
            self._repeats.tell("warning", f"send {link}", f'frame not sent link={link} because="{error}"')
            return False
        self.sent_frames += 1
        return True

    def mac_of(self, link: str) -> Mac | None:
        """The link-layer address to send from, as it is now (2 us); None when there is no such interface."""
        return self._look(link)[0]

    def addresses_of(self, link: str) -> tuple[Address, ...]:
        """The IP addresses of the interface, as they are now."""
        return self._look(link)[1]

    def close(self) -> None:
        """Close the sockets; idempotent."""
        self._faces.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _look(self, link: str) -> tuple[Mac | None, tuple[Address, ...]]:
        try:
            facing = self._faces.of(link)
        except (KernelRefused, MalformedInput, OSError) as error:
            self._repeats.tell("warning", "addresses", f'own addresses not known link={link} because="{error}"')
            return None, ()
        return (None, ()) if facing is None else (facing.mac, facing.addresses)
