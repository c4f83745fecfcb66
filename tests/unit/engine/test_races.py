"""Several access points: races, losses, partitions, restarts, ghosts and liars. One winner, and the right one."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from itertools import pairwise

import pytest

from roamroute.effects import Deauthenticate, Probe, SendClaim, Withdraw
from roamroute.events import AddressSeen, StationConnected
from roamroute.policy import Handover, Policy
from roamroute.testing.air import ROAMING_PREFIX, AccessPoint, RoamingStation, World
from roamroute.values import Mac, Nud, Prefix, Station


def mesh(
    points: int = 3, policy: Policy | None = None, seed: int = 1, prefixes: Sequence[Prefix] = (ROAMING_PREFIX,)
) -> tuple[World, list[AccessPoint]]:
    world = World(seed, policy, prefixes, is_recording=True)
    made = [world.access_point(name) for name in "abcdefgh"[:points]]
    world.run(0.1)
    return world, made


def settled(world: World, phone: RoamingStation, where: AccessPoint | None) -> None:
    """Exactly the access point where the phone is announces it, and all that know of it agree on the holder."""
    for address in phone.addresses:
        assert world.announcers(address) == ([] if where is None else [where])
    if where is not None:
        assert world.holders(phone.mac) == {where.peer}


def gap(world: World, phone: RoamingStation, limit: float) -> float:
    """How long it takes from now until only the right access point announces all addresses."""
    began = world.clock.now
    while world.clock.now - began < limit:
        if all(world.announcers(address) == [phone.access_point] for address in phone.addresses):
            return world.clock.now - began
        world.run(0.001)
    return limit


def asked(point: AccessPoint, kind: type) -> list[object]:
    return [effect for _, effect in point.effects if isinstance(effect, kind)]


# -- a roam


def test_a_silent_client_with_eight_addresses_has_moved_after_one_round_trip() -> None:
    world, (here, there, _) = mesh()
    phone = world.station(count=8)
    phone.roam(here)
    phone.speak()
    world.run(10.0)
    phone.roam(there)
    assert gap(world, phone, 1.0) <= 0.006
    world.run(60.0)
    settled(world, phone, there)


def test_an_address_made_just_before_a_roam_follows_the_first_data_from_it() -> None:
    """Nobody had confirmed it yet; the client knows its gateway, so that it says nothing but data."""
    world, (here, there, _) = mesh()
    phone = world.station()
    phone.roam(here)
    phone.speak()
    world.run(10.0)
    phone.addresses += (world.prefixes[0][0xABCD],)
    phone.roam(there)
    world.run(0.5)
    phone.send_data()
    assert gap(world, phone, 1.0) <= 0.02
    world.run(60.0)
    settled(world, phone, there)
    assert there.watching == {}


def test_a_restart_while_a_host_is_asked_for_an_address_of_another_takes_it_from_nobody() -> None:
    world, (here, there, _) = mesh()
    owner, asker = world.station(), world.station()
    owner.roam(here)
    owner.speak()
    asker.roam(there)
    asker.speak()
    world.run(10.0)
    (address,) = owner.addresses
    there.emit(AddressSeen(asker.link, asker.mac, address))
    world.run(0.5)
    assert there.kernel.state(asker.link, address) is Nud.PROBE
    there.restart()
    for _ in range(1000):
        world.run(0.01)
        assert world.announcers(address) == [here]
    settled(world, asker, there)


def test_a_restart_while_a_sleeping_client_is_asked_keeps_its_route() -> None:
    world, (here, *_) = mesh()
    phone = world.station()
    phone.roam(here)
    phone.speak()
    world.run(1.0)
    (address,) = phone.addresses
    phone.sleep(2.0)
    here.kernel.probe(Probe(phone.link, address, phone.mac, "to have it in PROBE"))
    here.restart()
    for _ in range(500):
        world.run(0.01)
        assert address in here.engine.wanted
    settled(world, phone, here)


def test_a_client_that_talks_at_once_brings_all_its_addresses() -> None:
    world, (here, there, _) = mesh()
    phone = world.station(count=8)
    phone.roam(here)
    phone.speak()
    world.run(10.0)
    phone.roam(there)
    phone.speak(phone.addresses[:1])
    assert gap(world, phone, 1.0) <= 0.008
    settled(world, phone, there)


def test_a_return_is_announced_before_any_message_arrives() -> None:
    world, (here, there, _) = mesh()
    phone = world.station(count=3)
    for point in (here, there):
        phone.roam(point)
        phone.speak()
        world.run(5.0)
    phone.roam(here)
    world.run(0.0)
    assert all(here in world.announcers(address) for address in phone.addresses)
    world.run(1.0)
    settled(world, phone, here)


def test_a_client_that_roams_every_two_seconds_all_day_is_followed() -> None:
    world, points = mesh(3)
    phone = world.station(count=2)
    phone.roam(points[0])
    phone.speak()
    world.run(2.0)
    for turn in range(1, 300):
        phone.roam(points[turn % 3])
        assert gap(world, phone, 1.0) <= 0.006
        world.run(2.0)
    assert phone.disturbed == 0


def test_a_hundred_clients_roam_through_fifty_access_points() -> None:
    world = World(5)
    points = [world.access_point(f"ap{number}") for number in range(50)]
    phones = [world.station(count=2) for _ in range(100)]
    world.run(1.0)
    for number, phone in enumerate(phones):
        phone.roam(points[number % 50])
        phone.speak()
    world.run(1.0)
    for number, phone in enumerate(phones):
        phone.roam(points[(number * 7 + 3) % 50])
    world.run(5.0)
    for phone in phones:
        settled(world, phone, phone.access_point)
        assert phone.disturbed == 0


# -- races


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.003, 0.01, 0.1, 1.0, 2.5])
@pytest.mark.parametrize("seed", range(5))
def test_there_and_back_again(moment: float, seed: int) -> None:
    world, (here, there, _) = mesh(seed=seed)
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    phone.roam(there)
    world.run(moment)
    phone.roam(here)
    world.run(1.0)
    settled(world, phone, here)
    world.run(60.0)
    settled(world, phone, here)
    assert phone.disturbed == 0


@pytest.mark.parametrize("seed", range(20))
def test_two_access_points_claim_at_once_and_one_wins(seed: int) -> None:
    """Without a phone that answers: hostapd of both says that it has just associated."""
    world, (one, other, third) = mesh(seed=seed)
    world.network.jitter = 0.01
    phone = world.station(count=1)
    one.connected(phone.mac, "wlan0")
    other.connected(phone.mac, "wlan0")
    world.run(1.0)
    assert len(world.holders(phone.mac)) == 1
    assert third.engine.hosts[phone.mac].holder in (one.peer, other.peer)


@pytest.mark.parametrize("seed", range(20))
def test_claims_that_overtake_each_other_end_with_the_phone(seed: int) -> None:
    world, points = mesh(4, seed=seed)
    phone = world.station(count=2)
    phone.roam(points[0])
    phone.speak()
    world.run(5.0)
    world.network.jitter = 0.2
    world.network.loss = 0.3
    world.network.duplication = 0.3
    for point in points[1:]:
        phone.roam(point)
        world.run(0.02)
    world.network.jitter = world.network.loss = world.network.duplication = 0.0
    for _ in range(80):
        world.run(0.1)
        phone.send_data()
    settled(world, phone, points[-1])
    assert phone.disturbed == 0


def test_a_claim_that_is_lost_entirely_is_repeated_when_the_peer_hears_again() -> None:
    world, (here, there, _) = mesh()
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    world.network.loss = 1.0
    phone.roam(there)
    phone.speak()
    world.run(8.0)
    assert world.announcers(phone.addresses[0]) == [here, there]
    world.network.loss = 0.0
    world.run(3.0)
    settled(world, phone, there)


def test_a_partition_that_heals() -> None:
    world, (here, there, _) = mesh(policy=Policy(stale_probe_after_s=3000.0))
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    world.cut(here, there)
    phone.roam(there)
    phone.speak()
    world.run(40.0)
    assert here in world.announcers(phone.addresses[0])
    world.mend(here, there)
    world.run(1.0)
    settled(world, phone, there)


def test_in_a_partition_the_neighbour_cache_tells_in_the_end() -> None:
    world, (here, there, _) = mesh()
    phone = world.station()
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    world.cut(here, there)
    phone.roam(there)
    phone.speak()
    world.run(120.0)
    assert world.announcers(phone.addresses[0]) == [there]


# -- restarts


def test_an_access_point_that_restarts_keeps_its_host_without_a_gap() -> None:
    world, (here, _, _) = mesh()
    phone = world.station(count=3)
    phone.roam(here)
    phone.speak()
    world.run(10.0)
    here.restart()
    world.run(0.0)
    settled_now = [world.announcers(address) for address in phone.addresses]
    assert settled_now == [[here]] * 3
    world.run(60.0)
    settled(world, phone, here)


def test_an_access_point_that_restarted_while_its_host_moved_lets_go() -> None:
    world, (here, there, _) = mesh()
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(10.0)
    here.kill()
    phone.roam(there)
    phone.speak()
    world.run(8.0)
    here.start()  # with the neighbours and the ghost of before
    world.run(25.0)
    settled(world, phone, there)


def test_an_access_point_that_knows_nothing_wins_the_host_that_comes_to_it() -> None:
    world, (here, there, _) = mesh()
    phone = world.station(count=2)
    for turn in range(10):
        phone.roam((here, there)[turn % 2])
        phone.speak()
        world.run(1.0)
    here.restart()
    world.run(1.0)
    phone.roam(here)
    assert gap(world, phone, 1.0) <= 0.011
    world.run(1.0)
    settled(world, phone, here)


def test_a_restart_of_hostapd_empties_it_and_the_clients_come_back() -> None:
    world, (here, _, _) = mesh()
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(10.0)
    here.restart_hostapd()
    world.run(0.1)
    assert world.announcers(phone.addresses[0]) == []
    phone.roam(here)
    world.run(0.1)
    settled(world, phone, here)


def test_an_association_that_was_missed_is_found_when_hostapd_is_heard_again() -> None:
    """The phone comes back while hostapd's socket is not connected, and says nothing."""
    world, (here, there, _) = mesh()
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    phone.roam(there)
    world.run(20.0)
    there.ghosted(phone.mac)
    phone.access_point = here
    here.associated[phone.mac] = "wlan0"
    world.run(1.0)
    here.resync_stations()
    world.run(5.0)
    settled(world, phone, here)


