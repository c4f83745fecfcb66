"""A neighbour table that behaves like Linux 6.18's, as far as the engine can see it (docs/facts: Linux neighbours).

Notifications come for REACHABLE, STALE, PROBE and FAILED; STALE to DELAY is silent. A deletion gives FAILED, then the
removal; a link that goes down gives removals only. A neighbour put into PROBE answers after 3 ms, or fails after
3.07 s.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import attrs

from roamroute.effects import Forget, Probe
from roamroute.events import Event, LinkLost, NeighbourChanged, NeighbourRemoved, NeighboursResynced
from roamroute.testing.clock import Appointment, VirtualClock
from roamroute.values import Address, Mac, Neighbour, Nud, Seconds

ANSWER_S: Seconds = 0.003
FAILURE_S: Seconds = 3.07
REACHABLE_S: Seconds = 30.0  # base_reachable_time; the kernel draws from half to one and a half of it


@attrs.define(eq=False)
class _Row:
    nud: Nud
    mac: Mac | None
    timer: Appointment | None = None


class FakeKernel:
    """The neighbour table of one machine.

    `answers(link, address, mac)` says whether a unicast solicitation to that MAC is answered. `emit` takes the events
    and must not call back into this object before it has returned (netlink is a queue).
    """

    def __init__(
        self,
        clock: VirtualClock,
        links: Iterable[str],
        emit: Callable[[Event], None],
        answers: Callable[[str, Address, Mac], bool],
        seed: int = 0,
    ) -> None:
        self.links_up = set(links)
        self.emit = emit
        self.probes = 0
        self._clock = clock
        self._answers = answers
        self._random = random.Random(seed)
        self._rows: dict[tuple[str, Address], _Row] = {}

    # -- what hosts do ----------------------------------------------------------------------------------------------

    def solicited(self, link: str, address: Address, mac: Mac) -> None:
        """A solicitation (or ARP request) came from `address` with its link-layer address: RFC 4861 §7.2.3."""
        if link not in self.links_up:
            return
        row = self._rows.get((link, address))
        if row is not None and row.mac == mac and row.nud.is_alive:
            return
        self._set(link, address, Nud.STALE, mac)

    def advertised(self, link: str, address: Address, mac: Mac) -> None:
        """A solicited advertisement with the override flag came: RFC 4861 §7.2.5."""
        row = self._rows.get((link, address))
        if row is not None and link in self.links_up:
            self._set(link, address, Nud.REACHABLE, mac)

    def sent_to(self, link: str, address: Address) -> None:
        """A packet was forwarded to the neighbour: STALE becomes DELAY (silently), and PROBE 5 s later."""
        row = self._rows.get((link, address))
        if row is not None and row.nud is Nud.STALE and row.mac is not None:
            mac = row.mac
            row.nud = Nud.DELAY
            row.timer = self._clock.after(5.0, lambda: self._probe(link, address, mac))

    # -- what the engine asks for -----------------------------------------------------------------------------------

    def probe(self, effect: Probe) -> None:
        """RTM_NEWNEIGH with NUD_PROBE."""
        if effect.link in self.links_up:
            row = self._rows.get((effect.link, effect.address))
            if row is not None and row.nud is Nud.PROBE and row.mac == effect.mac:
                return  # Linux neither counts anew nor notifies
            self._probe(effect.link, effect.address, effect.mac)

    def forget(self, effect: Forget) -> None:
        """RTM_DELNEIGH."""
        self.delete(effect.link, effect.address)

    def delete(self, link: str, address: Address) -> None:
        """Delete an entry as `ip neigh del` does."""
        row = self._rows.pop((link, address), None)
        if row is not None:
            self._stop(row)
            if row.nud is not Nud.FAILED:
                self.emit(NeighbourChanged(Neighbour(link, address, Nud.FAILED)))
            self.emit(NeighbourRemoved(link, address))

    # -- what happens to the machine --------------------------------------------------------------------------------

    def prune(self, link: str, address: Address) -> None:
        """The garbage collector takes an entry."""
        row = self._rows.pop((link, address), None)
        if row is not None:
            self._stop(row)
            self.emit(NeighbourRemoved(link, address))

    def link_down(self, link: str) -> None:
        """The interface goes down: removals, then the loss of the link."""
        self.links_up.discard(link)
        for row_link, address in [key for key in self._rows if key[0] == link]:
            self.prune(row_link, address)
        self.emit(LinkLost(link))

    def link_up(self, link: str) -> None:
        """The interface comes back; the source resynchronises."""
        self.links_up.add(link)
        self.resync()

    def dump(self) -> NeighboursResynced:
        """The whole table."""
        rows = tuple(
            Neighbour(link, address, row.nud, None if row.nud is Nud.FAILED else row.mac)
            for (link, address), row in self._rows.items()
        )
        return NeighboursResynced(frozenset(self.links_up), rows)

    def resync(self) -> None:
        """Emit the whole table, as after a start or ENOBUFS."""
        self.emit(self.dump())

    def state(self, link: str, address: Address) -> Nud:
        """The state of one entry; NONE where there is none."""
        row = self._rows.get((link, address))
        return Nud.NONE if row is None else row.nud

    def __len__(self) -> int:
        return len(self._rows)

    # -- below ------------------------------------------------------------------------------------------------------

    def _stop(self, row: _Row) -> None:
        if row.timer is not None:
            row.timer.cancel()
            row.timer = None

    def _set(self, link: str, address: Address, nud: Nud, mac: Mac | None) -> _Row:
        row = self._rows.get((link, address))
        if row is None:
            row = self._rows[link, address] = _Row(Nud.NONE, mac)
        is_news = (row.nud, row.mac) != (nud, mac) or nud is Nud.STALE or nud is Nud.PROBE
        self._stop(row)
        row.nud = nud
        if mac is not None:
            row.mac = mac
        if nud is Nud.REACHABLE:
            lasts = REACHABLE_S * (0.5 + self._random.random())
            row.timer = self._clock.after(lasts, lambda: self._expired(link, address))
        if is_news:
            self.emit(NeighbourChanged(Neighbour(link, address, nud, None if nud is Nud.FAILED else row.mac)))
        return row

    def _expired(self, link: str, address: Address) -> None:
        row = self._rows[link, address]
        self._set(link, address, Nud.STALE, row.mac)

    def _probe(self, link: str, address: Address, mac: Mac) -> None:
        self.probes += 1
        row = self._set(link, address, Nud.PROBE, mac)
        # Whether it answers is asked when the answer is due: the host may go, or wake, in between.
        row.timer = self._clock.after(ANSWER_S, lambda: self._answer(link, address, 1))

    def _answer(self, link: str, address: Address, attempt: int) -> None:
        row = self._rows[link, address]
        assert row.mac is not None  # it was put into PROBE with one
        if self._answers(link, address, row.mac):
            self._set(link, address, Nud.REACHABLE, row.mac)
        elif attempt < 3:
            row.timer = self._clock.after(1.02, lambda: self._answer(link, address, attempt + 1))
        else:
            rest = FAILURE_S - ANSWER_S - 2 * 1.02
            row.timer = self._clock.after(rest, lambda: self._fail(link, address))

    def _fail(self, link: str, address: Address) -> None:
        self._set(link, address, Nud.FAILED, None)
