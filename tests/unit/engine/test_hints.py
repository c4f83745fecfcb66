"""Hints: what peers tell ahead lets a host be announced and claimed without a question, and can do nothing else."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from engine_scene import (
    A1,
    A2,
    A3,
    CLAIMS_ONLY,
    LAPTOP,
    ME,
    OUR_SEGMENTS,
    OWN_MAC,
    PEER1,
    PEER3,
    PHONE,
    SEGMENTS1,
    WLAN,
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
from roamroute.claims import SEQUENCE_MAX
from roamroute.effects import (
    Announce,
    Deauthenticate,
    DropClaim,
    Forget,
    Note,
    Probe,
    SendAnswer,
    SendClaim,
    ShareHint,
    UnshareHint,
    Watch,
    Withdraw,
)
from roamroute.policy import Policy
from roamroute.segments import segment_prefix
from roamroute.testing.playbook import ANY, Playbook, wait
from roamroute.values import Address, Basis, Claim, Hint, Mac, Nud, PeerId


def our_hint(sequence: int, *which: Address, mac: Mac = PHONE) -> ShareHint:
    return ShareHint(Hint(mac, sequence, ME, which), because=ANY)


def our_claim(sequence: int, *which: Address, first: PeerId | None = None) -> SendClaim:
    return SendClaim(Claim(PHONE, sequence, ME, Basis.ASSOCIATION, which, OUR_SEGMENTS), because=ANY, first=first)


def known_of(play: Playbook, mac: Mac = PHONE) -> tuple[Address, ...]:
    host = play.engine.hosts.get(mac)
    return () if host is None else tuple(host.binding)


# -- theirs


def test_a_hinted_host_that_connects_is_announced_probed_and_claimed_at_once() -> None:
    play = new_handover_play()
    play >> hinted(7, A1, A2)
    play.nothing_more()
    assert play.engine.hosts[PHONE].hinted_by == PEER1
    play >> connected()
    play << our_claim(8, A1, A2, first=PEER1)
    play << (announce(A1), announce(A2), our_hint(8, A1, A2))
    play << (Probe(WLAN, A1, PHONE, because=ANY), Probe(WLAN, A2, PHONE, because=ANY))
    play.nothing_more()


def test_a_hint_announces_nothing_by_itself() -> None:
    play = new_handover_play()
    play >> hinted(7, A1)
    play >> hinted(7, A1, A2)
    play >> hinted(8, A2)
    play >> wait(600.0)
    play.nothing_more()
    assert not play.engine.wanted


def test_a_hint_replaces_the_one_before() -> None:
    play = new_handover_play()
    play.play(hinted(7, A1, A2), hinted(7, A2, A3))
    assert known_of(play) == (A2, A3)
    play.play(hinted(7))
    assert known_of(play) == ()


def test_a_hint_older_than_a_claim_changes_nothing() -> None:
    play = new_handover_play()
    play.play(claim(9, PEER3, addresses=(A1,)), hinted(8, A2), hinted(9, A3))
    assert known_of(play) == (A1,)
    assert play.engine.hosts[PHONE].holder == PEER3


def test_a_hint_that_comes_before_its_claim_is_followed() -> None:
    play = new_handover_play()
    play.play(claim(3, PEER3), hinted(4, A1, peer=PEER1))
    host = play.engine.hosts[PHONE]
    assert (host.holder, host.sequence, known_of(play)) == (PEER1, 4, (A1,))
    play >> claim(4, PEER1)
    assert play.skim(SendAnswer)[0].answer.sequence == 4


def test_a_hint_takes_no_host_that_is_here_but_has_it_probed() -> None:
    play = new_handover_play()
    play.play(connected(), *answers(A1), answered(2), answered(2, peer=PEER3), hinted(9, A2))
    play.skip()
    assert play.engine.hosts[PHONE].holder == ME
    assert set(play.engine.wanted) == {A1}
    assert known_of(play) == (A1,)


def test_a_host_that_was_here_and_does_not_answer_after_a_hint_goes_after_one_round() -> None:
    play = new_handover_play()
    play.play(connected(), *answers(A1), answered(2), answered(2, peer=PEER3), events.HostHinted(hinted(9, A1).hint))
    play.skip()
    play.play(neighbour(A1, Nud.PROBE))
    play >> neighbour(A1, Nud.FAILED)
    play << withdraw(A1)


def test_a_repetition_of_a_hint_does_nothing() -> None:
    play = new_handover_play()
    play.play(hinted(7, A1), connected())
    play.skip()
    play >> hinted(7, A1)
    play.nothing_more()


@pytest.mark.parametrize(
    "which",
    ["fe80::1", "ff02::1", "fd44:0:0:2::1", "2001:db8::1", "fd44:0:0:1::", "10.44.255.255", "::", "127.0.0.1"],
)
def test_a_hinted_address_must_be_one_that_may_be_announced(which: str) -> None:
    play = new_handover_play()
    play.play(hinted(7, ip_address(which), A1))
    assert known_of(play) == (A1,)


def test_a_segment_is_no_hosts_address() -> None:
    play = new_handover_play()
    assert SEGMENTS1.ipv6 is not None
    play.play(hinted(7, SEGMENTS1.ipv6, A1))
    assert known_of(play) == (A1,)
    play.play(connected())
    play.skip()
    play >> neighbour(SEGMENTS1.ipv6)
    play.nothing_more()
    assert set(play.engine.hosts[PHONE].entries) == {A1}
    assert SEGMENTS1.ipv6 in (segment_prefix(play.engine._admission.prefixes) or ())


def test_a_hint_names_at_most_as_many_addresses_as_a_host_may_have() -> None:
    play = new_handover_play(Policy(addresses_per_host=4))
    play.play(hinted(7, *(address(number) for number in range(1, 1000))))
    assert len(known_of(play)) == 4


def test_nonsense_in_a_hint_is_ignored() -> None:
    play = new_handover_play()
    play >> hinted(0, A1)
    play >> hinted(SEQUENCE_MAX + 1, A1)
    play >> hinted(1, A1, mac=Mac("33:33:00:00:00:01"))
    play >> hinted(1, A1, mac=OWN_MAC)
    play >> hinted(1, A1, peer=ME)
    play >> hinted(1)
    play.nothing_more()
    assert not play.engine.hosts


def test_without_hints_nothing_is_taken_and_nothing_is_shared() -> None:
    play = Playbook(new_engine(None, ME, (PEER1,), CLAIMS_ONLY))
    play.play(hinted(7, A1))
    assert not play.engine.hosts
    play >> connected()
    play << (SendClaim(Claim(PHONE, 1, ME, Basis.ASSOCIATION), because=ANY), Watch(WLAN, PHONE, because=ANY))


# -- limits and security


def other_mac(number: int) -> Mac:
    return Mac(f"02:66:00:00:{number >> 8:02x}:{number & 0xFF:02x}")


def test_a_peers_hints_never_push_out_a_host_that_is_here() -> None:
    play = new_handover_play(Policy(hosts_remembered=3))
    for number in range(3):
        play.play(connected(other_mac(number)), neighbour(address(number + 1), mac=other_mac(number)))
    play.skip()
    play >> hinted(7, A1)
    play << Note("hosts-remembered", because=ANY)
    play.nothing_more()
    assert PHONE not in play.engine.hosts


def test_a_peers_hints_push_out_what_was_seen_least_lately_and_is_not_here() -> None:
    play = new_handover_play(Policy(hosts_remembered=3))
    play.play(connected(), hinted(1, A2, mac=other_mac(2)), hinted(1, A3, mac=other_mac(3)))
    play.play(hinted(1, A1, mac=other_mac(4)))
    assert set(play.engine.hosts) == {PHONE, other_mac(3), other_mac(4)}


def test_one_peer_may_tell_of_so_many_hosts_and_no_more() -> None:
    play = new_handover_play(Policy(hints_per_peer=2))
    play.play(hinted(1, A1), hinted(1, A2, mac=LAPTOP))
    play >> hinted(1, A3, mac=other_mac(3))
    play << Note(f"hints-per-peer {PEER1}", because=ANY)
    play.play(hinted(1, A3, mac=other_mac(3), peer=PEER3), hinted(2, A1))
    assert set(play.engine.hosts) == {PHONE, LAPTOP, other_mac(3)}


def test_a_claim_beyond_that_is_followed_but_what_it_names_ages() -> None:
    play = new_handover_play(Policy(hints_per_peer=1))
    play.play(hinted(1, A1), claim(1, PEER1, addresses=(A2,), mac=LAPTOP))
    assert known_of(play, LAPTOP) == (A2,)
    assert play.engine.hosts[LAPTOP].holder == PEER1
    assert play.engine.hosts[LAPTOP].hinted_by is None


def test_an_address_that_two_peers_name_for_two_hosts_is_believed_of_neither() -> None:
    play = new_handover_play()
    play.play(hinted(1, A1, A2))
    play >> hinted(1, A1, A3, mac=LAPTOP, peer=PEER3)
    play << Note(f"conflict {A1}", because=ANY)
    assert known_of(play) == (A2,)
    assert known_of(play, LAPTOP) == (A3,)


def test_a_peer_may_move_an_address_from_one_of_its_hosts_to_another() -> None:
    play = new_handover_play()
    play.play(hinted(1, A1), hinted(1, A1, mac=LAPTOP))
    assert known_of(play) == ()
    assert known_of(play, LAPTOP) == (A1,)


def test_an_address_of_a_host_that_is_here_is_not_taken_by_a_hint() -> None:
    play = new_handover_play(Policy(sleep_rounds=1))
    play.play(connected(), *answers(A1), answered(2), answered(2, peer=PEER3), hinted(1, A1, mac=LAPTOP))
    assert known_of(play) == (A1,)
    play.play(neighbour(A1, Nud.PROBE), neighbour(A1, Nud.FAILED))
    assert not play.engine.wanted
    play.play(hinted(2, A1, A2, mac=LAPTOP))
    assert known_of(play) == (A1,)  # it is still associated
    assert known_of(play, LAPTOP) == (A2,)


def test_a_claim_does_not_take_an_address_for_which_another_peer_vouches() -> None:
    play = new_handover_play()
    play.play(hinted(1, A1), claim(1, PEER3, addresses=(A1, A2), mac=LAPTOP))
    assert known_of(play) == (A1,)
    assert known_of(play, LAPTOP) == (A2,)


def test_what_a_claim_names_is_remembered_like_a_hint() -> None:
    play = new_handover_play()
    play.play(claim(4, addresses=(A1, A2)))
    assert known_of(play) == (A1, A2)
    assert play.engine.hosts[PHONE].hinted_by == PEER1
    play >> connected()
    play << our_claim(5, A1, A2, first=PEER1)


def test_what_a_peer_vouches_for_does_not_age_until_the_peer_is_lost() -> None:
    play = new_handover_play(Policy(binding_lifetime_s=3600.0))
    play.play(hinted(6, A1), hinted(6, A2, mac=LAPTOP), wait(36_000.0))
    came = play.play(connected(LAPTOP))
    assert [effect.route.address for effect in came if isinstance(effect, Announce)] == [A2]
    play.play(hinted(7, A1), events.PeerLost(PEER1), wait(3500.0))
    assert play.engine.hosts[PHONE].hinted_by is None
    play >> connected()
    play << our_claim(8, A1, first=PEER1)
    play.play(left(), events.PeerJoined(PEER1))
    play.skip()
    play.play(hinted(9, A1), events.PeerLost(PEER1), wait(3700.0))
    play >> connected()
    play << our_claim(10, first=PEER1)


def test_what_a_peer_that_was_restarted_does_not_tell_anew_ages() -> None:
    play = new_handover_play()
    play.play(hinted(7, A1), hinted(7, A2, mac=LAPTOP), events.PeerJoined(PEER1), hinted(7, A1), wait(3700.0))
    assert play.engine.hosts[PHONE].hinted_by == PEER1
    assert play.engine.hosts[LAPTOP].hinted_by is None
    came = play.play(connected(), connected(LAPTOP))
    assert [effect.route.address for effect in came if isinstance(effect, Announce)] == [A1]


# -- ours


def test_the_binding_of_a_host_that_we_hold_is_shared_when_it_changes_and_not_else() -> None:
    play = new_handover_play(ignoring=(SendClaim, Watch, Announce, DropClaim))
    play >> connected()
    play.nothing_more()
    play.play(answered(1), answered(1, peer=PEER3), neighbour(A1), answered(2))
    play.skip()
    play >> answered(2, peer=PEER3)
    play.skim(ShareHint)
    play >> neighbour(A1, Nud.STALE)
    for event in answers(A1):
        play >> event
    play.nothing_more()
    play.play(neighbour(A2), answered(3))
    play.skip()
    play >> answered(3, peer=PEER3)
    play << our_hint(3, A1, A2)


def test_after_a_claim_the_number_is_shared_anew() -> None:
    play = new_handover_play()
    play.play(connected(), *answers(A1), answered(2), answered(2, peer=PEER3))
    play >> connected()
    assert play.skim(ShareHint) == [our_hint(3, A1)]


def test_a_host_that_a_peer_has_taken_is_shared_no_more() -> None:
    play = new_handover_play()
    play.play(connected(), *answers(A1), answered(2), answered(2, peer=PEER3))
    play >> claim(3)
    assert play.skim(UnshareHint) == [UnshareHint(PHONE, because="not ours any more")]


def test_a_host_that_has_left_is_still_shared_for_its_lifetime_and_then_said_to_have_nothing() -> None:
    play = new_handover_play(
        Policy(binding_lifetime_s=600.0, watch_after_association_s=0.0), ignoring=(Withdraw, Forget)
    )
    play.play(connected(), *answers(A1), answered(2), answered(2, peer=PEER3))
    play >> left()
    play >> wait(599.0)
    play >> wait(100.0)
    play << our_hint(2)
    play >> wait(700.0)
    play << UnshareHint(PHONE, because="nothing is known of it for long")
    play >> wait(5000.0)
    play.nothing_more()


def test_a_host_that_is_forgotten_is_shared_no_more() -> None:
    play = new_handover_play(Policy(hosts_remembered=1))
    play.play(connected(), *answers(A1), answered(2), answered(2, peer=PEER3), left())
    play >> connected(LAPTOP)
    assert play.skim(UnshareHint) == [UnshareHint(PHONE, because=ANY)]


# -- after a start


def test_a_station_listed_at_the_start_and_hinted_later_is_asked_and_announced() -> None:
    """We were killed right after its association; it is silent, and its former access point still has it."""
    play = new_handover_play()
    play.play(events.StationsResynced(frozenset({WLAN}), (connected().station,)))
    play.skip()
    play >> hinted(7, A1, A2)
    play << (Probe(WLAN, A1, PHONE, because=ANY), Probe(WLAN, A2, PHONE, because=ANY))
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.REACHABLE)
    play << (our_claim(8, A1, first=PEER1), our_hint(8, A1, A2))
    play >> answered(8)
    play >> answered(8, peer=PEER3)
    play << announce(A1)
    play.skip()
    play._do(wait(60.0))
    assert not play.skim(Deauthenticate)


def test_a_ghost_listed_at_the_start_and_hinted_later_is_removed() -> None:
    play = new_handover_play()
    play.play(events.StationsResynced(frozenset({WLAN}), (connected().station,)), hinted(7, A1))
    play.play(neighbour(A1, Nud.PROBE), neighbour(A1, Nud.FAILED))
    play >> wait(5.1)
    play << Deauthenticate(PHONE, WLAN, because=ANY)


def test_a_number_hinted_for_a_host_found_at_the_start_spares_the_refusal() -> None:
    play = new_handover_play(peers=())
    play.engine._known_links.clear()
    play.play(events.NeighboursResynced(frozenset({WLAN}), (neighbour(A1, Nud.STALE).neighbour,)))
    play.play(events.PeerJoined(PEER1))
    play.skip()
    play >> hinted(41, A1)
    play << Probe(WLAN, A1, PHONE, because=ANY)
    play >> neighbour(A1, Nud.PROBE)
    play >> neighbour(A1, Nud.REACHABLE)
    assert [effect.claim.sequence for effect in play.skim(SendClaim)] == [42]


@pytest.mark.parametrize("is_denied", [True, False])
def test_an_address_that_another_host_has_at_a_peer_is_its_again_when_a_start_took_it_for_one_here(
    is_denied: bool,
) -> None:
    play = new_handover_play(Policy(sleep_rounds=1), peers=())
    play.engine._known_links.clear()
    play.play(events.NeighboursResynced(frozenset({WLAN}), (neighbour(A1, Nud.STALE, LAPTOP).neighbour,)))
    play.play(events.PeerJoined(PEER1), hinted(7, A1))
    assert A1 in play.engine.wanted
    if is_denied:
        came = play.play(*answers(A1, LAPTOP))
        (ours,) = [effect.claim for effect in came if isinstance(effect, SendClaim)]
        play.play(answered(ours.sequence, mac=LAPTOP, denied=(A1,)))
    else:
        play.play(neighbour(A1, Nud.PROBE, LAPTOP), neighbour(A1, Nud.FAILED, LAPTOP))
    assert A1 not in play.engine.wanted
    bound = play.engine.bound_host(A1)
    assert bound is not None
    assert bound.mac == PHONE
    assert bound.holder == PEER1
