"""Mode "inject": our host routes are static routes of FRR, which installs them; nothing of ours is in the kernel.

They are typed into a vtysh that speaks to one daemon only: mgmtd where FRR has one (from 9), else staticd. FRR compares
its whole configuration at each commit (with 5,000 static routes 0.15 s in 8.4.4, 0.4 s in 10.3), so all that is to be
changed goes into one commit: staticd's between the marks that vtysh itself sends around a file, mgmtd's by a lock and
`mgmt commit apply`. (In FRR 9 and later those marks, sent to all daemons, make OSPF drop hellos; not so here.) Nothing
is ever written to the startup configuration.

A removal is by prefix and interface, whatever the tag (8.4.4, 10.3), and the tag is the destination's, not one way's:
an address for which an operator has a static route of his own is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

import attrs

from roamroute.adapter.upkeep import Upkeep
from roamroute.delta import Delta
from roamroute.errors import DaemonGone, DaemonRefused, MalformedInput
from roamroute.export import ExporterContext, Problem
from roamroute.values import Address, HostRoute, Seconds
from roamroute_frr import answers
from roamroute_frr.confirmation import TAG
from roamroute_frr.settings import Settings
from roamroute_frr.vtysh import FrrRefused, Shell, Vtysh, refusal

BATCH = 400
"""Lines of a kind in one commit: some 0.4 s of typing, after which what has become urgent goes first."""
VERIFICATIONS = 8
"""mgmtd (10.3) drops what one session has typed and not committed when any other session ends, and says nothing."""
LINE_LIMIT_S: Seconds = 10.0
"""For one line; a commit with 5,000 routes on a small router takes seconds."""
_MARKS = {
    "staticd": (("configure terminal", "XFRR_start_configuration"), ("XFRR_end_configuration", "end")),
    "mgmtd": (("configure terminal file-lock",), ("mgmt commit apply", "end")),
}
_NOT_THERE = "Refusing to remove a non-existent route"
_LINK = re.compile(r"[A-Za-z0-9_.:@+-]{1,15}")


@attrs.frozen
class Change:
    """One line for FRR."""

    route: HostRoute
    is_removal: bool = False

    @property
    def line(self) -> str:
        address = self.route.address
        word = "ipv6" if address.version == 6 else "ip"
        line = f"{word} route {address}/{address.max_prefixlen} {self.route.link} tag {TAG}"
        return f"no {line}" if self.is_removal else line


class CommitRefused(FrrRefused):
    """FRR took every line and none of them in the end."""


class Injector:
    """Keeps FRR's static routes in step with what is wanted; works in a task of its own, also when nobody runs.

    `in_zebra` gives the static host routes that zebra has. Some are in no configuration any more: after a restart of
    mgmtd staticd goes on with them; a killed zebra leaves them in the kernel, and the next one takes them for its own,
    without their tag (10.3). They are removed by being configured again first.
    """

    def __init__(
        self,
        settings: Settings,
        context: ExporterContext,
        in_zebra: Callable[[], Awaitable[frozenset[HostRoute]]],
        *,
        connect: Callable[[Sequence[str], str], Shell] = Vtysh,
    ) -> None:
        self._settings = settings
        self._context = context
        self._in_zebra = in_zebra
        self._connect = connect
        self._shell: Shell | None = None
        self._daemon = ""
        self._breaks = 0
        self._wanted: dict[Address, HostRoute] | None = None
        self._present: set[HostRoute] = set()
        """Our static routes as FRR has them."""
        self._must_read = True
        """What FRR has is not known any more."""
        self._must_verify = False
        """mgmtd's configuration has been changed, and perhaps not by all that we have typed."""
        self._taken: frozenset[Address] = frozenset()
        """For which an operator has a static route: one tag is for all of a destination, his would become ours."""
        self._refused: dict[HostRoute, str] = {}
        """What FRR would not take, and why; tried again by `again`."""
        self._limit = BATCH
        self._upkeep = Upkeep(self._work)

    # what is wanted

    def change(self, delta: Delta) -> None:
        """Take a change. Raises: DaemonRefused for an interface that FRR cannot be told."""
        wanted = dict(self._wanted or {})
        for route in delta.withdrawn:
            if wanted.get(route.address) == route:
                del wanted[route.address]
        for route in delta.announced:
            wanted[route.address] = _typeable(route)
        self._want(wanted, is_all=False)

    def replace(self, routes: Iterable[HostRoute]) -> None:
        """Take the whole set. Raises as `change`."""
        self._want({route.address: _typeable(route) for route in routes}, is_all=True)

    def _want(self, wanted: dict[Address, HostRoute], *, is_all: bool) -> None:
        if wanted != self._wanted or self.has_failed or (is_all and self._refused):
            self._wanted = wanted
            self.again(is_forgetful=self.has_failed)

    def again(self, *, is_forgetful: bool = False) -> None:
        """Compare once more; `is_forgetful`: with what FRR says now, not with what is remembered."""
        if self._wanted is None:
            return
        self._must_read = self._must_read or is_forgetful
        self._refused.clear()
        self._upkeep.again()

    async def settled(self, limit_s: Seconds) -> None:
        """Wait until FRR has what is wanted at this moment; returns when the limit is over, the work goes on.

        Raises: DaemonRefused, DaemonGone when it failed.
        """
        await self._upkeep.settled(limit_s)

    @property
    def has_failed(self) -> bool:
        return self._upkeep.failure is not None

    @property
    def is_busy(self) -> bool:
        return self._upkeep.is_busy

    # the work

    async def _work(self) -> None:
        try:
            for _ in range(VERIFICATIONS):
                has_committed = False
                while await self._work_once():
                    has_committed = True
                if not has_committed or self._daemon != "mgmtd":
                    break
                self._must_verify = True
        except (DaemonRefused, DaemonGone, MalformedInput):
            self._must_read = True
            raise
        if self._refused:
            route, words = next(iter(self._refused.items()))
            raise FrrRefused(Change(route).line, words)

    async def _work_once(self) -> bool:
        """Make one commit; False when there was nothing to do.

        Raises: DaemonRefused; DaemonGone; MalformedInput.
        """
        shell = await self._connected()
        if self._must_read or self._must_verify or shell.breaks != self._breaks:
            is_thorough = self._must_read or shell.breaks != self._breaks
            self._must_read = self._must_verify = False
            self._present = await self._read(shell, is_thorough=is_thorough)
            self._breaks = shell.breaks
        changes = self._difference(self._present)
        if not changes:
            return False
        try:
            refused = await self._commit(shell, changes)
        except CommitRefused as error:
            if len(changes) > 1:
                self._limit = max(1, len(changes) // 4)  # to find the one that FRR does not like
                return True
            refused = {changes[0]: error.words}
        self._limit = min(BATCH, 2 * self._limit)
        for change in changes:
            words = refused.get(change)
            if words is None:
                (self._present.discard if change.is_removal else self._present.add)(change.route)
            elif change.is_removal and _NOT_THERE in words:
                await self._remove_ghost(shell, change.route)
                self._present.discard(change.route)
            elif change.is_removal:
                raise FrrRefused(change.line, words)
            else:
                self._refused[change.route] = words
        return True

    def _difference(self, present: set[HostRoute]) -> list[Change]:
        wanted = self._wanted or {}
        add = [
            Change(route)
            for route in reversed(wanted.values())
            if route not in present and route not in self._refused and route.address not in self._taken
        ][: self._limit]
        moved = {change.route.address for change in add}
        remove = [Change(route, is_removal=True) for route in present if wanted.get(route.address) != route]
        # A route that moves to another link loses the old one in the same commit: both at once would share the traffic.
        remove.sort(key=lambda change: change.route.address not in moved)
        return [*add, *remove[: self._limit]]

    async def _connected(self) -> Shell:
        if self._shell is not None:
            return self._shell
        all_daemons = self._connect(self._settings.command, "")
        try:
            running = answers.daemons(await all_daemons.ask("show daemons"))
        finally:
            await all_daemons.close()
        self._daemon = "mgmtd" if "mgmtd" in running else "staticd"
        if not running & {"mgmtd", "staticd"}:
            raise FrrRefused("show daemons", "staticd is not running")
        self._shell = self._connect(self._settings.command, self._daemon)
        return self._shell

    async def _read(self, shell: Shell, *, is_thorough: bool) -> set[HostRoute]:
        """Our static routes by FRR's configuration, and by zebra's table if that is asked for; notes operators' ones.

        What has our tag is ours, also over a link or of a prefix that roams no longer.
        """
        ours: set[HostRoute] = set()
        others: set[HostRoute] = set()
        for static in answers.statics(await shell.ask("show running-config", limit_s=LINE_LIMIT_S)):
            is_ours = static.tag == TAG and bool(static.link)
            (ours if is_ours else others).add(HostRoute(static.prefix.network_address, static.link))
        self._taken = frozenset(route.address for route in others)
        if not is_thorough:
            return ours
        wanted = set((self._wanted or {}).values())
        return ours | {route for route in await self._left_over() if route not in others and route not in wanted}

    async def _left_over(self) -> frozenset[HostRoute]:
        try:
            found = await self._in_zebra()
        except (DaemonRefused, DaemonGone, MalformedInput):
            return frozenset()  # a zebra that does not answer is the confirmation's trouble
        links = self._context.interfaces
        return frozenset(route for route in found if route.link in links and self._is_roaming(route.address))

    def _is_roaming(self, address: Address) -> bool:
        return any(address.version == prefix.version and address in prefix for prefix in self._context.prefixes)

    async def _commit(self, shell: Shell, changes: Sequence[Change]) -> Mapping[Change, str]:
        """Type the changes as one commit; what FRR refused of them, with its words.

        Raises: FrrRefused when FRR refuses all of it, because the configuration is locked, say; DaemonGone.
        """
        if not shell.is_kept_open:
            return await self._commit_one_by_one(shell, changes)
        opening, closing = _MARKS[self._daemon]
        breaks = shell.breaks
        try:
            for line, answer in zip(opening, await shell.type_all(opening, limit_s=LINE_LIMIT_S), strict=True):
                if words := refusal(answer):
                    raise FrrRefused(line, words)
            texts = await shell.type_all([*(change.line for change in changes), *closing], limit_s=LINE_LIMIT_S)
        except FrrRefused:
            await shell.type_all(("end",))
            raise
        for line, answer in zip(closing, texts[len(changes) :], strict=True):
            if words := refusal(answer):
                await shell.type_all(("end",))
                raise CommitRefused(line, words)
        refused = {change: words for change, text in zip(changes, texts, strict=False) if (words := refusal(text))}
        if refused and shell.breaks != breaks:
            # A daemon came back in the middle; this session's state is not the daemon's any more.
            await self._disconnect()
            raise DaemonGone(f"{self._daemon} was restarted in the middle of a change")
        return refused

    async def _commit_one_by_one(self, shell: Shell, changes: Sequence[Change]) -> Mapping[Change, str]:
        refused = {}
        for change in changes:
            (text,) = await shell.type_all(("configure terminal", change.line, "end"))
            if words := refusal(text):
                refused[change] = words
        return refused

    async def _remove_ghost(self, shell: Shell, route: HostRoute) -> None:
        """Remove what staticd has and the configuration has not: put it in, then take it out."""
        if route not in await self._left_over():
            return
        await self._commit(shell, [Change(route)])
        await self._commit(shell, [Change(route, is_removal=True)])

    # what is told

    def problems(self, routes: int) -> Iterator[Problem]:
        """What keeps FRR from taking the routes."""
        match self._upkeep.failure:
            case FrrRefused() as error if "lock" in error.words:
                text = f"{error} (somebody else is configuring FRR)"
                remedy = "end the other configuration session, or wait; if there is none, systemctl restart frr"
                yield Problem(text, remedy, routes)
            case FrrRefused() as error if "not running" in error.words:
                yield Problem(str(error), "let FRR run staticd (and mgmtd, from FRR 9): /etc/frr/daemons", routes)
            case FrrRefused() as error:
                concerned = len(self._refused) or routes
                yield Problem(str(error), 'see what vtysh says to this line, or use mode = "kernel"', concerned)
            case DaemonGone() as error:
                yield Problem(str(error), "systemctl status frr: is it busy, stopped, or restarting?", routes)
            case _:
                pass
        if self._wanted is not None and (taken := self._taken & self._wanted.keys()):
            text = f"a static route of yours for {min(map(str, taken))} is in the way of ours"
            yield Problem(text, 'remove it (vtysh -c "show running-config")', len(taken))

    async def close(self) -> None:
        """End the work. What FRR has stays."""
        await self._upkeep.close()
        await self._disconnect()

    async def _disconnect(self) -> None:
        shell, self._shell = self._shell, None
        self._must_read = True
        if shell is not None:
            await shell.close()


def _typeable(route: HostRoute) -> HostRoute:
    if _LINK.fullmatch(route.link) is None or route.link in answers.RESERVED:
        raise DaemonRefused(f'FRR cannot be told of an interface called "{route.link}"')
    return route
