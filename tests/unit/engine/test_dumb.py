"""Where bridges carry the Wi-Fi, and nobody tells of associations: `[stations] source = "none"`."""

from __future__ import annotations

import attrs
import pytest
from engine_scene import (
    A1,
    A2,
    ME,
    OUR_SEGMENTS,
    PEER1,
    PEER3,
    PHONE,
    SEGMENTS1,
    WLAN,
    WLAN1,
    announce,
    answered,
    answers,
    claim,
    connected,
    hinted,
    neighbour,
    new_engine,
    withdraw,
)

from roamroute import events
from roamroute.effects import (
    AdvertiseGateway,
    Announce,
    EndForward,
    Forget,
    Forward,
    Note,
    Probe,
    SendAnswer,
    SendClaim,
    Unlearn,
    Withdraw,
)
from roamroute.policy import WITHOUT_ASSOCIATIONS, Handover, Policy
from roamroute.testing.air import AccessPoint, RoamingStation, World
from roamroute.testing.playbook import ANY, Playbook, wait
from roamroute.values import Address, Answer, Basis, Nud, PeerId, Verdict

DUMB = attrs.evolve(Policy(), **WITHOUT_ASSOCIATIONS)
FULL = Handover(segments=OUR_SEGMENTS)
CLAIMS = Handover(is_sharing_hints=True, is_forwarding=False)


def dumb_play(peers: tuple[PeerId, ...] = (PEER1,), handover: Handover = FULL, policy: Policy = DUMB) -> Playbook:
    return Playbook(new_engine(policy, peers=peers, handover=handover))


def learned(link: str = WLAN, port: str = "lan0") -> events.MacLearned:
    return events.MacLearned(PHONE, link, port)


def probe(which: Address = A1, link: str = WLAN) -> Probe:
    return Probe(link, which, PHONE, because=ANY)


def here_play(handover: Handover = FULL, policy: Policy = DUMB) -> Playbook:
    """The phone is here, its two addresses have answered; a bridge carries its Wi-Fi."""
    play = dumb_play(handover=handover, policy=policy)
    play.play(learned())
    for which in (A1, A2):
        play.play(neighbour(which))
        play.play(answered(play.engine.hosts[PHONE].sequence), wait(0.1))
        play.play(answered(play.engine.hosts[PHONE].sequence))
    assert set(play.engine.wanted) == {A1, A2}
    play.play(wait(1.0))
    return play


def heard_there(play: Playbook) -> events.HostClaimed:
    """A peer's claim, by neighbour discovery, for the phone that is here."""
    sequence = play.engine.hosts[PHONE].sequence + 1
    return claim(sequence, PEER1, Basis.NEIGHBOUR, (A1,), segments=SEGMENTS1)


# -- it comes


def test_a_bridge_that_learns_the_mac_has_the_hinted_addresses_asked_for_and_the_gateway_told() -> None:
    play = Playbook(new_engine(DUMB, peers=(PEER1,), handover=FULL))
    play.engine.policy = DUMB
    play.engine._book.policy = DUMB  # with its gateway, which scenes leave out
    play.play(hinted(4, A1, A2))
    effects = play.play(learned())
    assert {each.address for each in effects if isinstance(each, Probe)} == {A1, A2}
    assert [each.mac for each in effects if isinstance(each, AdvertiseGateway)] == [PHONE]
    assert not [each for each in effects if isinstance(each, Announce | SendClaim)], "a frame is no proof"


def test_the_answer_claims_and_the_holder_that_sends_on_lets_it_be_announced() -> None:
    play = dumb_play(peers=(PEER1, PEER3))
    play.play(hinted(4, A1, A2), learned(), *answers(A1))
    number = play.engine.hosts[PHONE].sequence
    assert number == 5
    assert not play.engine.wanted
    play.play(answered(number, Verdict.PENDING, holder=PEER1, addresses=(A1, A2)))
    assert set(play.engine.wanted) == {A1, A2}, "although the other peer has not answered"