# -- ghosts


def test_a_ghost_is_removed_from_the_old_access_point() -> None:
    world, (here, there, _) = mesh()
    phone = world.station()
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    phone.roam(there)
    world.run(10.0)
    assert phone.mac not in here.associated
    assert len(asked(here, Deauthenticate)) == 1
    assert phone.disturbed == 0


def test_evidence_of_neighbour_discovery_wins_against_a_ghost() -> None:
    """The new access point sees no associations (a dumb one behind it), the old one has a ghost."""
    world, (here, there, _) = mesh()
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    here.ghosted(phone.mac)
    phone.access_point = there
    phone.speak()
    world.run(6.0)
    settled(world, phone, there)


def test_evidence_of_neighbour_discovery_loses_against_a_phone_that_is_there() -> None:
    world, (here, there, _) = mesh()
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    liar = world.station()
    liar.roam(there)
    for address in phone.addresses:
        there.kernel.solicited("wlan0", address, phone.mac)  # with the phone's own MAC
    world.run(0.05)
    settled(world, phone, here)
    world.run(30.0)
    settled(world, phone, here)
    assert phone.disturbed == 0


# -- liars


@pytest.mark.parametrize("way", ["solicits", "talks"])
def test_a_client_cannot_take_the_address_of_another_at_another_access_point(way: str) -> None:
    world, (here, there, _) = mesh()
    victim, liar = world.station(), world.station()
    address = victim.addresses[0]
    victim.roam(here)
    victim.speak()
    liar.roam(there)
    liar.speak()
    world.run(5.0)
    liar.addresses = (*liar.addresses, address)  # it answers for it, too
    for _ in range(60):
        if way == "solicits":
            liar.speak()
        else:
            liar.send_data()
        world.run(1.0)
        assert world.announcers(address) == [here]
    probes = [effect for _, effect in here.effects if isinstance(effect, Probe)]
    assert len(probes) < 20  # the victim is not asked more than twice a minute for one liar


