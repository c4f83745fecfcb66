"""The source over a hostapd of a few lines: in which order, and how quickly, events come through."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from roamroute.events import Event, StationConnected, StationLeft, StationsResynced
from roamroute.hostapd import HostapdSource
from roamroute.values import Mac, Station

MAC, OTHER = Mac("02:00:5e:44:00:01"), Mac("02:00:5e:44:00:02")


class SmallHostapd:
    """Answers on a control socket; what it says to `STA` waits until `may_answer`."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self._client = b""
        self._asked: list[bytes] = []
        self._may_answer = True
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def tell(self, text: str) -> None:
        self._socket.sendto(f"<3>{text}".encode(), self._client)

    def hold_answers(self) -> None:
        self._may_answer = False

    def answer(self) -> None:
        self._may_answer = True
        for reply in self._asked:
            self._socket.sendto(reply, self._client)
        self._asked.clear()

    def _read(self) -> None:
        request, client = self._socket.recvfrom(4096)
        if request == b"ATTACH":
            self._client = client
        reply = {b"ATTACH": b"OK\n", b"STA-FIRST": b"", b"DETACH": b"OK\n"}.get(request, b"FAIL\n")
        if request.startswith(b"STA ") and not self._may_answer:
            self._asked.append(reply)
        else:
            self._socket.sendto(reply, client)


@asynccontextmanager
async def following(directory: Path) -> AsyncIterator[tuple[SmallHostapd, list[Event]]]:
    """A source that has just listed the stations (none), and what it emits from then on."""
    hostapd = SmallHostapd(directory / "wlan0")
    events: list[Event] = []
    source = HostapdSource(directory, lambda name: name, events.append, lambda _level, _line: None)
    running = asyncio.create_task(source.run())
    try:
        await until(lambda: StationsResynced(frozenset({"wlan0"}), ()) in events)
        await turns(3)  # the follower is at its queue
        events.clear()
        yield hostapd, events
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        hostapd.close()


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(is_so: object) -> None:
    assert callable(is_so)
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - what others do is looked at from outside
            await asyncio.sleep(0)


def connected(mac: Mac) -> StationConnected:
    return StationConnected(Station(mac, "wlan0"))


async def test_an_association_is_told_in_the_same_turn_of_the_loop(tmp_path: Path) -> None:
    async with following(tmp_path) as (hostapd, events):
        hostapd.tell(f"AP-STA-CONNECTED {MAC}")
        await turns(2)  # the loop sees the socket in one, and reads in the next
        assert events == [connected(MAC)]


async def test_an_association_does_not_overtake_what_came_before(tmp_path: Path) -> None:
    async with following(tmp_path) as (hostapd, events):
        hostapd.tell(f"AP-STA-CONNECTED {MAC}")
        await until(lambda: events)
        hostapd.hold_answers()
        hostapd.tell(f"AP-STA-DISCONNECTED {MAC}")
        hostapd.tell(f"AP-STA-CONNECTED {MAC}")
        hostapd.tell(f"AP-STA-CONNECTED {OTHER}")
        await turns(10)
        assert events == [connected(MAC)]  # what became of it is being looked up
        hostapd.answer()
        await until(lambda: len(events) == 4)
        assert events[1:] == [StationLeft(Station(MAC, "wlan0")), connected(MAC), connected(OTHER)]
