"""Waking up a BIRD that sleeps on its updates."""

from __future__ import annotations

import asyncio

import pytest
from roamroute_bird import poke
from roamroute_bird.answers import Protocol, Status
from roamroute_bird.poke import Poke, is_needed
from roamroute_bird.settings import Settings

from roamroute.errors import DaemonGone

BABEL, OSPF = (Protocol(name, kind, "---", "up", "") for name, kind in (("mesh", "Babel"), ("mesh6", "OSPF")))


def status(version: str) -> Status:
    return Status(version, "10.0.0.1", "", "", "Daemon is up and running")


@pytest.mark.parametrize(
    ("version", "protocols", "is_so"),
    [
        ("2.0.12", [OSPF, BABEL], True),
        ("2.13.1", [BABEL], True),
        ("2.14", [BABEL], False),
        ("2.17.5", [BABEL], False),
        ("3.1.7", [BABEL], False),
        ("2.0.12", [OSPF], False),
        ("2.0.12", [Protocol("mesh", "Babel", "---", "down", "")], False),
        ("", [BABEL], False),
    ],
)
def test_only_babel_in_a_bird_before_2_14_needs_it(version: str, protocols: list[Protocol], is_so: bool) -> None:
    assert is_needed(status(version), protocols) is is_so


class FakeClient:
    def __init__(self) -> None:
        self.asked = 0
        self.is_gone = False

    async def status(self) -> Status:
        self.asked += 1
        if self.is_gone:
            raise DaemonGone("gone")
        return status("2.0.12")

    async def close(self) -> None: ...


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr(poke, "Client", lambda _settings: fake)
    monkeypatch.setattr(poke, "PAUSE_S", 0.0)
    return fake


async def test_it_asks_for_a_while_and_ends(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poke, "POKING_S", 0.02)
    one = Poke(Settings())
    for _ in range(5):
        one.go_on()
    assert len(asyncio.all_tasks()) == 2, "several changes, one poke"
    async with asyncio.timeout(5):
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
    assert client.asked > 1
    await one.close()


async def test_a_bird_that_is_gone_is_not_poked(client: FakeClient) -> None:
    client.is_gone = True
    one = Poke(Settings())
    one.go_on()
    async with asyncio.timeout(5):
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
    assert client.asked == 1
    await one.close()


async def test_the_end_of_the_exporter_ends_the_poking(client: FakeClient) -> None:
    one = Poke(Settings())
    one.go_on()
    await asyncio.sleep(0)
    await one.close()
    assert len(asyncio.all_tasks()) == 1
