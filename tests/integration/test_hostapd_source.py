"""The real hostapd and wpa_supplicant (driver=wired, over veth pairs) and the source that follows them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from roamroute.effects import Deauthenticate
from roamroute.events import Event, StationConnected, StationLeft, StationsResynced
from roamroute.hostapd import HostapdSource, check_hostapd, roaming_link_of
from roamroute.hostapd import connection as connection_module
from roamroute.hostapd import source as source_module
from roamroute.hostapd.connection import ControlConnection
from roamroute.lab.namespaces import Namespace, Process, Sandbox
from roamroute.lab.wifi import EAP_USERS, HOSTAPD_CONF, ControlSocket, Supplicant
from roamroute.values import Mac, Station

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("hostapd", "wpa_supplicant", "ip", "nsenter")]

LIMIT_S = 15.0


class Cell:
    """An access point with the BSSes w0 and w1 in one control directory, each with a wire to a client of its own."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.access_point: Namespace = sandbox.namespace("ap")
        self.access_point.sysctl({"net.ipv6.conf.default.disable_ipv6": 1})  # only hostapd is to send frames
        self.directory = sandbox.subdirectory("ap") / "hostapd"
        self._users = sandbox.subdirectory("ap") / "users"
        self._users.write_text(EAP_USERS)
        self.processes: dict[str, Process] = {}
        self.clients: dict[str, Namespace] = {}
        self.supplicants: dict[str, Supplicant] = {}
        self.macs: dict[str, Mac] = {}
        for number, bss in enumerate(("w0", "w1")):
            client = self.clients[bss] = sandbox.namespace(f"client{number}")
            self.macs[bss] = Mac(f"02:00:00:00:07:0{number}")
            self.access_point.ip(
                f"link add {bss} type veth peer name wlan0 address {self.macs[bss]} netns {client.name}",
                f"link set {bss} up",
            )
            client.ip("link set wlan0 up")
            self.supplicants[bss] = Supplicant(client, link="wlan0")

    def start_hostapd(self, *bsses: str) -> None:
        for bss in bsses:
            configuration = self._users.parent / f"{bss}.conf"
            configuration.write_text(HOSTAPD_CONF.format(link=bss, directory=self.directory, users=self._users))
            log = self._users.parent / f"{bss}.log"
            self.processes[bss] = self.access_point.start("hostapd", str(configuration), log=log)

    def end_hostapd(self, bss: str, how: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes.pop(bss)
        os.kill(process.pid, how)
        process.wait(timeout=LIMIT_S)

    def order(self, bss: str, command: str) -> str:
        connection = ControlSocket(self.directory / bss, self._users.parent / "orders")
        try:
            return connection.request(command)
        finally:
            connection.close()

    def frames_sent(self, bss: str) -> int:
        """Frames that the access point has put on the wire of this BSS."""
        (link,) = json.loads(self.access_point.run("ip", "-json", "-statistics", "link", "show", bss))
        return int(link["stats64"]["tx"]["packets"])

    def associate(self, bss: str) -> None:
        """What a driver would tell hostapd; the authentication that follows is real."""
        assert self.order(bss, f"NEW_STA {self.macs[bss]}") == "OK"


@pytest.fixture
def cell() -> Iterator[Cell]:
    with Sandbox(programs=("ip", "nsenter", "setpriv", "hostapd", "wpa_supplicant")) as sandbox:
        yield Cell(sandbox)


class Follower:
    """A running source, and what it has told."""

    def __init__(self, cell: Cell, link_of: Callable[[str], str | None] = lambda bss: f"br-{bss}") -> None:
        self.events: list[Event] = []
        self.log: list[str] = []
        self.source = HostapdSource(
            cell.directory, link_of, self.events.append, lambda level, line: self.log.append(f"{level}: {line}")
        )

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                while not condition():  # noqa: ASYNC110 - the condition is about another program
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"not so within {LIMIT_S} s: {what}; told: {self.events}; log: {self.log}") from None

    async def saw(self, event: Event, times: int = 1) -> None:
        await self.until(lambda: self.events.count(event) >= times, f"{times} times {event}")


def follow(cell: Cell, script: Callable[[Follower], Awaitable[None]], **how: Callable[[str], str | None]) -> None:
    """Run the source in the access point's namespace beside the script."""

    async def both() -> None:
        follower = Follower(cell, **how)
        running = asyncio.create_task(follower.source.run())
        try:
            await script(follower)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    with cell.access_point.entered():
        asyncio.run(both())


def ready(cell: Cell, *bsses: str) -> None:
    for bss in bsses:
        cell.supplicants[bss].start()


