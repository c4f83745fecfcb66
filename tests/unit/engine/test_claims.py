"""Claims between peers: order by (sequence, peer), RFC 7432 §7.7; trials, answers, ghosts, and who wins what."""

from __future__ import annotations

from engine_scene import (
    A1,
    A2,
    A3,
    CLAIMS_ONLY,
    LAPTOP,
    ME,
    PEER1,
    PEER3,
    PHONE,
    PREFIXES,
    WLAN,
    WLAN1,
    address,
    announce,
    answered,
    answers,
    claim,
    connected,
    left,
    neighbour,
    new_peers_play,
    withdraw,
)

from roamroute import events
from roamroute.admission import Admission
from roamroute.claims import SEQUENCE_MAX
from roamroute.effects import (
    Announce,
    Deauthenticate,
    DropClaim,
    Effect,
    Forget,
    Note,
    Probe,
    SendAnswer,
    SendClaim,
    Watch,
)
from roamroute.engine import Engine
from roamroute.policy import Policy
from roamroute.testing.playbook import ANY, Playbook, placeholder, wait
from roamroute.values import Address, Answer, Basis, Claim, Mac, Nud, PeerId, Verdict


def our_claim(sequence: int, basis: Basis = Basis.ASSOCIATION, addresses: tuple[Address, ...] = ()) -> SendClaim:
    return SendClaim(Claim(PHONE, sequence, ME, basis, addresses), because=ANY, first=ANY)


def our_answer(
    verdict: Verdict,
    claimed: int,
    sequence: int,
    holder: PeerId | None = PEER1,
    peer: PeerId = PEER1,
    addresses: tuple[Address, ...] = (),
    denied: tuple[Address, ...] = (),
) -> SendAnswer:
    return SendAnswer(peer, Answer(PHONE, claimed, verdict, sequence, holder, addresses, denied), because=ANY)


def holding_play(*addresses: Address, policy: Policy | None = None, peers: tuple[PeerId, ...] = (PEER1,)) -> Playbook:
    """The phone is associated here, with number 1 and more, and its addresses are confirmed and announced."""
    play = new_peers_play(policy, peers)
    play.play(connected())
    for which in addresses or (A1,):
        play.play(neighbour(which))
        number = play.engine.hosts[PHONE].sequence
        play.play(*(answered(number, peer=peer) for peer in peers))
    assert set(play.engine.wanted) == set(addresses or (A1,))
    play.play(wait(5.0))
    return play


def number_of(play: Playbook, mac: Mac = PHONE) -> int:
    return play.engine.hosts[mac].sequence


# -- ours


def test_an_association_claims_at_once() -> None:
    play = new_peers_play()
    play >> connected()
    play << our_claim(1)
    play << Watch(WLAN, PHONE, because=ANY)
    play.nothing_more()


def test_an_association_claims_with_the_addresses_that_it_announces() -> None:
    play = holding_play(A1, A2)
    play.play(left())
    play >> connected()
    play << our_claim(number_of(play), addresses=(A1, A2))
    play << (announce(A1), announce(A2), Probe(WLAN, A1, PHONE, because=ANY), Probe(WLAN, A2, PHONE, because=ANY))


def test_an_address_of_which_only_neighbour_discovery_tells_waits_for_the_answers() -> None:
    play = new_peers_play(peers=(PEER1, PEER3))
    play >> neighbour(A1)
    play << our_claim(1, Basis.NEIGHBOUR, (A1,))
    play >> answered(1, peer=PEER1)
    play.nothing_more()
    play >> answered(1, peer=PEER3)
    play << announce(A1, because="the peers do not object")


def test_it_waits_no_longer_than_the_policy_says() -> None:
    play = new_peers_play(Policy(answer_wait_s=0.5))
    play.play(neighbour(A1))
    play >> wait(0.49)
    play >> wait(0.02)
    play << announce(A1, because="no peer objected in time")


def test_more_addresses_do_not_make_the_first_one_wait_longer() -> None:
    play = new_peers_play()
    for number in range(8):
        play.play(neighbour(address(number + 1)), wait(0.1))
    assert address(1) in play.engine.wanted
    assert address(8) not in play.engine.wanted
    play.play(wait(0.5))
    assert len(play.engine.wanted) == 8


def test_addresses_that_come_while_one_waits_go_into_one_more_claim() -> None:
    play = new_peers_play()
    play >> neighbour(A1)
    play << our_claim(1, Basis.NEIGHBOUR, (A1,))
    play >> neighbour(A2)
    play >> neighbour(A3)
    play.nothing_more()
    play >> answered(1)
    play << (announce(A1), our_claim(2, Basis.NEIGHBOUR, (A2, A3)))
    play >> answered(2)
    play << (announce(A2), announce(A3))


