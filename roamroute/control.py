"""The control socket: what `status`, `watch` and `drain` say to the daemon, and what it answers.

A UNIX stream socket, mode 0600. The client sends one line of JSON, `{"command": "status" | "watch" | "drain" |
"resume"}`, and gets one line of JSON back; after `watch`, one line for each event and effect until either side closes.
The forms are documented in docs/json.md and are stable: fields may be added, none changes its meaning.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from roamroute import __version__
from roamroute.errors import DaemonGone, DaemonRefused, MachineUnfit
from roamroute.logs import fields_of, line_of, name_of
from roamroute.values import Instant, Seconds

if TYPE_CHECKING:
    from roamroute.daemon import Daemon
    from roamroute.peering import Peering

_REQUEST_BYTES = 4096
_REQUEST_LIMIT_S: Seconds = 5.0
_CLIENTS = 16
_WATCH_QUEUE = 4096  # lines that a slow `watch` may lag behind; then lines are dropped and counted


async def serve(daemon: Daemon, path: Path) -> None:
    """Serve the control socket until cancelled; removes it at the end.

    Raises: MachineUnfit when the path cannot be used, or another roamroute answers there.
    """
    _make_room(path)
    clients = 0

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal clients
        clients += 1
        try:
            if clients > _CLIENTS:
                await _send(writer, {"error": f"more than {_CLIENTS} control connections"})
            else:
                await _serve_client(daemon, reader, writer)
        except (ConnectionError, TimeoutError):
            pass  # the client went away, or does not read
        finally:
            clients -= 1
            writer.close()

    old_mask = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(session, path=path, limit=_REQUEST_BYTES)
    except OSError as error:
        raise MachineUnfit(f"cannot listen on {path}: {error.strerror} (see [control] socket)") from None
    finally:
        os.umask(old_mask)
    daemon.control_opened()
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _make_room(path: Path) -> None:
    """Make the directory; remove the socket of a daemon that was killed, but not of one that lives."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise MachineUnfit(f"cannot make {path.parent}: {error.strerror} (see [control] socket)") from None
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise MachineUnfit(f"cannot use {path}: {error.strerror} (see [control] socket)") from None
            _remove(path)
            return
    raise MachineUnfit(f"another roamroute is running and answers at {path} (stop it, or set [control] socket)")


async def _serve_client(daemon: Daemon, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_REQUEST_LIMIT_S):
            line = await reader.readline()
        request = json.loads(line)
        command = request["command"]
    except (ValueError, KeyError, TypeError):
        await _send(writer, {"error": 'expected one line such as {"command": "status"}'})
        return
    match command:
        case "status":
            await _send(writer, status_of(daemon))
        case "watch":
            await _watch(daemon, reader, writer)
        case "drain":
            daemon.drain()
            await _send(writer, {"is_drained": True})
        case "resume":
            daemon.resume()
            await _send(writer, {"is_drained": False})
        case _:
            await _send(writer, {"error": f"unknown command {command!r}: status, watch, drain or resume"})


