"""Route messages in portions that a listening routing daemon can take; real changes before those of a kick.

Every change of ours is a netlink message to it. A socket buffer of the default size (212,992 bytes) holds some 270 of
them (Linux 6.18), and babeld to 1.14 asks for no larger one and does not notice a loss before its next full look, which
may be 300 s away. The first portion goes out at once, so a roam never waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from roamroute.linux.kick import Timer
from roamroute.linux.steps import Action, Step
from roamroute.values import Instant, Seconds

PORTION = 200
"""Messages in one pause; a kick of 110 changes fits in beside a roam of 16 addresses."""
LEFT_FOR_CHANGES = 50
"""Of each portion, not for kicks: the changes of another roam do not wait for the end of a long kick."""
PORTION_BESIDE = 50
"""Of routes in another table, which the daemon hears of as well, whatever it makes of them: both portions fit."""
PAUSE_S: Seconds = 0.01
"""5,000 routes at a start take 0.25 s so."""


class Pacer:
    """Sends steps in their order, at most a portion in `PAUSE_S`; a real change overtakes the rest of a kick."""

    def __init__(
        self,
        send: Callable[[list[Step]], None],
        later: Callable[[Seconds, Callable[[], None]], Timer | None],
        clock: Callable[[], Instant],
        portion: int = PORTION,
    ) -> None:
        self._send = send
        self._later = later
        self._clock = clock
        self._portion = portion
        self._waiting: deque[Step] = deque()
        self._kicks: deque[Step] = deque()
        self._timer: Timer | None = None
        self._window_until = float("-inf")
        self._room = portion

    def send(self, steps: list[Step], *, is_paced: bool) -> None:
        """Send now what has room, the rest later, in order. Without `is_paced`, or a loop, all is sent now."""
        if not is_paced:
            self.flush()
            if steps:
                self._send(steps)
            return
        self._waiting.extend(step for step in steps if step.action is not Action.KICK)
        self._kicks.extend(step for step in steps if step.action is Action.KICK)
        if self._timer is None or self._room > 0:
            self._pump()

    def discard(self) -> None:
        """Forget what waits; for one who is about to look at what is there."""
        self._waiting.clear()
        self._kicks.clear()
        self.flush()

    def flush(self) -> None:
        """Send all that waits, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting = [*self._waiting, *self._kicks]
        self._waiting.clear()
        self._kicks.clear()
        if waiting:
            self._send(waiting)

    def _pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock()
        if now >= self._window_until:
            self._window_until = now + PAUSE_S
            self._room = self._portion
        portion = [self._waiting.popleft() for _ in range(min(self._room, len(self._waiting)))]
        room_for_kicks = max(self._room - len(portion) - LEFT_FOR_CHANGES, 0)
        portion += [self._kicks.popleft() for _ in range(min(room_for_kicks, len(self._kicks)))]
        self._room -= len(portion)
        if portion:
            self._send(portion)
        if self._waiting or self._kicks:
            self._timer = self._later(max(self._window_until - now, 0.001), self._pump)
            if self._timer is None:
                self.flush()