def test_a_client_cannot_take_the_address_of_another_at_the_same_access_point() -> None:
    world, (here, _, _) = mesh()
    victim, liar = world.station(), world.station()
    address = victim.addresses[0]
    for station in (victim, liar):
        station.roam(here)
        station.speak()
    world.run(5.0)
    liar.addresses = (*liar.addresses, address)
    for _ in range(60):
        here.kernel.advertised("wlan0", address, liar.mac)
        here.kernel.solicited("wlan0", address, liar.mac)
        world.run(0.5)
        assert world.announcers(address) == [here]
        assert here.engine._book.entries[address].mac == victim.mac


def test_messages_lost_in_a_flood_do_not_help_a_forger() -> None:
    """ENOBUFS: the forged entry comes with the resynchronisation, not as an event."""
    world, (here, there, _) = mesh()
    victim, liar = world.station(), world.station()
    address = victim.addresses[0]
    victim.roam(here)
    victim.speak()
    liar.roam(there)
    liar.speak()
    world.run(5.0)
    liar.addresses = (*liar.addresses, address)
    emit, there.kernel.emit = there.kernel.emit, lambda _event: None
    there.kernel.solicited("wlan0", address, liar.mac)
    there.kernel.emit = emit
    for _ in range(20):
        there.kernel.resync()
        world.run(1.0)
        assert world.announcers(address) == [here]


