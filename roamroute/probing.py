"""When the neighbours here are probed: a schedule, two budgets, and what is known of the kernel's collector. Pure.

*Routine* probes ask those of which the kernel will not find out by itself whether they live: STALE entries in their
time, and entries that it has collected. *Urgent* ones confirm a claim, a candidate or a conflict. Each kind has a queue
and a budget of its own; a probe that waits says nothing about its host.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from roamroute.effects import Note, Probe
from roamroute.hosts import Entry
from roamroute.policy import Policy
from roamroute.questions import Questions
from roamroute.schedule import Budget, Timetable
from roamroute.values import Address, Instant, Mac, Seconds

URGENT_QUEUE = 4096  # probes that wait for the urgent budget: 4 s of it
_CROWDED_OUT_S: Seconds = 1.0  # a probe for which there was no room is due again after this
_REFUSED_S: Seconds = 5.0  # the kernel's table is full; a forced collection frees what is older than 5 s (6.18)
_ROUTINE_STEP_S: Seconds = 0.25  # a third of the processor time of 1,000 hosts was waking up for single probes
_BEFORE_COLLECTION_S: Seconds = 10.0  # three rounds of the kernel: the answer is to come before the collector
STALE = "stale"


class Probing:
    """Which probes are due. What it is handed (`entries`, `questions`, `times`) is the book's, and only looked at."""

    def __init__(
        self,
        policy: Policy,
        chance: random.Random,
        entries: Mapping[Address, Entry],
        questions: Questions,
        times: Timetable[tuple[str, Address | Mac]],
        tell: Callable[[Note], None],
    ) -> None:
        self._policy = policy
        self._random = chance
        self._entries = entries
        self._questions = questions
        self._times = times
        self._tell = tell
        self._collected_after: dict[tuple[str, int], Seconds] = {}
        """Where the kernel collects, by link and IP version: how long after its last answer it may take a neighbour."""
        self._routine: deque[Address] = deque()
        self._routine_members: dict[Address, str] = {}
        self._urgent: deque[tuple[Probe, bool]] = deque()  # with: is it about an entry, or a question?
        self._urgent_members: set[Address] = set()
        self._routine_budget = Budget(policy.probes_per_second, policy.probe_burst)
        self._urgent_budget = Budget(policy.urgent_probes_per_second, policy.urgent_probes_per_second / 4)

    # -- what is to be asked ----------------------------------------------------------------------------------------

    def is_asked(self, address: Address) -> bool:
        """True while a probe of the entry is out or in the urgent queue: its end will be heard."""
        return ("silent", address) in self._times or address in self._urgent_members

    def is_queued(self, address: Address) -> bool:
        """True while the entry waits for the routine budget."""
        return address in self._routine_members

    def stale(self, entry: Entry, delay_s: Seconds, now: Instant) -> None:
        """Probe as a routine at most `delay_s` from now, before the kernel's collector comes, if it can be."""
        if ("probe", entry.address) in self._times or entry.address in self._routine_members:
            return
        shorter = delay_s * (1.0 - self._policy.stale_probe_jitter * self._random.random())
        due = min(now + shorter, self._collection_comes(entry, now))
        # Those that are due within one step go out together: one wake-up and one message to the kernel for all.
        self._times.set(("probe", entry.address), due // _ROUTINE_STEP_S * _ROUTINE_STEP_S)

    def _collection_comes(self, entry: Entry, now: Instant) -> Instant:
        after_s = self._collected_after.get((entry.link, entry.address.version))
        if after_s is None:
            return float("inf")
        # The time runs from the last confirmation or use, not from the change to STALE (6.18 neigh_periodic_work).
        return (now if entry.confirmed_at is None else entry.confirmed_at) + max(after_s - _BEFORE_COLLECTION_S, 0.0)

    def collect_after(self, after_s: Iterable[tuple[str, int, Seconds]], now: Instant) -> None:
        """The kernel collects on these links, and on no others: what is due too late is due earlier from now on."""
        self._collected_after = {(link, version): seconds for link, version, seconds in after_s}
        for entry in self._entries.values():
            key = ("probe", entry.address)
            if key in self._times and not entry.failed_rounds:
                self._times.set(key, min(self._times.due(key), max(now, self._collection_comes(entry, now))))

    def routine(self, entry: Entry, because: str = STALE) -> None:
        """Queue the entry for the routine budget."""
        if entry.address not in self._routine_members:
            self._routine.append(entry.address)
            self._routine_members[entry.address] = because

    def urgent(self, entry: Entry, because: str, now: Instant) -> None:
        """Probe out of the urgent budget, unless it is asked already.

        Silence of the kernel counts as a failure `trial_s` after the probe has gone out; a probe that finds no room in
        the queue is put off and says nothing about the host.
        """
        if self.is_asked(entry.address):
            return
        self._times.cancel(("probe", entry.address))
        if self._queue(Probe(entry.link, entry.address, entry.mac, because), is_about_entry=True):
            self._urgent_members.add(entry.address)
        else:
            self._times.set(("probe", entry.address), now + _CROWDED_OUT_S)

    def question(self, link: str, address: Address, mac: Mac, because: str, now: Instant) -> None:
        """Probe an address that has no entry (on this link), unless it is asked for already."""
        is_open = self._questions.ask(address, mac, link, now)
        if is_open and not self._queue(Probe(link, address, mac, because), is_about_entry=False):
            self._questions.end(address)

    def refused(self, address: Address, now: Instant) -> None:
        """The kernel had no room for the neighbour: that says nothing about the host, which is asked again later."""
        self._questions.end(address)
        entry = self._entries.get(address)
        if entry is not None and ("silent", address) in self._times:
            self._times.cancel(("silent", address))
            self._times.set(("probe", address), now + _REFUSED_S)

    def _queue(self, probe: Probe, is_about_entry: bool) -> bool:
        if len(self._urgent) >= URGENT_QUEUE:
            self._tell(Note("probe-queue", "too many probes are waiting: one was put off"))
            return False
        self._urgent.append((probe, is_about_entry))
        return True

    def end(self, address: Address) -> None:
        """Nothing is asked of this address any more: it moved, or is not here."""
        self._times.cancel(("probe", address))
        self._times.cancel(("silent", address))
        self._urgent_members.discard(address)

    def leave_routine(self, address: Address) -> None:
        """It need not wait for the routine budget any more."""
        self._routine_members.pop(address, None)
        if len(self._routine) > 64 + 2 * len(self._routine_members):
            self._routine = deque(dict.fromkeys(each for each in self._routine if each in self._routine_members))

    # -- what goes out ----------------------------------------------------------------------------------------------

    def spend(self, now: Instant) -> list[Probe]:
        """The probes that both budgets allow now."""
        probes: list[Probe] = []
        if self._urgent:
            self._spend_urgent(probes, now)
        if self._routine:
            self._spend_routine(probes, now)
        return probes

    def _spend_urgent(self, probes: list[Probe], now: Instant) -> None:
        while self._urgent:
            probe, is_about_entry = self._urgent[0]
            entry = self._entries.get(probe.address)
            if not is_about_entry:
                is_meant = probe.address in self._questions
            else:
                is_meant = entry is not None and entry.mac == probe.mac and entry.link == probe.link
                is_meant = is_meant and probe.address in self._urgent_members
            if is_meant and not self._urgent_budget.take(now):
                return
            self._urgent.popleft()
            if is_meant:
                probes.append(probe)
            if is_meant and is_about_entry:
                self._urgent_members.discard(probe.address)
                self._times.set(("silent", probe.address), now + self._policy.trial_s)

    def _spend_routine(self, probes: list[Probe], now: Instant) -> None:
        while self._routine:
            address = self._routine[0]
            entry = self._entries.get(address) if address in self._routine_members else None
            # Whatever has been heard or asked since it was queued answers the question.
            is_meant = entry is not None and entry.is_unconfirmed and not self.is_asked(address)
            if is_meant and not self._routine_budget.take(now):
                return
            self._routine.popleft()
            because = self._routine_members.pop(address, STALE)
            if entry is not None and is_meant:
                probes.append(Probe(entry.link, address, entry.mac, because))
                self._times.set(("silent", address), now + self._policy.trial_s)

    def next_due(self, now: Instant) -> Instant | None:
        """When a budget allows what waits; None when nothing waits."""
        due = []
        if self._urgent:
            due.append(self._urgent_budget.next_token_at(now))
        if self._routine:
            step = max(1, min(len(self._routine), int(self._policy.probes_per_second * _ROUTINE_STEP_S)))
            due.append(self._routine_budget.next_token_at(now, step))
        return min(due, default=None)
