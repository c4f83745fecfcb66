"""What still arrives for a host that a peer has taken is sent on, turned and ended; and its route lingers."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

import attrs
import pytest
from engine_scene import (
    A1,
    A2,
    A3,
    AN_IPV4,
    CLAIMS_ONLY,
    LAPTOP,
    ME,
    OUR_SEGMENTS,
    PEER1,
    PEER3,
    PHONE,
    PREFIXES,
    SEGMENTS1,
    SEGMENTS3,
    WLAN,
    WLAN1,
    address,
    announce,
    answered,
    answers,
    claim,
    connected,
    hinted,
    left,
    neighbour,
    new_engine,
    new_handover_play,
    withdraw,
)

from roamroute import events
from roamroute.admission import Admission
from roamroute.effects import (
    Announce,
    Effect,
    EndForward,
    Forget,
    Forward,
    Note,
    SendAnswer,
    SendClaim,
    Withdraw,
)
from roamroute.engine import Engine
from roamroute.policy import Handover, Policy
from roamroute.testing.playbook import ANY, Playbook, Wait, wait
from roamroute.values import Address, Basis, HostRoute, Mac, Nud, PeerId, Segments, Verdict


def forward(which: Address = A1, peer: PeerId = PEER1) -> Forward:
    segment = {PEER1: SEGMENTS1, PEER3: SEGMENTS3}[peer].for_address(which)
    assert segment is not None
    return Forward(which, segment, peer, because=ANY)


def lingering(which: Address = A1) -> Announce:
    return Announce(HostRoute(which, WLAN, is_lingering=True), because=ANY)


def withdraw_lingering(which: Address = A1, because: str = ANY) -> Withdraw:
    return Withdraw(HostRoute(which, WLAN, is_lingering=True), because)


def do(play: Playbook, *steps: events.Event | Wait) -> None:
    """Play without a look at the effects, which `skim` then takes."""
    for step in steps:
        play._do(step)


def of(came: list[Effect], kind: type) -> list[Any]:
    return [effect for effect in came if isinstance(effect, kind)]


def end(which: Address = A1, because: str = ANY) -> EndForward:
    return EndForward(which, because)


def claimed_by(peer: PeerId, sequence: int, *which: Address, mac: Mac = PHONE) -> events.HostClaimed:
    segments = {PEER1: SEGMENTS1, PEER3: SEGMENTS3}[peer]
    return claim(sequence, peer, addresses=which, mac=mac, segments=segments)


def holding_play(*which: Address, policy: Policy | None = None) -> Playbook:
    """The phone is here with these addresses, by the claim of number 9."""
    play = new_handover_play(policy)
    play.play(hinted(8, *which or (A1,)), connected())
    for each in which or (A1,):
        play.play(*answers(each))
    play.play(answered(9), answered(9, peer=PEER3))
    play.skip()
    assert set(play.engine.wanted) == set(which or (A1,))
    return play


def lost_play(*which: Address, policy: Policy | None = None) -> Playbook:
    """The first peer has taken it by number 10."""
    play = holding_play(*which, policy=policy)
    play.play(claimed_by(PEER1, 10))
    play.skip()
    return play


def test_the_loser_sends_on_before_anything_else_and_its_route_lingers() -> None:
    play = holding_play(A1, A2)
    play >> claimed_by(PEER1, 10)
    play << (forward(A1), forward(A2))
    play << (lingering(A1), lingering(A2), Forget(WLAN, A1, because=ANY), Forget(WLAN, A2, because=ANY))
    came = play.skip()
    assert of(came, SendAnswer)[0].answer.addresses == (A1, A2)
    assert not of(came, Withdraw)
    assert set(play.engine.wanted) == set(play.engine.lingering) == set(play.engine.forwards) == {A1, A2}
    assert all(route.is_lingering for route in play.engine.wanted.values())


def test_it_is_withdrawn_when_the_routers_know_the_new_way() -> None:
    play = lost_play()
    play.play(events.NeighbourRemoved(WLAN, A1), left())
    play >> wait(9.9)
    play >> wait(0.2)
    play << withdraw_lingering(A1, because="the routers know the new way by now")
    assert not play.engine.lingering
    assert set(play.engine.forwards) == {A1}


def test_without_lingering_it_is_withdrawn_at_once() -> None:
    play = holding_play(A1, policy=Policy(handover_linger_s=0.0))
    play >> claimed_by(PEER1, 10)
    play << (forward(A1), withdraw(A1))
    play.skip()


def test_a_peer_without_segments_gets_nothing_sent_on_and_the_route_is_withdrawn_at_once() -> None:
    play = holding_play(A1)
    play >> claim(10)
    play << (withdraw(A1), Forget(WLAN, A1, because=ANY))
    play.skip()
    assert not play.engine.forwards
    assert not play.engine.lingering


def test_what_takes_only_one_kind_of_packets_gets_these() -> None:
    play = holding_play(A1, AN_IPV4)
    play >> claim(10, segments=Segments(ipv6=SEGMENTS1.ipv6))
    play << (forward(A1), withdraw(AN_IPV4))
    play.skip()
    assert set(play.engine.forwards) == {A1}


@pytest.mark.parametrize("where", [str(address(0x777)), "2001:db8::1", "fe80::1"])
def test_packets_are_sent_to_segments_only(where: str) -> None:
    play = holding_play(A1)
    play.play(claim(10, segments=Segments(ipv6=IPv6Address(where))))
    play.skip()
    assert not play.engine.forwards


def test_where_forwarding_is_off_nothing_is_sent_on_and_our_claims_name_no_segments() -> None:
    play = Playbook(new_engine(None, ME, (PEER1,), CLAIMS_ONLY))
    do(play, connected(), *answers(A1), answered(2))
    assert all(not effect.claim.segments for effect in play.skim(SendClaim))
    play.skip()
    do(play, claimed_by(PEER1, 10))
    assert play.skim(Withdraw) == [withdraw(A1)]
    assert not play.engine.forwards


def test_our_claims_name_our_segments_except_while_drained() -> None:
    play = new_handover_play()
    do(play, connected())
    assert [effect.claim.segments for effect in play.skim(SendClaim)] == [OUR_SEGMENTS]
    play.play(events.Drained())
    do(play, connected(LAPTOP))
    assert [effect.claim.segments for effect in play.skim(SendClaim)] == [Segments()]


@pytest.mark.parametrize("is_sharing_hints", [True, False])
def test_it_ends_when_the_peers_accept_another_host_for_the_address(is_sharing_hints: bool) -> None:
    play = lost_play()
    play.engine.handover = attrs.evolve(play.engine.handover, is_sharing_hints=is_sharing_hints)
    play >> claimed_by(PEER3, 1, A1, mac=LAPTOP)
    assert [effect.address for effect in of(play.skip(), EndForward)] == [A1]
    assert not play.engine.forwards
    assert not play.engine.lingering


def test_a_third_claim_turns_it_and_the_route_lingers_no_longer_for_that() -> None:
    play = lost_play()
    play.play(left(), wait(5.0))
    play.skip()
    play >> claimed_by(PEER3, 11)
    play << (forward(A1, PEER3), ANY)
    play >> wait(5.1)
    play << withdraw_lingering(A1)
    play >> wait(54.0)
    play.nothing_more()
    play >> wait(1.0)
    play << end(A1, "its time is up")


def test_a_third_claim_that_takes_nothing_ends_it_and_the_route() -> None:
    play = lost_play()
    play >> claim(11, PEER3)
    play << (end(A1), withdraw_lingering(A1))
    play.skip()


def test_an_older_claim_turns_nothing() -> None:
    play = lost_play()
    play >> claimed_by(PEER3, 9)
    assert not play.skim(Forward)
    assert play.engine.forwards[A1].peer == PEER1


def test_that_the_same_peer_claims_again_prolongs_nothing() -> None:
    play = lost_play()
    do(play, left(), wait(30.0), claimed_by(PEER1, 11))
    assert not play.skim(Forward)
    play >> wait(30.5)
    assert play.skim(EndForward) == [end(A1, "its time is up")]
    do(play, claimed_by(PEER1, 12))
    assert not play.skim(Forward)


def test_a_hint_or_an_answer_that_came_before_the_claim_keeps_nothing_from_being_sent_on() -> None:
    play = holding_play(A1)
    play >> answered(9, Verdict.REFUSED, sequence=10, holder=PEER1)
    assert play.skim(Withdraw) == [withdraw(A1)]
    play.skip()
    play >> claimed_by(PEER1, 10)
    assert play.skim(Forward) == [forward(A1)]


def test_the_hosts_return_ends_it_without_a_flap() -> None:
    play = lost_play()
    play >> wait(2.0)
    play.skip()
    play >> connected()
    came = play.skip()
    assert of(came, EndForward) == [end(A1)]
    assert of(came, Announce) == [announce(A1)]
    assert not of(came, Withdraw)
    assert dict(play.engine.wanted) == {A1: announce(A1).route}
    assert not play.engine.lingering
    play.skip()
    do(play, *answers(A1), wait(30.0))
    assert not play.skim(Withdraw)


def test_a_return_to_another_link_replaces_the_route() -> None:
    play = lost_play()
    play >> connected(link=WLAN1)
    came = play.skip()
    assert of(came, Announce) == [announce(A1, WLAN1)]
    assert not of(came, Withdraw)


def test_the_loss_of_the_link_and_a_drain_withdraw_what_lingers() -> None:
    for event in (events.LinkLost(WLAN), events.Drained()):
        play = lost_play()
        play >> event
        assert play.skim(Withdraw) == [withdraw_lingering(A1)]
        assert set(play.engine.forwards) == {A1}
        assert not play.engine.lingering


def test_it_goes_on_while_packets_come_but_not_for_ever() -> None:
    play = lost_play(policy=Policy(forwarding_s=60.0, forwarding_limit_s=300.0))
    play.play(left())
    for _ in range(59):
        do(play, wait(5.0), events.ForwardUsed(A1))
    assert not play.skim(EndForward)
    do(play, wait(4.9))
    assert not play.skim(EndForward)
    do(play, wait(0.2))
    assert play.skim(EndForward) == [end(A1, "its time is up")]


def test_it_ends_some_seconds_after_the_last_packet() -> None:
    play = lost_play()
    do(play, left(), wait(58.0), events.ForwardUsed(A1), wait(9.9))
    assert not play.skim(EndForward)
    do(play, wait(0.2))
    assert play.skim(EndForward)
    play >> events.ForwardUsed(A1)
    play.nothing_more()


def test_so_many_are_sent_on_and_the_oldest_makes_room() -> None:
    play = new_handover_play(Policy(forwards_total=2))
    for number in (1, 2, 3):
        mac = Mac(f"02:66:00:00:00:0{number}")
        play.play(hinted(1, address(number), mac=mac), connected(mac))
        do(play, *answers(address(number), mac), claimed_by(PEER1, 5, mac=mac))
    assert set(play.engine.forwards) == {address(2), address(3)}
    came = play.skip()
    assert of(came, EndForward) == [end(address(1), "too many others are sent on")]
    assert withdraw_lingering(address(1)) in of(came, Withdraw)
    assert of(came, Note)[0].key == "forwards-total"


def test_an_address_that_another_host_has_here_is_not_sent_on() -> None:
    play = lost_play(A1, A2)
    play.play(connected(LAPTOP), neighbour(A1, mac=LAPTOP), answered(1, mac=LAPTOP))
    play.skip()
    play >> answered(2, mac=LAPTOP)
    play >> answered(2, mac=LAPTOP, peer=PEER3)
    assert play.skim(EndForward) == [end(A1)]
    do(play, claimed_by(PEER3, 11))
    assert [effect.address for effect in play.skim(Forward)] == [A2]


def test_a_host_that_was_never_here_is_not_sent_on() -> None:
    play = new_handover_play()
    play.play(hinted(7, A1), claimed_by(PEER3, 8, A1, A2))
    assert not play.engine.forwards


# -- routers


def router_play() -> Playbook:
    """A peer without client links."""
    handover = Handover(is_forwarding_all=True)
    engine = Engine(Admission((), PREFIXES), me=ME, handover=handover)
    play = Playbook(engine)
    play.play(events.NeighboursResynced(frozenset(), ()), events.StationsResynced(frozenset(), ()))
    play.play(events.PeerJoined(PEER1), events.PeerJoined(PEER3))
    play.skip()
    return play


def test_a_router_answers_claims_and_sends_on_what_it_was_told_before() -> None:
    play = router_play()
    play.play(hinted(7, A1, A2))
    play >> claimed_by(PEER3, 8, A1, A3)
    play << (forward(A1, PEER3), forward(A2, PEER3))
    assert play.skim(SendAnswer)[0].answer.verdict is Verdict.ACCEPTED
    play >> wait(15.9)
    play >> wait(0.2)
    play << (end(A1), end(A2))
    assert not play.engine.wanted


def test_a_router_sends_on_no_longer_because_packets_come() -> None:
    play = router_play()
    play.play(hinted(7, A1), claimed_by(PEER3, 8), wait(15.0), events.ForwardUsed(A1))
    do(play, wait(1.1))
    assert play.skim(EndForward) == [end(A1)]


def test_an_access_point_sends_on_for_a_host_that_moves_between_two_others() -> None:
    play = new_handover_play(is_forwarding_all=True)
    play.play(hinted(7, A1))
    play >> claimed_by(PEER3, 8)
    play << forward(A1, PEER3)
    play.skip()
    assert not play.engine.lingering
    play >> claimed_by(PEER1, 9)
    play << forward(A1, PEER1)
    play.skip()
    play >> wait(16.1)
    play << end(A1)


def test_what_a_claim_merely_names_is_diverted_nowhere() -> None:
    """A forged solicitation makes its access point name another host's address."""
    play = router_play()
    play.play(hinted(7, A1), hinted(3, A2, mac=LAPTOP, peer=PEER3))
    play.play(claimed_by(PEER3, 4, A1, A3, mac=LAPTOP), claimed_by(PEER1, 5, A1, A3, mac=LAPTOP))
    assert set(play.engine.forwards) == {A2, A3}
    assert all(forward.peer == PEER1 for forward in play.engine.forwards.values())
    play = router_play()
    play.play(claimed_by(PEER3, 4, A1, A3, mac=LAPTOP))
    assert not play.engine.forwards


