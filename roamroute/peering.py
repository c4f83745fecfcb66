"""What an access point does together with its peers: the channel, forwarding, and the record of each handover.

Exists only with `[peers]`; nothing of it is loaded else. The engine decides, this performs: synchronously, in the order
that `Daemon` gives, and without waiting for anybody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from roamroute import events
from roamroute.alarm import Alarm
from roamroute.config import Config, PeersSection
from roamroute.delta import Delta, without_lingering
from roamroute.effects import (
    DropClaim,
    Effect,
    EndForward,
    Forward,
    SendAnswer,
    SendClaim,
    ShareHint,
    UnshareHint,
)
from roamroute.engine import Engine
from roamroute.errors import ConfigError
from roamroute.export import FibChange
from roamroute.handovers import Handovers
from roamroute.linux.foreign import ForeignRoutes
from roamroute.linux.forwarding import Forwarding
from roamroute.linux.left_overs import remove_left_overs
from roamroute.logs import key_values, log
from roamroute.peers import PeerChannel, read_keys
from roamroute.policy import Handover
from roamroute.records import STEPS, Record, fields_of, report_of
from roamroute.segments import segment_prefix, segments_of
from roamroute.values import Address, DadMessage, HostRoute, Instant, PeerId, Seconds, Segments

_KEY_LOOK_S: Seconds = 5.0  # one stat(2); an operator who cannot wait sends SIGHUP


class Peering:
    """Opens nothing before `open`.

    `emit` gets every event; `peers_changed` is called when others are peers than before, `forwarding_changed` when
    `handover` and `routes` are others; `finished` gets each handover when it ends, as `fields`; `dad_told` what a peer
    passes on of duplicate address detection, None: we take no part in that.
    Raises: ConfigError when the key file cannot be used.
    """

    def __init__(
        self,
        config: Config,
        section: PeersSection,
        emit: Callable[[events.Event], None],
        peers_changed: Callable[[], None],
        forwarding_changed: Callable[[], None],
        finished: Callable[[Mapping[str, Any]], None],
        dad_told: Callable[[PeerId, DadMessage], None] | None = None,
    ) -> None:
        self._config = config
        self._section = section
        self._emit = emit
        self._peers_changed = peers_changed
        self._tell_forwarding_changed = forwarding_changed
        self._finished = finished
        self._discovered: frozenset[PeerId] = frozenset()
        self._is_open = False
        self.handovers: Handovers | None = None
        self._alarm = Alarm(self._tick)
        self._key_file = _KeyFile(Path(section.key_file))
        roaming, switches = config.roaming, config.handover
        self._segments_within = segment_prefix(roaming.prefixes)
        segments = Segments()
        if switches.forwarding and roaming.interfaces:
            segments = segments_of(section.address, roaming.prefixes)
        self._segments = segments
        self.forwarding: Forwarding | None = None
        if switches.forwarding:
            self.forwarding = Forwarding(
                roaming.prefixes,
                roaming.interfaces,
                section.address,
                segments,
                tables=switches.tables,
                rule_priority=switches.rule_priority,
                numbers=config.kernel.numbers,
                emit=emit,
                log=log,
                changed=self._forwarding_changed,
                limit_s=config.policy.forwarding_limit_s,
            )
            self._segments = self.forwarding.segments
        self._named: dict[PeerId, Segments] = {}
        """The segments that peers have named in their last claims."""
        self.routed_segments: set[Address] = set()
        """The peers' segments to which there is a route."""
        self.channel = PeerChannel(
            section.address,
            section.port,
            self._key_file.read(),
            section.addresses,
            emit,
            log,
            is_router=switches.forwarding and not roaming.interfaces,
            dad_told=dad_told,
        )

    def open(self) -> None:
        """Find out whether packets can be sent on here; what an earlier run left is removed. `handover` and `routes`
        are right from then on."""
        if self.forwarding is None:
            remove_left_overs(self._config.handover.tables, self._config.kernel.numbers, log)
        else:
            self.forwarding.set_peers(self.peers)
            self.forwarding.open()
        self._is_open = True

    @property
    def why_not(self) -> str | None:
        """Why nothing is sent on; None when it is, and before `open`, which finds out."""
        if self.forwarding is None:
            return "switched off by [handover] forwarding = false"
        return self.forwarding.why_not if self._is_open else None

    @property
    def handover(self) -> Handover:
        """What the engine may count on at this moment."""
        is_forwarding = self.why_not is None
        return Handover(
            is_sharing_hints=self._config.handover.hints,
            is_forwarding=is_forwarding,
            is_forwarding_all=is_forwarding,
            segments=self._segments if is_forwarding else Segments(),
        )

    def follow(self, engine: Engine, *, is_exported_told: bool) -> None:
        """Keep records of the handovers that this engine decides."""
        self.handovers = Handovers(
            self._section.address,
            engine.hosts,
            engine.foreign,
            self._config.policy.forwarding_s,
            is_exported_told=is_exported_told,
        )

    @property
    def routes(self) -> tuple[HostRoute, ...]:
        """The routes to our segments: published like those of hosts, and no hosts."""
        if self.why_not is not None:
            return ()
        segments = (self._segments.ipv6, self._segments.ipv4)
        return tuple(HostRoute(each, self._config.roaming.interfaces[0]) for each in segments if each is not None)

    def segments_of(self, peer: PeerId) -> tuple[Address, ...]:
        """Under which addresses a peer takes packets, once it has named them or there is a route to one of them; a
        router without client links has none."""
        found = segments_of(peer, self._config.roaming.prefixes)
        known = tuple(each for each in (found.ipv6, found.ipv4) if each is not None)
        named = self._named.get(peer, Segments())
        return tuple(each for each in known if each in (named.ipv6, named.ipv4) or each in self.routed_segments)

    @property
    def peers(self) -> frozenset[PeerId]:
        """All peers that are known, up or not; without us."""
        return frozenset({*self._section.addresses, *self._discovered}) - {self._section.address}

    @property
    def addresses(self) -> frozenset[Address]:
        """Which addresses are no clients: ours and the peers'."""
        return self.peers | {self._section.address}

    # -- events and effects -----------------------------------------------------------------------------------------

    def is_segment(self, event: events.Event) -> bool:
        """Take a foreign route that leads to a peer's segment; True then: it is no host's."""
        if not isinstance(event, events.ForeignRouteSeen | events.ForeignRouteLost):
            return False
        if self._segments_within is None or event.address not in self._segments_within:
            return False
        if isinstance(event, events.ForeignRouteSeen):
            self.routed_segments.add(event.address)
        else:
            self.routed_segments.discard(event.address)
        return True

    def before(self, event: events.Event, now: Instant) -> None:
        """Note an event, before the engine takes it."""
        match event:
            case events.HostClaimed(claim=claim):
                self._named[claim.peer] = claim.segments
            case events.PeerJoined(peer=peer) | events.PeerLost(peer=peer):
                self._named.pop(peer, None)
            case _:
                pass
        if self.handovers is not None:
            self.handovers.event(event, now)

    def tell(self, effect: SendClaim | SendAnswer | DropClaim | ShareHint | UnshareHint) -> None:
        """Say to the peers what the effect asks for."""
        match effect:
            case SendClaim():
                self.channel.send_claim(effect)
            case SendAnswer():
                self.channel.send_answer(effect)
            case DropClaim():
                self.channel.drop_claim(effect)
            case ShareHint():
                self.channel.share_hint(effect)
            case UnshareHint():
                self.channel.unshare_hint(effect)

    def forward(self, effects: Sequence[Forward | EndForward]) -> None:
        """Send on, or end it, in one batch."""
        if self.forwarding is not None:
            self.forwarding.forward(effects)

    def deliver(self, delta: Delta) -> None:
        """Take packets from the peers for the hosts that are here, not for one whose route only lingers."""
        if self.forwarding is not None:
            self.forwarding.deliver(without_lingering(delta))

    def deliver_all(self, wanted: Iterable[HostRoute]) -> None:
        """As `deliver`, for all of these."""
        if self.forwarding is not None:
            self.forwarding.deliver_all([route for route in wanted if not route.is_lingering])

    def after(self, effects: Sequence[Effect], claimed_at: Instant, done_at: Instant) -> None:
        """Note effects, when they have been performed: the claims, which came first, at `claimed_at`."""
        if self.handovers is None:
            return
        for effect in effects:
            if isinstance(effect, SendClaim):
                self.handovers.effect(effect, claimed_at)
        for effect in effects:
            if not isinstance(effect, SendClaim):
                self.handovers.effect(effect, done_at)
        self.conclude()

    @property
    def is_waiting_for_export(self) -> bool:
        """True while `exported` would be news."""
        return self.handovers is not None and self.handovers.is_waiting_for_export

    @property
    def is_handing_over(self) -> bool:
        """True while a host that has come is not known everywhere."""
        return self.handovers is not None and self.handovers.is_busy

    def exported(self, exported: frozenset[Address]) -> None:
        """Note what the routing daemon confirms."""
        if self.handovers is not None:
            self.handovers.exported(exported, time.monotonic())
            self.conclude()

    def conclude(self) -> None:
        """Tell of the handovers that are finished, and come back when the next one should be."""
        assert self.handovers is not None
        for record in self.handovers.take_finished():
            report = report_of(record)
            if report is not None:
                self.channel.send_report(record.destination, report)
            fields = self.fields(record)
            log("info", fields["line"])
            self._finished(fields)
        self._alarm.set(self.handovers.next_due)

    def _tick(self) -> None:
        if self.handovers is not None:
            self.handovers.tick(time.monotonic())
            self.conclude()

    def records(self) -> list[dict[str, Any]]:
        """All handovers that are open or remembered, the latest first."""
        now = time.monotonic()
        return [{**self.fields(record), "began_ago_s": round(now - record.began, 3)} for record in self.handovers or ()]

    @staticmethod
    def fields(record: Record) -> dict[str, Any]:
        """A record as `status` and `watch` show it; `time` is that of its beginning, in seconds since 1970."""
        fields = fields_of(record)
        steps = {f"{step}_ms": round(1000 * after_s, 1) for step in STEPS if (after_s := record.after(step))}
        told = ("mac", "number", "side", "from", "to", "trigger", "is_hinted", "known_by", "outcome")
        words = key_values({name: fields[name] for name in told} | steps)
        began_ago_s = time.monotonic() - record.began
        return {
            "time": round(time.time() - began_ago_s, 6),
            **fields,
            "line": " ".join(["handover", *words]),
        }

    # -- running ----------------------------------------------------------------------------------------------------

    def parts(self) -> Iterable[tuple[str, Coroutine[Any, Any, None]]]:
        """What is to run, each with its name."""
        yield "peers", self.channel.run()
        yield "keys", self._follow_keys()
        if self.forwarding is not None:
            yield "forwarding", self.forwarding.run()
        if self._section.discover is not None:
            numbers = self._config.kernel.numbers
            discover = ForeignRoutes((self._section.discover,), numbers, self.peers_discovered, log)
            yield "discovery", discover.run()

    def clear(self) -> None:
        """End all forwarding and take nothing any more: for a clean stop."""
        if self.forwarding is not None:
            self.forwarding.clear()

    async def close(self) -> None:
        """Let go of the sockets."""
        self._alarm.cancel()
        if self.forwarding is not None:
            await self.forwarding.close()
        self.channel.close()

    def reread_keys(self) -> None:
        """Use the keys that are in the file now. What cannot be used is told, and the old keys stay."""
        try:
            keys = self._key_file.read()
        except ConfigError as error:
            log("error", f'the old keys are kept because="{error}"')
            return
        self.channel.set_keys(keys)
        log("info", f"keys were read again: {len(keys)}, the first is ours")

    async def _follow_keys(self) -> None:
        while True:
            await asyncio.sleep(_KEY_LOOK_S)
            self.look_at_keys()

    def look_at_keys(self) -> bool:
        """Read the key file again if it is another one than last time; returns whether."""
        has_changed = self._key_file.has_changed()
        if has_changed:
            self.reread_keys()
        return has_changed

    def _forwarding_changed(self) -> None:
        if self._is_open:  # later: this may come from inside of what the engine has asked for
            asyncio.get_running_loop().call_soon(self._tell_forwarding_changed)

    def peers_discovered(self, change: FibChange) -> None:
        """Take the change of what `[peers] discover` finds in the FIB."""
        self._discovered = (self._discovered | frozenset(change.foreign)) - change.lost
        self.channel.set_peers(self.peers)
        if self.forwarding is not None:
            self.forwarding.set_peers(self.peers)
        self._peers_changed()


class _KeyFile:
    """The file, and what it looked like when it was read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._look()

    def read(self) -> Sequence[bytes]:
        """Raises: ConfigError as `read_keys`."""
        self._seen = self._look()
        return read_keys(self._path)

    def has_changed(self) -> bool:
        """Whether it looks different than when it was read last, well or badly."""
        return self._look() != self._seen

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)