def test_a_client_that_associates_a_thousand_times_moves_the_number_by_a_thousand() -> None:
    world, (here, there, _) = mesh()
    phone = world.station()
    for _ in range(500):
        phone.roam(here)
        world.run(0.01)
        phone.roam(there)
        world.run(0.01)
    world.run(5.0)
    assert there.engine.hosts[phone.mac].sequence <= 2200


def test_an_insider_who_uses_the_last_number_cannot_stop_the_service_of_a_host() -> None:
    """Who holds the key can fix a host's number at its maximum: claims mean nothing then, the neighbour cache does."""
    world, (here, there, insider) = mesh()
    phone = world.station()
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    insider.engine._book.host(phone.mac).sequence = 2**32 - 2
    insider.connected(phone.mac, "wlan0")
    world.run(1.0)
    phone.roam(there)
    phone.speak()
    world.run(120.0)
    assert there in world.announcers(phone.addresses[0])


def test_a_flood_of_forged_addresses_costs_a_bounded_number_of_claims() -> None:
    world, (here, _, _) = mesh(policy=Policy(addresses_total=200, addresses_per_host=16))
    liar = world.station()
    liar.roam(here)
    world.run(1.0)
    for number in range(10_000):
        here.kernel.solicited("wlan0", world.prefixes[0][0x10000 + number], liar.mac)
        world.run(0.0002)
    assert len(asked(here, SendClaim)) <= 500 + 2 * 200 + 10
    assert len(here.engine.wanted) <= 16


def test_a_flood_of_forged_hosts_costs_a_bounded_number_of_claims_and_stops_nobody() -> None:
    world, (here, _, _) = mesh(policy=Policy(addresses_total=2000))
    for number in range(5000):
        mac = Mac(f"02:66:00:00:{number >> 8:02x}:{number & 0xFF:02x}")
        here.kernel.solicited("wlan0", world.prefixes[0][0x10000 + number], mac)
        world.run(0.0002)
    assert len(asked(here, SendClaim)) <= 500 + 200 + 10
    world.run(60.0)
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(10.0)
    settled(world, phone, here)


# -- the neighbour cache


def test_a_phone_that_vanishes_is_withdrawn_by_the_neighbour_cache() -> None:
    world, (here, _, _) = mesh()
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    phone.vanish()
    world.run(120.0)
    settled(world, phone, None)