async def _send(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    async with asyncio.timeout(_REQUEST_LIMIT_S):
        await writer.drain()


async def _watch(daemon: Daemon, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WATCH_QUEUE)
    dropped = 0

    def observer(kind: str, value: Any) -> None:
        nonlocal dropped
        if queue.full():
            dropped += 1
            return
        if kind == "handover":
            queue.put_nowait({"kind": kind, **value})
            return
        queue.put_nowait(
            {"time": time.time(), "kind": kind, "name": name_of(value), **fields_of(value), "line": line_of(value)}
        )

    end = daemon.observe(observer)
    closed = asyncio.create_task(reader.read(1))
    try:
        await _send(writer, {"kind": "start", "version": __version__})
        while True:
            getting = asyncio.create_task(queue.get())
            done, _ = await asyncio.wait([getting, closed], return_when=asyncio.FIRST_COMPLETED)
            if getting not in done:
                getting.cancel()
                return
            if dropped:
                await _send(writer, {"kind": "dropped", "count": dropped})
                dropped = 0
            await _send(writer, getting.result())
    finally:
        end()
        closed.cancel()


# -- status ---------------------------------------------------------------------------------------------------------


def status_of(daemon: Daemon) -> dict[str, Any]:
    """The answer to `status`; see docs/json.md."""
    now = time.monotonic()
    report = daemon.exporter.report()
    exported = report.exported
    installed = daemon.installed
    segments = set() if daemon.peering is None else {route.address for route in daemon.peering.routes}
    hosts = []
    for host in daemon.engine.hosts.values():
        addresses = [
            {
                "address": str(entry.address),
                "link": entry.link,
                "nud": entry.nud.name.lower(),
                "is_wanted": entry.address in daemon.engine.wanted,
                "is_installed": None if installed is None else entry.address in installed,
                "is_exported": None if exported is None else entry.address in exported,
                "age_s": round(now - entry.since, 3),
                "confirmed_ago_s": _ago(now, entry.confirmed_at),
            }
            for entry in host.entries.values()
        ]
        hosts.append(
            {
                "mac": host.mac,
                "station_link": host.station_link,
                "sequence": host.sequence,
                "holder": None if host.holder is None else str(host.holder),
                "seen_ago_s": round(now - host.seen_at, 3),
                "addresses": addresses,
                "remembered": [str(address) for address in host.binding if address not in host.entries],
            }
        )
    return {
        "version": __version__,
        "uptime_s": round(now - daemon.started_at, 3),
        "is_synced": daemon.is_synced,
        "is_drained": daemon.engine.is_drained,
        "hosts": hosts,
        "routes": {
            "wanted": len(daemon.engine.wanted),
            "installed": None if installed is None else sum(address not in segments for address in installed),
            "exported": None if exported is None else len(exported & set(daemon.engine.wanted)),
            "parked": len(daemon.fib.parked),
            "foreign": len(daemon.engine.foreign),
            "refused": {str(address): why for address, why in daemon.fib.refused.items()},
        },
        "exporter": {
            "name": daemon.config.roaming.exporter,
            "daemon": report.daemon,
            "is_connected": report.is_connected,
            "problems": [attrs.asdict(problem) for problem in report.problems],
        },
        "neighbour_table": daemon.neighbours.watch.status(),
        "stations": {
            "source": daemon.config.stations.source,
            "bss": [] if daemon.hostapd is None else [attrs.asdict(bss) for bss in daemon.hostapd.status()],
        },
        "peers": None if daemon.peering is None else _peers_status(daemon.peering, now),
        "handover": None if daemon.peering is None else _handover_status(daemon, daemon.peering, now),
        "handovers": [] if daemon.peering is None else daemon.peering.records(),
        **_discovery_status(daemon, now),
        "counters": {"netlink_losses": daemon.neighbours.lost_messages, **dict(daemon.onlookers.counters)},
    }


def _ago(now: Instant, then: Instant | None) -> float | None:
    return None if then is None else round(now - then, 3)


def _peers_status(peering: Peering, now: Instant) -> dict[str, Any]:
    status = peering.channel.status()
    return {
        "is_bound": status.is_bound,
        "claims_outstanding": status.claims_outstanding,
        "counters": dict(status.counters),
        "peers": [
            {
                "peer": str(peer.peer),
                "is_up": peer.is_up,
                "since_s": round(now - peer.since, 3),
                "heard_ago_s": _ago(now, peer.heard),
                "rtt_ms": None if peer.rtt_s is None else round(1000 * peer.rtt_s, 3),
                "restarts": peer.restarts,
                "sent": peer.sent,
                "received": peer.received,
                "forged": peer.forged,
                "has_own_key": peer.has_own_key,
                "capabilities": list(peer.capabilities),
                "hints_held": peer.hints_held,
                "hints_unacknowledged": peer.hints_unacknowledged,
                "segments": [
                    {"segment": str(segment), "is_routed": segment in peering.routed_segments}
                    for segment in peering.segments_of(peer.peer)
                ],
            }
            for peer in status.peers
        ],
    }


def _handover_status(daemon: Daemon, peering: Peering, now: Instant) -> dict[str, Any]:
    engine, forwarding = daemon.engine, peering.forwarding
    kernel = None if forwarding is None else forwarding.status()
    return {
        "is_sharing_hints": peering.handover.is_sharing_hints,
        "hints": sum(host.hinted_by is not None for host in engine.hosts.values()),
        "is_forwarding": peering.why_not is None,
        "why_not": peering.why_not,
        "segments": [str(route.address) for route in peering.routes],
        "forwards": [
            {
                "address": str(forward.address),
                "peer": str(forward.peer),
                "segment": str(forward.segment),
                "is_installed": kernel is not None and kernel.forwards.get(forward.address) == forward.segment,
                "because": forward.because,
            }
            for forward in engine.forwards.values()
        ],
        "lingering": [
            {"address": str(address), "for_s": round(until - now, 3)} for address, until in engine.lingering.items()
        ],
        "oscillating": [{"mac": mac, "for_s": round(until - now, 3)} for mac, until in engine.oscillating.items()],
        "taken": {} if kernel is None else {str(peer): packets for peer, packets in kernel.taken.items()},
        "refused": 0 if kernel is None else kernel.refused,
    }


def _discovery_status(daemon: Daemon, now: Instant) -> dict[str, Any]:
    discovery, section = daemon.discovery, daemon.config.dad
    dad = None if discovery is None else discovery.dad
    advertiser = None if discovery is None else discovery.advertiser
    return {
        "dad": None
        if dad is None
        else {"mode": section.mode, "is_isolated": section.isolated, "counters": attrs.asdict(dad.counters)},
        "ra": None
        if advertiser is None
        else {
            "source": str(advertiser.router.source),
            "lifetime_s": advertiser.lifetime_s,
            "reason": advertiser.reason,
            "prefixes": [str(each.prefix) for each in advertiser.router.prefixes],
            "counters": dict(advertiser.counters),
        },
        "tap": None
        if discovery is None
        else {
            "heard_messages": discovery.tap.heard_messages,
            "malformed_frames": discovery.tap.malformed_frames,
            "dropped_frames": discovery.tap.dropped_frames,
            "muted_stations": discovery.tap.muted_stations,
        },
        "routers": [
            {
                "link": router.link,
                "mac": router.said.mac,
                "source": str(router.said.source),
                "lifetime_s": router.said.lifetime_s,
                "is_managed": router.said.is_managed,
                "is_other": router.said.is_other,
                "prefixes": [fields_of(prefix) for prefix in router.said.prefixes],
                "age_s": round(now - router.heard_at, 3),
            }
            for router in (() if discovery is None else discovery.other_routers.current(now))
        ],
    }


# -- the client's side ----------------------------------------------------------------------------------------------


def ask(path: Path, command: str, limit_s: Seconds = 10.0) -> dict[str, Any]:
    """Send one command and return the answer.

    Raises: DaemonGone when nobody answers at `path`, DaemonRefused when the daemon says no.
    """
    with contextlib.closing(stream(path, command, limit_s)) as answers:
        for answer in answers:
            return answer
    raise DaemonGone(f"the roamroute daemon at {path} closed the connection without an answer")


def stream(path: Path, command: str, limit_s: Seconds | None = None) -> Generator[dict[str, Any]]:
    """Send one command and yield every answer until the daemon closes. Raises as `ask`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(limit_s)
        try:
            client.connect(str(path))
            client.sendall(json.dumps({"command": command}).encode() + b"\n")
            with client.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    if "error" in answer:
                        raise DaemonRefused(f"the roamroute daemon refused {command!r}: {answer['error']}")
                    yield answer
        except TimeoutError:
            raise DaemonGone(f"the roamroute daemon at {path} does not answer within {limit_s or 0:g} s") from None
        except OSError as error:
            hint = "is it running? start it with: roamroute run -c FILE"
            if isinstance(error, PermissionError):
                hint = "only root may use the socket"
            raise DaemonGone(f"no roamroute daemon at {path}: {error.strerror or error} ({hint})") from None
