"""A mesh of real DAD proxies: no loop, nobody takes itself for a duplicate, and every duplicate is found.

Topologies are drawn freely: access points with one or two links, links joined on one layer 2 within an access point and
between two, hosts isolated or not; hosts roam while they ask, with and without RFC 7527; messages between access points
are delayed, duplicated, lost.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import get_args

import attrs
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from roamroute.dad import DadEffect, DadMode, DadProxy, HandOut, Relay
from roamroute.dad.proxy import COPY_S
from roamroute.dad.relations import Origin, Relation
from roamroute.testing.air import ROAMING_PREFIX
from roamroute.testing.dad_network import RETRANS_TIMER_S, DadNetwork, Host, MakeProxy, Use
from roamroute.values import Address, DadMessage, Instant, Mac, PeerId, Seconds

TARGETS: tuple[Address, ...] = tuple(ROAMING_PREFIX[number] for number in range(0x101, 0x104))
SEGMENTS = (
    (("a.0",), ("b.0",)),
    (("a.0",), ("b.0",), ("c.0",)),
    (("a.0",), ("a.1",), ("b.0",)),
    (("a.0", "a.1"), ("b.0",)),  # two interfaces on one bridge
    (("a.0", "b.0"), ("c.0",)),  # two access points on one layer 2
    (("a.0", "b.0", "c.0"),),
    (("a.0", "a.1", "b.0"), ("b.1", "c.0"), ("c.1",)),
    (("a.0",), ("a.1", "b.1"), ("b.0",), ("c.0",), ("d.0",)),
)


@attrs.frozen
class Visitor:
    """A host, and what it does: seconds after the start, whether it asks, announces or roams, for or to which."""

    where: int
    has_nonce: bool
    is_associated: bool
    has: tuple[int, ...]
    deeds: tuple[tuple[float, str, int], ...]


@attrs.frozen
class Script:
    """A network and what happens in it."""

    seed: int
    segments: tuple[tuple[str, ...], ...]
    is_isolated: bool
    mode: DadMode
    visitors: tuple[Visitor, ...]
    loss: float = 0.0
    duplication: float = 0.0
    longest_s: float = 0.02
    is_mark_lost: bool = False

    def play(self, make_proxy: MakeProxy = DadProxy) -> DadNetwork:
        """Run it to its end, and 6 s longer."""
        network = DadNetwork(
            Random(self.seed),
            self.segments,
            is_isolated=self.is_isolated,
            mode=self.mode,
            loss=self.loss,
            duplication=self.duplication,
            channel_s=(0.0004, self.longest_s),
            # A frame comes before the word of it, but may be read after it. A host that an association vouches for is
            # spared then too.
            air_s=(0.0002, 0.002 if all(visitor.is_associated for visitor in self.visitors) else 0.0004),
            is_mark_lost=self.is_mark_lost,
            make_proxy=make_proxy,
        )
        links = [link for segment in self.segments for link in segment]
        for visitor in self.visitors:
            link = links[visitor.where % len(links)]
            host = network.host(link, has_nonce=visitor.has_nonce, is_associated=visitor.is_associated)
            for number in visitor.has:
                host.take(TARGETS[number])
            for when, deed, number in visitor.deeds:
                network.clock.after(when, partial(act, host, deed, number, links))
        network.run(max((deed[0] for visitor in self.visitors for deed in visitor.deeds), default=0.0) + 6.0)
        return network


def act(host: Host, deed: str, number: int, links: list[str]) -> None:
    target = TARGETS[number % len(TARGETS)]
    if deed == "ask" and target not in host.taken:
        host.ask(target)
    elif deed == "announce" and target in host.taken:
        host.announce(target)
    elif deed == "roam":
        host.roam(links[number % len(links)])


deeds = st.tuples(st.floats(0.0, 4.0), st.sampled_from(("ask", "announce", "roam")), st.integers(0, 7))
visitors = st.builds(
    Visitor,
    st.integers(0, 7),
    st.booleans(),
    st.integers(0, 3).map(bool),
    st.lists(st.integers(0, 2), max_size=2, unique=True).map(tuple),
    st.lists(deeds, max_size=6).map(tuple),
)
scripts = st.builds(
    Script,
    st.integers(0, 2**32),
    st.sampled_from(SEGMENTS),
    st.booleans(),
    st.sampled_from(get_args(DadMode)),
    st.lists(visitors, min_size=1, max_size=5).map(tuple),
    st.sampled_from((0.0, 0.2)),
    st.sampled_from((0.0, 0.3)),
    st.sampled_from((0.002, 0.02, 0.8)),
)


def false_collisions(network: DadNetwork) -> list[str]:
    return [f"{each.host} lost {each.target} to itself" for each in network.collisions if each.is_false]


def missed(network: DadNetwork, mode: DadMode) -> list[str]:
    """Two hosts that have the same address although the second has asked, and nobody moved meanwhile."""
    found = []
    asked = [use for use in network.uses if not use.is_taken and is_answered_with_yes(use)]
    for use in asked:
        for other in network.uses:
            if other.host is use.host or other.target != use.target or has_moved(other, use.begin):
                continue
            if not (use.host.is_associated and other.host.is_associated):
                continue  # such a one is not reached by unicast, which is the only way where the sender may listen
            if other.is_taken and other.begin < use.begin and other.end >= use.end:
                found.append(f"{use.host.mac} did not find {other.host.mac} with {use.target}")
            elif mode == "all" and other in asked and use.begin <= other.begin < use.end - 0.1:
                found.append(f"{use.host.mac} and {other.host.mac} took {use.target} together")
    return found


def is_answered_with_yes(use: Use) -> bool:
    """It has ended with the address taken; before it the host has been silent of it for a while."""
    return (
        use.end - use.begin >= RETRANS_TIMER_S
        and any(
            other.host is use.host and other.target == use.target and other.is_taken and other.begin == use.end
            for other in use.host.network.uses
        )
        and not has_moved(use, use.begin)
        and not any(
            other.host is use.host and other.target == use.target and 0 < use.begin - other.begin < 2 * COPY_S
            for other in use.host.network.uses
        )
    )


def has_moved(use: Use, since: float) -> bool:
    return any(since <= when <= since + RETRANS_TIMER_S for when in use.host.moves)


def loops(network: DadNetwork, script: Script) -> list[str]:
    """More copies than one relay by each access point for each transmission, and one copy on each link for each."""
    heard = network.transmissions * len(network.access_points)
    told = heard * (len(network.access_points) - 1) * (2 if script.duplication else 1)
    links = sum(len(segment) for segment in script.segments)
    found = []
    if network.relays > heard * (len(network.access_points) - 1):
        found.append(f"{network.relays} relays of {network.transmissions} transmissions")
    if network.group_frames > told * links:
        found.append(f"{network.group_frames} copies of {network.transmissions} transmissions")
    if network.unicast_frames > (told + heard) * links * 2 * len(network.hosts):
        found.append(f"{network.unicast_frames} copies to single hosts of {network.transmissions} transmissions")
    return found


def is_fair(script: Script) -> bool:
    """A host that nobody knows of, and that has not spoken yet, is not spared by a word that is later than itself."""
    return script.longest_s < 0.03 or all(visitor.is_associated for visitor in script.visitors)


def faults(script: Script, make_proxy: MakeProxy = DadProxy) -> list[str]:
    """Whatever is wrong with this proxy in this script."""
    network = script.play(make_proxy)
    found = loops(network, script)
    if is_fair(script):
        found += false_collisions(network)
    lossless = attrs.evolve(script, loss=0.0, longest_s=min(script.longest_s, 0.02))
    return found + missed(lossless.play(make_proxy), script.mode)


@given(scripts.filter(is_fair))
def test_no_host_takes_itself_for_another(script: Script) -> None:
    assert false_collisions(script.play()) == []


@given(scripts)
def test_what_a_host_sends_once_is_copied_a_few_times_at_most(script: Script) -> None:
    assert loops(script.play(), script) == []


@given(scripts)
def test_every_duplicate_is_found_where_nothing_is_lost(script: Script) -> None:
    script = attrs.evolve(script, loss=0.0, longest_s=min(script.longest_s, 0.02))
    assert missed(script.play(), script.mode) == []


class TellsOn(DadProxy):
    def told(self, peer: PeerId, message: DadMessage, now: Instant) -> list[DadEffect]:
        return [*super().told(peer, message, now), Relay(message)]


class SpeaksToTheGroup(DadProxy):
    def _may_listen(self, link: str, mac: Mac, origin: Origin, now: Instant) -> bool:
        return False


class DoesNotKnowItsStations(DadProxy):
    def _may_listen(self, link: str, mac: Mac, origin: Origin, now: Instant) -> bool:
        return self._relations.between(link, origin, now) is Relation.JOINED


class RemembersNothing(DadProxy):
    def _note_heard(self, link: str, message: DadMessage, now: Instant) -> bool:
        return False


class SparesNobody(DadProxy):
    def _spared(self, message: DadMessage, first: list[Mac]) -> frozenset[Mac]:
        return frozenset(first)


class AsksTheSenderToo(DadProxy):
    def _concerned(self, link: str, message: DadMessage, now: Instant) -> list[Mac]:
        return [*super()._concerned(link, message, now), message.mac]


class TrustsTheLink(DadProxy):
    def _hand_out_beside_sender(self, link: str, message: DadMessage, now: Instant) -> list[DadEffect]:
        return []


class RepeatsToTheGroup(DadProxy):
    def _hand_out_beside_sender(self, link: str, message: DadMessage, now: Instant) -> list[DadEffect]:
        return [HandOut(link, message)]


class TakesAnswersForRepeats(DadProxy):
    def _copy_s(self, message: DadMessage, now: Instant) -> Seconds:
        return COPY_S


class ForgetsWhoAsked(DadProxy):
    def _concerned(self, link: str, message: DadMessage, now: Instant) -> list[Mac]:
        holder = self._view.holder(message.target)
        return [holder[1]] if holder is not None and holder[0] == link and holder[1] != message.mac else []


@pytest.mark.parametrize(
    "mutant",
    [
        TellsOn,
        SpeaksToTheGroup,
        DoesNotKnowItsStations,
        RemembersNothing,
        SparesNobody,
        AsksTheSenderToo,
        TrustsTheLink,
        RepeatsToTheGroup,
        TakesAnswersForRepeats,
        ForgetsWhoAsked,
    ],
)
def test_without_this_rule_the_network_fails(mutant: MakeProxy) -> None:
    only_search = settings(max_examples=3000, phases=[Phase.generate], database=None, derandomize=True)
    find(scripts, lambda script: bool(faults(script, mutant)), settings=only_search)


def test_without_the_mark_on_what_access_points_send_the_network_fails() -> None:
    only_search = settings(max_examples=3000, phases=[Phase.generate], database=None, derandomize=True)
    find(scripts, lambda script: bool(faults(attrs.evolve(script, is_mark_lost=True))), settings=only_search)
