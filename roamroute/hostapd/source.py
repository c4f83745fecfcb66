"""Stations as hostapd sees them: follows every BSS of one control directory, for ever.

For each BSS that belongs to a roaming interface: attach to its events, list its stations, then follow. Events that
come between are kept in order and handled after the listing, so nothing is lost or overtaken. When hostapd goes, its
stations stay as they were until it is back and has been listed again (a restart takes a second), or for `GONE_S`.

Several BSSes may share a roaming interface (two bands in one bridge). A station that changed the band leaves an entry
behind, a ghost, in hostapd of the old one, for up to 300 s; where it connected last is where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import attrs

from roamroute.effects import Deauthenticate
from roamroute.errors import DaemonGone, MalformedInput
from roamroute.events import Event, StationConnected, StationLeft, StationsResynced
from roamroute.hostapd.connection import ControlConnection
from roamroute.hostapd.protocol import (
    Connected,
    Disabled,
    Disconnected,
    HostapdEvent,
    StationRecord,
    Terminating,
    means_left,
    read_station,
)
from roamroute.values import Instant, Mac, Seconds, Station

POLL_S: Seconds = 0.4
"""So often the directory is read and every socket looked at: a restart of hostapd takes longer than this. One such
look takes 0.2 ms."""
PING_S: Seconds = 5.0
"""So often hostapd must answer, lest it hangs unnoticed."""
AUDIT_S: Seconds = 300.0
"""So often the stations are listed again and compared with what the events said: 1000 stations are some 0.2 s of work,
in small pieces."""
GONE_S: Seconds = 10.0
"""A hostapd that has been away for so long is not restarting: there are no authorised stations without it."""
RETURN_S: Seconds = 3.0
"""A station that authenticates anew connects within 0.05 s, with 802.1X over a slow RADIUS server within 1 s."""
EVENTS_MAXIMUM = 4096
"""Events waiting to be handled, of one BSS; beyond that the connection is made anew, which lists all stations."""
STATIONS_MAXIMUM = 8192
"""hostapd allows 2007 a BSS (802.11's association identifiers); a listing that does not end is cut here."""
LISTING_ATTEMPTS = 5
"""A listing walks from station to station and must begin again when the one it stands on leaves."""

Log = Callable[[str, str], None]


@attrs.frozen
class BssStatus:
    """One BSS as `roamroute status` shows it."""

    bss: str
    link: str
    is_connected: bool
    stations: tuple[Mac, ...]


@attrs.define(eq=False)
class _Bss:
    """What is known of one BSS. `stations`: since when each has been connected, in the loop's time."""

    name: str
    link: str
    stations: dict[Mac, Instant] = attrs.field(factory=dict)
    logoffs: dict[Mac, int] = attrs.field(factory=dict)
    returns: dict[Mac, asyncio.TimerHandle] = attrs.field(factory=dict)
    connection: ControlConnection | None = None
    is_listed: bool = False
    is_ending: bool = False
    is_idle: bool = False
    """Every event that has come has been handled, and the next one may be at once."""
    lost_at: Instant | None = None
    events: asyncio.Queue[HostapdEvent | None] = attrs.field(factory=asyncio.Queue)


class HostapdSource:
    """Emits `StationsResynced`, `StationConnected` and `StationLeft` for the BSSes in `directory`.

    `link_of` names the roaming interface of a BSS, or None: then the BSS is none of ours (logged once). `emit` and
    `log` are called from the loop's thread; `log` takes a level name and one line.
    """

    def __init__(
        self,
        directory: Path,
        link_of: Callable[[str], str | None],
        emit: Callable[[Event], None],
        log: Log,
    ) -> None:
        self._directory, self._link_of, self._emit, self._log = directory, link_of, emit, log
        self._bsses: dict[str, _Bss] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._orders: set[asyncio.Task[None]] = set()
        self._ignored: set[str] = set()
        self._is_missing_logged = False

    async def run(self) -> None:
        """Follow until cancelled; hostapd may come, go and come back."""
        try:
            while True:
                self._scan()
                for bss in self._bsses.values():
                    if bss.connection is not None and not bss.connection.is_alive():
                        bss.connection.close("its socket was closed or replaced")
                self._bury()
                await asyncio.sleep(POLL_S)
        finally:
            self.close()

    def close(self) -> None:
        """End all tasks and connections; idempotent."""
        for task in (*self._followers.values(), *self._orders):
            task.cancel()
        self._followers.clear()
        for bss in self._bsses.values():
            if bss.connection is not None:
                bss.connection.close()
            for timer in bss.returns.values():
                timer.cancel()

    def status(self) -> tuple[BssStatus, ...]:
        """How it stands now, in the order of the names."""
        return tuple(
            BssStatus(bss.name, bss.link, bss.is_listed, tuple(sorted(bss.stations)))
            for _, bss in sorted(self._bsses.items())
        )

    def deauthenticate(self, effect: Deauthenticate) -> None:
        """Make hostapd forget the station on every BSS of the link, without a frame on the air.

        `DEAUTHENTICATE <mac> tx=0`; StationLeft follows where it was known. Should the station be there after all,
        hostapd answers its next data frame with a deauthentication (class 3 frame), and it associates anew.
        """
        for bss in self._bsses.values():
            if bss.link == effect.link and bss.connection is not None:
                order = asyncio.get_running_loop().create_task(self._remove(bss, bss.connection, effect))
                self._orders.add(order)
                order.add_done_callback(self._orders.discard)

    async def _remove(self, bss: _Bss, connection: ControlConnection, effect: Deauthenticate) -> None:
        try:
            record = await self._look_up(connection, effect.mac)
            if record is None or not record.is_authorized:
                # Already gone, or just authenticating anew: hostapd 2.10 would refuse the association that follows.
                self._log("debug", f"hostapd: no ghost of {effect.mac} on {bss.name}, it is left alone")
                return
            reply = await connection.request(f"DEAUTHENTICATE {effect.mac} tx=0")
        except DaemonGone as error:
            self._log("warning", f"hostapd: cannot remove {effect.mac} on {bss.name}: {error}")
            return
        if reply == "OK":
            self._log("debug", f"hostapd: removed {effect.mac} on {bss.name} because={effect.because!r}")
        else:
            self._log("warning", f"hostapd on {bss.name} refused to remove {effect.mac}: {reply or 'no reason given'}")

    def _scan(self) -> None:
        """Start following the sockets that are new in the directory."""
        try:
            names = sorted(os.listdir(self._directory))
        except OSError as error:
            names = []
            if not self._is_missing_logged:
                self._log("warning", f"hostapd: cannot read {self._directory}: {error.strerror}; waiting for it")
                self._is_missing_logged = True
        else:
            self._is_missing_logged = False
        self._ignored &= set(names)
        for name in names:
            follower = self._followers.get(name)
            if (follower is not None and not follower.done()) or not _is_socket(self._directory / name):
                continue
            link = self._link_of(name)
            if link is None:
                if name not in self._ignored:
                    self._ignored.add(name)
                    self._log("info", f"hostapd: {name} belongs to no roaming interface and is not followed")
                continue
            self._ignored.discard(name)
            known = self._bsses.get(name)
            if known is None or known.link != link:
                known = self._bsses[name] = _Bss(name, link)
            self._followers[name] = asyncio.get_running_loop().create_task(self._follow(known))

    async def _follow(self, bss: _Bss) -> None:
        """One connection, from attaching to its end. The next scan begins another one."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                connection = self._connect(bss)
                stack.callback(connection.close)
                if await connection.request("ATTACH") != "OK":
                    raise DaemonGone(f"hostapd on {bss.name} refused ATTACH")
                await self._list(bss, connection)
                bss.is_listed, bss.lost_at = True, None
                self._log("info", f"hostapd: following {bss.name} link={bss.link} stations={len(bss.stations)}")
                self._emit_resync(bss.link)
                stack.callback(asyncio.create_task(self._attend(bss, connection)).cancel)
                bss.is_idle = True
                while (event := await bss.events.get()) is not None:
                    bss.is_idle = False
                    await self._handle(bss, connection, event)
                    bss.is_idle = True
                raise DaemonGone(connection.reason)
        except (DaemonGone, MalformedInput) as error:
            if bss.is_listed or bss.lost_at is None:
                self._log("warning", f"hostapd: lost {bss.name}: {_ending(bss, error)}")
            if bss.is_ending:  # hostapd drops every station before it says so
                for address in tuple(bss.stations):
                    self._set_disconnected(bss, address, has_left=True)
        finally:
            if bss.is_listed or bss.lost_at is None:
                bss.lost_at = asyncio.get_running_loop().time()
            bss.is_listed = bss.is_idle = False
            bss.connection = None

    def _connect(self, bss: _Bss) -> ControlConnection:
        events: asyncio.Queue[HostapdEvent | None] = asyncio.Queue()
        bss.events, bss.is_ending = events, False

        def take(event: HostapdEvent | None) -> None:
            bss.is_ending |= isinstance(event, Terminating)
            if bss.is_ending and event is not None:
                connection.close("hostapd has ended")
            elif isinstance(event, Connected) and bss.is_idle and events.empty():
                self._connected(bss, event.mac)  # packets wait for it: no detour over the task
            elif events.qsize() >= EVENTS_MAXIMUM and event is not None:
                connection.close(f"more than {EVENTS_MAXIMUM} events were waiting")
            else:
                events.put_nowait(event)

        def refuse(reason: str) -> None:
            self._log("warning", f"hostapd: skipped an event of {bss.name}: {reason}")

        connection = ControlConnection(self._directory / bss.name, take, refuse)
        bss.connection = connection
        return connection

    async def _attend(self, bss: _Bss, connection: ControlConnection) -> None:
        """See that hostapd answers, and that what it holds is what it told."""
        audit_at = asyncio.get_running_loop().time() + AUDIT_S
        try:
            while True:
                await asyncio.sleep(PING_S)
                if asyncio.get_running_loop().time() < audit_at:
                    await connection.request("PING")
                else:
                    audit_at += AUDIT_S
                    await self._audit(bss, connection)
        except (DaemonGone, MalformedInput) as error:
            connection.close(str(error))

    async def _handle(self, bss: _Bss, connection: ControlConnection, event: HostapdEvent) -> None:
        match event:
            case Connected(mac=address):
                self._connected(bss, address)
            case Disconnected(mac=address):
                if address not in bss.stations:
                    return
                record = await self._look_up(connection, address)
                has_left = means_left(record, bss.logoffs.get(address, 0))
                if record is not None:
                    bss.logoffs[address] = record.logoffs
                self._set_disconnected(bss, address, has_left)
            case Disabled():
                self._log("info", f"hostapd: {bss.name} was disabled")
            case _:
                pass

    async def _look_up(self, connection: ControlConnection, address: Mac) -> StationRecord | None:
        """What hostapd holds of the station now; None when nothing, or nothing that can be read. Raises: DaemonGone."""
        try:
            return read_station(await connection.request(f"STA {address}"))
        except MalformedInput as error:
            self._log("warning", f"hostapd: looking up {address}: {error}")
            return None

    def _connected(self, bss: _Bss, address: Mac) -> None:
        self._set_connected(bss, address)
        self._emit(StationConnected(Station(address, bss.link)))

    def _set_connected(self, bss: _Bss, address: Mac) -> None:
        self._forget_return(bss, address)
        bss.stations[address] = asyncio.get_running_loop().time()
        for other in self._siblings(bss):
            if other.stations.pop(address, None) is not None:
                self._log("debug", f"hostapd: {address} moved from {other.name} to {bss.name}, both on {bss.link}")

    def _set_disconnected(self, bss: _Bss, address: Mac, has_left: bool) -> None:
        station = Station(address, bss.link)
        if has_left:
            del bss.stations[address]
            bss.logoffs.pop(address, None)
            self._forget_return(bss, address)
            self._emit(StationLeft(station))
            return
        self._forget_return(bss, address)
        loop = asyncio.get_running_loop()
        bss.returns[address] = loop.call_later(RETURN_S, self._give_up_return, bss, address)
        self._emit(StationLeft(station, is_reauthenticating=True))

    def _give_up_return(self, bss: _Bss, address: Mac) -> None:
        """The station began to authenticate anew and did not finish."""
        del bss.returns[address]
        if bss.stations.pop(address, None) is not None:
            bss.logoffs.pop(address, None)
            self._emit(StationLeft(Station(address, bss.link)))

    def _forget_return(self, bss: _Bss, address: Mac) -> None:
        timer = bss.returns.pop(address, None)
        if timer is not None:
            timer.cancel()

    async def _list(self, bss: _Bss, connection: ControlConnection) -> None:
        """Replace what is known of the stations by what hostapd says. Raises: DaemonGone, MalformedInput."""
        records = await _authorized_stations(connection)
        now = asyncio.get_running_loop().time()
        for address in tuple(bss.returns):
            self._forget_return(bss, address)
        before = bss.stations
        bss.stations = {}
        for record in records:
            since = before.get(record.mac, now) if record.connected_s is None else now - record.connected_s
            others = [other for other in self._siblings(bss) if record.mac in other.stations]
            if any(other.stations[record.mac] > since for other in others):
                continue  # a ghost: it has connected to another BSS of this link since
            for other in others:
                del other.stations[record.mac]
            bss.stations[record.mac] = since
        bss.logoffs = {record.mac: record.logoffs for record in records if record.logoffs}

    async def _audit(self, bss: _Bss, connection: ControlConnection) -> None:
        """List again, and tell when the events had not said all. Not while some are waiting: they explain it."""
        records = await _authorized_stations(connection)
        present = {record.mac for record in records}
        elsewhere = {address for other in self._siblings(bss) for address in other.stations}
        if bss.events.empty() and not bss.returns and present - elsewhere != bss.stations.keys() - elsewhere:
            self._log("warning", f"hostapd: the stations of {bss.name} are not what its events said; listing them anew")
            await self._list(bss, connection)
            self._emit_resync(bss.link)

    def _emit_resync(self, link: str) -> None:
        """Tell all stations of the link, once every BSS of it that can be reached has been listed."""
        bsses = [bss for bss in self._bsses.values() if bss.link == link]
        if any(bss.connection is not None and not bss.is_listed for bss in bsses):
            return  # it is being listed this moment, and will come here
        addresses = sorted({address for bss in bsses for address in bss.stations})
        self._emit(StationsResynced(frozenset({link}), tuple(Station(address, link) for address in addresses)))

    def _bury(self) -> None:
        """Give up the stations of a hostapd that has been away for long."""
        now = asyncio.get_running_loop().time()
        for bss in self._bsses.values():
            if bss.stations and not bss.is_listed and bss.lost_at is not None and now - bss.lost_at >= GONE_S:
                count = len(bss.stations)
                for address in tuple(bss.stations):
                    self._forget_return(bss, address)
                bss.stations.clear()
                self._log("warning", f"hostapd: {bss.name} has been away for {GONE_S:g} s: {count} stations are gone")
                self._emit_resync(bss.link)

    def _siblings(self, bss: _Bss) -> list[_Bss]:
        return [other for other in self._bsses.values() if other is not bss and other.link == bss.link]


async def _authorized_stations(connection: ControlConnection) -> list[StationRecord]:
    """Walk through all stations of a BSS, in bounded time. Raises: DaemonGone, MalformedInput."""
    for _ in range(LISTING_ATTEMPTS):
        records: dict[Mac, StationRecord] = {}
        reply = await connection.request("STA-FIRST")
        while (record := read_station(reply)) is not None and record.mac not in records:
            records[record.mac] = record
            if len(records) == STATIONS_MAXIMUM:
                break
            reply = await connection.request(f"STA-NEXT {record.mac}")
        if reply != "FAIL":  # FAIL: the station that we stood on has left, so the rest of the list is unknown
            return [record for record in records.values() if record.is_authorized]
    raise DaemonGone(f"hostapd's stations changed during each of {LISTING_ATTEMPTS} listings")


def _ending(bss: _Bss, error: Exception) -> str:
    return str(error) if bss.is_ending else f"{error}; its stations are kept until it is back"


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