def test_they_do_not_wait_for_a_peer_that_is_slow() -> None:
    play = new_peers_play()
    play.play(neighbour(A1), neighbour(A2))
    play >> wait(0.06)
    play << our_claim(2, Basis.NEIGHBOUR, (A1, A2))


def test_many_new_hosts_are_claimed_at_a_bounded_rate() -> None:
    play = new_peers_play()
    came: list[Effect] = []
    for number in range(2000):
        host = Mac(f"02:66:00:00:{number >> 8:02x}:{number & 0xFF:02x}")
        came += play.engine.handle(neighbour(address(number + 1), mac=host), play.now)
    assert len([effect for effect in came if isinstance(effect, SendClaim)]) == 500
    play._do(wait(1.0))
    assert 190 <= len(play.skim(SendClaim)) <= 201
    play._do(wait(10.0))
    assert len(play.engine.wanted) == 2000


def test_without_a_living_peer_many_new_hosts_do_not_wait() -> None:
    play = new_peers_play(peers=())
    for number in range(2000):
        host = Mac(f"02:66:00:00:{number >> 8:02x}:{number & 0xFF:02x}")
        play.engine.handle(neighbour(address(number + 1), mac=host), play.now)
    assert len(play.engine.wanted) == 2000


def test_without_a_peers_channel_nothing_waits_and_nothing_is_claimed() -> None:
    play = new_peers_play(peers=())
    play.engine._book.me = None
    play >> neighbour(A1)
    play << announce(A1)
    play.nothing_more()


def test_without_a_living_peer_nothing_waits() -> None:
    play = new_peers_play(peers=())
    play >> neighbour(A1)
    play << our_claim(1, Basis.NEIGHBOUR, (A1,))
    play << announce(A1)


def test_nobody_waits_for_a_lost_peer() -> None:
    play = new_peers_play(peers=(PEER1, PEER3))
    play.play(neighbour(A1), answered(1, peer=PEER3))
    play >> events.PeerLost(PEER1)
    play << announce(A1, because="a peer was lost")


def test_nobody_waits_for_a_silent_peer() -> None:
    play = new_peers_play(Policy(answer_wait_s=60.0))
    play.play(neighbour(A1))
    play >> events.ClaimUnanswered(PEER1, PHONE, 1)
    play << announce(A1, because="a peer is silent")


def test_a_pending_answer_holds_the_address_back() -> None:
    play = new_peers_play(Policy(answer_wait_s=0.5, trial_s=4.0))
    play.play(neighbour(A1))
    play >> answered(1, Verdict.PENDING)
    play >> wait(4.9)
    play >> answered(1, Verdict.ACCEPTED)
    play << announce(A1)


def test_a_refused_claim_is_repeated_with_the_holders_number_plus_one() -> None:
    """An access point that knows nothing, after a restart, still wins."""
    play = new_peers_play()
    play.play(connected())
    play >> answered(1, Verdict.REFUSED, sequence=41, holder=PEER3)
    play << our_claim(42)
    play.nothing_more()


def test_a_refusal_that_names_our_own_greater_claim_is_repeated_too() -> None:
    """The peers remember us from before our restart."""
    play = new_peers_play()
    play.play(connected())
    play >> answered(1, Verdict.REFUSED, sequence=41, holder=ME)
    play << our_claim(42)


def test_a_refusal_by_a_peer_that_came_up_after_the_claim_is_none_of_a_host_that_moved_on() -> None:
    play = new_peers_play(peers=())
    play.play(connected(), events.PeerJoined(PEER1))
    play.skip()
    play >> answered(1, Verdict.REFUSED, sequence=3, holder=PEER1)
    play << our_claim(4)


def test_a_peer_that_came_up_after_the_claim_hands_its_addresses_over() -> None:
    play = new_peers_play(peers=())
    play.play(connected(), events.PeerJoined(PEER1))
    play.skip()
    play >> answered(1, addresses=(A1,))
    play << announce(A1)
    play.skip()
    play.play(neighbour(A1, Nud.FAILED), neighbour(A1, Nud.FAILED), left())
    play.skip()
    play >> answered(1, addresses=(A1,))  # late, and once more: it changes nothing
    play.nothing_more()


def test_after_a_start_a_peer_cannot_take_a_station_that_connected_before_it_was_heard_of() -> None:
    play = new_peers_play(peers=())
    play.play(connected())
    play.play(events.PeerJoined(PEER1))
    play >> claim(7, addresses=(A1,))
    play << our_claim(8)
    play << our_answer(Verdict.REFUSED, 7, 8, ME)
    play >> answered(8, addresses=(A1,))
    play << announce(A1)
    play.skip()
    play >> claim(9)  # the host has moved on to it
    play << withdraw(A1)


