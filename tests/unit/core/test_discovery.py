"""The shell's part of neighbour discovery: what is heard, told and connected, and the frames that it leads to."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from roamroute import daemon as daemon_module
from roamroute import discovery, events
from roamroute.config import parse_config
from roamroute.control import status_of
from roamroute.dad import DadEffect, DadProxy, Defend, HandOut, Relay
from roamroute.daemon import Daemon
from roamroute.effects import AdvertiseGateway
from roamroute.tables import print_status
from roamroute.testing.exporters import FAKE_SPEC
from roamroute.values import Basis, Claim, DadKind, DadMessage, Hint, Instant, Mac, Neighbour, Nud, PeerId, Station
from roamroute.wire.discovery import RouterSolicitation, parse
from roamroute.wire.router_advertisements import HeardRouter

ME, OTHER = IPv6Address("fd44:0:0:a::1"), IPv6Address("fd44:0:0:a::2")
ADDRESS = IPv6Address("fd44:0:0:1::a")
FIRST, SECOND, ABSENT = (Mac(f"02:00:5e:44:00:0{last}") for last in (1, 2, 3))
OURS = Mac("02:00:00:00:00:fe")

CONFIGURATION = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64"]
exporter = "fake"
"""
PEERS = """
[peers]
address = "fd44:0:0:a::1"
addresses = ["fd44:0:0:a::2"]
key_file = "{key}"
[handover]
forwarding = false
"""


@attrs.define
class Air:
    """Instead of packet sockets: what was sent, and the way in."""

    heard: Callable[[str, Any], None] | None = None
    sent: list[tuple[str, bytes]] = attrs.Factory(list)

    def advertised(self) -> list[tuple[str, int]]:
        """The router advertisements: to which link-layer address, with which router lifetime."""
        found = [(frame[:6].hex(":"), parse(frame)) for _, frame in self.sent]
        return [(to, said.lifetime_s) for to, said in found if isinstance(said, HeardRouter)]


@pytest.fixture
def air(monkeypatch: pytest.MonkeyPatch) -> Air:
    """Without a kernel, and with a loop that does not run."""
    made = Air()

    class Tap:
        heard_messages = malformed_frames = dropped_frames = muted_stations = 0

        def __init__(self, _links: object, heard: Callable[[str, Any], None], _log: object, **_more: object) -> None:
            made.heard = heard

        def own_macs(self, _macs: frozenset[Mac]) -> None: ...

        def link_changed(self) -> None: ...

    class Sender:
        sent_frames = failed_frames = 0

        def __init__(self, _log: object) -> None: ...

        def mac_of(self, link: str) -> Mac | None:
            return OURS if link == "wlan0" else None

        def addresses_of(self, _link: str) -> tuple[()]:
            return ()

        def send(self, link: str, frame: bytes) -> None:
            made.sent.append((link, frame))

    monkeypatch.setattr(discovery, "DiscoveryTap", Tap)
    monkeypatch.setattr(daemon_module, "FrameSender", Sender)
    return made


def daemon_of(directory: Path, more: str = "") -> Daemon:
    """A daemon that was never run."""
    key = directory / "key"
    key.write_text("5e" * 32)
    key.chmod(0o600)
    return Daemon(parse_config(CONFIGURATION + more.format(key=key)), FAKE_SPEC)


@attrs.define
class Proxy:
    """Instead of the DAD proxy: asks for these effects, whatever it hears."""

    effects: list[DadEffect]
    next_wakeup: Instant | None = None

    def heard(self, _link: str, _message: DadMessage, _now: Instant) -> list[DadEffect]:
        return self.effects

    def told(self, _peer: PeerId, _message: DadMessage, _now: Instant) -> list[DadEffect]:
        return self.effects


def use(part: discovery.Discovery, *effects: DadEffect) -> None:
    part.dad = cast(DadProxy, Proxy(list(effects)))


def part_of(daemon: Daemon) -> discovery.Discovery:
    assert daemon.discovery is not None
    return daemon.discovery


def question(mac: Mac = FIRST) -> DadMessage:
    return DadMessage(DadKind.SOLICITATION, ADDRESS, mac, bytes(6))


