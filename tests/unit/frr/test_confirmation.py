"""What is asked of FRR about a route, and what follows; answers as recorded, or in their shape."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from frr_transcripts import INJECT, KERNEL, VERSIONS, answered, conversation
from roamroute_frr.answers import RibEntry
from roamroute_frr.confirmation import Confirmation, Obstacle, Standing
from roamroute_frr.settings import Settings
from roamroute_frr.vtysh import FrrRefused, parse_json, refusal, without_warnings

from roamroute.export import ExporterContext, KernelNumbers

HOST6, HOST4 = ip_address("fd44:0:0:1::a"), ip_address("10.44.0.12")
REDISTRIBUTE = "show ipv6 ospf6 redistribute json"
every_version = pytest.mark.parametrize("version", VERSIONS)


class FakeShell:
    """Answers as recorded, unless told otherwise; remembers what was asked."""

    is_kept_open = True
    no_terminal = ""

    def __init__(self, version: str, scene: str) -> None:
        self.answers = dict(reversed(conversation(version, scene)))
        self.answers.setdefault("show version", answered(version, KERNEL, "show version"))
        self.answers.setdefault("show ipv6 route summary json", "{}")
        established = '{"peers": {"10.99.9.2": {"state": "Established"}}}'
        self.answers.setdefault("show bgp ipv4 unicast summary json", established)
        self.asked: list[str] = []
        self.breaks = 0

    async def ask(self, line: str, *, limit_s: float = 0) -> str:
        self.asked.append(line)
        text = without_warnings(self.answers.get(line, "{}"))
        if words := refusal(text):
            raise FrrRefused(line, words)
        return text

    async def json(self, line: str, *, limit_s: float = 0) -> Any:
        return parse_json(await self.ask(line))

    async def type_all(self, lines: Sequence[str], *, limit_s: float = 0) -> list[str]:
        raise NotImplementedError

    async def close(self) -> None:
        pass


def confirmation(shell: FakeShell, **settings: Any) -> Confirmation:
    prefixes = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
    context = ExporterContext(("wlan0",), prefixes, KernelNumbers(), lambda _event: None, lambda *_line: None)
    return Confirmation(Settings(**settings), context, shell, clock=lambda: 0.0)


async def learnt(version: str, scene: str, **settings: Any) -> tuple[Confirmation, FakeShell]:
    shell = FakeShell(version, scene)
    frr = confirmation(shell, **settings)
    await frr.learn()
    shell.asked.clear()
    return frr, shell


def lsas(numbers: dict[int, str]) -> dict[str, str]:
    """ospf6d's answers, by link state ID."""
    return {
        f"show ipv6 ospf6 database as-external {IPv4Address(number)} self-originated json": json.dumps(
            {"asScopedLinkStateDb": [{"lsa": [{"age": 1, "prefix": prefix}]}]}
        )
        for number, prefix in numbers.items()
    }


@every_version
async def test_what_frr_is_and_which_protocol_carries_what(version: str) -> None:
    frr, _ = await learnt(version, KERNEL)
    assert frr.program == f"FRR {version}"
    assert frr.carriers(6) == ("ospf6",)
    assert frr.carriers(4) == ("ospf",)
    assert frr.absent_daemons == ()


@every_version
async def test_ospf_announces_our_kernel_routes_and_shows_the_other_router_s(version: str) -> None:
    frr, _ = await learnt(version, KERNEL)
    standing = await frr.standing(HOST6)
    assert standing.is_exported
    assert standing.foreign is not None
    assert standing.foreign.startswith("ospf6 route via fe80::")
    assert await frr.standing(HOST4) == Standing(None)


@every_version
async def test_bgp_announces_our_static_routes_and_shows_the_other_router_s(version: str) -> None:
    frr, _ = await learnt(version, INJECT, mode="inject", routing="ibgp")
    assert await frr.standing(HOST6) == Standing(None, "bgp route from fd44:0:0:a::2")
    assert await frr.standing(HOST4) == Standing(None)


@every_version
async def test_a_route_that_zebra_does_not_have_is_absent(version: str) -> None:
    frr, _ = await learnt(version, KERNEL)
    assert (await frr.standing(ip_address("fd44:0:0:1::b"))).is_absent


@every_version
async def test_static_routes_of_operators_are_not_ours(version: str) -> None:
    frr, _ = await learnt(version, INJECT, mode="inject")
    entry = RibEntry("static", is_selected=True, is_installed=True, links=frozenset({"wlan0"}), tag=7)
    assert not frr.is_ours(entry)


@every_version
async def test_without_redistribution_nobody_carries_our_routes(version: str) -> None:
    frr, _ = await learnt(version, KERNEL, routing="ibgp")
    assert (await frr.standing(HOST6)).obstacle is Obstacle.NO_CARRIER


@every_version
async def test_without_the_protocol_s_daemon_that_is_what_is_told(version: str) -> None:
    shell = FakeShell(version, KERNEL)
    shell.answers["show bgp summary json"] = "bgpd is not running\n"
    frr = confirmation(shell, routing="ibgp")
    await frr.learn()
    assert frr.absent_daemons == ("bgpd",)
    assert (await frr.standing(HOST6)).obstacle is Obstacle.NO_DAEMON


