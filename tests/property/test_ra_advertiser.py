"""Whatever happens, in whatever order: no two advertisements to all within 3 s, and never a lifetime that is not so."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from hypothesis import example, given, settings
from hypothesis import strategies as st

from roamroute import ra
from roamroute.ra import Advertise, Advertiser
from roamroute.values import AdvertisedPrefix, AdvertisedRouter, Instant, Mac

LINKS = ("wlan0", "wlan1")
STATIONS = tuple(Mac(f"02:00:00:00:00:{number:02x}") for number in range(4))
ROUTER = AdvertisedRouter(
    source=IPv6Address("fe80::1"),
    lifetime_s=9000,
    prefixes=(AdvertisedPrefix(IPv6Network("fd44:0:0:1::/64"), 86400, 14400),),
)
HAPPENINGS = ("up", "lost", "connected", "solicited", "route", "no route", "drained", "resumed", "nothing")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(HAPPENINGS),
        st.sampled_from(LINKS),
        st.sampled_from(STATIONS),
        st.sampled_from((0.0, 0.001, 0.05, 1.0, 2.9, 3.0, 7.0, 20.0, 500.0)),
    ),
    max_size=60,
)
HOLD = ("nothing", "wlan0", STATIONS[0], 20.0)


def happen(made: Advertiser, what: str, link: str, station: Mac, now: Instant) -> list[Advertise]:
    match what:
        case "up":
            return made.link_up(link, now)
        case "lost":
            made.link_lost(link)
        case "connected":
            return made.connected(link, station, now)
        case "solicited":
            return made.solicited(link, station, IPv6Address("fe80::2"), now)
        case "route" | "no route":
            return made.route_changed(what == "route", now)
        case "drained":
            return made.drained(now)
        case "resumed":
            return made.resumed(now)
        case _:
            pass
    return []


@settings(max_examples=300, deadline=None)
@given(STEPS, st.booleans(), st.integers(0, 3))
@example([("up", "wlan0", STATIONS[0], 0.0), ("no route", "wlan0", STATIONS[0], 11.0), HOLD], False, 0)
def test_the_rules_hold_in_every_order(steps: list[tuple[str, str, Mac, float]], needs_route: bool, seed: int) -> None:
    made = Advertiser(LINKS, ROUTER, needs_route=needs_route, seed=seed)
    up: set[str] = set()
    told_at: dict[str, Instant] = {}
    sent_to_one = 0
    connections = solicitations = 0
    now = 0.0

    def look(told: list[Advertise]) -> int:
        count = 0
        for each in told:
            assert each.link in up
            assert each.router.lifetime_s == made.lifetime_s
            assert each.router.prefixes == ROUTER.prefixes
            if each.station is None:
                before = told_at.get(each.link)
                assert before is None or now - before >= ra.MIN_DELAY_S - 1e-6
                told_at[each.link] = now
            else:
                count += 1
        return count

    for what, link, station, pause_s in steps:
        end = now + pause_s
        while (due := made.next_wakeup) is not None and due <= end:
            assert due >= now
            now = due
            sent_to_one += look(made.tick(now))
            following = made.next_wakeup
            assert following is None or following > now
        now = end
        if what == "up":
            up.add(link)
        connections += what == "connected"
        solicitations += what == "solicited"
        told = happen(made, what, link, station, now)
        sent_to_one += look(told)
        if what == "lost":
            up.discard(link)
    assert sent_to_one <= connections * (1 + len(ra.REPEATED_AFTER_S)) + solicitations


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_nothing_follows_the_last_words(steps: list[tuple[str, str, Mac, float]]) -> None:
    made = Advertiser(LINKS, ROUTER)
    now = 0.0
    for what, link, station, pause_s in steps:
        now += pause_s
        happen(made, what, link, station, now)
    last = made.stopped([(link, station) for link in LINKS for station in STATIONS])
    assert all(each.router.lifetime_s == 0 for each in last)
    assert made.next_wakeup is None
    assert not [each for what in HAPPENINGS for each in happen(made, what, "wlan0", STATIONS[0], now)]
    assert made.tick(now + 10_000.0) == []
