"""What the tests of the DAD proxy share: one access point with a phone, a laptop and a tablet, and two peers."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv6Address, ip_network

import attrs

from roamroute.dad import DadEffect, DadMode, DadProxy, Limits
from roamroute.values import Address, DadKind, DadMessage, Instant, Mac, PeerId

PREFIXES = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
PHONE, LAPTOP, TABLET = (Mac(f"02:00:5e:44:00:{last:02x}") for last in range(3))
OWN = Mac("02:aa:00:00:00:01")
PEER1, PEER3 = IPv6Address("fd44:0:0:a::1"), IPv6Address("fd44:0:0:a::3")
TARGET: Address = IPv6Address("fd44:0:0:1::77")
OTHER_TARGET: Address = IPv6Address("fd44:0:0:1::78")
NONCE = b"nonce!"
T: Instant = 1000.0


def question(mac: Mac = PHONE, target: Address = TARGET, nonce: bytes = b"") -> DadMessage:
    return DadMessage(DadKind.SOLICITATION, target, mac, nonce)


def answer(mac: Mac = PHONE, target: Address = TARGET) -> DadMessage:
    return DadMessage(DadKind.ADVERTISEMENT, target, mac)


@attrs.define
class Knowledge:
    """A view of which each test says what it needs."""

    on: dict[str, list[Mac]] = attrs.Factory(dict)
    holds: dict[Address, tuple[str, Mac]] = attrs.Factory(dict)
    announces: dict[Address, PeerId] = attrs.Factory(dict)
    own_addresses: frozenset[Address] = frozenset()
    own_macs: frozenset[Mac] = frozenset({OWN})

    def stations(self, link: str) -> Collection[Mac]:
        return self.on.get(link, [])

    def link_of(self, mac: Mac) -> str | None:
        return next((link for link, macs in self.on.items() if mac in macs), None)

    def holder(self, address: Address) -> tuple[str, Mac] | None:
        return self.holds.get(address)

    def announcer(self, address: Address) -> PeerId | None:
        return self.announces.get(address)


class Scene:
    """A proxy and what it knows."""

    def __init__(
        self,
        *links: str,
        mode: DadMode = "all",
        is_isolated: bool = False,
        limits: Limits | None = None,
        on: dict[str, list[Mac]] | None = None,
    ) -> None:
        self.links = links or ("wlan0",)
        self.knowledge = Knowledge(on or {})
        self.proxy = DadProxy(
            self.links, PREFIXES, self.knowledge, mode=mode, is_isolated=is_isolated, limits=limits or Limits()
        )
        self.counters = self.proxy.counters

    def told(self, message: DadMessage, now: Instant, peer: PeerId = PEER1) -> list[DadEffect]:
        return self.proxy.told(peer, message, now)

    def heard(self, message: DadMessage, now: Instant, link: str = "") -> list[DadEffect]:
        return self.proxy.heard(link or self.links[0], message, now)

    def meet(self, peer: PeerId = PEER1) -> None:
        """Let this peer and the links have found out that they are apart; another host's DAD long ago."""
        self.told(question(Mac(f"02:00:5e:44:01:{int(peer) & 255:02x}"), OTHER_TARGET), T - 100, peer)
        self.proxy.tick(T - 99)
