"""When the reserved routes of a kick are changed. Knows times, no sockets; `KernelFib` gives it a timer and sends.

One kick serves all changes before it. Kicks are kept apart, since every change of ours is a netlink message to the
routing daemon: babeld's socket buffer holds some 270 of them (212,992 bytes, Linux 6.18), and what does not fit is lost
to it for up to 300 s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from roamroute.export import Kick
from roamroute.linux.steps import Belief, Step
from roamroute.values import Instant, Seconds

APART_S: Seconds = 0.02
"""A kick of 110 changes costs babeld 2.5 ms; on an access point ten times slower it is done in this time."""
APART_EACH_S: Seconds = 0.0001
"""For each change of a larger kick: one and a half times what the pacing takes to send it (150 in 10 ms)."""


class Timer(Protocol):
    """What a loop's call_later gives."""

    def cancel(self) -> None: ...


class Kicker:
    """Decides for every change whether to kick at once, in its batch, or later."""

    def __init__(
        self,
        belief: Belief,
        send: Callable[[list[Step]], None],
        later: Callable[[Seconds, Callable[[], None]], Timer | None],
        clock: Callable[[], Instant],
    ) -> None:
        """`later` returns None where no loop runs; then everything is done at once, without pauses."""
        self._belief = belief
        self._send = send
        self._later = later
        self._clock = clock
        self._timer: Timer | None = None
        self._is_due_again = False
        self._next_at = float("-inf")

    def follow(self, kick: Kick | None) -> list[Step]:
        """A change goes out now: return what goes into the same batch, behind it."""
        if kick is None:
            return []
        steps = [] if kick.deletes else self._belief.reserve(kick.addresses)
        if self._timer is not None:
            self._is_due_again = True
            return steps
        wait_s = self._next_at - self._clock()
        if wait_s > 0:
            self._timer = self._later(wait_s, lambda: self._start(kick))
            if self._timer is not None:
                return steps
        return steps + self._begin(kick)

    def cancel(self) -> None:
        """Forget what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_due_again = False

    def _start(self, kick: Kick) -> None:
        self._timer = None
        self._is_due_again = False
        steps = self._begin(kick)
        if steps:
            self._send(steps)

    def _begin(self, kick: Kick) -> list[Step]:
        """Start a kick; return what goes out now."""
        self._next_at = self._clock() + self._apart(kick)
        if kick.deletes:
            steps = self._belief.reserve(kick.addresses)
            self._timer = self._later(kick.pause_s, lambda: self._finish(kick))
            return steps if self._timer is not None else steps + self._belief.unreserve(kick.addresses)
        if kick.pause_s > 0:
            self._timer = self._later(kick.pause_s, lambda: self._round(kick, kick.rounds))
            if self._timer is not None:
                return []
        return [step for _ in range(kick.rounds) for step in self._belief.flip(kick.addresses)]

    def _round(self, kick: Kick, left: int) -> None:
        self._timer = self._later(kick.pause_s, lambda: self._round(kick, left - 1)) if left > 1 else None
        self._next_at = self._clock() + self._apart(kick)
        self._send(self._belief.flip(kick.addresses))
        if left <= 1:
            self._again(kick)

    def _finish(self, kick: Kick) -> None:
        self._timer = None
        self._next_at = self._clock() + self._apart(kick)
        self._send(self._belief.unreserve(kick.addresses))
        self._again(kick)

    def _again(self, kick: Kick) -> None:
        if self._is_due_again:
            self._is_due_again = False
            self._timer = self._later(self._apart(kick), lambda: self._start(kick))

    @staticmethod
    def _apart(kick: Kick) -> Seconds:
        return max(APART_S, APART_EACH_S * kick.rounds * len(kick.addresses))
