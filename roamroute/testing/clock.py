"""Virtual time: a clock that jumps from one appointment to the next. Deterministic: equal times keep their order."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from roamroute.values import Instant, Seconds


class Appointment:
    """Something that will happen; `cancel` makes it not happen."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Do not do it; harmless when it has been done."""
        self.action = None


class VirtualClock:
    """Time for tests and simulations. `now` never goes back.

    It starts at 1000 s, not at 0: code that takes "no time given" for zero shows itself.
    """

    def __init__(self, now: Instant = 1000.0) -> None:
        self.now = now
        self._serial = 0
        self._appointments: list[tuple[Instant, int, Appointment]] = []

    def at(self, when: Instant, action: Callable[[], None]) -> Appointment:
        """Do `action` at `when`, or at once in the next run if that has passed."""
        appointment = Appointment(action)
        self._serial += 1
        heapq.heappush(self._appointments, (when, self._serial, appointment))
        return appointment

    def after(self, delay: Seconds, action: Callable[[], None]) -> Appointment:
        """Do `action` in `delay` seconds."""
        return self.at(self.now + delay, action)

    @property
    def next_due(self) -> Instant | None:
        """The time of the next appointment, or None."""
        while self._appointments and self._appointments[0][2].action is None:
            heapq.heappop(self._appointments)
        return self._appointments[0][0] if self._appointments else None

    def run_until(self, when: Instant) -> None:
        """Keep every appointment up to and at `when`, in order, also those made meanwhile; then it is `when`."""
        while self._appointments and self._appointments[0][0] <= when:
            due, _, appointment = heapq.heappop(self._appointments)
            if appointment.action is not None:
                action, appointment.action = appointment.action, None
                self.now = max(self.now, due)
                action()
        self.now = max(self.now, when)

    def run(self, duration: Seconds) -> None:
        """Let `duration` seconds pass."""
        self.run_until(self.now + duration)
