"""What the DAD proxy asks about the access point; a shell answers from the engine and the machine, at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from roamroute.values import Address, Mac, PeerId


class View(Protocol):
    """Answers may be late by some milliseconds (an association just made) or stale (a station gone without a word):
    the proxy then sends a frame more, or asks somebody in vain; it does not make a host hear itself."""

    @property
    def own_addresses(self) -> frozenset[Address]:
        """Addresses of this machine, on whatever interface; those in a roaming prefix are defended."""

    @property
    def own_macs(self) -> frozenset[Mac]:
        """Link-layer addresses of this machine."""

    def stations(self, link: str) -> Collection[Mac]:
        """All hosts known on `link`: associated stations, and MACs of neighbours that are alive (wired ones, and those
        behind a station that bridges)."""

    def link_of(self, mac: Mac) -> str | None:
        """The roaming link on which this host is; None when it is not here, as far as is known."""

    def holder(self, address: Address) -> tuple[str, Mac] | None:
        """The link and the host of ours that has `address`: one with a host route here."""

    def announcer(self, address: Address) -> PeerId | None:
        """The peer that announces `address`, by claims and hints; None when that is nobody, or this access point."""
