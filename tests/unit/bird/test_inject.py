"""Mode "inject": the file and BIRD follow what is wanted."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from roamroute_bird import inject
from roamroute_bird.answers import Status
from roamroute_bird.hostsfile import HEAD
from roamroute_bird.inject import Injector
from roamroute_bird.protocol import BirdRefused, Line, Reply
from roamroute_bird.settings import Settings

from roamroute.delta import Delta
from roamroute.errors import DaemonGone, DaemonRefused, KernelRefused
from roamroute.export import ExporterContext, KernelNumbers
from roamroute.values import HostRoute, Seconds

A, B, C = (HostRoute(ip_address(f"fd44::{letter}"), "wlan0") for letter in "abc")
PREFIXES = (ip_network("fd44::/64"), ip_network("10.44.0.0/16"))
DONE = Reply((Line(2, "Reading configuration"), Line(3, "Reconfigured")))


class FakeClient:
    """A BIRD that reads the file when it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: list[str] = []
        """The addresses in the file, at each `configure`."""
        self.answers: list[Reply | Exception] = []
        self.states: list[str] = []
        self.gate: asyncio.Event | None = None
        self.begun = asyncio.Event()

    async def ask(self, command: str, limit_s: Seconds = 5.0) -> Reply:
        assert command == "configure soft"
        text = self.path.read_text()
        self.read.append("".join(letter for letter in "abc" if f"fd44::{letter}/128" in text))
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else DONE
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def status(self) -> Status:
        state = self.states.pop(0) if self.states else "Daemon is up and running"
        return Status("2.17.5", "10.0.0.1", "boot", f"configured {len(self.read)}", state)

    async def close(self) -> None: ...


class Bench:
    def __init__(self, path: Path) -> None:
        self.path = path
        context = ExporterContext(("wlan0",), PREFIXES, KernelNumbers(), lambda _: None, lambda *_: None)
        self.injector = Injector(Settings(mode="inject", include=str(path)), context)
        self.bird = FakeClient(path)
        self.injector._client = self.bird  # type: ignore[assignment]

    async def settled(self) -> None:
        await self.injector.settled(5.0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "hosts.conf")


def refused(words: str = "/etc/bird/bird.conf:3:26 syntax error", code: int = 8002) -> BirdRefused:
    return BirdRefused("configure soft", Line(code, words))


async def test_what_is_wanted_is_written_and_read(bench: Bench) -> None:
    bench.injector.replace([A, B])
    await bench.settled()
    bench.injector.change(Delta((C,), (A,)))
    await bench.settled()
    assert bench.bird.read == ["ab", "bc"]
    assert bench.injector.configured == "configured 2"


async def test_no_news_is_no_reason_to_configure_but_the_first_time_it_is(bench: Bench) -> None:
    bench.injector.replace([])
    await bench.settled()
    bench.injector.replace([])
    bench.injector.change(Delta((), (A,)))
    await bench.settled()
    assert bench.bird.read == [""]


async def test_what_comes_while_bird_reads_goes_into_the_next_reading_together(bench: Bench) -> None:
    bench.bird.gate = asyncio.Event()
    bench.injector.replace([A])
    await bench.bird.begun.wait()
    for _ in range(50):
        bench.injector.change(Delta((B,)))
        bench.injector.change(Delta((C,), (B,)))
    bench.bird.gate.set()
    await bench.settled()
    assert bench.bird.read == ["a", "ac"]


async def test_a_withdrawal_of_what_has_moved_on_takes_nothing(bench: Bench) -> None:
    bench.injector.replace([HostRoute(A.address, "wlan1")])
    bench.injector.change(Delta((), (A,)))
    await bench.settled()
    assert bench.bird.read == ["a"]
    assert 'via "wlan1"' in bench.path.read_text()


async def test_a_refusal_puts_the_last_good_file_back_and_is_told(bench: Bench) -> None:
    bench.injector.replace([A])
    await bench.settled()
    good = bench.path.read_text()
    bench.bird.answers = [refused()]
    bench.injector.change(Delta((B,)))
    with pytest.raises(BirdRefused, match="3:26 syntax error"):
        await bench.settled()
    assert bench.path.read_text() == good
    (problem,) = bench.injector.problems(2)
    assert "stays in force" in problem.text
    assert problem.remedy.startswith("mend /etc/bird/bird.conf")
    bench.injector.again()
    await bench.settled()
    assert bench.bird.read == ["a", "ab", "ab"]
    assert not bench.injector.has_failed
    assert not tuple(bench.injector.problems(2))


