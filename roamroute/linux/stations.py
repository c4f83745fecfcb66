"""The station source without hostapd: nl80211 says which stations are associated and authorised.

What nl80211 does not say decides the shape of this module. NEW_STATION comes at 802.11 *authentication*: anybody can
provoke it, for any MAC, and it is 50 ms and more too early. When the 4-way handshake has ended the station becomes
authorised, and of that there is no notification (Linux 6.1 and 6.18: nl80211_set_station tells nobody). So a new
station is looked at every few milliseconds until its AUTHORIZED flag is set; less often when that takes long, as
with a person who types a password.

DEL_STATION followed at once by NEW_STATION is how hostapd 2.10 begins the re-authentication of a station that it still
knows: `StationLeft.is_reauthenticating`. Hence "left" waits for `REAUTHENTICATION_WAIT_S`.

`Associations` holds the rules and is pure; `Nl80211Source` feeds it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import attrs

from roamroute.errors import KernelRefused, MalformedInput, RoamrouteError
from roamroute.events import Event, StationConnected, StationLeft, StationsResynced
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log, Notifications, Requests
from roamroute.values import Instant, Mac, Seconds, Station
from roamroute.wire import generic, nl80211

REAUTHENTICATION_WAIT_S: Seconds = 0.02
"""hostapd 2.10 adds the station anew within a millisecond of its removal, in the same function (handle_auth)."""
_LOOK_FIRST_S: Seconds = 0.005
"""A look costs 0.1 ms, the way from authentication to authorisation 50 ms: ten looks a roam, 2.5 ms late on average."""
_LOOK_QUICKLY_S: Seconds = 0.25
"""After that the handshake has met a loss (hostapd repeats it after 0.1 s, then 1 s) or a person."""
_LOOK_SLOWEST_S: Seconds = 1.0
_LOOKS_ONE_BY_ONE = 8
"""When more are due on one interface they are dumped together, so that a flood of authentications costs no more."""

_BUFFER_BYTES = 1 << 20
_READ_LIMIT = 256
_RETRY_S: Seconds = 5.0


@attrs.frozen
class Key:
    """A station as the kernel names it: by the index of the Wi-Fi interface and its MAC."""

    ifindex: int
    mac: Mac


@attrs.define
class _Known:
    link: str
    is_authorised: bool = False
    appeared_at: Instant = 0.0
    look_at: Instant | None = None  # None: need not be looked at any more
    gone_at: Instant | None = None  # DEL_STATION came; it may be about to authenticate anew


class Associations:
    """Which stations are authorised, from notifications that do not say it. `now` is monotonic."""

    def __init__(self) -> None:
        self._known: dict[Key, _Known] = {}

    @property
    def next_wakeup(self) -> Instant | None:
        """When `tick` or a look is due."""
        moments = [
            moment
            for known in self._known.values()
            for moment in (known.look_at, None if known.gone_at is None else known.gone_at + REAUTHENTICATION_WAIT_S)
            if moment is not None
        ]
        return min(moments, default=None)

    def appeared(self, key: Key, link: str, now: Instant) -> list[Event]:
        """NEW_STATION: it authenticates, which proves nothing."""
        before = self._known.get(key)
        self._known[key] = _Known(link, appeared_at=now, look_at=now + _LOOK_FIRST_S)
        if before is not None and before.is_authorised:
            return [StationLeft(Station(key.mac, before.link), is_reauthenticating=True)]
        return []

    def vanished(self, key: Key, now: Instant) -> list[Event]:
        """DEL_STATION: it has gone, or comes back at once; `tick` decides."""
        known = self._known.get(key)
        if known is None:
            return []
        if not known.is_authorised:
            del self._known[key]
        else:
            known.gone_at, known.look_at = now, None
        return []

    def due(self, now: Instant) -> list[Key]:
        """The stations to look at; `looked` expects what was seen."""
        return [key for key, known in self._known.items() if known.look_at is not None and known.look_at <= now]

    def looked(self, key: Key, is_authorised: bool | None, now: Instant) -> list[Event]:
        """What a look showed; None: there is no such station."""
        known = self._known.get(key)
        if known is None or known.look_at is None:
            return []
        if is_authorised is None:
            del self._known[key]
        elif is_authorised:
            known.is_authorised, known.look_at = True, None
            return [StationConnected(Station(key.mac, known.link))]
        else:
            age_s = now - known.appeared_at
            known.look_at = now + (_LOOK_FIRST_S if age_s < _LOOK_QUICKLY_S else min(age_s / 4, _LOOK_SLOWEST_S))
        return []

    def tick(self, now: Instant) -> list[Event]:
        """Tell of those that left and did not come back."""
        gone = [
            key
            for key, known in self._known.items()
            if known.gone_at is not None and known.gone_at + REAUTHENTICATION_WAIT_S <= now
        ]
        return [StationLeft(Station(key.mac, self._known.pop(key).link)) for key in gone]

    def resynced(
        self, links: frozenset[str], present: Iterable[tuple[Key, str, bool]], now: Instant
    ) -> StationsResynced:
        """Take a whole dump: (station, link, is it authorised)."""
        self._known = {
            key: _Known(link, is_authorised, now, None if is_authorised else now + _LOOK_FIRST_S)
            for key, link, is_authorised in present
        }
        stations = (Station(key.mac, known.link) for key, known in self._known.items() if known.is_authorised)
        return StationsResynced(links, tuple(stations))


class Nl80211Source:
    """Follows the stations of every Wi-Fi interface that is a roaming interface or a port of a roaming bridge."""

    def __init__(
        self,
        links: Sequence[str],
        emit_batch: Callable[[list[Event]], None],
        log: Log,
        sys_class_net: Path = Path("/sys/class/net"),
    ) -> None:
        """Opens nothing. `emit_batch` is called in the loop, never with an empty list."""
        self._links = frozenset(links)
        self._emit_batch = emit_batch
        self._log = log
        self._repeats = Repeats(log)
        self._sys_class_net = sys_class_net
        self._associations = Associations()
        self._family = 0
        self._notifications: Notifications | None = None
        self._requests: Requests | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._broken = asyncio.Event()

    async def run(self) -> None:
        """Follow the kernel until cancelled."""
        while True:
            self._broken.clear()
            try:
                self._open()
                await self._broken.wait()
            except (OSError, RoamrouteError) as error:
                text = f'stations cannot be followed by nl80211, trying again because="{error}"'
                self._repeats.tell("error", "open", text)
            finally:
                self._close()
            await asyncio.sleep(_RETRY_S)

    def _open(self) -> None:
        """Raises: OSError, RoamrouteError."""
        self._requests = Requests(generic.NETLINK_GENERIC)
        families = self._requests.dump(generic.GENL_ID_CTRL, generic.families_request())
        family = next(
            (found for each in families if (found := generic.decode_family(each)).name == nl80211.FAMILY_NAME), None
        )
        if family is None or nl80211.STATION_GROUP not in family.groups:
            raise KernelRefused("this kernel has no nl80211 (is a Wi-Fi driver loaded?)", errno.ENOENT)
        self._family = family.number
        group = family.groups[nl80211.STATION_GROUP]
        self._notifications = Notifications((group,), _BUFFER_BYTES, protocol=generic.NETLINK_GENERIC)
        asyncio.get_running_loop().add_reader(self._notifications.fileno(), self._readable)
        self._resync()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._notifications is not None:
            asyncio.get_running_loop().remove_reader(self._notifications.fileno())
            self._notifications.close()
            self._notifications = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def _readable(self) -> None:
        if self._notifications is None:
            return
        try:
            messages, is_lossy = self._notifications.read(_READ_LIMIT)
            if is_lossy:
                text = 'station notifications were lost, dumping again because="ENOBUFS"'
                self._repeats.tell("warning", "loss", text)
                self._resync()
                return
        except (OSError, RoamrouteError) as error:
            self._repeats.tell("warning", "broken", f'nl80211 broke, opening it again because="{error}"')
            self._broken.set()
            return
        now = asyncio.get_running_loop().time()
        events: list[Event] = []
        for message in messages:
            try:
                station = nl80211.decode_station(message) if message.kind == self._family else None
            except MalformedInput as error:
                self._repeats.tell("warning", "malformed", f'kernel message skipped because="{error}"')
                continue
            if station is None:
                continue
            key = Key(station.ifindex, station.mac)
            if station.command == nl80211.CMD_DEL_STATION:
                events += self._associations.vanished(key, now)
            elif (link := self._link_of(station.ifindex)) is not None:
                events += self._associations.appeared(key, link, now)
        self._finish(events)

    def _resync(self) -> None:
        """Dump all interfaces and emit it. Raises: OSError, RoamrouteError."""
        present = [
            (Key(ifindex, mac), link, is_authorised)
            for ifindex, link in self._interfaces()
            for mac, is_authorised in self._dump(ifindex).items()
        ]
        now = asyncio.get_running_loop().time()
        self._finish([self._associations.resynced(self._links, present, now)])

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        events = self._associations.tick(now)
        due = self._associations.due(now)
        counts = Counter(key.ifindex for key in due)
        crowded = {ifindex for ifindex, count in counts.items() if count > _LOOKS_ONE_BY_ONE}
        try:
            dumped = {ifindex: self._dump(ifindex) for ifindex in crowded}
            for key in due:
                seen = dumped[key.ifindex].get(key.mac) if key.ifindex in crowded else self._ask(key)
                events += self._associations.looked(key, seen, now)
        except (OSError, RoamrouteError) as error:
            self._repeats.tell("warning", "broken", f'nl80211 broke, opening it again because="{error}"')
            self._broken.set()
        self._finish(events)

    def _finish(self, events: list[Event]) -> None:
        """Hand over what came of it, and look again when it is time."""
        if events:
            self._emit_batch(events)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._associations.next_wakeup
        if due is not None and not self._broken.is_set():
            self._timer = asyncio.get_running_loop().call_at(due, self._look)

    def _ask(self, key: Key) -> bool | None:
        """Whether the station is authorised; None when it has gone. Raises: OSError, RoamrouteError."""
        assert self._requests is not None
        try:
            answers = self._requests.get(self._family, nl80211.station_request(key.ifindex, key.mac))
        except KernelRefused as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENETDOWN):
                return None
            raise
        found = nl80211.decode_station(answers[0]) if answers else None
        return None if found is None else bool(found.is_authorised)

    def _dump(self, ifindex: int) -> dict[Mac, bool]:
        """All stations of an interface. Raises: OSError, RoamrouteError."""
        assert self._requests is not None
        try:
            answers = self._requests.dump(self._family, nl80211.station_request(ifindex))
        except KernelRefused as error:
            # it has just gone, or is of a kind that has no stations (EOPNOTSUPP: monitor)
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENETDOWN, errno.EOPNOTSUPP):
                return {}
            raise
        found = (nl80211.decode_station(answer) for answer in answers)
        return {station.mac: bool(station.is_authorised) for station in found if station is not None}

    def _interfaces(self) -> list[tuple[int, str]]:
        """The Wi-Fi interfaces that belong to roaming interfaces: (index, roaming interface)."""
        return [
            (ifindex, link)
            for ifindex, name in socket.if_nameindex()
            if (self._sys_class_net / name / "phy80211").exists() and (link := self.roaming_link(name)) is not None
        ]

    def _link_of(self, ifindex: int) -> str | None:
        try:
            return self.roaming_link(socket.if_indextoname(ifindex))
        except OSError:
            return None

    def roaming_link(self, name: str) -> str | None:
        """The interface itself, or the bridge that it is a port of; None when it is not ours."""
        if name in self._links:
            return name
        try:
            bridge = (self._sys_class_net / name / "master").readlink().name
        except OSError:
            return None
        return bridge if bridge in self._links else None
