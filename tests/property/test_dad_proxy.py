"""The DAD proxy under anything that comes: what it never does."""

from __future__ import annotations

from dad_scene import OWN, Scene, T
from hypothesis import given
from hypothesis import strategies as st

from roamroute.dad import DadEffect, Defend, HandOut, Limits, Relay
from roamroute.testing.air import ROAMING_PREFIX
from roamroute.values import Address, DadKind, DadMessage, Instant, Mac, PeerId

LINKS = ("wlan0", "wlan1")
MACS = tuple(Mac(f"02:00:5e:44:00:{last:02x}") for last in range(6))
PEERS: tuple[PeerId, ...] = tuple(ROAMING_PREFIX[number] for number in (1, 2))
TARGETS = tuple(ROAMING_PREFIX[number] for number in range(0x101, 0x105))
LIMITS = Limits(
    station_rate=2,
    station_burst=6,
    peer_rate=5,
    peer_burst=10,
    unicast_rate=50,
    unicast_burst=20,
    unicast_portion=2,
    targets_per_station=2,
    messages_remembered=8,
    stations_remembered=4,
    targets_remembered=3,
)

messages = st.builds(
    DadMessage,
    st.sampled_from(DadKind),
    st.sampled_from(TARGETS),
    st.sampled_from((*MACS, OWN)),
    st.sampled_from((b"", b"nonce1", b"nonce2")),
)
happenings = st.tuples(
    st.sampled_from((0.0, 0.0005, 0.004, 0.05, 0.4, 3.0)), st.sampled_from((*LINKS, *PEERS, None)), messages
)
places = st.dictionaries(st.sampled_from(MACS), st.sampled_from(LINKS))
holders = st.dictionaries(st.sampled_from(TARGETS), st.sampled_from(MACS))
scenes = st.builds(
    lambda mode, is_isolated, where, holds, is_limited: make_scene(mode, is_isolated, where, holds, is_limited),
    st.sampled_from(("all", "targeted")),
    st.booleans(),
    places,
    holders,
    st.booleans(),
)


def make_scene(
    mode: str, is_isolated: bool, where: dict[Mac, str], holds: dict[Address, Mac], is_limited: bool
) -> Scene:
    on = {link: [mac for mac, place in where.items() if place == link] for link in LINKS}
    limits = LIMITS if is_limited else Limits()
    scene = Scene(*LINKS, mode="all" if mode == "all" else "targeted", is_isolated=is_isolated, limits=limits, on=on)
    scene.knowledge.holds = {target: (where[mac], mac) for target, mac in holds.items() if mac in where}
    scene.knowledge.own_addresses = frozenset({TARGETS[3]})
    return scene


def play(scene: Scene, script: list[tuple[float, str | PeerId | None, DadMessage]]) -> list[tuple[Instant, DadEffect]]:
    """Let it happen, with every tick at its time and, where the place is None, an idle one; then 5 s of silence."""
    done: list[tuple[Instant, DadEffect]] = []
    now = T

    def until(when: Instant) -> None:
        for _ in range(10_000):
            due = scene.proxy.next_wakeup
            if due is None or due > when:
                return
            moment = max(due, now)
            done.extend((moment, effect) for effect in scene.proxy.tick(moment))
        raise AssertionError("a wakeup that never ends")

    for wait_s, place, message in script:
        until(now + wait_s)
        now += wait_s
        if place is None:
            effects = scene.proxy.tick(now)
        elif isinstance(place, str):
            effects = scene.proxy.heard(place, message, now)
        else:
            effects = scene.proxy.told(place, message, now)
        done.extend((now, effect) for effect in effects)
    until(now + 5.0)
    assert scene.proxy.next_wakeup is None
    return done


@given(scenes, st.lists(happenings, max_size=40))
def test_no_copy_is_sent_to_its_sender_or_to_ourselves(
    scene: Scene, script: list[tuple[float, str | PeerId | None, DadMessage]]
) -> None:
    for _, effect in play(scene, script):
        match effect:
            case HandOut(message=message, stations=stations):
                assert not {message.mac, OWN} & set(stations or ())
                assert len(set(stations or ())) == len(stations or ())
                assert stations != ()
            case Relay(message=message, peers=peers):
                assert peers != ()
            case Defend(target=target, station=station):
                assert target == TARGETS[3]
                assert station != OWN


@given(scenes, st.lists(happenings, max_size=40))
def test_nothing_is_said_to_the_group_where_a_station_would_hear_itself(
    scene: Scene, script: list[tuple[float, str | PeerId | None, DadMessage]]
) -> None:
    for _, effect in play(scene, script):
        if isinstance(effect, HandOut) and effect.stations is None:
            assert effect.message.mac not in scene.knowledge.stations(effect.link)


@given(scenes, st.lists(happenings, max_size=40))
def test_only_what_was_heard_is_relayed_and_each_at_most_once(
    scene: Scene, script: list[tuple[float, str | PeerId | None, DadMessage]]
) -> None:
    relayed = [effect.message for _, effect in play(scene, script) if isinstance(effect, Relay)]
    heard = [message for _, place, message in script if isinstance(place, str)]
    for message in set(relayed):
        if message.mac == OWN:  # our defence of an address of ours
            assert message.target == TARGETS[3]
        else:
            assert relayed.count(message) <= heard.count(message)


@given(scenes, st.lists(happenings, max_size=40))
def test_every_message_is_counted_once(
    scene: Scene, script: list[tuple[float, str | PeerId | None, DadMessage]]
) -> None:
    play(scene, script)
    counters = scene.counters
    heard = sum(isinstance(place, str) for _, place, _ in script)
    told = sum(place is not None for _, place, _ in script) - heard
    assert counters.heard_solicitations + counters.heard_advertisements == heard
    assert counters.told_solicitations + counters.told_advertisements == told
