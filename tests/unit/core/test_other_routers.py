"""What is remembered of other routers, whoever invents some."""

from __future__ import annotations

from ipaddress import IPv6Address

from roamroute.other_routers import REMEMBERED, REMEMBERED_S, OtherRouters
from roamroute.values import Mac
from roamroute.wire.router_advertisements import HeardRouter


def router(number: int, lifetime_s: int = 600) -> HeardRouter:
    return HeardRouter(Mac(f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"), IPv6Address("fe80::bad"), lifetime_s)


def test_a_router_is_known_by_what_it_said_last() -> None:
    routers = OtherRouters()
    assert routers.heard("wlan0", router(1), 0.0)
    assert not routers.heard("wlan0", router(1, 0), 1.0)
    assert routers.heard("wlan1", router(1), 2.0)
    assert [(each.link, each.said.lifetime_s, each.heard_at) for each in routers.current(3.0)] == [
        ("wlan0", 0, 1.0),
        ("wlan1", 600, 2.0),
    ]


def test_routers_that_speak_once_do_not_push_out_one_that_speaks_again() -> None:
    routers = OtherRouters()
    for _ in range(2):
        routers.heard("wlan0", router(0), 0.0)
    for number in range(1, 1000):
        routers.heard("wlan0", router(number), 1.0)
    known = [each.said for each in routers.current(2.0)]
    assert len(known) == REMEMBERED
    assert known[0] == router(0)
    assert known[-1] == router(999)


def test_when_all_speak_again_a_newcomer_waits_until_one_is_gone() -> None:
    routers = OtherRouters()
    for number in [*range(REMEMBERED)] * 2:
        routers.heard("wlan0", router(number), 0.0)
    assert not routers.heard("wlan0", router(REMEMBERED), 1.0)
    assert routers.heard("wlan0", router(REMEMBERED), REMEMBERED_S)
    assert [each.said for each in routers.current(REMEMBERED_S)] == [router(REMEMBERED)]