def test_a_station_connects_logs_off_and_connects_again(cell: Cell) -> None:
    ready(cell, "w0")
    cell.start_hostapd("w0")
    station = Station(cell.macs["w0"], "br-w0")

    async def script(follower: Follower) -> None:
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()))
        cell.associate("w0")
        await follower.saw(StationConnected(station))
        cell.supplicants["w0"].log_off()
        await follower.saw(StationLeft(station))
        assert StationLeft(station, is_reauthenticating=True) not in follower.events
        cell.supplicants["w0"].log_on()
        cell.order("w0", "DEAUTHENTICATE ff:ff:ff:ff:ff:ff tx=0")
        cell.associate("w0")
        await follower.saw(StationConnected(station), 2)

    follow(cell, script)


def test_a_station_that_authenticates_anew_is_not_gone(cell: Cell) -> None:
    ready(cell, "w0")
    cell.start_hostapd("w0")
    station = Station(cell.macs["w0"], "br-w0")

    async def script(follower: Follower) -> None:
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()))
        cell.associate("w0")
        await follower.saw(StationConnected(station))
        # What hostapd does with the port of a station that it still holds: closed, and opened when it has succeeded.
        cell.order("w0", f"EAPOL_SET {station.mac} AdminControlledPortControl ForceUnauthorized")
        cell.order("w0", f"EAPOL_SET {station.mac} AdminControlledPortControl Auto")
        await follower.saw(StationConnected(station), 2)
        assert follower.events[1:] == [
            StationConnected(station),
            StationLeft(station, is_reauthenticating=True),
            StationConnected(station),
        ]

    follow(cell, script)


def test_a_station_that_does_not_come_back_has_left(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "RETURN_S", 0.3)
    ready(cell, "w0")
    cell.start_hostapd("w0")
    station = Station(cell.macs["w0"], "br-w0")

    async def script(follower: Follower) -> None:
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()))
        cell.associate("w0")
        await follower.saw(StationConnected(station))
        cell.order("w0", f"EAPOL_SET {station.mac} AdminControlledPortControl ForceUnauthorized")
        await follower.saw(StationLeft(station))
        assert follower.events[-2:] == [StationLeft(station, is_reauthenticating=True), StationLeft(station)]

    follow(cell, script)


def test_stations_that_are_there_at_the_start_are_listed(cell: Cell) -> None:
    ready(cell, "w0", "w1")
    cell.start_hostapd("w0", "w1")

    async def script(follower: Follower) -> None:
        await follower.until(lambda: len(follower.source.status()) == 2, "both BSSes are found")
        await follower.until(lambda: all(bss.is_connected for bss in follower.source.status()), "both are listed")
        for bss in ("w0", "w1"):
            cell.associate(bss)
            await follower.saw(StationConnected(Station(cell.macs[bss], f"br-{bss}")))

        again = Follower(cell, lambda bss: "br0")  # both BSSes in one bridge
        running = asyncio.create_task(again.source.run())
        both = tuple(Station(cell.macs[bss], "br0") for bss in ("w0", "w1"))
        await again.saw(StationsResynced(frozenset({"br0"}), both))
        running.cancel()

    follow(cell, script)


def test_a_hostapd_that_is_killed_and_restarted_is_followed_again(cell: Cell) -> None:
    ready(cell, "w0", "w1")
    cell.start_hostapd("w0", "w1")
    station = Station(cell.macs["w0"], "br-w0")

    async def script(follower: Follower) -> None:
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()))
        cell.associate("w0")
        await follower.saw(StationConnected(station))
        for how in (signal.SIGKILL, signal.SIGTERM):
            seen = follower.events.count(StationsResynced(frozenset({"br-w0"}), ()))
            cell.end_hostapd("w0", how)
            await follower.until(lambda: not follower.source.status()[0].is_connected, "its end is noticed")
            # A crash tells nothing; an orderly end has dropped the station.
            assert follower.events.count(StationLeft(station)) == (how is signal.SIGTERM)
            cell.start_hostapd("w0")
            await follower.saw(StationsResynced(frozenset({"br-w0"}), ()), seen + 1)
            connected = follower.events.count(StationConnected(station))
            cell.associate("w0")
            await follower.saw(StationConnected(station), connected + 1)
        assert follower.source.status()[1].is_connected
        assert follower.events.count(StationsResynced(frozenset({"br-w1"}), ())) == 1

    follow(cell, script)


