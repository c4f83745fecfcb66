"""One client over the control socket: what it opens, asks again, gives up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from roamroute_bird.client import TRIES, Client
from roamroute_bird.protocol import BirdRefused
from roamroute_bird.settings import Settings

from roamroute.errors import DaemonGone, MalformedInput

STATUS = b"1000-BIRD 2.17.5\n1011-Router ID is 10.0.0.1\n0013 Daemon is up and running\n"


class FakeBird:
    """Greets, and gives the prepared answers in their order, the last again and again; None: hangs up."""

    def __init__(self, *answers: bytes | None, greeting: bytes = b"0001 BIRD 2.17.5 ready.\n") -> None:
        self.answers = list(answers)
        self.greeting = greeting
        self.asked: list[str] = []
        self.connections = 0
        self.served: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.served.append(task)
        writer.write(self.greeting)
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                self.asked.append(line.decode().strip())
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def client_of(bird: FakeBird, folder: Path) -> AsyncIterator[Client]:
    path = str(folder / "bird.ctl")
    client = Client(Settings(socket=path))
    async with await asyncio.start_unix_server(bird.serve, path):
        try:
            yield client
        finally:
            await client.close()
            await asyncio.gather(*bird.served)
            await asyncio.sleep(0)  # an aborted connection is closed in the next round of the loop


async def test_questions_share_one_connection(tmp_path: Path) -> None:
    bird = FakeBird(STATUS)
    async with client_of(bird, tmp_path) as client:
        assert (await client.status()).program == "BIRD 2.17.5"
        await client.status()
        assert bird.asked == ["show status", "show status"]
        assert bird.connections == 1


async def test_questions_asked_at_once_are_asked_one_after_the_other(tmp_path: Path) -> None:
    bird = FakeBird(b"0023 1\n", b"0023 2\n", b"0023 3\n")
    async with client_of(bird, tmp_path) as client:
        replies = await asyncio.gather(*(client.ask(f"eval {number}") for number in (1, 2, 3)))
        assert [reply.last.text for reply in replies] == ["1", "2", "3"]


async def test_after_an_error_the_next_question_opens_a_new_connection(tmp_path: Path) -> None:
    bird = FakeBird(None, STATUS)
    async with client_of(bird, tmp_path) as client:
        with pytest.raises(DaemonGone, match="closed the connection"):
            await client.status()
        assert (await client.status()).router_id == "10.0.0.1"
        assert bird.connections == 2


async def test_a_late_answer_is_not_taken_for_the_answer_to_the_next_question(tmp_path: Path) -> None:
    bird = FakeBird(b"", b"0023 2\n")
    async with client_of(bird, tmp_path) as client:
        with pytest.raises(DaemonGone, match=r'did not answer to "eval 1" within 0\.05 s'):
            await client.ask("eval 1", limit_s=0.05)
        assert (await client.ask("eval 2")).last.text == "2"
        assert bird.connections == 2


async def test_what_a_reconfiguration_stopped_is_asked_again(tmp_path: Path) -> None:
    stopped = b"1007-Table master6:\n8004 Stopped due to reconfiguration\n"
    bird = FakeBird(stopped, stopped, STATUS)
    async with client_of(bird, tmp_path) as client:
        assert (await client.status()).version == "2.17.5"
        assert len(bird.asked) == 3


async def test_but_not_for_ever(tmp_path: Path) -> None:
    bird = FakeBird(b"8004 Stopped due to reconfiguration\n")
    async with client_of(bird, tmp_path) as client:
        with pytest.raises(BirdRefused, match="8004"):
            await client.status()
        assert len(bird.asked) == TRIES


async def test_a_missing_route_is_an_answer_and_anything_else_of_8000_a_refusal(tmp_path: Path) -> None:
    bird = FakeBird(b"8001 Network not found\n", b"8007 Access denied\n", b"9001 syntax error\n")
    async with client_of(bird, tmp_path) as client:
        assert (await client.ask("show route 1.2.3.4/32")).last.code == 8001
        with pytest.raises(
            BirdRefused, match=r'BIRD refused "configure": 8007 Access denied \(the access is read-only'
        ):
            await client.ask("configure")
        with pytest.raises(BirdRefused, match="9001"):
            await client.ask("nonsense")
        assert bird.connections == 1


@pytest.mark.parametrize("greeting", [b"0002 hello\n", b"SSH-2.0-OpenSSH\n", b"\xff" * 100_000])
async def test_somebody_else_on_that_socket_is_not_taken_for_bird(tmp_path: Path, greeting: bytes) -> None:
    async with client_of(FakeBird(STATUS, greeting=greeting), tmp_path) as client:
        with pytest.raises(MalformedInput):
            await client.status()


async def test_two_answers_to_one_question_are_malformed(tmp_path: Path) -> None:
    async with client_of(FakeBird(STATUS + STATUS), tmp_path) as client:
        with pytest.raises(MalformedInput, match="2 times"):
            await client.status()


async def test_nobody_there(tmp_path: Path) -> None:
    client = Client(Settings(socket=str(tmp_path / "bird.ctl")))
    with pytest.raises(DaemonGone, match=r"No such file or directory .*is BIRD running"):
        await client.status()
    async with await asyncio.start_unix_server(FakeBird(STATUS).serve, str(tmp_path / "bird.ctl")):
        pass
    with pytest.raises(DaemonGone, match=r"(Connection refused|No such file)"):
        await client.status()
