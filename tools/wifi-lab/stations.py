"""Print what roamroute's nl80211 source emits, a line an event; runs in an access point's namespace."""

from __future__ import annotations

import asyncio
import sys
import time

from roamroute.events import Event, StationConnected, StationLeft, StationsResynced
from roamroute.linux.stations import Nl80211Source


def show(events: list[Event]) -> None:
    now = time.monotonic()
    for event in events:
        match event:
            case StationConnected(station=station):
                print(f"{now:.6f} connected {station.mac} {station.link}", flush=True)
            case StationLeft(station=station, is_reauthenticating=is_back):
                print(f"{now:.6f} {'reauthenticating' if is_back else 'left'} {station.mac} {station.link}", flush=True)
            case StationsResynced(stations=stations):
                print(f"{now:.6f} resynced {','.join(each.mac for each in stations)}", flush=True)
            case _:
                raise TypeError(event)


def log(level: str, line: str) -> None:
    print(f"{time.monotonic():.6f} log {level} {line}", flush=True)


asyncio.run(Nl80211Source(sys.argv[1:], show, log).run())
