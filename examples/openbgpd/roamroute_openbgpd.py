"""roamroute's exporter for OpenBGPD: each host route is a network that `bgpctl` adds to a running bgpd or deletes.

The kernel exporter installs the route that the access point itself forwards by; bgpd tells it to its neighbours. Every
host route inside the roaming prefixes that bgpd originates is taken to be ours. Tried with OpenBGPD 7.7.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import attrs

from roamroute.adapter.ledger import Ledger
from roamroute.adapter.problems import watch
from roamroute.adapter.reconnect import reconnect
from roamroute.adapter.settings import Check, read_table, texts
from roamroute.delta import Delta
from roamroute.errors import DaemonGone, DaemonRefused, MalformedInput
from roamroute.export import Exporter, ExporterContext, ExporterSpec, ExportReport, FibNeeds, Finding, Problem
from roamroute.values import Address, HostRoute, Seconds

ANSWER_LIMIT_S: Seconds = 3.0
"""bgpctl answers within 2 ms; it waits for ever when bgpd does not read."""
LOOK_S: Seconds = 1.0
"""How soon a bgpd that was restarted, with none of our networks, is noticed."""
CONFIRMATION_S: Seconds = 3.0
REMEDY = "see `bgpctl show` and bgpd's log; is it running, and is exporters.openbgpd.command right?"


@attrs.frozen
class Settings:
    """`[exporters.openbgpd]`. `command`: bgpctl, with a socket perhaps: ["bgpctl", "-s", "/run/mine.sock"]."""

    command: tuple[str, ...] = ("bgpctl",)


_CHECKS: Mapping[str, Check] = {"command": texts('a command in parts such as ["bgpctl", "-s", "/run/bgpd.sock"]')}


def parse(table: Mapping[str, Any]) -> Settings:
    """Check the table. Raises: ConfigError."""
    return Settings(**read_table("openbgpd", table, _CHECKS))


async def bgpctl(settings: Settings, *arguments: str, given: str = "") -> str:
    """Run bgpctl once and return what it prints. Raises: DaemonGone, DaemonRefused, with bgpctl's own words."""
    name, process = " ".join(settings.command), None
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            process = await asyncio.create_subprocess_exec(
                *settings.command, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
            )
            printed, complaint = await process.communicate(given.encode())
    except OSError as error:
        raise DaemonGone(f"{name} cannot be run: {error.strerror} (apt-get install openbgpd)") from None
    except TimeoutError:
        raise DaemonGone(f"{name}: bgpd has not answered for {ANSWER_LIMIT_S:g} s") from None
    finally:
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has started, too: `sudo bgpctl` holds our pipes
            await process.wait()
    if process.returncode:
        words = complaint.decode(errors="replace").strip().replace("\n", "; ")
        if "connect:" in words:
            raise DaemonGone(f"bgpd cannot be reached: {words}")
        raise DaemonRefused(f"bgpd refused {' '.join(arguments)!r}: {words}")
    return printed.decode(errors="replace")


