"""What a peer's claim does here: followed, refused, or put on trial. Pure; part of the engine.

A claim by association is followed at once. One that rests on neighbour discovery, for a host associated here, is put
on *trial*: we probe the host, and follow or keep it by what we hear. An address that the claim names and that another
host holds here is tested in the same way, and denied when it answers; the claimed host does not wait for that. The
claimant drives: it repeats its claim until it is answered, so an answer is never repeated by us.
"""

from __future__ import annotations

from itertools import islice

from roamroute.book import Book
from roamroute.claims import CLAIM_ADDRESSES, SEQUENCE_MAX, Claims
from roamroute.effects import SendAnswer
from roamroute.hosts import Entry, Host, Trial
from roamroute.values import Address, Answer, Basis, Claim, Mac, Seconds, Verdict, is_group_mac

_TRIALS = 4096
_BEFORE_PEER_S: Seconds = 5.0  # a station that connects right after our start has us claim it before a peer is known


class Trials:
    """The part of the engine that answers peers."""

    def __init__(self, book: Book, claims: Claims) -> None:
        self._book = book
        self._claims = claims
        self._trials: dict[Mac, Trial] = {}
        self._tested_for: dict[Address, set[Mac]] = {}
        """Which trials wait for an address: the union of all `Trial.untested`."""

    def claim_came(self, claim: Claim) -> None:
        """A peer claims a host; the claim may be a repetition."""
        book = self._book
        if book.me is None or claim.peer == book.me:
            return
        if not 0 < claim.sequence <= SEQUENCE_MAX or is_group_mac(claim.mac):
            return
        host = book.host(claim.mac)
        trial = self._trials.get(claim.mac)
        if trial is not None and trial.claim == claim:
            self._answer(claim, Verdict.PENDING, host, "on trial")
            return
        if claim.order < host.order:
            self._answer(claim, Verdict.REFUSED, host, "a greater claim is known")
            return
        if claim.order == host.order:
            if host.holder == claim.peer:
                # A hint or an answer may have told of it before the claim came.
                self._claims.send_on(host, claim, "known to be claimed")
                self._claims.bind_named(host, claim)
            denied = tuple(entry.address for entry in self._doubtful(claim))
            self._answer(claim, Verdict.ACCEPTED, host, "known", denied)
            return
        if trial is not None:
            if claim.order < trial.claim.order:
                self._answer(claim, Verdict.PENDING, host, "a greater claim is on trial")
                return
            self._end_trial(trial)
        if self._is_older_than_association(host, claim):
            host.is_defended = True
            self._defend(host, claim, f"connected here before {claim.peer} was heard of")
        elif claim.age_s is not None and host.is_proven_after(book.now - claim.age_s) and not book.is_held(host):
            self._defend(host, claim, f"its station came here later than to {claim.peer}")
        else:
            self._judge(host, claim)

    def _is_older_than_association(self, host: Host, claim: Claim) -> bool:
        """True, once for an association, when the station connected here before we first heard of the peer.

        We were just started, and the peer repeats what it held. If not so, the station answers it, and it claims anew.
        """
        book, since = self._book, host.associated_at
        if host.station_link is None or host.holder != book.me or since is None or host.is_defended:
            return False
        return self._claims.met_at.get(claim.peer, book.now) >= since >= book.now - _BEFORE_PEER_S

    def _defend(self, host: Host, claim: Claim, because: str) -> None:
        host.sequence = claim.sequence
        wanted = tuple(entry.address for entry in host.entries.values() if entry.is_wanted)
        self._claims.claim(host, Basis.ASSOCIATION, because, wanted, former=claim.peer)
        self._answer(claim, Verdict.REFUSED, host, "connected here")

    def _judge(self, host: Host, claim: Claim) -> None:
        """The claim is the greatest one: follow it, or test it."""
        book = self._book
        doubtful = self._doubtful(claim)
        has_room = len(self._trials) < _TRIALS
        if claim.basis is Basis.NEIGHBOUR and host.entries and has_room:
            if host.station_link is not None:
                self._open_trial(claim, [*doubtful, *host.entries.values()], book.policy.trial_s)
                self._answer(claim, Verdict.PENDING, host, "on trial")
                return
            if book.policy.arrival_trial_s > 0.0:
                self._test_arrival(host, claim, doubtful)
                return
        # Without an address of the host there is nothing to test. The station may be a ghost, or live and new.
        is_proof = claim.basis is Basis.ASSOCIATION
        because = f"claimed by {claim.peer}"
        self._claims.lose(host, claim.sequence, claim.peer, because, claim, may_expel=is_proof)
        denied = tuple(entry.address for entry in doubtful)
        for address in set(claim.addresses[:CLAIM_ADDRESSES]).difference(denied):
            self._book.unbind_from_others(address, claim.mac)
        if doubtful and has_room:
            self._open_trial(claim, doubtful, book.policy.trial_s)
            self._answer(claim, Verdict.PENDING, host, "another host has one of its addresses here")
        else:
            self._answer(claim, Verdict.ACCEPTED, host, because, denied)

    def _test_arrival(self, host: Host, claim: Claim, doubtful: list[Entry]) -> None:
        """Neither here nor there is an association known, and the host has just answered there: it may do so here."""
        policy = self._book.policy
        because = f"{claim.peer} has heard from it"
        self._claims.divert(host, claim, because)
        handed = tuple(entry.address for entry in host.entries.values() if entry.is_wanted)[:CLAIM_ADDRESSES]
        self._open_trial(
            claim, [*doubtful, *host.entries.values()], policy.trial_s if doubtful else policy.arrival_trial_s
        )
        self._answer(claim, Verdict.PENDING, host, "on trial, and sent on meanwhile", handed=handed)

    def _doubtful(self, claim: Claim) -> list[Entry]:
        """Our entries of other hosts for addresses that the claim names."""
        entries = map(self._book.entries.get, claim.addresses[:CLAIM_ADDRESSES])
        return [entry for entry in entries if entry is not None and entry.mac != claim.mac and entry.is_wanted]

    def _open_trial(self, claim: Claim, doubtful: list[Entry], duration: Seconds) -> None:
        self._trials[claim.mac] = Trial(claim, untested={entry.address for entry in doubtful})
        self._book.times.set(("trial", claim.mac), self._book.now + duration)
        for entry in doubtful:
            self._tested_for.setdefault(entry.address, set()).add(claim.mac)
            self._book.probe(entry, f"{claim.peer} claims it for {claim.mac}")

    def _end_trial(self, trial: Trial) -> None:
        mac = trial.claim.mac
        del self._trials[mac]
        self._book.times.cancel(("trial", mac))
        for address in list(trial.untested):
            self._is_tested(trial, address)

    def _is_tested(self, trial: Trial, address: Address) -> None:
        trial.untested.discard(address)
        waiting = self._tested_for[address]
        waiting.discard(trial.claim.mac)
        if not waiting:
            del self._tested_for[address]

    def is_on_trial(self, address: Address) -> bool:
        """True while an answer to a peer waits for this address: then one failure is enough."""
        return address in self._tested_for

    def tested(self, address: Address, is_answering: bool) -> None:
        """A probe ended: hand the result to the trials that wait for it."""
        for mac in tuple(self._tested_for.get(address, ())):
            trial = self._trials.get(mac)
            if trial is None or address not in trial.untested:
                continue  # the one before has decided it
            self._is_tested(trial, address)
            if is_answering:
                trial.answering.add(address)
            if not trial.untested or self._is_kept(trial):
                self.conclude(mac)

    def _is_kept(self, trial: Trial) -> bool:
        """True when the claimed host itself has answered here."""
        host = self._book.hosts.get(trial.claim.mac)
        return host is not None and any(address in host.entries for address in trial.answering)

    def conclude(self, mac: Mac) -> None:
        """End the trial of the claim for `mac` and answer."""
        trial = self._trials.get(mac)
        if trial is None:
            return
        self._end_trial(trial)
        book = self._book
        host = book.host(mac)
        claim = trial.claim
        denied = tuple(address for address in trial.answering if address in book.entries)
        if claim.order < host.order:
            self._answer(claim, Verdict.REFUSED, host, "overtaken")
            return
        if claim.order > host.order:
            if self._is_kept(trial):
                host.sequence = claim.sequence
                host.proven_at = book.now
                self._claims.claim(host, Basis.ASSOCIATION, f"still here, although {claim.peer} claimed it")
                self._answer(claim, Verdict.KEPT, host, "the host still answers here")
                return
            self._claims.lose(host, claim.sequence, claim.peer, f"claimed by {claim.peer}", claim)
        for address in set(claim.addresses[:CLAIM_ADDRESSES]).difference(denied):
            book.unbind_from_others(address, mac)
        self._answer(claim, Verdict.ACCEPTED, host, f"claimed by {claim.peer}", denied)

    def _answer(
        self,
        claim: Claim,
        verdict: Verdict,
        host: Host,
        because: str,
        denied: tuple[Address, ...] = (),
        handed: tuple[Address, ...] = (),
    ) -> None:
        is_handed_over = host.holder == claim.peer and verdict in (Verdict.ACCEPTED, Verdict.PENDING)
        surrendered = (address for address in host.surrendered if address not in claim.addresses)
        addresses = tuple(islice(surrendered, CLAIM_ADDRESSES)) if is_handed_over else handed
        age_s = None if host.held_since is None else self._book.now - host.held_since
        answer = Answer(claim.mac, claim.sequence, verdict, host.sequence, host.holder, addresses, denied, age_s)
        self._book.ask(SendAnswer(claim.peer, answer, because))