def test_a_peer_that_was_restarted_takes_a_station_that_connected_before_that() -> None:
    play = new_peers_play()
    play.play(connected(), answered(1), *answers(A1))
    play.play(events.PeerLost(PEER1), events.PeerJoined(PEER1))
    play.skip()
    play >> claim(7)
    play << withdraw(A1)


def test_what_a_peer_says_of_a_station_that_connected_long_before_is_followed() -> None:
    play = new_peers_play(peers=())
    play.play(connected(), *answers(A1))
    play.play(wait(6))
    play.play(events.PeerJoined(PEER1))
    play.skip()
    play >> claim(7)
    play << withdraw(A1)


def test_a_refusal_by_who_had_accepted_means_that_the_host_has_moved_on() -> None:
    play = holding_play(A1)
    number = number_of(play)
    play >> answered(number, Verdict.REFUSED, sequence=number + 1, holder=PEER1)
    play << (withdraw(A1), Forget(WLAN, A1, because=ANY), DropClaim(PHONE, because=ANY))
    play.nothing_more()
    assert play.engine.hosts[PHONE].holder == PEER1


def test_a_claim_that_is_refused_for_ever_is_given_up_with_a_note() -> None:
    play = new_peers_play()
    play.play(connected())
    for _ in range(8):
        number = number_of(play)
        play.play(answered(number, Verdict.REFUSED, sequence=number + 10, holder=PEER3))
    number = number_of(play)
    play >> answered(number, Verdict.REFUSED, sequence=number + 10, holder=PEER3)
    play << Note(f"claim-refused {PHONE}", because=ANY)
    play.nothing_more()


def test_a_refusal_for_a_host_that_is_not_here_any_more_ends_the_claim() -> None:
    play = new_peers_play()
    play.play(connected(), left())
    play >> answered(1, Verdict.REFUSED, sequence=7, holder=PEER3)
    play << DropClaim(PHONE, because=ANY)
    assert play.engine.hosts[PHONE].holder == PEER3


def test_addresses_that_the_old_holder_knew_are_announced_at_once_and_probed() -> None:
    play = new_peers_play()
    play.play(connected())
    play >> answered(1, addresses=(A1, A2))
    play << (announce(A1, because=f"handed over by {PEER1}"), announce(A2))
    play << (Probe(WLAN, A1, PHONE, because=ANY), Probe(WLAN, A2, PHONE, because=ANY))
    play.nothing_more()


def test_addresses_from_a_late_answer_are_announced_too() -> None:
    play = new_peers_play()
    play.play(connected(), neighbour(A1), wait(2.0))
    play >> answered(2, addresses=(A2,))
    play << (announce(A2), Probe(WLAN, A2, PHONE, because=ANY))


def test_a_repeated_answer_does_not_revive_what_has_failed_since() -> None:
    play = new_peers_play(Policy(sleep_rounds=1))
    play.play(connected(), answered(1, addresses=(A1,)))
    play.play(neighbour(A1, Nud.PROBE), neighbour(A1, Nud.FAILED))
    play >> answered(1, addresses=(A1,))
    play.nothing_more()
    assert not play.engine.wanted


def test_handed_over_addresses_must_be_admitted_and_are_bounded() -> None:
    play = new_peers_play(Policy(addresses_per_host=4))
    play.play(connected())
    outside = PREFIXES[0][0] + 2**80
    play.play(answered(1, addresses=(outside, *(address(number) for number in range(1, 1000)))))
    assert 0 < len(play.engine.wanted) <= 4
    assert outside not in play.engine.wanted


def test_a_denied_address_is_withdrawn_and_not_asked_for_again_for_a_while() -> None:
    play = new_peers_play(Policy(denial_s=30.0))
    play.play(connected(), neighbour(A1))
    play >> answered(2, denied=(A1,))
    play << (Note(f"denied {A1}", because=ANY), Forget(WLAN, A1, because=ANY))
    play >> neighbour(A1, Nud.STALE)
    play >> neighbour(A1, Nud.REACHABLE)
    play >> events.AddressSeen(WLAN, PHONE, A1)
    play.nothing_more()


def test_when_a_denial_has_ended_the_host_is_asked_again() -> None:
    play = new_peers_play(Policy(denial_s=30.0))
    play.play(connected(), neighbour(A1), answered(2, denied=(A1,)))
    play >> wait(29.9)
    play >> wait(0.2)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.REACHABLE)
    play << our_claim(3, addresses=(A1,))


