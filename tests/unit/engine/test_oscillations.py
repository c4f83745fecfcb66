"""A host that moves to and fro too fast is held and reported; one that walks, however fast, is followed."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address

import pytest
from engine_scene import (
    A1,
    A2,
    LAPTOP,
    ME,
    PEER1,
    PEER3,
    PHONE,
    WLAN,
    claim,
    connected,
    hinted,
    left,
    neighbour,
    new_handover_play,
)

from roamroute.effects import Deauthenticate, Effect, Note, Probe, SendClaim
from roamroute.oscillations import Oscillations
from roamroute.policy import Policy
from roamroute.testing.air import AccessPoint, RoamingStation, World
from roamroute.testing.playbook import ANY, Playbook, wait
from roamroute.values import Mac, Nud, PeerId

ONE, TWO, THREE, FOUR = (IPv6Address(0xFD4400000000000A << 64 | number) for number in range(1, 5))


def held_after(path: Sequence[PeerId], pace_s: float, policy: Policy | None = None) -> int | None:
    """After how many moves along this path, walked round and round, the host is held; None: not within 500."""
    oscillations = Oscillations(policy or Policy())
    for turn in range(1, 500):
        former, holder = path[(turn - 1) % len(path)], path[turn % len(path)]
        if oscillations.moved(PHONE, former, holder, turn * pace_s) is not None:
            return turn
    return None


@pytest.mark.parametrize("pace_s", [2.0, 1.0, 0.5, 0.36])
def test_a_walk_is_followed(pace_s: float) -> None:
    assert held_after([ONE, TWO], pace_s) is None
    assert held_after([ONE, TWO, THREE, TWO], pace_s) is None


@pytest.mark.parametrize("pace_s", [0.3, 0.1, 0.01, 0.0])
def test_a_sustained_bounce_is_held(pace_s: float) -> None:
    assert held_after([ONE, TWO], pace_s) == 14
    assert held_after([ONE, TWO, THREE], pace_s) == 15


def test_a_train_that_passes_many_access_points_is_followed() -> None:
    path = [IPv6Address(number) for number in range(1, 600)]
    assert held_after(path, 0.05) is None


def test_a_few_bounces_are_followed() -> None:
    oscillations = Oscillations(Policy())
    for turn in range(13):
        assert oscillations.moved(PHONE, (ONE, TWO)[turn % 2], (TWO, ONE)[turn % 2], turn * 0.01) is None
    assert oscillations.moved(PHONE, ONE, TWO, 10.0) is None


def test_one_that_begins_again_at_once_is_held_twice_as_long_at_most_sixteen_times() -> None:
    oscillations = Oscillations(Policy(oscillation_hold_s=10.0))
    now, durations = 0.0, []
    for _ in range(7):
        until = None
        while until is None:
            now += 0.1
            until = oscillations.moved(PHONE, ONE, TWO, now) or oscillations.moved(PHONE, TWO, ONE, now + 0.05)
        durations.append(round(until - now))
        now = until
        assert oscillations.release(PHONE)
    assert durations == [10, 20, 40, 80, 160, 160, 160]


def test_one_that_has_been_quiet_begins_anew() -> None:
    oscillations = Oscillations(Policy(oscillation_hold_s=10.0))
    for begin in (0.0, 100.0):
        moves = (oscillations.moved(PHONE, (ONE, TWO)[turn % 2], (TWO, ONE)[turn % 2], begin) for turn in range(14))
        assert [until - begin for until in moves if until is not None] == [10.0]
        oscillations.release(PHONE)


def test_memory_is_bounded_by_what_moved_lately() -> None:
    oscillations = Oscillations(Policy(hosts_remembered=100))
    for number in range(10_000):
        mac = Mac(f"02:66:00:00:{number >> 8:02x}:{number & 0xFF:02x}")
        oscillations.moved(mac, ONE, TWO, number * 1e-6)
    assert len(oscillations) <= 101
    oscillations.moved(PHONE, ONE, TWO, 1000.0)
    for _ in range(200):
        oscillations.moved(PHONE, TWO, ONE, 1000.0)
    assert len(oscillations) <= 3


# -- in the engine


def bouncing_play() -> tuple[Playbook, list[Effect]]:
    """The phone bounces between us and a peer until it is held, which happens by a claim of the peer."""
    play = new_handover_play()
    play.play(hinted(1, A1))
    came: list[Effect] = []
    for _ in range(7):
        play.play(connected())
        number = play.engine.hosts[PHONE].sequence
        came = play.play(claim(number + 1, age_s=0.0))
        play.play(wait(0.1))
    return play, came


def test_it_is_held_where_it_is_and_reported_once() -> None:
    play, came = bouncing_play()
    assert [effect.key for effect in came if isinstance(effect, Note)] == [f"oscillating {PHONE}"]
    assert PHONE in play.engine.oscillating
    assert play.engine.hosts[PHONE].holder == PEER1
    play >> wait(1.0)
    play >> connected()
    for nud in (Nud.STALE, Nud.PROBE, Nud.REACHABLE):
        play._do(neighbour(A1, nud))
    assert not [effect for effect in play.skip() if isinstance(effect, SendClaim | Note)]
    assert not play.engine.wanted
    for _ in range(4):  # as long as it goes on moving
        play._do(wait(1.9))
        play._do(connected())
    assert not [effect for effect in play.skip() if isinstance(effect, SendClaim | Deauthenticate)]


def test_where_it_has_come_to_rest_it_is_claimed_once_and_not_at_the_end_of_a_long_hold() -> None:
    play, _ = bouncing_play()
    play.play(connected())
    play.play(wait(3.5))
    play >> wait(0.6)
    claims = [effect for effect in play.skip() if isinstance(effect, SendClaim)]
    assert [effect.because for effect in claims] == ["associated here at the end of an oscillation"]
    assert claims[0].first == PEER1
    assert set(play.engine.wanted) == {A1}
    assert not play.engine.oscillating


def test_where_it_is_held_it_may_come_and_go() -> None:
    play = new_handover_play()
    play.play(hinted(1, A1), connected(), claim(9, age_s=0.0, peer=PEER3))
    while PHONE not in play.engine.oscillating:
        play.play(connected(), wait(0.1))
        if PHONE not in play.engine.oscillating:
            play.play(claim(play.engine.hosts[PHONE].sequence + 1, age_s=0.0), wait(0.1))
    assert play.engine.hosts[PHONE].holder == ME
    play.play(left(), wait(0.1))
    play >> connected()
    assert [effect.claim.peer for effect in play.skip() if isinstance(effect, SendClaim)] == [ME]
    assert set(play.engine.wanted) == {A1}


def test_at_the_end_a_ghost_is_asked_and_not_claimed() -> None:
    play, _ = bouncing_play()
    play.play(wait(9.5))
    play >> wait(0.6)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play.nothing_more()
    play.play(neighbour(A1, Nud.PROBE), neighbour(A1, Nud.FAILED))
    play >> wait(5.0)
    play << Deauthenticate(PHONE, WLAN, because=ANY)


def test_while_it_is_held_nobody_asks_it() -> None:
    play, _ = bouncing_play()
    play >> hinted(play.engine.hosts[PHONE].sequence, A1, A2)
    play.nothing_more()


def test_a_station_that_has_left_is_not_claimed_at_the_end() -> None:
    play, _ = bouncing_play()
    play.play(connected(), left())
    play._do(wait(20.0))
    assert not [effect for effect in play.skip() if isinstance(effect, SendClaim)]


def test_the_holder_itself_goes_on_as_ever() -> None:
    play = new_handover_play()
    play.play(hinted(1, A1))
    for _ in range(7):
        play.play(connected())
        play.play(claim(play.engine.hosts[PHONE].sequence + 1, age_s=0.0))
    play.play(wait(11.0), connected())
    for _ in range(7):
        number = play.engine.hosts[PHONE].sequence
        play.play(claim(number + 1, age_s=0.0), wait(0.01), connected())
    assert play.engine.hosts[PHONE].holder in (ME, PEER1)


def test_another_host_is_followed_meanwhile() -> None:
    play, _ = bouncing_play()
    play.play(hinted(1, A1, mac=LAPTOP, peer=PEER3), connected(LAPTOP))
    assert play.engine.hosts[LAPTOP].holder == ME
    assert LAPTOP not in play.engine.oscillating


def test_a_greater_claim_is_followed_although_it_is_held() -> None:
    """A peer of an older version knows no oscillation; the order stays the only truth."""
    play, _ = bouncing_play()
    number = play.engine.hosts[PHONE].sequence
    play.play(claim(number + 1, PEER3))
    assert play.engine.hosts[PHONE].holder == PEER3


def test_a_hold_does_not_outlive_a_host_that_is_forgotten() -> None:
    play = new_handover_play(Policy(hosts_remembered=1))
    play.play(hinted(1, A1))
    for _ in range(7):
        play.play(connected(), claim(play.engine.hosts[PHONE].sequence + 1), left())
    play.play(claim(1, mac=LAPTOP))
    assert not play.engine.oscillating


# -- in the air


def mesh(points: int = 3, seed: int = 1) -> tuple[World, list[AccessPoint], RoamingStation]:
    world = World(seed)
    made = [world.access_point(name) for name in "abcdef"[:points]]
    world.run(0.1)
    phone = world.station(count=2)
    phone.roam(made[0])
    phone.speak()
    world.run(5.0)
    return world, made, phone


def is_settled(world: World, phone: RoamingStation) -> bool:
    return all(world.announcers(address) == [phone.access_point] for address in phone.addresses)


def test_a_client_that_roams_every_two_seconds_all_day_is_followed_by_all() -> None:
    world, points, phone = mesh(2)
    for turn in range(1, 400):
        phone.roam(points[turn % 2])
        world.run(0.02)
        assert is_settled(world, phone)
        world.run(1.98)
    assert not any(point.engine.oscillating for point in points)


def test_a_client_that_bounces_a_few_times_quickly_is_followed() -> None:
    world, points, phone = mesh(2)
    for turn in range(1, 9):
        phone.roam(points[turn % 2])
        world.run(0.05)
    world.run(0.1)
    assert is_settled(world, phone)
    assert not any(point.engine.oscillating for point in points)


@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_an_oscillation_costs_few_messages_and_ends_where_the_station_is(seed: int, loss: float) -> None:
    world, points, phone = mesh(3, seed)
    world.network.loss = loss
    for turn in range(1, 300):
        phone.roam(points[turn % 2])
        world.run(0.05)
    sent = world.network.sent
    assert any(phone.mac in point.engine.oscillating for point in points)
    assert sent < 2500  # 300 moves that are followed cost 4 datagrams each and more, and a hint for each
    world.network.loss = 0.0
    world.run(30.0)
    assert is_settled(world, phone)
    assert world.holders(phone.mac) == {phone.access_point.peer if phone.access_point else None}
    assert not any(point.engine.oscillating for point in points)
    phone.roam(points[2])
    world.run(0.02)
    assert is_settled(world, phone)
    assert phone.disturbed == 0


def test_two_devices_with_one_mac_that_both_reassociate_do_not_burden_the_mesh() -> None:
    world, points, phone = mesh(3)
    before = world.network.sent
    for turn in range(600):
        points[turn % 2].connected(phone.mac, WLAN)
        world.run(0.1)
    assert world.network.sent - before < 3000
