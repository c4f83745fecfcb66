"""The stream to babeld: a Unix socket, or TCP on ::1. The only module that opens one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from roamroute.errors import DaemonGone
from roamroute.values import Seconds
from roamroute_babeld.settings import Settings

CONNECT_LIMIT_S: Seconds = 3.0
_READ_BYTES = 65536
_DEFAULT_MTU = 1500
_SIOCGIFMTU = 0x8921


class Connection:
    """An open stream. Close it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def process_id(self) -> int | None:
        """The process that listens at the other end; None for TCP."""
        peer: socket.socket | None = self._writer.get_extra_info("socket")
        if peer is None or peer.family != socket.AF_UNIX:
            return None
        with contextlib.suppress(OSError):
            identity, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return int(identity) or None
        return None

    async def read(self, limit_s: Seconds) -> bytes | None:
        """What arrives next; None when nothing does within the limit.

        Raises: DaemonGone at the end of the stream.
        """
        try:
            async with asyncio.timeout(limit_s):
                data = await self._reader.read(_READ_BYTES)
        except TimeoutError:
            return None
        except OSError as error:
            raise DaemonGone(f"babeld went away: {error.strerror or error}") from None
        if not data:
            raise DaemonGone("babeld closed its socket")
        return data

    def write(self, data: bytes) -> None:
        """Send some bytes; commands are short, so nothing waits."""
        if data:
            self._writer.write(data)

    def close(self) -> None:
        self._writer.close()


async def connect(settings: Settings) -> Connection:
    """Open the stream.

    Raises: DaemonGone with the reason and what to do.
    """
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            if isinstance(settings.socket, int):
                return Connection(*await asyncio.open_connection("::1", settings.socket))
            return Connection(*await asyncio.open_unix_connection(settings.socket))
    except TimeoutError:
        why = f"no connection within {CONNECT_LIMIT_S:g} s"
    except ConnectionRefusedError as error:
        why = str(error.strerror)
        if not isinstance(settings.socket, int):
            why += f" (a killed babeld left it there, and none can start until it is gone: rm {settings.socket})"
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
    raise DaemonGone(f"cannot reach babeld at {settings.place}: {why}")


def largest_mtu(interfaces: Iterator[str]) -> int:
    """The largest MTU of the interfaces that exist; 1500 where there is none."""
    sizes = [_DEFAULT_MTU]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for name in interfaces:
            with contextlib.suppress(OSError):
                sizes.append(_mtu(asked, name))
    return max(sizes)


def _mtu(asked: socket.socket, name: str) -> int:
    """netdevice(7): struct ifreq is the name in 16 bytes and a union of 24."""
    import fcntl

    answer = fcntl.ioctl(asked.fileno(), _SIOCGIFMTU, struct.pack("16s24x", name.encode()[:15]))
    return int(struct.unpack_from("i", answer, 16)[0])