def test_kept_ends_our_claim_and_forgets_the_entries() -> None:
    play = new_peers_play()
    play.play(neighbour(A1))
    play >> answered(1, Verdict.KEPT, sequence=2, holder=PEER1)
    play << (Forget(WLAN, A1, because=ANY), DropClaim(PHONE, because=ANY))
    play.nothing_more()
    assert play.engine.hosts[PHONE].holder == PEER1


def test_a_claim_by_association_cannot_be_kept_from_us() -> None:
    play = new_peers_play()
    play.play(connected())
    play >> answered(1, Verdict.KEPT, sequence=2, holder=PEER1)
    play.nothing_more()
    assert play.engine.hosts[PHONE].holder == ME


def test_answers_to_claims_that_we_never_made_are_ignored() -> None:
    play = new_peers_play()
    play.play(connected())
    for claimed in (0, 2, SEQUENCE_MAX, -1):
        for verdict in Verdict:
            play >> answered(claimed, verdict, sequence=9, holder=PEER3, addresses=(A1,), denied=(A2,))
    play >> answered(1, mac=LAPTOP)
    play.nothing_more()


# -- theirs


def test_a_greater_claim_by_association_withdraws_at_once_and_hands_over() -> None:
    play = holding_play(A1, A2)
    number = number_of(play)
    play >> claim(number + 1)
    play << (withdraw(A1, because=f"claimed by {PEER1}"), Forget(WLAN, A1, because=ANY))
    play << (withdraw(A2), Forget(WLAN, A2, because=ANY), DropClaim(PHONE, because=ANY))
    play << our_answer(Verdict.ACCEPTED, number + 1, number + 1, addresses=(A1, A2))
    play.nothing_more()


def test_a_repeated_claim_gets_the_same_answer() -> None:
    play = holding_play(A1, A2)
    number = number_of(play)
    play.play(claim(number + 1))
    play >> claim(number + 1)
    play << our_answer(Verdict.ACCEPTED, number + 1, number + 1, addresses=(A1, A2))
    play.nothing_more()


def test_the_next_claim_of_the_same_peer_gets_the_addresses_as_well() -> None:
    """The host speaks while our first answer is on its way; that answer is for a superseded claim then.

    What the claim names need not be told.
    """
    play = holding_play(A1, A2)
    number = number_of(play)
    play.play(claim(number + 1))
    play >> claim(number + 2, addresses=(A1,))
    play << our_answer(Verdict.ACCEPTED, number + 2, number + 2, addresses=(A2,))


def test_a_third_peer_that_claims_soon_after_gets_the_addresses_as_well() -> None:
    """The one between them had the host for a moment only, and may not have heard of its addresses."""
    play = holding_play(A1, peers=(PEER1, PEER3))
    number = number_of(play)
    play.play(claim(number + 1), wait(0.02))
    play >> claim(number + 2, peer=PEER3)
    play << our_answer(Verdict.ACCEPTED, number + 2, number + 2, holder=PEER3, peer=PEER3, addresses=(A1,))


def test_a_third_peer_does_not_get_old_addresses_from_who_is_not_the_last_holder() -> None:
    play = holding_play(A1, peers=(PEER1, PEER3))
    number = number_of(play)
    play.play(claim(number + 1), left(), wait(11.0))
    play >> claim(number + 2, peer=PEER3)
    play << our_answer(Verdict.ACCEPTED, number + 2, number + 2, holder=PEER3, peer=PEER3)


def test_a_lesser_claim_is_refused_with_our_number() -> None:
    play = holding_play(A1, A2)
    number = number_of(play)
    play >> claim(number - 1)
    play << our_answer(Verdict.REFUSED, number - 1, number, holder=ME)
    play.nothing_more()


def test_of_two_equal_numbers_the_greater_peer_wins() -> None:
    play = holding_play(A1, peers=(PEER1, PEER3))
    number = number_of(play)
    play >> claim(number, peer=PEER1)  # ME is ::2
    play << our_answer(Verdict.REFUSED, number, number, holder=ME)
    play >> claim(number, peer=PEER3)
    assert not play.skim(SendAnswer)[0].answer.verdict is not Verdict.ACCEPTED
    assert play.engine.hosts[PHONE].holder == PEER3


def test_a_claim_for_an_unknown_host_is_remembered() -> None:
    play = new_peers_play()
    play >> claim(7, peer=PEER3)
    play << our_answer(Verdict.ACCEPTED, 7, 7, holder=PEER3, peer=PEER3)
    play >> connected()
    play << (our_claim(8), Watch(WLAN, PHONE, because=ANY))