def test_a_phone_that_sleeps_for_five_seconds_keeps_its_routes() -> None:
    world, (here, _, _) = mesh()
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    for _ in range(20):
        phone.sleep(5.0)
        world.run(20.0)
        assert world.announcers(phone.addresses[0]) == [here]


def test_probes_of_a_mesh_at_rest_are_few_and_spread() -> None:
    world, (here, _, _) = mesh()
    phones = [world.station(count=3) for _ in range(50)]
    for phone in phones:
        phone.roam(here)
        phone.speak()
    world.run(600.0)
    times = [when for when, effect in here.effects if isinstance(effect, Probe) and when > 1100.0]
    assert len(times) / 500 <= 150 / 45.0
    assert max(later - earlier for earlier, later in pairwise(times)) < 20.0
    assert all(here.kernel.state("wlan0", address) is not Nud.FAILED for phone in phones for address in phone.addresses)


# -- the handover


def test_a_silent_client_is_announced_where_it_has_never_been_before_any_message_arrives() -> None:
    world, (here, there, _) = mesh()
    phone = world.station(count=8)
    phone.roam(here)
    phone.speak()
    world.run(10.0)
    phone.roam(there)
    world.run(0.0)
    assert all(there.delivers(address) for address in phone.addresses)
    assert gap(world, phone, 1.0) <= 0.003  # a claim's way; nobody waits for the answer


def test_the_peer_that_held_the_host_is_told_first() -> None:
    world, (here, there, _) = mesh()
    phone = world.station()
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    phone.roam(there)
    world.run(0.0)
    assert [effect.first for _, effect in there.effects if isinstance(effect, SendClaim)][-1] == here.peer


@pytest.mark.parametrize("prefix", ["fd44:0:0:1::", "10.44.0."])
def test_what_the_routers_still_send_to_the_old_access_points_arrives(prefix: str) -> None:
    world, (one, two, three) = mesh(prefixes=(ROAMING_PREFIX, ip_network("10.44.0.0/16")))
    phone = world.station((f"{prefix}7",))
    (address,) = phone.addresses
    phone.roam(one)
    phone.speak()
    world.run(10.0)
    for there in (two, three, one, three, two, one):
        phone.roam(there)
        world.run(0.005)
        assert {point: world.carry(address, point) for point in (one, two, three) if address in point.wanted} == {
            point: there for point in (one, two, three) if address in point.wanted
        }
        world.run(1.0)
    assert world.lingerers(address) == [two, three]
    world.run(20.0)
    assert world.lingerers(address) == []
    world.run(60.0)
    assert not any(point.forwards for point in world.access_points)


def test_a_packet_is_never_routed_back_when_the_host_has_gone_without_a_word() -> None:
    world, (one, two, _) = mesh(prefixes=(ROAMING_PREFIX, ip_network("10.44.0.0/16")))
    phone = world.station(("10.44.0.7",))
    phone.roam(one)
    phone.speak()
    world.run(10.0)
    phone.roam(two)
    world.run(1.0)
    two.left(phone.mac)
    world.run(0.0)
    assert one in world.lingerers(phone.addresses[0])
    assert world.carry(phone.addresses[0], one) is None


def test_a_gateway_sends_to_the_new_access_point_before_its_routing_knows() -> None:
    world, (one, two, _) = mesh()
    gateway = world.access_point("gateway", ())
    phone = world.station(count=2)
    world.run(0.1)
    phone.roam(one)
    phone.speak()
    world.run(10.0)
    phone.roam(two)
    world.run(0.003)
    assert all(world.carry(address, gateway) is two for address in phone.addresses)
    world.run(17.0)
    assert not gateway.forwards


@pytest.mark.parametrize("seed", range(5))
def test_with_a_fifth_of_the_messages_lost_every_roam_is_followed_soon(seed: int) -> None:
    world, points = mesh(4, seed=seed)
    phone = world.station(count=2)
    phone.roam(points[0])
    phone.speak()
    world.run(10.0)
    world.network.loss = 0.2
    waited = []
    for turn in range(1, 100):
        former = phone.access_point
        assert former is not None
        phone.roam(points[turn % 4])
        began = world.clock.now
        while not all(world.carry(address, former) is phone.access_point for address in phone.addresses):
            world.run(0.001)
            assert world.clock.now - began < 2.0
        waited.append(world.clock.now - began)
        world.run(2.0)
    waited.sort()
    assert waited[50] <= 0.004
    assert waited[94] <= 0.120