def test_a_holder_that_only_tests_lets_nothing_be_announced() -> None:
    """An associated host is not taken by neighbour discovery alone."""
    play = dumb_play()
    play.play(hinted(4, A1, A2), learned(), *answers(A1))
    play.play(answered(5, Verdict.PENDING, holder=PEER1))
    assert not play.engine.wanted
    play.play(wait(3.0), answered(5, Verdict.KEPT, sequence=6, holder=PEER1))
    assert not play.engine.wanted


def test_a_port_that_changes_makes_nothing_of_a_host_that_is_here() -> None:
    play = here_play()
    play >> learned(port="lan1")
    play.nothing_more()


def test_a_host_that_was_about_to_fail_is_asked_at_once_when_its_mac_is_heard() -> None:
    play = here_play()
    play.play(neighbour(A1, Nud.STALE), wait(10.0), neighbour(A1, Nud.PROBE))
    play >> neighbour(A1, Nud.FAILED)
    play << Unlearn(PHONE, None, because=ANY)
    play >> learned()
    play << probe()
    play.play(*answers(A1))
    assert A1 in play.engine.wanted


def test_a_mac_on_another_link_of_ours_moves_the_route_when_the_host_answers_there() -> None:
    play = here_play()
    play >> learned(WLAN1)
    play << (probe(A1, WLAN1), probe(A2, WLAN1))
    play.nothing_more()
    play >> neighbour(A1, Nud.PROBE, link=WLAN1)
    play.nothing_more()
    play >> neighbour(A1, Nud.REACHABLE, link=WLAN1)
    play << (Forget(WLAN, A1, because=ANY), Unlearn(PHONE, WLAN, because=ANY), announce(A1, WLAN1))
    play.nothing_more()


@pytest.mark.parametrize("kind", ["data", "link-local"])
def test_without_a_bridge_whatever_is_heard_on_another_link_is_a_reason_to_ask_there(kind: str) -> None:
    play = here_play()
    if kind == "data":
        play >> events.AddressSeen(WLAN1, PHONE, A1)
        play << probe(A1, WLAN1)
    else:
        from ipaddress import ip_address

        play >> neighbour(ip_address("fe80::77"), Nud.STALE, link=WLAN1)
        play << (probe(A1, WLAN1), probe(A2, WLAN1))
    play.nothing_more()


def told() -> events.StationAnnounced:
    return events.StationAnnounced(PHONE, WLAN)


def test_an_update_frame_is_a_reason_to_ask_like_a_bridge_that_learns() -> None:
    play = dumb_play()
    play.play(hinted(4, A1))
    effects = play.play(told(), learned())
    assert [each.address for each in effects if isinstance(each, Probe)] == [A1]
    assert not [each for each in effects if isinstance(each, Announce | SendClaim)]
    play >> told()
    play.nothing_more()


def test_one_that_is_trusted_is_an_association() -> None:
    play = dumb_play(policy=attrs.evolve(DUMB, is_trusting_update_frames=True))
    play.play(hinted(4, A1, A2))
    effects = play.play(told())
    (claimed,) = [each.claim for each in effects if isinstance(each, SendClaim)]
    assert (claimed.basis, claimed.sequence, claimed.addresses) == (Basis.ASSOCIATION, 5, (A1, A2))
    assert set(play.engine.wanted) == {A1, A2}
    play.play(told(), learned())
    assert play.engine.hosts[PHONE].sequence == 5, "again, it is no news"


def test_one_that_is_trusted_moves_what_is_on_another_link_of_ours() -> None:
    play = here_play(policy=attrs.evolve(DUMB, is_trusting_update_frames=True))
    effects = play.play(events.StationAnnounced(PHONE, WLAN1))
    assert {each.route for each in effects if isinstance(each, Announce)} == set(play.engine.wanted.values())
    assert {route.link for route in play.engine.wanted.values()} == {WLAN1}