def test_nonsense_from_peers_is_ignored() -> None:
    play = new_peers_play()
    play >> claim(5, peer=ME)
    play >> claim(0)
    play >> claim(-3)
    play >> claim(SEQUENCE_MAX + 1)
    play >> claim(1, mac=Mac("ff:ff:ff:ff:ff:ff"))
    play.nothing_more()
    assert not play.engine.hosts


def test_a_claim_with_a_thousand_addresses_is_answered_like_any_other() -> None:
    play = new_peers_play()
    play >> claim(1, addresses=tuple(address(number) for number in range(1, 1001)))
    play << our_answer(Verdict.ACCEPTED, 1, 1)
    play.nothing_more()


# -- trials


def test_neighbour_discovery_does_not_take_an_associated_host_that_answers() -> None:
    play = holding_play(A1)
    number = number_of(play)
    play >> claim(number + 1, basis=Basis.NEIGHBOUR)
    play << (Probe(WLAN, A1, PHONE, because=ANY), our_answer(Verdict.PENDING, number + 1, number, holder=ME))
    play >> claim(number + 1, basis=Basis.NEIGHBOUR)
    play << our_answer(Verdict.PENDING, number + 1, number, holder=ME)
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.REACHABLE)
    play << (our_claim(number + 2), our_answer(Verdict.KEPT, number + 1, number + 2, holder=ME))
    play.nothing_more()
    assert A1 in play.engine.wanted


def test_neighbour_discovery_takes_an_associated_host_that_is_silent() -> None:
    """A ghost: one failed round is enough, although it is associated."""
    play = holding_play(A1)
    number = number_of(play)
    play.play(claim(number + 1, basis=Basis.NEIGHBOUR), neighbour(A1, Nud.PROBE), wait(3.07))
    play >> neighbour(A1, Nud.FAILED)
    play << (withdraw(A1), ANY)
    answer = play.skim(SendAnswer)[0].answer
    assert answer.verdict is Verdict.ACCEPTED
    assert answer.addresses == (A1,)
    assert play.engine.hosts[PHONE].holder == PEER1


def test_a_trial_ends_in_time_when_the_kernel_says_nothing() -> None:
    play = holding_play(A1, policy=Policy(trial_s=4.0))
    number = number_of(play)
    play.play(claim(number + 1, basis=Basis.NEIGHBOUR))
    play >> wait(4.01)
    assert play.skim(SendAnswer)[0].answer.verdict is Verdict.ACCEPTED
    assert not play.engine.wanted


def test_neighbour_discovery_takes_a_host_at_once_that_is_not_associated() -> None:
    play = new_peers_play()
    play.play(neighbour(A1), answered(1))
    play >> claim(2, basis=Basis.NEIGHBOUR)
    play << (withdraw(A1), ANY, ANY)
    play << our_answer(Verdict.ACCEPTED, 2, 2, addresses=(A1,))


def test_a_claim_by_association_overtakes_a_trial() -> None:
    play = holding_play(A1, peers=(PEER1, PEER3))
    number = number_of(play)
    play.play(claim(number + 1, basis=Basis.NEIGHBOUR))
    play >> claim(number + 2, peer=PEER3)
    assert play.skim(SendAnswer)[0].answer.verdict is Verdict.ACCEPTED
    play >> claim(number + 1, basis=Basis.NEIGHBOUR)
    play << our_answer(Verdict.REFUSED, number + 1, number + 2, holder=PEER3)
    play >> wait(10.0)
    assert not play.skim(SendAnswer)


def test_two_neighbour_claims_do_not_restart_each_others_trial() -> None:
    play = holding_play(A1, peers=(PEER1, PEER3))
    number = number_of(play)
    play.play(claim(number + 1, PEER3, Basis.NEIGHBOUR))
    for _ in range(5):
        play >> claim(number + 1, PEER1, Basis.NEIGHBOUR)
        play << our_answer(Verdict.PENDING, number + 1, number, holder=ME)


def test_another_hosts_address_is_tested_and_denied_but_the_claimed_host_does_not_wait() -> None:
    play = holding_play(A1, A2)
    play.play(neighbour(A3, mac=LAPTOP))
    play.play(answered(1, mac=LAPTOP))
    number = number_of(play)
    play >> claim(number + 1, addresses=(A1, A3))
    play << (withdraw(A1), withdraw(A2), ANY, ANY, ANY)
    play << (
        Probe(WLAN, A3, LAPTOP, because=ANY),
        our_answer(Verdict.PENDING, number + 1, number + 1, addresses=(A2,)),
    )
    play.nothing_more()
    play >> neighbour(A3, Nud.PROBE, LAPTOP)
    play >> neighbour(A3, Nud.REACHABLE, LAPTOP)
    play << our_answer(Verdict.ACCEPTED, number + 1, number + 1, addresses=(A2,), denied=(A3,))
    assert A3 in play.engine.wanted