def test_a_hostapd_that_does_not_come_back_has_no_stations(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "GONE_S", 0.5)
    ready(cell, "w0")
    cell.start_hostapd("w0")
    station = Station(cell.macs["w0"], "br-w0")

    async def script(follower: Follower) -> None:
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()))
        cell.associate("w0")
        await follower.saw(StationConnected(station))
        cell.end_hostapd("w0")
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()), 2)
        await asyncio.sleep(1.0)  # the socket that the crash left is tried again and again: one line says so
        assert sum("w0" in line and line.startswith("warning") for line in follower.log) == 2

    follow(cell, script)


def test_a_hostapd_that_is_absent_at_the_start_is_waited_for(cell: Cell) -> None:
    ready(cell, "w0")

    async def script(follower: Follower) -> None:
        await follower.until(lambda: bool(follower.log), "the absence is told")
        await asyncio.sleep(0.6)
        assert len(follower.log) == 1
        cell.start_hostapd("w0")
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()))
        cell.associate("w0")
        await follower.saw(StationConnected(Station(cell.macs["w0"], "br-w0")))

    follow(cell, script)


def test_a_hostapd_that_hangs_is_noticed_and_found_again(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "PING_S", 0.3)
    monkeypatch.setattr(connection_module, "REPLY_LIMIT_S", 0.3)
    ready(cell, "w0")
    cell.start_hostapd("w0")
    station = Station(cell.macs["w0"], "br-w0")

    async def script(follower: Follower) -> None:
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()))
        cell.associate("w0")
        await follower.saw(StationConnected(station))
        os.kill(cell.processes["w0"].pid, signal.SIGSTOP)
        await follower.until(lambda: not follower.source.status()[0].is_connected, "it is noticed")
        assert any("does not answer 'PING'" in line for line in follower.log)
        os.kill(cell.processes["w0"].pid, signal.SIGCONT)
        await follower.saw(StationsResynced(frozenset({"br-w0"}), (station,)))
        assert StationLeft(station) not in follower.events

    follow(cell, script)


def test_an_event_that_was_missed_is_found_by_the_audit(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "AUDIT_S", 0.5)
    monkeypatch.setattr(source_module, "PING_S", 0.3)
    ready(cell, "w0")
    cell.start_hostapd("w0")
    station = Station(cell.macs["w0"], "br-w0")

    async def script(follower: Follower) -> None:
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()))
        cell.associate("w0")
        await follower.saw(StationConnected(station))
        follower.source._bsses["w0"].stations.clear()
        await follower.saw(StationsResynced(frozenset({"br-w0"}), (station,)))
        assert any("not what its events said" in line for line in follower.log)

    follow(cell, script)


def test_a_ghost_is_removed_without_a_frame_on_the_air(cell: Cell) -> None:
    ready(cell, "w0")
    cell.start_hostapd("w0")
    station = Station(cell.macs["w0"], "br-w0")

    async def script(follower: Follower) -> None:
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()))
        cell.associate("w0")
        await follower.saw(StationConnected(station))
        sent = cell.frames_sent("w0")
        follower.source.deauthenticate(Deauthenticate(station.mac, "br-other", "not here"))
        follower.source.deauthenticate(Deauthenticate(station.mac, "br-w0", "claimed by a peer"))
        await follower.saw(StationLeft(station))
        assert StationLeft(station, is_reauthenticating=True) not in follower.events
        assert follower.source.status()[0].stations == ()
        assert cell.frames_sent("w0") == sent
        follower.source.deauthenticate(Deauthenticate(station.mac, "br-w0", "again"))  # nobody there: no harm
        cell.order("w0", "PING")

    follow(cell, script)


def test_a_station_that_moves_between_two_bsses_of_a_link_stays(cell: Cell) -> None:
    ready(cell, "w0", "w1")
    cell.clients["w1"].ip("link set wlan0 down", f"link set wlan0 address {cell.macs['w0']}", "link set wlan0 up")
    cell.macs["w1"] = cell.macs["w0"]  # one station, two bands
    cell.start_hostapd("w0", "w1")
    station = Station(cell.macs["w0"], "br0")

    async def script(follower: Follower) -> None:
        await follower.until(lambda: len(follower.source.status()) == 2, "both BSSes are found")
        await follower.until(lambda: all(bss.is_connected for bss in follower.source.status()), "both are listed")
        cell.associate("w0")
        await follower.saw(StationConnected(station))
        cell.associate("w1")
        await follower.saw(StationConnected(station), 2)
        cell.order("w0", f"DEAUTHENTICATE {station.mac} tx=0")  # the ghost on the old band times out
        cell.order("w1", f"DEAUTHENTICATE {station.mac} tx=0")
        await follower.saw(StationLeft(station))
        assert [event for event in follower.events if not isinstance(event, StationsResynced)] == [
            StationConnected(station),
            StationConnected(station),
            StationLeft(station),
        ]

    follow(cell, script, link_of=lambda bss: "br0")