class OpenbgpdExporter:
    """See `roamroute.export.Exporter` for the contract of the methods."""

    def __init__(self, settings: Settings, context: ExporterContext) -> None:
        self._settings = settings
        self._context = context
        self._ledger = Ledger(context)
        self._turn = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._originated: set[Address] = set()
        """What bgpd announces of ours, as far as we know."""
        self._is_whole = False
        """Whether all that is wanted has been told; until then nothing of an earlier run is taken away."""
        self._is_connected = False
        self._trouble = "bgpd has not been asked yet"
        self._refusal = ""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(watch("openbgpd", self._context, self._problems))
            group.create_task(reconnect(self._follow, self._lost))

    def needs(self) -> FibNeeds:
        return FibNeeds()

    def may_delete(self, route: HostRoute) -> bool:
        return True

    async def publish(self, delta: Delta) -> None:
        self._ledger.publish(delta)
        async with self._turn:
            await self._change({route.address for route in (*delta.announced, *delta.withdrawn)})
        self._stirred.set()

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        self._ledger.publish_all(wanted)
        self._is_whole = True
        async with self._turn:
            await self._mend()

    def report(self) -> ExportReport:
        exported = self._ledger.exported if self._is_connected else None
        return ExportReport(self._is_connected, "OpenBGPD", exported, tuple(self._problems()))

    async def close(self) -> None:
        """Nothing is open: each bgpctl ends by itself, or is ended."""

    # what bgpd has

    async def _follow(self) -> None:
        while True:
            self._stirred.clear()
            async with self._turn:
                await self._mend()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), LOOK_S)

    async def _mend(self) -> None:
        """Look, and change what is not as it is wanted."""
        await self._look()
        if self._is_whole and self._originated != self._ledger.wanted.keys():
            await self._change(self._originated ^ self._ledger.wanted.keys())
            await self._look()

    async def _look(self) -> None:
        originated: set[Address] = set()
        exported: set[Address] = set()
        foreign: dict[Address, str] = {}
        for roaming in self._context.prefixes:
            for entry in await self._rib(str(roaming)):
                prefix, neighbour = ip_network(entry["prefix"]), entry["neighbor"]
                if not self._ledger.is_roaming(prefix):
                    continue
                if neighbour.get("description") != "LOCAL":
                    foreign[prefix.network_address] = f"BGP neighbour {neighbour.get('remote_addr')}"
                    continue
                originated.add(prefix.network_address)
                if entry.get("best"):
                    exported.add(prefix.network_address)
        self._originated = originated
        self._ledger.heard_exactly("bgpd", foreign)
        is_news = self._ledger.confirm_exactly(exported) or not self._is_connected
        self._is_connected, self._trouble = True, ""
        if is_news:
            self._context.changed()

    async def _rib(self, prefix: str) -> list[dict[str, Any]]:
        printed = await bgpctl(self._settings, "-j", "show", "rib", prefix, "or-longer")
        try:
            entries: list[dict[str, Any]] = json.loads(printed).get("rib", [])
        except ValueError as error:
            raise MalformedInput(f"bgpctl printed no JSON: {error}") from None
        return entries

    async def _change(self, addresses: set[Address]) -> None:
        """Let bgpd have those of the addresses that are wanted, and no others of them."""
        new = addresses & self._ledger.wanted.keys() - self._originated
        gone = addresses & self._originated - self._ledger.wanted.keys()
        try:
            # A weight is not sent: it lets our own network win over another router's while both announce the host.
            await self._bulk(("weight", "100", "add"), new)
            self._originated |= new
            await self._bulk(("delete",), gone)
            self._originated -= gone
        except DaemonRefused as error:
            self._refusal = str(error)
            self._context.changed()
            raise
        self._refusal = ""

    async def _bulk(self, what: tuple[str, ...], addresses: set[Address]) -> None:
        if addresses:
            lines = "".join(f"{ip_network(address)}\n" for address in addresses)
            await bgpctl(self._settings, "network", "bulk", *what, given=lines)

    def _lost(self, why: str) -> None:
        if self._is_connected:
            self._context.log("warning", why)
        self._is_connected, self._trouble = False, why
        self._originated = set()
        self._ledger.confirm_exactly(())
        self._context.changed()

    def _problems(self) -> Iterable[Problem]:
        if not self._is_connected:
            yield Problem(self._trouble, REMEDY, len(self._ledger.wanted))
        elif missing := self._ledger.missing(0 if self._refusal else CONFIRMATION_S):
            yield Problem(self._refusal or f"bgpd does not prefer our route for {missing[0]}", REMEDY, len(missing))


def config(_settings: Settings, context: ExporterContext) -> str:
    """The rules that bgpd.conf needs, where the mesh is iBGP."""
    rules = [f"prefix {prefix} prefixlen = {prefix.max_prefixlen}" for prefix in context.prefixes]
    return "".join(f"allow {way} ibgp {rule}\n" for rule in rules for way in ("from", "to"))


async def check(settings: Settings, _context: ExporterContext) -> Iterable[Finding]:
    """Is bgpd there, and has it neighbours?"""
    try:
        neighbours = json.loads(await bgpctl(settings, "-j", "show", "summary")).get("neighbors", [])
    except (DaemonGone, DaemonRefused, ValueError) as error:
        return [Finding("error", "bgpd", str(error), "apt-get install openbgpd; start it; roamroute runs as root")]
    if any(neighbour["state"] == "Established" for neighbour in neighbours):
        return [Finding("ok", "bgpd", "answers, and has a neighbour")]
    return [Finding("warning", "bgpd", "no neighbour is connected", "bgpctl show neighbor tells why")]


def _create(settings: Settings, context: ExporterContext) -> Exporter:
    return OpenbgpdExporter(settings, context)


SPEC = ExporterSpec(name="openbgpd", parse=parse, create=_create, config=config, check=check)