def test_another_hosts_address_that_does_not_answer_is_given_away() -> None:
    play = new_peers_play()
    play.play(connected(LAPTOP), neighbour(A3, mac=LAPTOP), answered(2, mac=LAPTOP))
    play >> claim(1, addresses=(A3,))
    play << (Probe(WLAN, A3, LAPTOP, because=ANY), our_answer(Verdict.PENDING, 1, 1))
    play >> neighbour(A3, Nud.PROBE, LAPTOP)
    play >> neighbour(A3, Nud.FAILED)
    play << (withdraw(A3), our_answer(Verdict.ACCEPTED, 1, 1), Watch(WLAN, LAPTOP, because=ANY))
    play.play(left(LAPTOP))
    play.play(connected(LAPTOP))
    assert not play.engine.wanted  # what it gave away is not remembered for it


def test_a_new_station_without_known_addresses_is_not_expelled_by_a_forged_neighbour() -> None:
    play = new_peers_play()
    play.play(connected())
    play >> claim(2, basis=Basis.NEIGHBOUR)
    play << (DropClaim(PHONE, because=ANY), our_answer(Verdict.ACCEPTED, 2, 2))
    play >> wait(59.0)
    play.nothing_more()
    play >> neighbour(A1, Nud.STALE)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.REACHABLE)
    play << our_claim(3, Basis.ASSOCIATION, (A1,))


# -- after a loss


def lost_play(policy: Policy | None = None) -> Playbook:
    """The phone was here with A1, and a peer has claimed it."""
    play = holding_play(A1, policy=policy)
    play.play(claim(number_of(play) + 1), events.NeighbourRemoved(WLAN, A1))
    assert not play.engine.wanted
    return play


def test_after_a_loss_a_resync_does_not_revive_the_host() -> None:
    play = lost_play()
    play >> events.NeighboursResynced(frozenset({WLAN}), (neighbour(A1).neighbour,))
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play >> events.NeighboursResynced(frozenset({WLAN}), (neighbour(A1).neighbour,))
    play.nothing_more()
    assert not play.engine.wanted


def test_after_a_loss_a_state_of_the_kernel_alone_does_not_revive_the_host() -> None:
    play = lost_play()
    play >> neighbour(A1, Nud.REACHABLE)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play >> neighbour(A1, Nud.REACHABLE)  # it may be older than our probe
    play >> neighbour(A1, Nud.STALE)
    play.nothing_more()
    assert not play.engine.wanted


def test_after_a_loss_an_answer_to_a_later_probe_revives_the_host() -> None:
    play = lost_play()
    number = number_of(play)
    play.play(neighbour(A1, Nud.STALE), neighbour(A1, Nud.PROBE))
    play >> neighbour(A1, Nud.REACHABLE)
    play << our_claim(number + 1, addresses=(A1,))
    play >> answered(number + 1)
    play << announce(A1)


def test_after_a_loss_an_older_question_is_no_answer() -> None:
    play = new_peers_play()
    play.play(connected(), events.AddressSeen(WLAN, PHONE, A1), neighbour(A1, Nud.PROBE))
    play.play(claim(2))
    play >> neighbour(A1, Nud.REACHABLE)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play.nothing_more()


def test_after_a_loss_a_newer_association_takes_the_host_back_at_once() -> None:
    play = lost_play()
    number = number_of(play)
    play >> connected()
    play << our_claim(number + 1, addresses=(A1,))
    play << (announce(A1), Probe(WLAN, A1, PHONE, because=ANY))


def test_a_resync_after_lost_messages_asks_before_it_announces() -> None:
    """Who floods us until messages are lost must not have its forgeries believed by the resynchronisation."""
    play = new_peers_play()
    play >> events.NeighboursResynced(frozenset({WLAN}), (neighbour(A1, Nud.STALE).neighbour,))
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play.nothing_more()
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.REACHABLE)
    play << our_claim(1, Basis.NEIGHBOUR, (A1,))
    play >> answered(1)
    play << announce(A1)


def test_a_resync_never_claims() -> None:
    play = new_peers_play()
    play.play(claim(3, mac=LAPTOP))
    dump = events.NeighboursResynced(frozenset({WLAN}), (neighbour(A1).neighbour, neighbour(A2, mac=LAPTOP).neighbour))
    play._do(dump)
    play._do(events.StationsResynced(frozenset({WLAN}), (connected().station, connected(LAPTOP).station)))
    play._do(dump)
    assert not play.skim(SendClaim)