def test_a_bss_is_mapped_through_its_bridge_and_others_are_ignored(cell: Cell) -> None:
    cell.access_point.ip("link add br0 type bridge", "link set br0 up", "link set w0 master br0")
    cell.start_hostapd("w0", "w1")
    links = cell.directory.parent / "class-net"  # sysfs shows the namespace of whoever mounted it
    (links / "w0").mkdir(parents=True)
    (links / "w1").mkdir()
    (links / "w0" / "master").symlink_to("../br0")

    async def script(follower: Follower) -> None:
        await follower.saw(StationsResynced(frozenset({"br0"}), ()))
        await follower.until(lambda: any("w1 belongs to no roaming interface" in line for line in follower.log), "told")
        await asyncio.sleep(0.6)
        assert sum("w1" in line for line in follower.log) == 1
        assert [bss.bss for bss in follower.source.status()] == ["w0"]

    follow(cell, script, link_of=roaming_link_of(["br0"], links))


def test_check_tells_what_answers_and_what_is_not_served(cell: Cell) -> None:
    async def levels(*interfaces: str) -> list[tuple[str, str]]:
        link_of: Callable[[str], str | None] = {"w0": "br0"}.get
        return [(finding.level, finding.text) for finding in await check_hostapd(cell.directory, link_of, interfaces)]

    with cell.access_point.entered():
        ((level, text),) = asyncio.run(levels("br0"))
        assert level == "error"
        assert "does not exist" in text
        cell.start_hostapd("w0", "w1")

        async def answered() -> None:
            async with asyncio.timeout(LIMIT_S):
                while ("ok", "w0 for br0 answers and is enabled") not in await levels("br0"):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.05)

        asyncio.run(answered())
        assert [level for level, _ in asyncio.run(levels("br0"))] == ["ok", "ok"]
        findings = asyncio.run(levels("br0", "br9"))
        assert [level for level, _ in findings] == ["ok", "ok", "error"]
        assert "belongs to br9" in findings[-1][1]
        cell.end_hostapd("w0")
        assert [level for level, _ in asyncio.run(levels("br0"))] == ["error", "ok", "error"]


def test_nothing_is_lost_or_reordered_while_the_stations_are_listed(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A station connects while the listing is under way: it is told after the listing, in any case once connected."""
    ready(cell, "w0")
    cell.start_hostapd("w0")
    station = Station(cell.macs["w0"], "br-w0")
    request = ControlConnection.request

    async def slow(connection: ControlConnection, command: str) -> str:
        if command == "STA-FIRST":
            reply = await request(connection, command)  # empty: nobody is there yet
            cell.associate("w0")
            await asyncio.sleep(0.5)
            return reply
        return await request(connection, command)

    monkeypatch.setattr(ControlConnection, "request", slow)

    async def script(follower: Follower) -> None:
        await follower.saw(StationConnected(station))
        assert follower.events == [StationsResynced(frozenset({"br-w0"}), ()), StationConnected(station)]

    follow(cell, script)


def test_a_hundred_events_at_once_arrive_in_order(cell: Cell) -> None:
    cell.start_hostapd("w0")
    stations = [Station(Mac(f"02:00:00:00:09:{number:02x}"), "br-w0") for number in range(100)]

    async def script(follower: Follower) -> None:
        await follower.saw(StationsResynced(frozenset({"br-w0"}), ()))
        orders = ControlSocket(cell.directory / "w0", Path(cell.directory.parent / "burst"))
        for station in stations:
            await asyncio.to_thread(orders.request, f"NEW_STA {station.mac}")
            await asyncio.to_thread(
                orders.request, f"EAPOL_SET {station.mac} AdminControlledPortControl ForceAuthorized"
            )
        await follower.saw(StationConnected(stations[-1]))
        await asyncio.to_thread(orders.request, "DEAUTHENTICATE ff:ff:ff:ff:ff:ff tx=0")
        orders.close()
        await follower.until(lambda: len(follower.events) >= 201, "all have left")
        assert follower.events[1:101] == [StationConnected(station) for station in stations]
        left = [event.station for event in follower.events[101:] if isinstance(event, StationLeft)]
        assert sorted(left, key=str) == sorted(stations, key=str)

    follow(cell, script)