async def test_the_file_of_an_earlier_run_is_the_last_good_one(bench: Bench) -> None:
    bench.path.write_text(HEAD + "# of an earlier run\n")
    bench.bird.answers = [refused()]
    bench.injector.replace([A])
    with pytest.raises(BirdRefused):
        await bench.settled()
    assert bench.path.read_text() == HEAD + "# of an earlier run\n"


async def test_a_file_that_is_not_ours_is_left_alone(bench: Bench) -> None:
    bench.path.write_text("router id 10.0.0.1;\n")
    bench.injector.replace([A])
    with pytest.raises(KernelRefused, match="somebody else's"):
        await bench.settled()
    assert bench.path.read_text() == "router id 10.0.0.1;\n"
    (problem,) = bench.injector.problems(1)
    assert "another path" in problem.remedy


async def test_what_is_forgotten_while_bird_refuses_does_not_lose_the_last_good_file(bench: Bench) -> None:
    bench.injector.replace([A])
    await bench.settled()
    good = bench.path.read_text()
    bench.bird.begun.clear()
    bench.bird.gate, bench.bird.answers = asyncio.Event(), [refused(), refused()]
    bench.injector.change(Delta((B,)))
    await bench.bird.begun.wait()
    bench.injector.again(is_forgetful=True)
    bench.bird.gate.set()
    with pytest.raises(BirdRefused):
        await bench.settled()
    assert bench.path.read_text() == good


async def test_the_operator_s_own_reconfiguration_is_not_followed_by_one_of_ours(bench: Bench) -> None:
    bench.injector.replace([A])
    await bench.settled()
    bench.injector.is_sparing = True
    bench.injector.again(is_forgetful=True)
    await bench.settled()
    assert bench.bird.read == ["a"]


async def test_a_bird_that_is_gone_finds_the_file_when_it_comes(bench: Bench) -> None:
    bench.bird.answers = [DaemonGone("cannot reach BIRD")]
    bench.injector.replace([A])
    with pytest.raises(DaemonGone):
        await bench.settled()
    assert "fd44::a/128" in bench.path.read_text()


async def test_a_read_only_bird_keeps_the_file_for_its_next_start(bench: Bench) -> None:
    bench.bird.answers = [refused("Access denied", 8007)]
    bench.injector.replace([A])
    with pytest.raises(DaemonRefused):
        await bench.settled()
    assert "fd44::a/128" in bench.path.read_text()
    (problem,) = bench.injector.problems(1)
    assert 'mode = "kernel"' in problem.remedy


async def test_a_bird_that_is_shutting_down_has_not_read_it(bench: Bench) -> None:
    bench.bird.answers = [Reply((Line(6, "Reconfiguration ignored, shutting down"),))]
    bench.injector.replace([A])
    with pytest.raises(DaemonGone, match="shutting down"):
        await bench.settled()


async def test_nothing_is_queued_behind_a_reconfiguration_in_progress(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inject, "PAUSE_S", 0.0)
    bench.bird.states = ["Reconfiguration in progress"] * 3
    bench.injector.replace([A])
    await bench.settled()
    assert bench.bird.states == []
    assert bench.bird.read == ["a"]


async def test_a_question_that_hangs_is_given_up_when_bird_answers_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inject, "PATIENCE_S", 0.0)
    bench.bird.gate = asyncio.Event()
    bench.injector.replace([A])
    await bench.bird.begun.wait()
    bench.bird.gate = None
    bench.injector.again(is_forgetful=True)
    await bench.settled()
    assert bench.bird.read == ["a", "a"]


async def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "missing" / "hosts.conf")
    bench.injector.replace([A])
    with pytest.raises(KernelRefused, match="cannot write"):
        await bench.settled()
    (problem,) = bench.injector.problems(1)
    assert "writable" in problem.remedy


async def test_an_interface_that_bird_cannot_name_changes_nothing(bench: Bench) -> None:
    bench.injector.replace([A])
    await bench.settled()
    with pytest.raises(DaemonRefused, match="cannot name the interface"):
        bench.injector.change(Delta((B, HostRoute(C.address, 'wl"an0')), (A,)))
    bench.injector.again()
    await bench.settled()
    assert bench.bird.read == ["a", "a"]


async def test_the_end_of_the_exporter_ends_the_work(bench: Bench) -> None:
    bench.bird.gate = asyncio.Event()
    bench.injector.replace([A])
    await asyncio.sleep(0)
    await bench.injector.close()
    await bench.injector.close()
    assert len(asyncio.all_tasks()) == 1
