"""Keeping Python's collector of reference cycles out of the middle of a handover.

Its full collection looks at every object: 11 ms for 5,000 hosts with 3 addresses each on a fast machine (Python 3.11),
ten times that on a small access point, at a moment of its own choice. What is there after the start is for good, so it
is frozen: never looked at again. What comes later are values without cycles; the few cycles that asyncio makes die
young, and the quick collections find them. A full collection comes on our own schedule, which is rare.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from roamroute.values import Seconds

_FULL_COLLECTION_S: Seconds = 3600.0
_LOOK_S: Seconds = 1.0
_LOOKS = 60
_NEVER = 1 << 30


def freeze() -> None:
    """Collect now, leave all that is left alone for ever, and let full collections to `collect_rarely`."""
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)


async def collect_rarely(is_busy: Callable[[], bool]) -> None:
    """Collect everything once an hour, at a moment when `is_busy` says no, if there is one within a minute."""
    while True:
        await asyncio.sleep(_FULL_COLLECTION_S)
        for _ in range(_LOOKS):
            if not is_busy():
                break
            await asyncio.sleep(_LOOK_S)
        gc.collect()