def test_a_host_whose_addresses_nobody_knows_gets_those_that_its_holder_hands_over() -> None:
    play = dumb_play(policy=attrs.evolve(DUMB, is_trusting_update_frames=True))
    play.play(told())
    play.play(answered(1, addresses=(A1,)))
    assert set(play.engine.wanted) == {A1}


# -- it goes


def test_a_claim_by_neighbour_discovery_has_it_tested_and_sent_on_meanwhile() -> None:
    play = here_play()
    theirs = heard_there(play)
    number = theirs.claim.sequence
    play >> theirs
    for which in (A1, A2):
        play << Forward(which, ANY, PEER1, because=ANY)
    play << (probe(A1), probe(A2))
    answer = Answer(PHONE, number, Verdict.PENDING, number - 1, ME, (A1, A2))
    play << SendAnswer(PEER1, answer, because=ANY)
    play.nothing_more()
    assert set(play.engine.wanted) == {A1, A2}


def test_it_is_given_up_when_it_does_not_answer_here() -> None:
    play = here_play()
    play.play(heard_there(play))
    effects = play.play(wait(DUMB.arrival_trial_s + 0.01))
    (answer,) = [each.answer for each in effects if isinstance(each, SendAnswer)]
    assert (answer.verdict, answer.holder) == (Verdict.ACCEPTED, PEER1)
    assert not [each for each in effects if isinstance(each, Withdraw | EndForward)], "it lingers, and is sent on"
    assert set(play.engine.lingering) == {A1, A2}
    assert [each.mac for each in effects if isinstance(each, Unlearn)] == [PHONE], "its return is to be heard of"


def test_it_is_kept_when_it_answers_here_and_nothing_is_sent_on_any_more() -> None:
    play = here_play()
    play.play(heard_there(play), neighbour(A1, Nud.PROBE))
    effects = play.play(neighbour(A1, Nud.REACHABLE))
    assert {each.address for each in effects if isinstance(each, EndForward)} == {A1, A2}
    assert [each.answer.verdict for each in effects if isinstance(each, SendAnswer)] == [Verdict.KEPT]
    assert [each.claim.basis for each in effects if isinstance(each, SendClaim)] == [Basis.ASSOCIATION]
    assert set(play.engine.wanted) == {A1, A2}
    assert not play.engine.forwards


def test_where_nothing_can_be_sent_on_it_is_tested_all_the_same() -> None:
    play = here_play(CLAIMS)
    effects = play.play(heard_there(play))
    assert [each.answer.verdict for each in effects if isinstance(each, SendAnswer)] == [Verdict.PENDING]
    assert not play.engine.forwards
    play.play(wait(DUMB.arrival_trial_s + 0.01))
    assert not play.engine.wanted


def test_an_association_at_a_peer_is_followed_at_once() -> None:
    play = here_play()
    effects = play.play(claim(9, PEER1, Basis.ASSOCIATION, (A1,), segments=SEGMENTS1))
    assert [each.answer.verdict for each in effects if isinstance(each, SendAnswer)] == [Verdict.ACCEPTED]


def test_an_associated_host_is_tested_as_long_as_ever_and_not_sent_on() -> None:
    """In a mixed mesh: evidence from neighbour discovery alone does not take it while it answers."""
    play = Playbook(new_engine(peers=(PEER1,), handover=FULL))
    play.play(connected(), neighbour(A1))
    play.play(answered(play.engine.hosts[PHONE].sequence))
    assert set(play.engine.wanted) == {A1}
    effects = play.play(heard_there(play))
    (answer,) = [each.answer for each in effects if isinstance(each, SendAnswer)]
    assert (answer.verdict, answer.addresses) == (Verdict.PENDING, ())
    assert not play.engine.forwards
    play.play(wait(Policy().trial_s - 0.1))
    assert set(play.engine.wanted) == {A1}