def test_after_a_start_the_first_confirmation_claims_so_that_peers_may_object() -> None:
    engine = Engine(Admission((WLAN, WLAN1), PREFIXES), Policy(), me=ME, handover=CLAIMS_ONLY)
    play = Playbook(engine)
    play.play(events.PeerJoined(PEER1))
    play >> events.NeighboursResynced(frozenset({WLAN}), (neighbour(A1).neighbour,))
    play << announce(A1)
    play.wait_for(Probe, at_most=5.0)
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.REACHABLE)
    play << our_claim(1, Basis.NEIGHBOUR, (A1,))
    play.nothing_more()
    play >> answered(1, denied=(A1,))
    play << (withdraw(A1), Note(f"denied {A1}", because=ANY), Forget(WLAN, A1, because=ANY))


# -- ghosts


def test_a_loss_right_after_the_association_is_doubted_at_once() -> None:
    play = new_peers_play()
    play.play(connected(), neighbour(A1), answered(2), claim(3))
    play >> wait(0.049)
    play >> wait(0.002)
    play << Probe(WLAN, A1, PHONE, because=ANY)


def test_a_loser_without_a_known_address_looks_at_the_stations_packets() -> None:
    play = new_peers_play()
    play.play(connected(), claim(2))
    play >> events.AddressSeen(WLAN, PHONE, A1)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.REACHABLE)
    play << our_claim(3, addresses=(A1,))


def test_a_ghost_is_asked_and_then_removed_without_a_frame() -> None:
    play = lost_play()
    play >> wait(1.99)
    play >> wait(0.02)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play >> neighbour(A1, Nud.PROBE)
    play >> wait(3.07)
    play >> neighbour(A1, Nud.FAILED)
    play >> wait(2.0)
    play << Deauthenticate(PHONE, WLAN, because=f"ghost: {PEER1} has the host")
    play >> left()
    play >> wait(600.0)
    play.nothing_more()


def test_the_loser_of_a_race_that_has_the_host_takes_it_back_and_does_not_expel_it() -> None:
    play = lost_play()
    number = number_of(play)
    play.wait_for(Probe, at_most=2.1)
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.REACHABLE)
    play << our_claim(number + 1, addresses=(A1,))
    play >> answered(number + 1)
    play << announce(A1)
    play >> wait(60.0)
    assert not play.skim(Deauthenticate)


def test_a_quick_return_is_not_expelled() -> None:
    play = lost_play()
    play.play(wait(1.0), connected(), *answers(A1))
    play._do(wait(30.0))
    assert not play.skim(Deauthenticate)


def test_a_host_that_is_reauthenticating_is_not_expelled() -> None:
    play = lost_play()
    play.play(wait(1.9), left(is_reauthenticating=True), wait(0.5), connected(), *answers(A1))
    play._do(wait(30.0))
    assert not play.skim(Deauthenticate)


def test_hostapd_naming_a_station_that_a_peer_holds_makes_us_ask() -> None:
    """A ghost, or a return whose event was lost while hostapd's socket was gone."""
    play = lost_play()
    play.play(left())
    play >> events.StationsResynced(frozenset({WLAN}), (connected().station,))
    play << (Probe(WLAN, A1, PHONE, because=ANY), Watch(WLAN, PHONE, because=ANY))


# -- peers that come and go


def test_a_peer_that_missed_our_claim_hears_it_when_it_comes_back() -> None:
    play = holding_play(A1, peers=(PEER1, PEER3))
    play.play(events.PeerLost(PEER3), connected(), answered(number_of(play) + 1))
    number = number_of(play)
    play.play(events.ClaimUnanswered(PEER3, PHONE, number))
    play >> events.PeerJoined(PEER3)
    play >> wait(1.0)
    play << our_claim(number, addresses=ANY)
    play.nothing_more()


def test_a_living_peer_that_missed_our_claim_hears_it_again() -> None:
    play = new_peers_play()
    play.play(connected(), events.ClaimUnanswered(PEER1, PHONE, 1))
    play >> wait(4.9)
    play >> wait(0.2)
    play << our_claim(1)
    play >> answered(1, addresses=(A1,))
    play << (announce(A1), Probe(WLAN, A1, PHONE, because=ANY))
    play >> wait(1.0)
    play.nothing_more()


def test_it_is_not_told_for_ever() -> None:
    play = new_peers_play()
    play.play(connected())
    told = 0
    for _ in range(20):
        play._do(events.ClaimUnanswered(PEER1, PHONE, 1))
        play._do(wait(200.0))
        told += len(play.skim(SendClaim))
    assert told == 5


