"""Several access points, some of them dumb, one air, anything may happen: quiet time makes everything right."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from roamroute import events
from roamroute.policy import WITHOUT_ASSOCIATIONS, Handover, Policy
from roamroute.testing.air import LINK, ROAMING_PREFIX, AccessPoint, RoamingStation, World
from roamroute.testing.invariants import broken_forwards, broken_invariants
from roamroute.values import Station

POLICY = Policy(
    stale_probe_after_s=10.0,
    addresses_per_host=3,
    addresses_total=12,
    hosts_remembered=8,
    probes_per_second=5.0,
    probe_burst=3,
    urgent_probes_per_second=50.0,
    denial_s=10.0,
    forwarding_s=20.0,
    forwarding_limit_s=60.0,
    forwards_total=5,
    hints_per_peer=3,
    oscillation_moves=4,
    oscillation_hold_s=2.0,
)
DUMB = attrs.evolve(POLICY, **WITHOUT_ASSOCIATIONS)
TRUSTING = attrs.evolve(DUMB, is_trusting_update_frames=True)
KINDS = (POLICY, POLICY, POLICY, DUMB, TRUSTING)
PREFIXES = (ROAMING_PREFIX, ip_network("10.44.0.0/16"))
LINKS = (LINK, "wlan1")
which_point = st.integers(0, 2)
which_peer = st.integers(0, 3)
which_station = st.integers(0, 2)
HANDOVERS = (
    Handover(),
    Handover(),
    Handover(is_forwarding=False),
    Handover(is_sharing_hints=False, is_forwarding=False),
)
moments = st.sampled_from([0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.5, 1.0, 3.0, 6.0, 20.0])


class Mesh(RuleBasedStateMachine):
    """Three access points with two links each, a router, two honest stations and one that lies."""

    @initialize(
        seed=st.integers(0, 2**16),
        loss=st.sampled_from([0.0, 0.0, 0.5, 0.9]),
        latency=st.sampled_from([0.0, 0.0005, 0.02]),
        handovers=st.tuples(*(st.sampled_from(HANDOVERS) for _ in range(4))),
        policies=st.tuples(*(st.sampled_from(KINDS) for _ in range(3))),
    )
    def build(
        self,
        seed: int,
        loss: float,
        latency: float,
        handovers: tuple[Handover, ...],
        policies: tuple[Policy, ...],
    ) -> None:
        self.world = World(seed, POLICY, PREFIXES, log=print if os.environ.get("ROAMROUTE_TRACE") else None)
        self.world.netlink_latency = latency
        for name, policy, handover in zip("abc", policies, handovers, strict=False):
            self.world.access_point(name, LINKS, policy, handover)
        self.world.access_point("router", (), handover=handovers[3])
        self.stations = [self.world.station(("fd44:0:0:1::101", "10.44.0.7")), self.world.station(count=1)]
        self.liar = self.world.station(count=1)
        self.is_lossy(loss)
        self.is_all_known = True
        """Nobody forgot, nobody was told nonsense: then all agree on the holder. The routes are right without it."""
        self.world.run(0.1)

    def point(self, number: int) -> AccessPoint:
        return self.world.access_points[number]

    def one(self, number: int) -> RoamingStation:
        return [*self.stations, self.liar][number]

    @rule(station=which_station, to=which_point, link=st.sampled_from(LINKS), says_goodbye=st.booleans())
    def roams(self, station: int, to: int, link: str, says_goodbye: bool) -> None:
        self.one(station).roam(self.point(to), link, says_goodbye)

    @rule(station=which_station, to=which_point, moment=moments)
    def settles(self, station: int, to: int, moment: float) -> None:
        self.one(station).roam(self.point(to))
        self.one(station).speak()
        self.world.run(moment)

    @rule(station=which_station, to=which_point, moment=moments, other=which_point)
    def roams_and_comes_back(self, station: int, to: int, moment: float, other: int) -> None:
        self.one(station).roam(self.point(to))
        self.world.run(moment)
        self.one(station).roam(self.point(other))

    @rule(station=which_station)
    def speaks(self, station: int) -> None:
        self.one(station).speak()

    @rule(station=which_station)
    def sends_data(self, station: int) -> None:
        self.one(station).send_data()

    @rule(victim=st.integers(0, 1), how=st.sampled_from(["solicits", "advertises", "data"]))
    def lies(self, victim: int, how: str) -> None:
        here = self.liar.access_point
        address = self.stations[victim].addresses[0]
        if here is None:
            return
        if how == "solicits":
            here.kernel.solicited(self.liar.link, address, self.liar.mac)
        elif how == "advertises":
            here.kernel.advertised(self.liar.link, address, self.liar.mac)
        else:
            here.emit(events.AddressSeen(self.liar.link, self.liar.mac, address))

    @rule(station=which_station, duration=moments)
    def sleeps(self, station: int, duration: float) -> None:
        self.one(station).sleep(duration)

    @rule(station=which_station)
    def vanishes(self, station: int) -> None:
        self.one(station).vanish()

    @rule(moment=moments)
    def time_passes(self, moment: float) -> None:
        self.world.run(moment)

    @rule(number=which_peer, moment=moments)
    def is_killed(self, number: int, moment: float) -> None:
        self.point(number).kill()
        self.is_all_known = False
        self.world.run(moment)
        self.point(number).start()

    @rule(number=which_point)
    def resyncs(self, number: int) -> None:
        self.point(number).resync()

    @rule(number=which_point)
    def hostapd_restarts(self, number: int) -> None:
        self.point(number).restart_hostapd()

    @rule(number=which_point, link=st.sampled_from(LINKS), moment=moments)
    def link_flaps(self, number: int, link: str, moment: float) -> None:
        self.point(number).kernel.link_down(link)
        self.world.run(moment)
        self.point(number).kernel.link_up(link)

    @rule(number=which_point, station=which_station)
    def kernel_prunes(self, number: int, station: int) -> None:
        for link in LINKS:
            self.point(number).kernel.prune(link, self.one(station).addresses[0])

    @rule(number=which_point, station=which_station)
    def foreign_route(self, number: int, station: int) -> None:
        self.point(number).emit(events.ForeignRouteSeen(self.one(station).addresses[0], "router"))

    @rule(number=which_point, station=which_station, link=st.sampled_from(LINKS))
    def bridge_learns(self, number: int, station: int, link: str) -> None:
        self.point(number).emit(events.MacLearned(self.one(station).mac, link, "port"))

    @rule(number=which_point, station=which_station)
    def bridge_forgets(self, number: int, station: int) -> None:
        self.point(number).emit(events.MacForgotten(self.one(station).mac, LINK))

    @rule(number=which_point, station=which_station, link=st.sampled_from(LINKS))
    def reports_nonsense(self, number: int, station: int, link: str) -> None:
        self.point(number).emit(events.StationLeft(Station(self.one(station).mac, link), is_reauthenticating=True))
        self.is_all_known = False

    @rule(station=which_station, moment=st.sampled_from([0.0, 0.01, 0.2]), turns=st.integers(2, 12), at=which_point)
    def bounces(self, station: int, moment: float, turns: int, at: int) -> None:
        for turn in range(turns):
            self.one(station).roam(self.point((at + turn % 2) % 3))
            self.world.run(moment)

    @rule(number=which_peer)
    def packets_are_sent_on(self, number: int) -> None:
        for address in self.point(number).forwards:
            self.point(number).emit(events.ForwardUsed(address))

    @rule(number=which_point)
    def drains(self, number: int) -> None:
        self.point(number).emit(events.Drained())

    @rule(number=which_point)
    def resumes(self, number: int) -> None:
        self.point(number).emit(events.Resumed())

    @rule(loss=st.sampled_from([0.0, 0.3, 0.9]))
    def is_lossy(self, loss: float) -> None:
        self.world.network.loss = loss
        self.world.network.duplication = loss / 2
        self.world.network.jitter = loss / 10

    @rule(one=which_peer, other=which_peer)
    def is_cut(self, one: int, other: int) -> None:
        if one != other:
            self.world.cut(self.point(one), self.point(other))

    @precondition(lambda self: self.world.network.cut)
    @rule()
    def is_mended(self) -> None:
        self.mends()

    def mends(self) -> None:
        for pair in sorted(self.world.network.cut, key=lambda pair: sorted(map(int, pair))):
            one, other = (point for point in self.world.access_points if point.peer in pair)
            self.world.mend(one, other)

    @invariant()
    def invariants_hold(self) -> None:
        for point in self.world.access_points:
            assert point.wanted == dict(point.engine.wanted)
            assert point.forwards == dict(point.engine.forwards)
            assert list(broken_invariants(point.engine)) == []
        engines = {point.peer: point.engine for point in self.world.access_points if point.is_running}
        if self.is_all_known:
            assert list(broken_forwards(engines)) == []

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.quieten()
        for station in self.stations:
            expected = [] if station.access_point is None else [station.access_point]
            for address in station.addresses:
                assert self.world.announcers(address) == expected, (station.mac, address)
            if station.access_point is not None and self.is_all_known:
                assert self.world.holders(station.mac) <= {station.access_point.peer, None}
        for point in self.world.access_points:
            assert not point.forwards
            assert not point.engine.lingering
            assert not point.engine.oscillating

    def quieten(self) -> None:
        """Nobody lies, moves or is cut off any more; sources resynchronise, time passes.

        The first station speaks ND from all its addresses; the other one cached its gateway and sends data only.
        """
        self.mends()
        self.is_lossy(0.0)
        self.liar.vanish()
        for point in self.world.access_points:
            point.emit(events.Resumed())
        for _ in range(3):
            for point in self.world.access_points:
                point.resync()
            self.stations[0].speak()
            for _ in range(12):
                self.world.run(5.0)
                for station in self.stations:
                    station.send_data()
                self.invariants_hold()


def limits(examples: int, steps: int) -> Any:
    return settings(
        max_examples=int(os.environ.get("ROAMROUTE_EXAMPLES", examples)),
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def wander(seed: int, steps: int, kinds: tuple[Policy, ...] = (POLICY,)) -> None:
    """Any rules at random, for long: what hypothesis, which prefers the simple, comes to seldom."""
    chance = random.Random(seed)
    mesh = Mesh()
    latencies, losses = (0.0, 0.0005, 0.02), (0.0, 0.0, 0.5)
    handovers = tuple(chance.choice(HANDOVERS) for _ in range(4))
    policies = tuple(chance.choice(kinds) for _ in range(3))
    mesh.build(seed, chance.choice(losses), chance.choice(latencies), handovers, policies)
    for _ in range(steps):
        take_a_step(mesh, chance)
        mesh.invariants_hold()
    mesh.teardown()


def take_a_step(mesh: Mesh, chance: random.Random) -> None:
    """One rule, drawn by weight."""
    point, other, peer, station = (chance.randrange(limit) for limit in (3, 4, 4, 3))
    link, is_so = chance.choice(LINKS), chance.random() < 0.5
    moment = chance.choice((0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.5, 1.0, 3.0, 6.0, 20.0))
    steps_of_life: list[Callable[[], None]] = [
        *(lambda: mesh.settles(station, point, moment),) * 6,
        *(lambda: mesh.time_passes(moment),) * 4,
        lambda: mesh.roams(station, point, link, is_so),
        lambda: mesh.roams_and_comes_back(station, point, moment, other % 3),
        lambda: mesh.speaks(station),
        lambda: mesh.sends_data(station),
        lambda: mesh.lies(station % 2, chance.choice(("solicits", "advertises", "data"))),
        lambda: mesh.sleeps(station, moment),
        lambda: mesh.vanishes(station),
        lambda: mesh.is_killed(peer, moment),
        lambda: mesh.resyncs(point),
        lambda: mesh.hostapd_restarts(point),
        lambda: mesh.link_flaps(point, link, moment),
        lambda: mesh.kernel_prunes(point, station),
        lambda: mesh.foreign_route(point, station),
        lambda: mesh.bridge_learns(point, station, link),
        lambda: mesh.bridge_forgets(point, station),
        lambda: mesh.bounces(station, chance.choice((0.0, 0.01, 0.2)), chance.randint(2, 12), point),
        lambda: mesh.packets_are_sent_on(peer),
        lambda: mesh.drains(point),
        *(lambda: mesh.resumes(point),) * 2,
        lambda: mesh.is_lossy(chance.choice((0.0, 0.0, 0.3, 0.9))),
        lambda: mesh.is_cut(point, other),
        *(lambda: mesh.mends(),) * 2,
    ]
    chance.choice(steps_of_life)()


@pytest.mark.parametrize("seed", range(int(os.environ.get("ROAMROUTE_SEEDS", 20))))
def test_a_long_life_at_random_ends_well(seed: int) -> None:
    wander(seed, 60)


@pytest.mark.parametrize("seed", range(int(os.environ.get("ROAMROUTE_SEEDS", 20))))
def test_a_long_life_with_dumb_access_points_ends_well(seed: int) -> None:
    wander(seed, 60, (POLICY, DUMB, TRUSTING))


TestMesh = Mesh.TestCase
TestMesh.settings = limits(150, 25)
