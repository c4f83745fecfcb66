"""Probe traffic through the mesh, and what became of each packet; the TCP download beside it.

The processes that send and receive are `prober.py` and `download.py`; this module starts them, gives them orders and
reads their logs while they write.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import attrs

from roamroute.lab import download, prober
from roamroute.lab.namespaces import Namespace, Process, Sandbox
from roamroute.lab.waiting import NotReached, wait_until

PROBE_PORT = 4600
DOWNLOAD_PORT = 4601
DOWNLOAD_END_LIMIT_S = 60.0
"""TCP may wait as long again as it stood still: its timer doubles."""


@attrs.define
class FlowRecord:
    """One flow: what was sent when, and what arrived when. Times in seconds of CLOCK_MONOTONIC, in order of time."""

    sent: list[tuple[float, int]] = attrs.field(factory=list)
    arrived: list[tuple[float, int]] = attrs.field(factory=list)
    reached_until: float = float("-inf")
    """When the latest sent of those that arrived was sent."""


class Prober:
    """One prober process. It can send from and receive in any namespace."""

    def __init__(self, sandbox: Sandbox, label: str) -> None:
        directory = sandbox.subdirectory("traffic")
        self.log = directory / f"{label}.packets"
        self.log.touch()
        command = [sys.executable, "-m", "roamroute.lab.prober", str(self.log)]
        self.process = sandbox.start(command, log=directory / f"{label}.log", stdin=subprocess.PIPE)

    def receive(self, namespace: Namespace) -> None:
        """Take packets for all addresses of the namespace."""
        self._order(f"receive {namespace.path} {PROBE_PORT}")

    def send(self, flow: int, namespace: Namespace, source: object, destination: object, rate: float) -> None:
        """Send `rate` packets a second from now on."""
        self._order(f"send {flow} {namespace.path} {source} {destination} {PROBE_PORT} {rate}")

    def stop(self, flow: int) -> None:
        self._order(f"stop {flow}")

    def _order(self, line: str) -> None:
        if self.process.poll() is not None:
            raise NotReached(f"the prober that writes {self.log} has ended: see its log beside")
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()


class Traffic:
    """All probers of a lab and the flows they carry.

    `near` works in the server, `far` in the client, `side` in the correspondents: a process each, so that none delays
    the others. Flow numbers are unique in a lab.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._numbers = itertools.count(1)
        self.near, self.far, self.side = (Prober(sandbox, label) for label in ("near", "far", "side"))
        self._positions: dict[Path, int] = defaultdict(int)
        self.flows: dict[int, FlowRecord] = defaultdict(FlowRecord)

    def start_flow(self, prober: Prober, namespace: Namespace, source: object, destination: object, rate: float) -> int:
        """Begin a flow and return its number."""
        number = next(self._numbers)
        prober.send(number, namespace, source, destination, rate)
        return number

    def read(self) -> None:
        """Take in what the probers have written since the last call."""
        for one in (self.near, self.far, self.side):
            with one.log.open("rb") as log:
                log.seek(self._positions[one.log])
                data = log.read()
            whole = len(data) - len(data) % prober.RECORD.size
            self._positions[one.log] += whole
            for flow, sequence, sent_ns, received_ns in prober.RECORD.iter_unpack(data[:whole]):
                record = self.flows[flow]
                if received_ns:
                    record.arrived.append((received_ns / 1e9, sequence))
                    record.reached_until = max(record.reached_until, sent_ns / 1e9)
                else:
                    record.sent.append((sent_ns / 1e9, sequence))

    def have_reached(self, flows: tuple[int, ...], moment: float) -> Callable[[], bool]:
        """A condition: of every one of these flows something that was sent after `moment` has arrived."""

        def condition() -> bool:
            self.read()
            return all(self.flows[flow].reached_until > moment for flow in flows)

        return condition


@attrs.frozen
class DownloadResult:
    """What came of a TCP download. `progress`: (time, bytes read up to then); `ended_at`: when the lab ended it.

    A download that did not end by itself stood still until `ended_at`: that is a stall too.
    """

    bytes_read: int
    is_verified: bool
    error: str
    progress: tuple[tuple[float, int], ...]
    ended_at: float

    def longest_stall_s(self, since: float = float("-inf"), until: float = float("inf")) -> float:
        """The longest time between two reads, of those that touch the time between `since` and `until`."""
        times = [moment for moment, _ in self.progress]
        if not self.is_verified:
            times.append(self.ended_at)
        pairs = itertools.pairwise(times)
        return max((after - before for before, after in pairs if after > since and before < until), default=0.0)


class Download:
    """A TCP download from the server to the client's main address, until `finish`."""

    def __init__(
        self,
        sandbox: Sandbox,
        server: Namespace,
        server_address: object,
        client: Namespace,
        source: object,
        rate: float,
    ) -> None:
        directory = sandbox.subdirectory("traffic")
        self._log = directory / f"download-{source}.progress".replace(":", "-")
        self._log.touch()
        errors = directory / "download.log"
        serve = [sys.executable, "-m", "roamroute.lab.download", "serve", str(DOWNLOAD_PORT), str(rate)]
        self._server: Process = server.start(*serve, log=errors, stdin=subprocess.PIPE)
        listening = f":{DOWNLOAD_PORT} "
        wait_until(lambda: listening in server.run("ss", "-Htln"), "the download server listens", 10.0)
        fetch = ["fetch", str(source), str(server_address), str(DOWNLOAD_PORT), str(self._log)]
        self._client: Process = client.start(
            sys.executable, "-m", "roamroute.lab.download", *fetch, log=errors, stdout=subprocess.PIPE
        )
        self._sandbox = sandbox

    def has_begun(self) -> bool:
        return self._log.stat().st_size > 0

    def finish(self, limit_s: float = DOWNLOAD_END_LIMIT_S) -> DownloadResult:
        """End the download and verify it; what has not come to its end after `limit_s` is not right."""
        ended_at = time.monotonic()
        assert self._server.stdin is not None
        self._server.stdin.close()
        is_verified, error = False, f"did not end within {limit_s:g} s"
        try:
            said, _ = self._client.communicate(timeout=limit_s)
            answer = json.loads(said or b'{"is_verified": false, "error": "the client said nothing"}')
            is_verified, error = answer["is_verified"], answer["error"]
        except subprocess.TimeoutExpired:
            pass
        self._sandbox.stop(self._client, self._server)
        progress = tuple((moment / 1e9, total) for moment, total in download.RECORD.iter_unpack(self._log.read_bytes()))
        return DownloadResult(progress[-1][1] if progress else 0, is_verified, error, progress, ended_at)