def test_silence_is_asked_about_twice_for_nobody_knows_who_sleeps() -> None:
    play = here_play()
    play.play(neighbour(A1, Nud.STALE), wait(10.0), neighbour(A1, Nud.PROBE))
    play >> neighbour(A1, Nud.FAILED)
    play << Unlearn(PHONE, None, because=ANY)
    play.nothing_more()
    play >> wait(DUMB.sleep_pause_s + 0.01)
    play << probe()
    play.play(neighbour(A1, Nud.PROBE))
    play >> neighbour(A1, Nud.FAILED)
    play << (Unlearn(PHONE, None, because=ANY), withdraw())


def test_one_silence_is_enough_where_another_router_announces_it() -> None:
    play = here_play()
    play >> events.ForeignRouteSeen(A1, "babel")
    play << probe()
    play.play(neighbour(A1, Nud.PROBE))
    play >> neighbour(A1, Nud.FAILED)
    play << (Unlearn(PHONE, None, because=ANY), withdraw())


def test_a_route_of_a_peer_that_ends_has_its_host_asked_for_here() -> None:
    """It may have come without a word: its old access point has found out, its new one has heard nothing."""
    play = dumb_play()
    play.play(hinted(4, A1), events.ForeignRouteSeen(A1, "babel"))
    play >> events.ForeignRouteLost(A1)
    play << probe()
    effects = play.play(*answers(A1))
    assert [each.claim.addresses for each in effects if isinstance(each, SendClaim)] == [(A1,)]


def test_where_associations_are_known_none_of_this_is_done() -> None:
    play = dumb_play(policy=Policy())
    play.play(hinted(4, A1), events.ForeignRouteSeen(A1, "babel"))
    play >> events.ForeignRouteLost(A1)
    play.nothing_more()
    play.play(learned(), *answers(A1), answered(5))
    effects = play.play(heard_there(play))
    assert [each.answer.verdict for each in effects if isinstance(each, SendAnswer)] == [Verdict.ACCEPTED]
    assert not [each for each in effects if isinstance(each, Unlearn | AdvertiseGateway)]


# -- one layer 2 behind two routers


def test_a_host_that_a_peer_kept_is_left_alone_for_a_while_and_longer_each_time() -> None:
    play = dumb_play()
    play.play(hinted(4, A1))
    rests = []
    for _ in range(3):
        play.play(learned(), *answers(A1))
        number = play.engine.hosts[PHONE].sequence
        play.play(answered(number, Verdict.PENDING, holder=PEER1, addresses=(A1,)))
        effects = play.play(answered(number, Verdict.KEPT, sequence=number + 1, holder=PEER1))
        assert [each.key for each in effects if isinstance(each, Note)] == [f"shared {PHONE}"]
        began = play.now
        play >> learned()
        play >> events.AddressSeen(WLAN, PHONE, A1)
        play.nothing_more()
        effects = play.wait_for(Unlearn, 100.0)
        rests.append(round(play.now - began))
    assert rests == [5, 10, 20]


def joined_world(seed: int) -> tuple[World, AccessPoint, AccessPoint, RoamingStation]:
    """Two routers behind whom one switch joins all dumb access points, which floods."""
    world = World(seed, DUMB)
    one, other = world.access_point("a"), world.access_point("b")
    one.joined, other.joined = [other], [one]
    return world, one, other, world.station(count=2)


@pytest.mark.parametrize("seed", range(5))
def test_a_host_that_both_routers_hear_does_not_move_to_and_fro(seed: int) -> None:
    world, one, other, phone = joined_world(seed)
    world.is_recording = True
    phone.roam(one)
    phone.speak()
    world.run(2.0)
    changes = 0
    former = world.announcers(phone.addresses[0])
    assert len(former) == 1
    for _ in range(300):
        phone.speak()
        world.run(2.0)
        now = world.announcers(phone.addresses[0])
        assert now, "it is reachable at every moment that we look"
        changes += now != former
        former = now
    assert changes <= 1
    claims = [each for point in (one, other) for _, each in point.effects if isinstance(each, SendClaim)]
    assert len(claims) <= 40, "in ten minutes: some attempts, ever more seldom"
