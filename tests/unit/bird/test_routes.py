"""`show route`, from recorded replies."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from bird_transcripts import VERSIONS, said
from roamroute_bird.protocol import Reply, ReplyReader
from roamroute_bird.routes import Hop, Route, all_for, exported_for, exported_in, routes_of

from roamroute.errors import MalformedInput

every_version = pytest.mark.parametrize("version", VERSIONS)


def reply(data: bytes) -> Reply:
    (one,) = ReplyReader().feed(data)
    return one


def routes(version: str, command: str) -> tuple[Route, ...]:
    return tuple(routes_of(reply(said("socket", version, command))))


@every_version
def test_the_question_and_the_answer_for_one_address(version: str) -> None:
    question = all_for(ip_address("fd44:0:0:1::a"))
    (route,) = routes(version, question)
    assert route == Route(ip_network("fd44:0:0:1::a/128"), "kernel6", "unicast", True, (Hop("wlan0"),))


@every_version
def test_routes_that_lose_follow_the_best_and_have_the_same_prefix(version: str) -> None:
    found = routes(version, "show route fd44:0:0:1::b/128")
    assert found[0].protocol == "kernel6"
    assert {"babel1", "rr1"} < {route.protocol for route in found}
    assert [route.is_best for route in found] == [True] + [False] * (len(found) - 1)
    assert {route.prefix for route in found} == {ip_network("fd44:0:0:1::b/128")}
    hops = {route.protocol: route.hops for route in found}
    assert hops["babel1"] == (Hop("e0", "fe80::ff:fe00:2"),)
    assert next(route for route in found if route.protocol == "rr1").way == "via fd00:1::2 on e0"
    assert routes(version, "show route fd44:0:0:1::b/128 all") == found


@every_version
def test_no_route(version: str) -> None:
    assert routes(version, "show route fd44:0:0:1::99/128") == ()
    assert reply(said("socket", version, "show route fd44:0:0:1::99/128")).last.code == 8001


@every_version
def test_what_a_protocol_has_taken_for_export(version: str) -> None:
    for address, protocol in (("fd44:0:0:1::a", "babel1"), ("fd44:0:0:1::b", "rr1")):
        (route,) = routes(version, exported_for(ip_address(address), protocol))
        assert (route.protocol, route.prefix) == ("kernel6", ip_network(f"{address}/128"))


@every_version
def test_all_that_a_protocol_has_taken_inside_a_prefix(version: str) -> None:
    found = routes(version, exported_in(ip_network("fd44:0:0:1::/64"), "babel1"))
    ours = {str(route.prefix) for route in found if route.hops == (Hop("wlan0"),)}
    assert ours == {"fd44:0:0:1::a/128", "fd44:0:0:1::b/128"}
    (route,) = routes(version, exported_in(ip_network("10.44.0.0/16"), "babel1"))
    assert route.prefix == ip_network("10.44.0.12/32")


@every_version
def test_a_whole_table_with_two_headings(version: str) -> None:
    found = routes(version, "show route")
    assert {route.prefix.version for route in found} == {4, 6}
    assert "fd00::a/128" in {str(route.prefix) for route in found}


@pytest.mark.parametrize(
    ("text", "route"),
    [
        (
            "10.44.0.7/32         unicast [static1 2026-11-22 08:00:00 from 10.0.0.9] ! (200) [AS65000i]",
            Route(ip_network("10.44.0.7/32"), "static1", "unicast", True),
        ),
        ("::/0 unreachable [kernel1 08:00:00] (10)", Route(ip_network("::/0"), "kernel1", "unreachable", False)),
        (
            "fd44::/64 from ::/0 unicast [babel1 8h] * (130/96)",
            Route(ip_network("fd44::/64"), "babel1", "unicast", True),
        ),
    ],
)
def test_other_forms(text: str, route: Route) -> None:
    assert tuple(routes_of(reply(f"1007-Table x:\n {text}\n0000 \n".encode()))) == (route,)


@pytest.mark.parametrize(
    "text",
    [
        "\tvia fe80::1 on e0",
        "      unicast [babel1 x] * (130)",
        "fd44::zz/128 unicast [babel1 x] * (130)",
        "fd44::1/128 unicast babel1",
        "nonsense",
    ],
)
def test_what_is_no_route_is_malformed(text: str) -> None:
    with pytest.raises(MalformedInput):
        tuple(routes_of(reply(f"1007-{text}\n0000 \n".encode())))
