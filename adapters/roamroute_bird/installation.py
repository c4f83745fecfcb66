"""Mode "inject": what BIRD announces must be in the kernel of this access point, too, and BIRD is what puts it there.

BIRD 3.0 to 3.3 forgets to, in silence: after each scan of the kernel's table a new route whose internal number was in
use at that scan is taken for installed, until the next scan (sysdep/unix/krt.c, seen_map). A route that somebody else
has removed waits for the next scan in all versions. Feeding BIRD's routes to the kernel again mends both.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection

from roamroute.errors import RoamrouteError
from roamroute.values import Address, Instant, Seconds
from roamroute_bird.confirmation import Confirmation

FIRST_PAUSE_S: Seconds = 0.2
"""BIRD has a route in the kernel within 5 ms after it was read, and the kernel tells of it within 100 ms."""
LAST_PAUSE_S: Seconds = 60.0


class Installation:
    """Watches the addresses that were asked for lately; `is_uninstalled` tells whether BIRD forgot one."""

    def __init__(self, bird: Confirmation, is_uninstalled: Callable[[Address], bool]) -> None:
        self._bird = bird
        self._is_uninstalled = is_uninstalled
        self._asked: set[Address] = set()
        self._doubt = asyncio.Event()
        self._since: Instant | None = None

    def look(self, address: Address) -> None:
        """BIRD was asked for this one."""
        self._asked.add(address)
        self._doubt.set()

    def lacking(self, for_s: Seconds) -> Collection[Address]:
        """What has been lacking, some of it at least, for so long."""
        if self._since is None or time.monotonic() < self._since + for_s:
            return ()
        return self._lacking()

    def _lacking(self) -> Collection[Address]:
        self._asked = set(filter(self._is_uninstalled, self._asked))
        return self._asked

    async def run(self) -> None:
        """Mend, until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            if not self._lacking():
                self._since, pause_s = None, FIRST_PAUSE_S
                self._doubt.clear()
                await self._doubt.wait()
            await asyncio.sleep(pause_s)
            if self._lacking():
                if self._since is None:
                    self._since = time.monotonic()
                with contextlib.suppress(RoamrouteError):  # gone or read-only: told elsewhere, or as what is lacking
                    await self._bird.install_again()
                pause_s = min(LAST_PAUSE_S, 2 * pause_s)
