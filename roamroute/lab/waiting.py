"""Wait for conditions, never for a while: every wait has a limit and says what it waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

from roamroute.errors import RoamrouteError


class NotReached(RoamrouteError):
    """Something in the lab did not come true within its limit."""


def wait_until(condition: Callable[[], bool], what: str, limit_s: float, *, poll_s: float = 0.02) -> float:
    """Wait until `condition()` is true and return the seconds that it took.

    Raises: NotReached after `limit_s` seconds; `what` names the condition: "babeld's routes are on ap1".
    """
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        if waited > limit_s:
            raise NotReached(f"waited {waited:.1f} s in vain until {what}")
        time.sleep(poll_s)
    return time.monotonic() - started
