"""Coming back to a daemon, for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from roamroute.errors import DaemonGone, DaemonRefused, MalformedInput
from roamroute.values import Seconds

RETRY_FIRST_S: Seconds = 0.2
RETRY_LAST_S: Seconds = 5.0
"""Routing daemons are restarted by hand: nobody waits longer than this."""


async def reconnect(converse: Callable[[], Awaitable[None]], lost: Callable[[str], None]) -> None:
    """Hold one conversation after the other until cancelled; `lost` is told why one ended.

    `converse` raises DaemonGone, DaemonRefused or MalformedInput. Pauses double up to RETRY_LAST_S, and start again
    after a conversation that was longer than that.
    """
    loop = asyncio.get_running_loop()
    pause_s = RETRY_FIRST_S
    while True:
        begun = loop.time()
        try:
            await converse()
            why = "the conversation ended"
        except (DaemonGone, DaemonRefused, MalformedInput) as error:
            why = str(error)
        lost(why)
        if loop.time() - begun > RETRY_LAST_S:
            pause_s = RETRY_FIRST_S
        await asyncio.sleep(pause_s)
        pause_s = min(RETRY_LAST_S, 2 * pause_s)