def test_neighbour_discovery_alone_diverts_nothing_of_a_host_that_was_never_here() -> None:
    play = router_play()
    play.play(hinted(7, A1), claim(8, PEER3, Basis.NEIGHBOUR, segments=SEGMENTS3))
    assert not play.engine.forwards


def test_an_address_that_has_become_another_hosts_is_not_diverted() -> None:
    play = lost_play(A1, A2)
    play.play(left(), wait(1.0), hinted(10, A2), hinted(1, A1, mac=LAPTOP, peer=PEER3))
    play.skip()
    play >> claimed_by(PEER3, 11)
    assert [effect.address for effect in play.skim(Forward)] == [A2]


def test_a_router_keeps_what_peers_share_and_shares_nothing() -> None:
    play = router_play()
    play >> hinted(7, A1)
    play >> connected()
    play.nothing_more()
    assert play.engine.hosts[PHONE].hinted_by == PEER1


def test_a_neighbour_claim_of_ours_ends_what_is_sent_on_but_withdraws_nothing_yet() -> None:
    """While it is not decided whether the host is back, two tunnels must not point at each other."""
    play = lost_play()
    play.play(wait(0.5), events.NeighbourRemoved(WLAN, A1), left(), neighbour(A1, Nud.STALE), neighbour(A1, Nud.PROBE))
    play >> neighbour(A1, Nud.REACHABLE)
    came = play.skip()
    assert of(came, EndForward) == [end(A1)]
    assert not of(came, Withdraw)
    assert set(play.engine.lingering) == {A1}
    do(play, answered(11), answered(11, peer=PEER3), wait(20.0))
    assert not play.skim(Withdraw)
    assert dict(play.engine.wanted) == {A1: announce(A1).route}


