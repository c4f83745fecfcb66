"""What is known of babeld's versions, from their sources and from trying (docs/babeld-facts.md)."""

from __future__ import annotations

import re

import attrs

_VERSION = re.compile(r"(?:babeld-)?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")


@attrs.frozen(order=True)
class Version:
    """A version of babeld."""

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" if self.patch else f"{self.major}.{self.minor}"


def parse_version(text: str) -> Version | None:
    """Read `babeld-1.13.1`, also with what distributions append; None where no version can be seen."""
    found = _VERSION.match(text.strip())
    if found is None:
        return None
    return Version(int(found[1]), int(found[2]), int(found[3] or 0))


@attrs.frozen
class Quirks:
    """How a version behaves where that matters to host routes.

    `coalesces`: looks at the whole kernel table after a change (up to 1.12); later versions follow every message.
    `retracts_wrongly`: retracts a deleted route with the prefix length of its shortest exported one (1.13 to 1.14,
    xroute.c flush_xroute: `plen = xroutes->plen`).
    `forgets_retractions`: sends the retraction of a deleted route for another one (1.12.1, xroute.c check_xroutes uses
    the index of the other list), so neighbours keep the dead route.
    `aborts_on_duplicates`: `allow-duplicates` in a configuration file ends it with abort(3) (1.12.1, configuration.c
    compares with `allow_duplicates`); `-A` on the command line works.
    """

    coalesces: bool
    retracts_wrongly: bool
    forgets_retractions: bool
    aborts_on_duplicates: bool

    @property
    def text(self) -> str:
        """What is wrong with this version, for people; empty where nothing is."""
        if self.retracts_wrongly:
            return "retracts a deleted route with the prefix length of its shortest exported route"
        if self.forgets_retractions:
            return "does not retract deleted routes"
        return ""


def quirks_of(version: Version | None) -> Quirks:
    """The quirks of a version; those of 1.13 where the version is not known, and for those that are not out yet."""
    if version is None:
        return Quirks(False, True, False, False)
    coalesces = version < Version(1, 13)
    return Quirks(
        coalesces=coalesces,
        retracts_wrongly=not coalesces and version < Version(1, 15),
        forgets_retractions=version < Version(1, 12, 2),
        aborts_on_duplicates=coalesces,
    )
