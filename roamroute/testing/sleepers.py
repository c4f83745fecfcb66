"""An hour of one access point in virtual time, with thousands of stations that sleep most of it. No kernel, no socket.

    hour = Night(stations=2000, addresses_each=5, awake=200, seed=1)
    hour.run(3600.0)
    assert hour.lost == []

A station that sleeps does not answer the kernel's first solicitation of a round, but the second, when it has woken for
its listen interval; and now and then no solicitation of a whole round. The dead say nothing, and nobody tells of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_network

from roamroute import effects, events
from roamroute.admission import Admission
from roamroute.engine import Engine
from roamroute.policy import Policy
from roamroute.testing.clock import Appointment, VirtualClock
from roamroute.testing.kernel import FAILURE_S, FakeKernel
from roamroute.values import Address, Instant, Mac, Seconds, Station

LINK = "wlan0"
_PREFIX = ip_network("fd44:0:0:1::/64")
_SKIP_PAUSE_S: Seconds = 60.0  # who has missed a round is awake for so long at least
_DEFAULT_POLICY = Policy()


class Night:
    """The stations, a neighbour table, and the engine with its timer."""

    def __init__(
        self,
        *,
        stations: int,
        addresses_each: int,
        awake: int,
        policy: Policy = _DEFAULT_POLICY,
        skip_chance: float = 0.02,
        seed: int = 0,
    ) -> None:
        self.clock = VirtualClock()
        self.random = random.Random(seed)
        self.policy = policy
        self.stations = [Mac(f"02:00:5e:44:{number >> 8:02x}:{number & 255:02x}") for number in range(1, stations + 1)]
        self.addresses: dict[Address, Mac] = {
            _PREFIX[number << 16 | index]: mac
            for number, mac in enumerate(self.stations, start=1)
            for index in range(1, addresses_each + 1)
        }
        self.dead: dict[Mac, Instant] = {}
        self.lost: list[tuple[Instant, Address]] = []
        """Routes of the living that were withdrawn."""
        self.withdrawn_after: list[Seconds] = []
        """How long after its death each address of the dead was withdrawn."""
        self.probes: Counter[int] = Counter()
        """How many rounds of the kernel began in each second."""
        self._sleepers = set(self.stations[awake:])
        self._skip_chance = skip_chance
        self._asked: dict[Address, Instant] = {}
        self._deaf_until: dict[Mac, Instant] = {}
        self._timer: Appointment | None = None
        self._timer_due: Instant = float("inf")
        self.kernel = FakeKernel(self.clock, (LINK,), self._take, self._answers, seed=seed)
        self.engine = Engine(Admission((LINK,), (_PREFIX,)), policy, seed=seed)
        for address, mac in self.addresses.items():
            self.kernel.solicited(LINK, address, mac)
        stations_now = tuple(Station(mac, LINK) for mac in self.stations)
        self._take(events.StationsResynced(frozenset({LINK}), stations_now))

    def run(self, duration: Seconds) -> None:
        """Let time pass."""
        self.clock.run(duration)

    def kill(self, stations: Sequence[Mac]) -> None:
        """These are gone, and nobody says so."""
        self.dead |= dict.fromkeys(stations, self.clock.now)

    def _answers(self, link: str, address: Address, mac: Mac) -> bool:
        now = self.clock.now
        if mac in self.dead or self._deaf_until.get(mac, 0.0) > now:
            return False
        if mac not in self._sleepers:
            return True
        is_second = self._asked.pop(address, -1e9) > now - FAILURE_S
        if is_second:
            return True
        self._asked[address] = now
        if self._deaf_until.get(mac, 0.0) + _SKIP_PAUSE_S < now and self.random.random() < self._skip_chance:
            self._deaf_until[mac] = now + FAILURE_S
        return False

    def _take(self, event: events.Event) -> None:
        # The kernel must not be called back from within: netlink is a queue.
        self.clock.after(0.0, lambda: self._perform(self.engine.handle(event, self.clock.now)))

    def _tick(self) -> None:
        self._timer, self._timer_due = None, float("inf")
        self._perform(self.engine.tick(self.clock.now))

    def _perform(self, asked: Sequence[effects.Effect]) -> None:
        now = self.clock.now
        for effect in asked:
            match effect:
                case effects.Probe():
                    self.probes[int(now)] += 1
                    self.kernel.probe(effect)
                case effects.Forget():
                    self.kernel.forget(effect)
                case effects.Withdraw(route=route):
                    died_at = self.dead.get(self.addresses[route.address])
                    if died_at is None:
                        self.lost.append((now, route.address))
                    else:
                        self.withdrawn_after.append(now - died_at)
                case _:
                    pass
        due = self.engine.next_wakeup
        if due is not None and due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self.clock.at(due, self._tick)