def test_what_becomes_impossible_while_it_runs_ends_and_is_offered_no_more() -> None:
    play = lost_play()
    play.engine.handover = CLAIMS_ONLY
    assert play.engine.next_wakeup == play.now
    play >> wait(0.0)
    play << (end(A1, "nothing can be sent on"), withdraw_lingering(A1))
    play >> connected()
    assert [effect.claim.segments for effect in play.skim(SendClaim)] == [Segments()]
    play.engine.handover = Handover(segments=OUR_SEGMENTS)
    play >> connected()
    assert [effect.claim.segments for effect in play.skim(SendClaim)] == [OUR_SEGMENTS]


def test_what_lingers_while_it_is_not_decided_is_withdrawn_when_it_is() -> None:
    play = lost_play()
    play.play(wait(0.5), events.NeighbourRemoved(WLAN, A1), left(), neighbour(A1, Nud.STALE), neighbour(A1, Nud.PROBE))
    play.play(neighbour(A1, Nud.REACHABLE))
    do(play, claim(12, PEER3))
    assert play.skim(Withdraw) == [withdraw_lingering(A1)]
    assert not play.engine.wanted


def test_a_claim_that_is_repeated_with_other_segments_is_heeded() -> None:
    """A claimant that was drained meanwhile, and is not any more, names them when it is asked for."""
    play = holding_play(A1)
    play.play(claim(10))
    do(play, claimed_by(PEER1, 10), claimed_by(PEER1, 10))
    assert not play.skim(Forward)  # it has been withdrawn: nothing arrives
    play = lost_play()
    do(play, claim(10))
    assert play.skim(EndForward) == [end(A1)]


def test_what_is_sent_on_ends_when_another_host_has_the_address_elsewhere() -> None:
    play = lost_play(A1, A2)
    play.play(left(), hinted(10, A2))
    do(play, hinted(1, A1, mac=LAPTOP, peer=PEER3))
    came = play.skip()
    assert of(came, EndForward) == [end(A1, f"{LAPTOP} has it")]
    assert of(came, Withdraw) == [withdraw_lingering(A1)]
    assert set(play.engine.forwards) == {A2}


def test_what_is_sent_on_ends_when_two_peers_name_its_address_for_two_hosts() -> None:
    play = lost_play(A1)
    play.play(left(), hinted(10, A1))
    do(play, hinted(1, A1, mac=LAPTOP, peer=PEER3))
    assert play.skim(EndForward) == [end(A1)]