def test_a_peer_that_joins_and_missed_nothing_is_told_nothing() -> None:
    play = holding_play(A1)
    play >> events.PeerJoined(PEER1)
    play >> wait(5.0)
    play.nothing_more()


# -- numbers


def test_numbers_do_not_run_over() -> None:
    play = new_peers_play()
    play.play(claim(SEQUENCE_MAX, peer=PEER1))
    play >> connected()
    play << our_claim(SEQUENCE_MAX)  # ME is greater than PEER1
    play.skip()
    play.play(claim(SEQUENCE_MAX, peer=PEER3))
    play.play(connected())
    assert number_of(play) == SEQUENCE_MAX


def test_a_placeholder_binds_to_the_number_of_the_claim() -> None:
    play = new_peers_play()
    number = placeholder("number")
    play.play(claim(6))
    play >> connected()
    play << SendClaim(Claim(PHONE, number, ME, Basis.ASSOCIATION, ()), because=ANY, first=PEER1)
    assert number.value == 7
    assert not play.skim(Announce)


# -- ages: who came later


def test_a_refusal_by_a_holder_to_whom_the_station_came_later_is_accepted() -> None:
    play = new_peers_play()
    play.play(connected(), wait(4.9), neighbour(A1))
    play >> answered(2, Verdict.REFUSED, sequence=41, holder=PEER3, age_s=1.0)
    play << Forget(WLAN, A1, because=f"its station came to {PEER3} later than here")
    play << DropClaim(PHONE, because=ANY)
    assert play.engine.hosts[PHONE].holder == PEER3


def test_a_refusal_by_a_holder_to_whom_the_station_came_earlier_is_not() -> None:
    play = new_peers_play()
    play.play(connected())
    play >> answered(1, Verdict.REFUSED, sequence=41, holder=PEER3, age_s=1.0)
    play << our_claim(42)


def test_a_refusal_that_took_so_long_that_nobody_knows_is_not() -> None:
    """The age is that of the moment at which it was sent: at most as long ago as our claim."""
    play = new_peers_play()
    play.play(connected(), wait(3.0))
    play >> answered(1, Verdict.REFUSED, sequence=41, holder=PEER3, age_s=0.0)
    play << our_claim(42)


def test_a_greater_claim_of_an_earlier_association_is_refused_and_outbid() -> None:
    play = holding_play(A1)
    number = number_of(play)
    play >> connected()
    play.skip()
    play >> claim(number + 5, age_s=0.5)
    play << our_claim(number + 6, addresses=(A1,))
    play << our_answer(Verdict.REFUSED, number + 5, number + 6, holder=ME)
    assert set(play.engine.wanted) == {A1}


def test_a_greater_claim_of_a_later_association_is_followed() -> None:
    play = holding_play(A1)
    play.play(connected(), wait(1.0))
    number = number_of(play)
    play >> claim(number + 1, age_s=0.5)
    assert play.skim(SendAnswer)[0].answer.verdict is Verdict.ACCEPTED


def test_our_claims_and_answers_tell_the_age_of_the_association() -> None:
    play = holding_play(A1)  # connected more than 5 s ago
    came = play.play(neighbour(A2))
    assert [effect.claim.age_s for effect in came if isinstance(effect, SendClaim)] == [5.0]
    came = play.play(wait(1.0), claim(1))
    assert [effect.answer.age_s for effect in came if isinstance(effect, SendAnswer)] == [6.0]


def test_a_claim_that_no_association_vouches_for_has_no_age() -> None:
    play = new_peers_play()
    play >> neighbour(A1)
    assert [effect.claim.age_s for effect in play.skip() if isinstance(effect, SendClaim)] == [None]


def test_an_answer_after_a_loss_proves_anew_that_the_station_is_here() -> None:
    play = lost_play()
    number = number_of(play)
    play.play(neighbour(A1, Nud.STALE), neighbour(A1, Nud.PROBE))
    came = play.play(neighbour(A1, Nud.REACHABLE))
    assert [effect.claim.age_s for effect in came if isinstance(effect, SendClaim)] == [0.0]
    assert number_of(play) == number + 1


def test_a_host_that_answered_on_trial_has_proved_anew_that_it_is_here() -> None:
    play = holding_play(A1)
    number = number_of(play)
    play.play(claim(number + 1, basis=Basis.NEIGHBOUR), neighbour(A1, Nud.PROBE))
    came = play.play(neighbour(A1, Nud.REACHABLE))
    assert [effect.claim.age_s for effect in came if isinstance(effect, SendClaim)] == [0.0]
