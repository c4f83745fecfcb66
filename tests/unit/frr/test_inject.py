"""Static routes follow what is wanted: against an FRR that keeps them in memory, in both generations' manners."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from roamroute_frr.confirmation import TAG
from roamroute_frr.inject import BATCH, Injector
from roamroute_frr.settings import Settings
from roamroute_frr.vtysh import FrrRefused

from roamroute.delta import Delta
from roamroute.errors import DaemonGone, DaemonRefused
from roamroute.export import ExporterContext, KernelNumbers
from roamroute.values import HostRoute

LIMIT_S = 5.0
A, B, C = (HostRoute(ip_address(text), "wlan0") for text in ("fd44:0:0:1::a", "fd44:0:0:1::b", "10.44.0.12"))
MOVED = HostRoute(A.address, "wlan1")


def static(route: HostRoute, tag: int = TAG) -> str:
    word = "ipv6" if route.address.version == 6 else "ip"
    return f"{word} route {route.address}/{route.address.max_prefixlen} {route.link} tag {tag}"


class FakeFrr:
    """Static routes by line without tag; what is typed between the marks is taken at the end."""

    def __init__(self, generation: int, *lines: str) -> None:
        self.daemons = {"zebra", "staticd"} | ({"mgmtd"} if generation >= 9 else set())
        self.statics = {line.partition(" tag ")[0]: int(line.partition(" tag ")[2] or 0) for line in lines}
        self.ghosts: set[str] = set()
        """What staticd has and the configuration has not."""
        self.commits: list[list[str]] = []
        self.is_locked = False
        self.bad: set[str] = set()
        """Lines that are refused at once."""
        self.poison: set[str] = set()
        """Lines with which a commit fails."""
        self.dies_after: int | None = None
        self.has_terminal = True
        self.zebra_hangs = False

    def connect(self, command: Sequence[str], daemon: str) -> FakeVtysh:
        return FakeVtysh(self, daemon)

    @property
    def lines(self) -> set[str]:
        return {f"{line} tag {tag}" if tag else line for line, tag in self.statics.items()}

    async def in_zebra(self) -> frozenset[HostRoute]:
        if self.zebra_hangs:
            raise DaemonGone("zebra does not answer")
        words = [line.split() for line in {*self.statics, *self.ghosts}]
        return frozenset(HostRoute(ip_network(word[2]).network_address, word[3]) for word in words)

    def commit(self, lines: list[str]) -> str:
        if self.poison & set(lines):
            return "% Configuration failed.\n\nError description: poison\n"
        self.commits.append(lines)
        for line in lines:
            if line.startswith("no "):
                key = line[3:].partition(" tag ")[0]
                del self.statics[key]
                self.ghosts.discard(key)
            else:
                self.statics[line.partition(" tag ")[0]] = int(line.partition(" tag ")[2])
        return ""


class FakeVtysh:
    def __init__(self, frr: FakeFrr, daemon: str) -> None:
        self.frr = frr
        self.daemon = daemon
        self.breaks = 0
        self.no_terminal = ""
        self._pending: list[str] | None = None

    @property
    def is_kept_open(self) -> bool:
        return self.frr.has_terminal

    async def ask(self, line: str, *, limit_s: float = 0) -> str:
        if line == "show daemons":
            return f" {' '.join(sorted(self.frr.daemons))}\n"
        assert line == "show running-config"
        self._living()
        return "frr version 10\n!\n" + "\n".join(self.frr.lines) + "\nend\n"

    async def json(self, line: str, *, limit_s: float = 0) -> Any:
        raise NotImplementedError

    async def type_all(self, lines: Sequence[str], *, limit_s: float = 0) -> list[str]:
        self._living()
        if not self.frr.has_terminal:
            answer = self._line(lines[1])
            return [answer or self.frr.commit([lines[1]])]
        return [self._answer(line) for line in lines]

    async def close(self) -> None:
        pass

    def _living(self) -> None:
        if self.daemon not in self.frr.daemons:
            raise DaemonGone(f"{self.daemon} has ended")

    def _answer(self, line: str) -> str:
        if self.frr.dies_after is not None:
            self.frr.dies_after -= 1
            if self.frr.dies_after < 0:
                self.frr.dies_after = None
                raise DaemonGone("vtysh ended")
        match line:
            case "configure terminal file-lock" if self.frr.is_locked:
                return "% Can't enter config; candidate datastore locked by another session\n"
            case "configure terminal file-lock" | "XFRR_start_configuration":
                self._pending = []
                return ""
            case "mgmt commit apply" | "XFRR_end_configuration":
                pending, self._pending = self._pending or [], None
                return self.frr.commit(pending)
            case "configure terminal" | "end":
                return ""
            case _:
                answer = self._line(line)
                if not answer:
                    assert self._pending is not None, f"outside of a batch: {line}"
                    self._pending.append(line)
                return answer

    def _line(self, line: str) -> str:
        if line in self.frr.bad:
            return f"% Unknown command: {line}\n"
        known = {each.partition(" tag ")[0] for each in [*self.frr.statics, *(self._pending or [])]}
        if line.startswith("no ") and line[3:].partition(" tag ")[0] not in known:
            return "% Refusing to remove a non-existent route\n"
        return ""


def injector_for(frr: FakeFrr) -> Injector:
    context = ExporterContext(
        ("wlan0", "wlan1"),
        (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16")),
        KernelNumbers(),
        lambda _event: None,
        lambda *_line: None,
    )
    settings = Settings(mode="inject")
    return Injector(settings, context, frr.in_zebra, connect=frr.connect)


async def reach(injector: Injector, *routes: HostRoute) -> None:
    injector.replace(routes)
    await injector.settled(LIMIT_S)


both_generations = pytest.mark.parametrize("generation", [8, 10])


@both_generations
async def test_what_is_wanted_becomes_static_routes_with_our_tag_in_one_commit(generation: int) -> None:
    frr = FakeFrr(generation)
    await reach(injector_for(frr), A, B, C)
    assert frr.lines == {static(A), static(B), static(C)}
    assert len(frr.commits) == 1


@both_generations
async def test_a_change_is_one_commit_of_what_differs(generation: int) -> None:
    frr = FakeFrr(generation)
    injector = injector_for(frr)
    await reach(injector, A, B)
    injector.change(Delta(announced=(C,), withdrawn=(A,)))
    await injector.settled(LIMIT_S)
    assert frr.lines == {static(B), static(C)}
    assert [sorted(commit) for commit in frr.commits[1:]] == [[static(C), f"no {static(A)}"]]


@both_generations
async def test_a_route_moves_to_another_link_in_one_commit(generation: int) -> None:
    frr = FakeFrr(generation)
    injector = injector_for(frr)
    await reach(injector, A)
    await reach(injector, MOVED)
    assert frr.lines == {static(MOVED)}
    assert len(frr.commits) == 2


async def test_the_same_again_is_no_commit() -> None:
    frr = FakeFrr(10)
    injector = injector_for(frr)
    await reach(injector, A)
    await reach(injector, A)
    injector.change(Delta(announced=(A,)))
    await injector.settled(LIMIT_S)
    assert len(frr.commits) == 1


async def test_routes_of_an_earlier_run_are_adopted_or_removed() -> None:
    frr = FakeFrr(10, static(A), static(B))
    await reach(injector_for(frr), B, C)
    assert frr.lines == {static(B), static(C)}
    assert len(frr.commits) == 1


async def test_static_routes_of_operators_are_left_alone() -> None:
    theirs = {static(A, 7), "ipv6 route fd44:0:0:1::c/128 wlan0", "ipv6 route 2001:db8::/32 fe80::1 tag 144144"}
    frr = FakeFrr(8, *theirs)
    injector = injector_for(frr)
    await reach(injector, A, B)
    assert frr.lines == theirs | {static(B)}
    (problem,) = injector.problems(2)
    assert "fd44:0:0:1::a is in the way" in problem.text
    await reach(injector)
    assert frr.lines == theirs


@pytest.mark.parametrize("way", ["fe80::77 wlan0", "mesh", "Null0", "fe80::77"])
async def test_an_address_for_which_an_operator_has_any_static_route_is_his(way: str) -> None:
    theirs = {f"ipv6 route {A.address}/128 {way}"}
    frr = FakeFrr(10, *theirs)
    await reach(injector_for(frr), A)
    assert frr.lines == theirs


async def test_our_routes_over_links_and_of_prefixes_that_roam_no_longer_are_removed() -> None:
    old = {"ipv6 route fd44:0:0:1::d/128 eth0 tag 144144", "ipv6 route fd44:0:0:2::1/128 wlan0 tag 144144"}
    frr = FakeFrr(10, *old)
    await reach(injector_for(frr), A)
    assert frr.lines == {static(A)}


async def test_what_mgmtd_has_dropped_of_a_commit_is_typed_again() -> None:
    frr = FakeFrr(10)
    injector = injector_for(frr)
    commit = frr.commit

    def forgetful(lines: list[str]) -> str:
        frr.commit = commit  # type: ignore[method-assign]
        return commit(lines[2:])

    await reach(injector, A, B, C)
    frr.commit = forgetful  # type: ignore[method-assign]
    await reach(injector)
    assert frr.lines == set()
    frr.commit = forgetful  # type: ignore[method-assign]
    await reach(injector, A, B, C)
    assert frr.lines == {static(A), static(B), static(C)}


async def test_thousands_of_routes_come_in_commits_of_a_bounded_size() -> None:
    routes = [HostRoute(A.address + number, "wlan0") for number in range(3 * BATCH)]
    frr = FakeFrr(10)
    await reach(injector_for(frr), *routes)
    assert len(frr.lines) == 3 * BATCH
    assert [len(commit) for commit in frr.commits] == [BATCH] * 3


async def test_what_was_wanted_last_comes_first() -> None:
    routes = [HostRoute(A.address + number, "wlan0") for number in range(2 * BATCH)]
    frr = FakeFrr(10)
    await reach(injector_for(frr), *routes)
    assert static(routes[-1]) in frr.commits[0]


async def test_a_locked_configuration_is_told_in_frr_s_words_and_tried_again() -> None:
    frr = FakeFrr(10)
    frr.is_locked = True
    injector = injector_for(frr)
    with pytest.raises(FrrRefused, match="candidate datastore locked by another session"):
        await reach(injector, A)
    (problem,) = injector.problems(1)
    assert "locked by another session" in problem.text
    assert "end the other configuration session" in problem.remedy
    frr.is_locked = False
    injector.again()
    await injector.settled(LIMIT_S)
    assert frr.lines == {static(A)}
    assert not list(injector.problems(1))


@both_generations
async def test_a_line_that_frr_refuses_holds_up_no_other(generation: int) -> None:
    frr = FakeFrr(generation)
    frr.bad = {static(A)}
    injector = injector_for(frr)
    with pytest.raises(FrrRefused, match="Unknown command"):
        await reach(injector, A, B, C)
    assert frr.lines == {static(B), static(C)}
    (problem,) = injector.problems(3)
    assert problem.routes == 1


@both_generations
async def test_a_line_that_spoils_a_commit_is_found(generation: int) -> None:
    routes = [HostRoute(A.address + number, "wlan0") for number in range(20)]
    frr = FakeFrr(generation)
    frr.poison = {static(routes[7])}
    injector = injector_for(frr)
    with pytest.raises(FrrRefused, match="Configuration failed"):
        await reach(injector, *routes)
    assert frr.lines == {static(route) for route in routes} - frr.poison


async def test_vtysh_dying_in_the_middle_of_a_batch_is_made_good() -> None:
    frr = FakeFrr(10)
    frr.dies_after = 3
    injector = injector_for(frr)
    with pytest.raises(DaemonGone):
        await reach(injector, A, B, C)
    assert injector.has_failed
    injector.again(is_forgetful=True)
    await injector.settled(LIMIT_S)
    assert frr.lines == {static(A), static(B), static(C)}


async def test_without_staticd_frr_s_words_are_told() -> None:
    frr = FakeFrr(8)
    frr.daemons.discard("staticd")
    injector = injector_for(frr)
    with pytest.raises(DaemonRefused, match="staticd is not running"):
        await reach(injector, A)
    (problem,) = injector.problems(1)
    assert "/etc/frr/daemons" in problem.remedy


async def test_what_only_staticd_still_has_is_removed_by_way_of_the_configuration() -> None:
    frr = FakeFrr(10)
    injector = injector_for(frr)
    await reach(injector, A, B)
    frr.ghosts = set(frr.statics)  # mgmtd has restarted: its configuration is empty, staticd goes on
    frr.statics.clear()
    injector.change(Delta(withdrawn=(A,)))
    await injector.settled(LIMIT_S)
    assert not any(" fd44:0:0:1::a/" in line for line in {*frr.ghosts, *frr.statics})


async def test_what_only_staticd_has_from_an_earlier_run_is_removed_too() -> None:
    frr = FakeFrr(10)
    frr.ghosts = {static(A).partition(" tag ")[0], static(B).partition(" tag ")[0]}
    await reach(injector_for(frr), B)
    assert frr.lines == {static(B)}
    assert not any(" fd44:0:0:1::a/" in line for line in frr.ghosts)


async def test_a_zebra_that_does_not_answer_keeps_no_route_away() -> None:
    frr = FakeFrr(10)
    frr.zebra_hangs = True
    await reach(injector_for(frr), A)
    assert frr.lines == {static(A)}


async def test_what_nobody_has_any_more_is_not_brought_back_to_be_removed() -> None:
    frr = FakeFrr(10)
    injector = injector_for(frr)
    await reach(injector, A)
    frr.statics.clear()
    await reach(injector)
    assert all(static(A) not in commit for commit in frr.commits[1:])


async def test_without_a_terminal_each_line_is_a_vtysh_of_its_own() -> None:
    frr = FakeFrr(10)
    frr.has_terminal = False
    frr.bad = {static(B)}
    injector = injector_for(frr)
    with pytest.raises(FrrRefused):
        await reach(injector, A, B, C)
    assert frr.lines == {static(A), static(C)}
    assert all(len(commit) == 1 for commit in frr.commits)


@pytest.mark.parametrize("link", ["wlan 0", "wlan0\nend", "blackhole", "Null0", "?", "a-name-that-is-too-long"])
async def test_an_interface_that_frr_would_misread_is_refused(link: str) -> None:
    injector = injector_for(FakeFrr(10))
    with pytest.raises(DaemonRefused, match="cannot be told of an interface"):
        injector.change(Delta(announced=(HostRoute(A.address, link),)))


async def test_nothing_is_done_before_anything_is_wanted() -> None:
    frr = FakeFrr(10, static(A))
    injector = injector_for(frr)
    injector.again(is_forgetful=True)
    await injector.settled(LIMIT_S)
    assert frr.lines == {static(A)}


async def test_closing_withdraws_nothing() -> None:
    frr = FakeFrr(10)
    injector = injector_for(frr)
    await reach(injector, A)
    await injector.close()
    await injector.close()
    assert frr.lines == {static(A)}


async def test_forgetting_in_the_middle_of_a_commit_reads_anew_after_it() -> None:
    frr = FakeFrr(10)
    injector = injector_for(frr)
    commit = frr.commit

    def interrupted(lines: list[str]) -> str:
        frr.commit = commit  # type: ignore[method-assign]
        injector.again(is_forgetful=True)
        return commit(lines)

    frr.commit = interrupted  # type: ignore[method-assign]
    await reach(injector, A, B)
    await injector.settled(LIMIT_S)
    assert not injector.has_failed
    assert not injector.is_busy
    assert frr.lines == {static(A), static(B)}
    assert len(frr.commits) == 1