def test_a_mesh_that_is_upgraded_one_by_one_roams_as_before_and_in_the_end_better() -> None:
    old = Handover(is_sharing_hints=False, is_forwarding=False)
    for mixture in ((old, old, old), (Handover(), old, old), (old, Handover(), Handover()), (Handover(),) * 3):
        world = World(1)
        points = [world.access_point(name, handover=each) for name, each in zip("abc", mixture, strict=True)]
        phone = world.station(count=2)
        world.run(0.1)
        phone.roam(points[0])
        phone.speak()
        world.run(5.0)
        for turn in range(1, 20):
            phone.roam(points[turn % 3])
            assert gap(world, phone, 1.0) <= 0.006
            world.run(2.0)
        world.run(60.0)
        settled(world, phone, phone.access_point)


# -- ages


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("pause", "limit"), [(0.001, 0.2), (0.005, 0.2), (0.011, 0.03), (0.02, 0.03), (0.2, 0.03)])
def test_of_two_claims_under_way_at_once_the_later_association_wins(seed: int, pause: float, limit: float) -> None:
    """At once, whatever the identifiers say, where a message takes less time than lay between; else after a doubt."""
    for first, second in ((0, 1), (1, 0)):
        world, points = mesh(seed=seed)
        phone = world.station(count=2)
        phone.roam(points[2])
        phone.speak()
        world.run(5.0)
        world.network.latency = 0.01
        phone.roam(points[first])
        world.run(pause)
        phone.roam(points[second])
        world.run(limit)
        settled(world, phone, points[second])
        assert phone.disturbed == 0


def test_after_a_partition_the_side_where_the_station_came_later_wins_and_nothing_flaps() -> None:
    for first, second in ((0, 1), (1, 0)):
        world, points = mesh(2, policy=Policy(stale_probe_after_s=3000.0))
        here, there = points[first], points[second]
        phone = world.station(count=2)
        phone.roam(here)
        phone.speak()
        world.run(5.0)
        world.cut(here, there)
        for _ in range(3):  # its number grows here, and nobody hears of that
            phone.roam(here)
            world.run(1.0)
        phone.roam(there)
        phone.speak()
        world.run(40.0)
        there.effects.clear()
        world.mend(here, there)
        world.run(1.0)
        settled(world, phone, there)
        assert not [effect for _, effect in there.effects if isinstance(effect, Withdraw)]
        assert phone.disturbed == 0


def test_a_clock_that_was_late_cannot_keep_a_station_that_answers_elsewhere() -> None:
    """Here the association was read 200 ms late, and looks newer than the one that followed it."""
    world, (here, there, _) = mesh()
    phone = world.station(count=1)
    phone.roam(here)
    phone.speak()
    world.run(5.0)
    phone.roam(there)
    world.run(0.2)
    here.associated[phone.mac] = "wlan0"
    here.emit(StationConnected(Station(phone.mac, "wlan0")))
    for _ in range(40):
        world.run(0.25)
        phone.send_data()
    settled(world, phone, there)
    assert phone.disturbed == 0


# -- killed in the middle


@pytest.mark.parametrize("moment", [0.0, 0.001, 0.003, 0.02, 0.05])
@pytest.mark.parametrize("is_connected_anew", [True, False])
def test_a_silent_client_is_announced_although_roamroute_was_killed_right_after_its_association(
    moment: float, is_connected_anew: bool
) -> None:
    world, (here, there, _) = mesh()
    phone = world.station(count=2)
    phone.roam(here)
    phone.speak()
    world.run(10.0)
    if is_connected_anew:
        phone.roam(there)
        world.run(moment)
        there.kill()
    else:
        there.kill()
        phone.roam(there)
        world.run(moment)
    world.run(1.0)
    there.start()
    for _ in range(20):
        world.run(1.0)
    settled(world, phone, there)
    assert phone.disturbed == 0