async def test_peers_are_told_before_stations(air: Air, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = daemon_of(tmp_path, PEERS)
    assert daemon.peering is not None
    order: list[object] = []
    monkeypatch.setattr(daemon.peering.channel, "relay_dad", lambda *what: order.append(what))
    monkeypatch.setattr(part_of(daemon)._sender, "send", lambda *_: order.append("sent"))
    use(part_of(daemon), HandOut("wlan0", question(), (SECOND,)), Relay(question(), (OTHER,)))
    assert air.heard is not None
    air.heard("wlan0", question())
    assert order == [(question(), (OTHER,)), "sent"]


async def test_a_question_is_handed_out_to_the_group_or_to_stations(air: Air, tmp_path: Path) -> None:
    part = part_of(daemon_of(tmp_path, PEERS))
    use(part, HandOut("wlan0", question()), HandOut("wlan0", question(), (FIRST, SECOND)), HandOut("gone", question()))
    part.told(OTHER, question(ABSENT))
    assert [(link, frame[:6].hex(":")) for link, frame in air.sent] == [
        ("wlan0", "33:33:ff:00:00:0a"),
        ("wlan0", FIRST),
        ("wlan0", SECOND),
    ]


async def test_an_address_of_ours_is_defended_with_the_link_s_mac(air: Air, tmp_path: Path) -> None:
    part = part_of(daemon_of(tmp_path))
    use(part, Defend("wlan0", ADDRESS, FIRST))
    assert air.heard is not None
    air.heard("wlan0", question())
    ((_, frame),) = air.sent
    assert frame[:6].hex(":") == FIRST
    assert frame.endswith(bytes.fromhex("0201" + OURS.replace(":", "")))  # the target link-layer address option


async def test_everything_is_shown_to_who_follows(air: Air, tmp_path: Path) -> None:
    daemon = daemon_of(tmp_path, PEERS)
    use(part_of(daemon), HandOut("wlan0", question()))
    shown: list[object] = []
    end = daemon.observe(lambda kind, value: shown.append((kind, type(value).__name__)))
    part_of(daemon).told(OTHER, question())
    await asyncio.sleep(0)
    end()
    part_of(daemon).told(OTHER, question(SECOND))
    await asyncio.sleep(0)
    assert shown == [("discovery", "DadTold"), ("discovery", "HandOut")]


async def test_a_station_is_told_its_router_as_soon_as_it_has_connected(air: Air, tmp_path: Path) -> None:
    part = part_of(daemon_of(tmp_path, "[ra]\n"))
    part.handled(events.NeighboursResynced(frozenset({"wlan0"}), ()), ())
    part.handled(events.StationConnected(Station(FIRST, "wlan0")), ())
    assert air.advertised() == [("33:33:00:00:00:01", 9000), (FIRST, 9000)]
    part.close()


async def test_a_host_is_told_its_router_when_a_bridge_has_learnt_it_and_the_engine_greets_it(
    air: Air, tmp_path: Path
) -> None:
    part = part_of(daemon_of(tmp_path, "[ra]\n"))
    part.handled(events.NeighboursResynced(frozenset({"wlan0"}), ()), ())
    learned = events.MacLearned(FIRST, "wlan0", "port1")
    part.handled(learned, ())
    assert air.advertised()[1:] == []
    part.handled(learned, (AdvertiseGateway("wlan0", FIRST, "the bridge learned its MAC"),))
    assert air.advertised()[1:] == [(FIRST, 9000)]
    part.close()


async def test_a_station_that_came_unseen_is_told_its_router(air: Air, tmp_path: Path) -> None:
    part = part_of(daemon_of(tmp_path, "[ra]\n"))
    part.handled(events.NeighboursResynced(frozenset({"wlan0"}), ()), ())
    listed = events.StationsResynced(frozenset({"wlan0"}), (Station(FIRST, "wlan0"), Station(SECOND, "wlan0")))
    part.handled(listed, (AdvertiseGateway("wlan0", SECOND, "the station has come unseen"),))
    assert air.advertised()[1:] == [(SECOND, 9000)]
    part.close()


async def test_a_solicitation_is_answered_to_the_station_alone(air: Air, tmp_path: Path) -> None:
    part = part_of(daemon_of(tmp_path, "[ra]\n"))
    part.handled(events.NeighboursResynced(frozenset({"wlan0"}), ()), ())
    assert air.heard is not None
    air.heard("wlan0", RouterSolicitation(FIRST, IPv6Address("fe80::a")))
    assert air.advertised()[1:] == [(FIRST, 9000)]
    assert IPv6Address("fe80::a").packed in air.sent[-1][1]
    part.close()


async def test_while_drained_this_is_no_default_router_and_addresses_stay_unique(air: Air, tmp_path: Path) -> None:
    part = part_of(daemon_of(tmp_path, "[ra]\n" + PEERS))
    part.handled(events.NeighboursResynced(frozenset({"wlan0"}), ()), ())
    part.handled(events.Drained(), ())
    part.handled(events.StationConnected(Station(FIRST, "wlan0")), ())
    assert air.advertised()[1:] == [(FIRST, 0)]
    use(part, HandOut("wlan0", question()))
    part.told(OTHER, question())
    assert air.sent[-1][1][:6].hex(":") == "33:33:ff:00:00:0a"
    part.handled(events.Resumed(), ())
    part.handled(events.StationConnected(Station(SECOND, "wlan0")), ())
    assert air.advertised()[-1] == (SECOND, 9000)
    part.close()


async def test_the_last_word_is_that_this_is_no_router_any_more(air: Air, tmp_path: Path) -> None:
    daemon = daemon_of(tmp_path, "[ra]\n")
    part = part_of(daemon)
    part.handled(events.NeighboursResynced(frozenset({"wlan0"}), ()), ())
    daemon.engine.handle(events.StationConnected(Station(FIRST, "wlan0")), 1.0)
    part.stop()
    assert air.advertised()[1:] == [("33:33:00:00:00:01", 0), (FIRST, 0)]
    part.close()


async def test_without_ra_nothing_is_advertised(air: Air, tmp_path: Path) -> None:
    part = part_of(daemon_of(tmp_path))
    part.handled(events.NeighboursResynced(frozenset({"wlan0"}), ()), ())
    part.handled(events.StationConnected(Station(FIRST, "wlan0")), ())
    part.handled(events.Drained(), ())
    part.stop()
    assert air.sent == []
    part.close()


@pytest.mark.parametrize(
    ("more", "has_dad", "has_ra"),
    [
        ("", True, False),
        ("[ra]\n", True, True),
        ("[ra]\nsender = 'radvd'\n", True, False),
        ("[dad]\nenabled = false\n[ra]\n", False, True),
    ],
)
def test_only_what_is_on_is_there(air: Air, tmp_path: Path, more: str, has_dad: bool, has_ra: bool) -> None:
    daemon = daemon_of(tmp_path, more)
    part = part_of(daemon)
    assert (part.dad is not None, part.advertiser is not None) == (has_dad, has_ra)
    status = status_of(daemon)
    assert (status["dad"] is not None, status["ra"] is not None) == (has_dad, has_ra)


@pytest.mark.parametrize("more", ["[dad]\nenabled = false\n", "[dad]\nenabled = false\n[ra]\nsender = 'bird'\n"])
def test_without_any_of_it_there_is_nothing(tmp_path: Path, more: str) -> None:
    daemon = daemon_of(tmp_path, more)
    assert daemon.discovery is None
    status = status_of(daemon)
    assert (status["dad"], status["ra"], status["routers"]) == (None, None, [])
    assert status["tap"] is None


def test_a_gateway_without_client_links_takes_no_part(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("5e" * 32)
    key.chmod(0o600)
    text = CONFIGURATION.replace('["wlan0"]', "[]").replace('"fake"', '"kernel"') + PEERS.format(key=key)
    assert Daemon(parse_config(text), FAKE_SPEC).discovery is None


def test_other_routers_are_remembered_and_shown(air: Air, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon = daemon_of(tmp_path, "[ra]\n")
    assert air.heard is not None
    air.heard("wlan0", HeardRouter(SECOND, IPv6Address("fe80::bad"), 600))
    status = status_of(daemon)
    (router,) = status["routers"]
    assert (router["link"], router["mac"], router["source"], router["lifetime_s"]) == (
        "wlan0",
        SECOND,
        "fe80::bad",
        600,
    )
    assert json.loads(json.dumps(status)) == status
    print_status(status)
    assert f"on wlan0 fe80::bad ({SECOND}) advertises too: lifetime 600 s" in capsys.readouterr().out


def test_the_proxy_knows_who_is_where(air: Air, tmp_path: Path) -> None:
    daemon = daemon_of(tmp_path, PEERS)
    view, engine = part_of(daemon)._view, daemon.engine
    engine.handle(events.NeighboursResynced(frozenset({"wlan0"}), ()), 1.0)
    engine.handle(events.StationConnected(Station(FIRST, "wlan0")), 1.0)
    here = ip_address("fd44:0:0:1::1")
    engine.handle(events.NeighbourChanged(Neighbour("wlan0", here, Nud.REACHABLE, SECOND)), 1.0)
    engine.handle(events.HostHinted(Hint(ABSENT, 3, OTHER, (ADDRESS,))), 1.0)
    assert set(view.stations("wlan0")) == {FIRST, SECOND}
    assert view.stations("wlan1") == ()
    assert [view.link_of(mac) for mac in (FIRST, SECOND, ABSENT)] == ["wlan0", "wlan0", None]
    assert (view.holder(here), view.holder(ADDRESS)) == (("wlan0", SECOND), None)
    assert (view.announcer(here), view.announcer(ADDRESS)) == (None, OTHER)
    assert view.holder(here) is not None
    part_of(daemon).handled(events.OwnAddressesChanged(frozenset({here}), frozenset({OURS})), ())
    assert (view.own_addresses, view.own_macs) == (frozenset({here}), frozenset({OURS}))


def test_a_host_that_a_peer_has_claimed_is_there_though_its_station_is_still_listed_here(
    air: Air, tmp_path: Path
) -> None:
    daemon = daemon_of(tmp_path, PEERS)
    view, engine = part_of(daemon)._view, daemon.engine
    engine.handle(events.PeerJoined(OTHER), 0.0)
    engine.handle(events.StationConnected(Station(FIRST, "wlan0")), 1.0)
    engine.handle(events.NeighbourChanged(Neighbour("wlan0", ADDRESS, Nud.REACHABLE, FIRST)), 1.0)
    assert (view.holder(ADDRESS), view.announcer(ADDRESS), view.link_of(FIRST)) == (("wlan0", FIRST), None, "wlan0")
    claim = Claim(FIRST, 9, OTHER, Basis.ASSOCIATION, (ADDRESS,), age_s=0.0)
    engine.handle(events.HostClaimed(claim), 2.0)
    assert engine.hosts[FIRST].station_link == "wlan0"
    assert (view.holder(ADDRESS), view.announcer(ADDRESS), view.link_of(FIRST)) == (None, OTHER, None)
    assert view.stations("wlan0") == ()
    engine.handle(events.StationConnected(Station(FIRST, "wlan0")), 3.0)
    assert view.link_of(FIRST) == "wlan0"


def test_a_station_that_has_just_come_is_known(air: Air, tmp_path: Path) -> None:
    daemon = daemon_of(tmp_path)
    part = part_of(daemon)
    assert part._view.stations("wlan0") == ()
    connected = events.StationConnected(Station(FIRST, "wlan0"))
    daemon.engine.handle(connected, 1.0)
    part.handled(connected, ())
    assert part._view.stations("wlan0") == (FIRST,)


def test_many_routers_fill_no_log(air: Air, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part_of(daemon_of(tmp_path))
    assert air.heard is not None
    with caplog.at_level(logging.INFO):
        for number in range(256):
            air.heard("wlan0", HeardRouter(Mac(f"02:00:00:00:00:{number:02x}"), IPv6Address("fe80::bad"), 600))
    assert len(caplog.records) == 1