@every_version
async def test_bgp_without_a_session_has_nobody_to_announce_to(version: str) -> None:
    frr, shell = await learnt(version, INJECT, mode="inject", routing="ibgp")
    line = f"show bgp ipv6 unicast {HOST6}/128 json"
    shell.answers[line] = answered(version, INJECT, line, nth=1)
    assert (await frr.standing(HOST6)).obstacle is Obstacle.NO_SESSION


@every_version
async def test_a_route_map_that_denies_shows_as_held_back(version: str) -> None:
    frr, shell = await learnt(version, KERNEL)
    shell.answers[f"show ip ospf database external {HOST4} self-originate json"] = '{"asExternalLinkStates":[]}'
    assert (await frr.standing(HOST4)).obstacle is Obstacle.HELD_BACK


@every_version
async def test_a_known_route_costs_one_question_to_zebra_and_one_to_ospf6d(version: str) -> None:
    frr, shell = await learnt(version, KERNEL)
    await frr.standing(HOST6)
    assert len(shell.asked) == 2


@every_version
async def test_a_new_route_is_found_under_the_next_number(version: str) -> None:
    frr, shell = await learnt(version, KERNEL)
    new = ip_address("fd44:0:0:1::77")
    shell.answers[f"show ipv6 route {new}/128 json"] = shell.answers[f"show ipv6 route {HOST6}/128 json"]
    shell.answers |= lsas({2: f"{new}/128"})
    assert (await frr.standing(new)).is_exported
    assert len(shell.asked) == 2
    assert REDISTRIBUTE not in shell.asked


@every_version
async def test_numbers_of_routes_that_came_and_went_are_stepped_over(version: str) -> None:
    frr, shell = await learnt(version, KERNEL)
    new = ip_address("fd44:0:0:1::77")
    shell.answers[f"show ipv6 route {new}/128 json"] = shell.answers[f"show ipv6 route {HOST6}/128 json"]
    shell.answers |= lsas({4: f"{new}/128"})
    assert (await frr.standing(new)).is_exported
    assert REDISTRIBUTE not in shell.asked


@every_version
async def test_when_many_numbers_were_missed_the_whole_table_helps_but_not_at_every_question(version: str) -> None:
    shell = FakeShell(version, KERNEL)
    frr = confirmation(shell)
    await frr.learn()
    now = 1000.0
    frr._clock = lambda: now
    new = ip_address("fd44:0:0:1::77")
    shell.answers[f"show ipv6 route {new}/128 json"] = shell.answers[f"show ipv6 route {HOST6}/128 json"]
    shell.asked.clear()
    for _ in range(5):
        assert (await frr.standing(new)).obstacle is Obstacle.HELD_BACK
    assert shell.asked.count(REDISTRIBUTE) == 1
    shell.answers[REDISTRIBUTE] = json.dumps({"routes": [{"destination": f"{new}/128", "id": "0.0.1.0"}]})
    now = 1001.0
    assert (await frr.standing(new)).is_exported
    shell.answers |= lsas({256: f"{new}/128"})
    shell.asked.clear()
    assert (await frr.standing(new)).is_exported
    assert len(shell.asked) == 2


@every_version
async def test_a_number_that_means_another_route_now_is_not_believed(version: str) -> None:
    frr, shell = await learnt(version, KERNEL)
    shell.answers |= lsas({1: "fd44:0:0:1::99/128"})
    shell.answers[REDISTRIBUTE] = '{"routes": []}'
    frr._next_number_at = float("inf")
    assert (await frr.standing(HOST6)).obstacle is Obstacle.HELD_BACK


@every_version
async def test_all_routes_are_confirmed_by_whole_tables(version: str) -> None:
    frr, _ = await learnt(version, KERNEL)
    assert await frr.all_exported([HOST6, HOST4, ip_address("fd44:0:0:1::b")]) == {HOST6, HOST4}
    frr, _ = await learnt(version, INJECT, mode="inject")
    assert await frr.all_exported([HOST6, HOST4]) == {HOST6, HOST4}


@every_version
async def test_bgp_without_any_session_exports_nothing(version: str) -> None:
    frr, shell = await learnt(version, INJECT, mode="inject")
    shell.answers["show bgp ipv6 unicast summary json"] = '{"peers": {"::1": {"state": "Active"}}}'
    assert await frr.all_exported([HOST6, HOST4]) == {HOST4}


@every_version
async def test_a_look_sees_changed_configuration_and_restarted_daemons(version: str) -> None:
    frr, shell = await learnt(version, KERNEL)
    assert not await frr.look()
    shell.breaks += 1
    assert await frr.look()
    assert not await frr.look()
    shell.answers["show running-config ospf6d"] = "router ospf6\nexit\n"
    assert await frr.look()
    assert frr.carriers(6) == ()
    shell.answers["show ip ospf json"] = "ospfd is not running\n"
    assert await frr.look()
    assert frr.absent_daemons == ("ospfd",)


async def test_zebra_not_running_is_a_refusal() -> None:
    shell = FakeShell("10.3", KERNEL)
    shell.answers["show ipv6 route summary json"] = "zebra is not running\n"
    with pytest.raises(FrrRefused, match="zebra is not running"):
        await confirmation(shell).learn()


async def test_what_is_forgotten_is_looked_for_anew() -> None:
    frr, shell = await learnt("10.3", KERNEL)
    frr.forget(HOST6)
    frr.forget(IPv6Address("::1"))
    shell.answers |= lsas({2: f"{HOST6}/128"})
    assert (await frr.standing(HOST6)).is_exported
