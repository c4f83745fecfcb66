"""The BIRD adapter with the real BIRD of three generations: what it confirms, hears, mends and survives."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from bird_routers import BABEL, IBGP, OSPF, BirdRouter, Pair, pair_of
from generations import BIRD, Generation, parameters
from integration.linux_namespaces import inside
from kernel_routes import installed
from roamroute_bird import SPEC
from roamroute_bird.client import Client
from roamroute_bird.hostsfile import render
from roamroute_bird.settings import Settings

from roamroute.adapter import asking
from roamroute.delta import Delta
from roamroute.errors import DaemonGone, DaemonRefused, KernelRefused, RoamrouteError
from roamroute.events import Event, ForeignRouteLost, ForeignRouteSeen
from roamroute.export import Exporter, ExporterContext, FibChange, KernelNumbers
from roamroute.linux.foreign import ForeignRoutes
from roamroute.testing.exporter_rig import PREFIXES
from roamroute.values import Address, HostRoute, Seconds

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip")]

HOST, OTHER, THIRD = (ip_address(f"fd44:0:0:1::{number}") for number in (71, 72, 73))
HOST4 = ip_address("10.44.0.71")
MARKER = ip_address("fd44:0:0:1::ffff")


def routes(*addresses: Address) -> tuple[HostRoute, ...]:
    return tuple(HostRoute(address, "wlan0") for address in addresses)


def follow_fib(changed: Callable[[FibChange], None]) -> Coroutine[Any, Any, None]:
    """The FIB of the namespace in which the test's thread is."""
    links = ("wlan0", "wlan1")
    return ForeignRoutes(PREFIXES, KernelNumbers(), changed, lambda *_line: None, interfaces=links).run()


class Adapter:
    """One running exporter, and what it said."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.events: list[Event] = []
        self.log: list[str] = []
        context = ExporterContext(
            ("wlan0", "wlan1"),
            PREFIXES,
            KernelNumbers(),
            self.events.append,
            lambda level, line: self.log.append(f"{level} {line}"),
            follow_fib=follow_fib,
        )
        self.exporter: Exporter = SPEC.create(SPEC.parse(table), context)

    async def publish(self, announced: Sequence[Address] = (), withdrawn: Sequence[Address] = ()) -> Seconds:
        """Publish a change; a named error is as good. Returns the time it took."""
        begun = time.monotonic()
        try:
            await self.exporter.publish(Delta(routes(*announced), routes(*withdrawn)))
        except (DaemonGone, DaemonRefused, KernelRefused) as error:
            self.log.append(f"error {error}")
        return time.monotonic() - begun

    async def exports(self, *addresses: Address, within_s: float = 20) -> None:
        wanted = frozenset(addresses)
        await soon(lambda: self.exporter.report().exported == wanted, lambda: self.exporter.report(), within_s)

    async def complains(self, *words: str) -> None:
        """Wait for a problem whose text has all the words."""

        def is_told() -> bool:
            return any(all(word in problem.text for word in words) for problem in self.exporter.report().problems)

        await soon(is_told, lambda: self.exporter.report())
        assert all(problem.remedy for problem in self.exporter.report().problems)

    async def is_content(self) -> None:
        await soon(lambda: not self.exporter.report().problems, lambda: self.exporter.report())


async def soon(is_so: Callable[[], bool], otherwise: Callable[[], object], within_s: float = 20) -> None:
    until = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < until, otherwise()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def adapter(router: BirdRouter, **table: Any) -> AsyncIterator[Adapter]:
    """The exporter for this router's BIRD, running in its namespace."""
    if table.get("mode") == "inject":
        table.setdefault("include", str(router.include))
    if "command" not in table:
        table.setdefault("socket", str(router.socket))
    with inside(router.namespace):
        one = Adapter(table)
        running = asyncio.create_task(one.exporter.run())
        try:
            yield one
            assert not running.done(), "run() ended by itself"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await one.exporter.close()


async def is_installed(router: BirdRouter, address: Address) -> None:
    """Wait until BIRD has put the host route into the kernel; well before its own scan would."""
    await soon(lambda: address in installed(router.namespace, "bird"), lambda: router.ask("show route"), 5)


async def reaches(router: BirdRouter, address: Address, way: str) -> None:
    """Wait until the kernel of a router reaches the address by this interface ("": not at all)."""
    await soon(lambda: router.way_to(address) == way, lambda: f"{address}: {router.way_to(address)!r}, wanted {way!r}")


@pytest.fixture(scope="module", params=parameters(BIRD))
def generation(request: pytest.FixtureRequest) -> Generation:
    one: Generation = request.param
    return one


@pytest.fixture(scope="module")
def babel(generation: Generation) -> Iterator[Pair]:
    """Both routers with Babel, for tests that leave them as they found them."""
    with pair_of(generation) as pair:
        pair.start()
        yield pair


@pytest.fixture
def pair(babel: Pair) -> Iterator[Pair]:
    babel.flush()
    babel.here.include.write_text(render({6: {}, 4: {}}))  # as an earlier run leaves it
    babel.here.configure()
    yield babel
    babel.here.signal(signal.SIGCONT)


# -- mode "kernel"


@pytest.mark.parametrize("routing", [BABEL, OSPF, IBGP], ids=["babel", "ospf", "ibgp"])
async def test_what_is_confirmed_is_on_the_neighbour_whatever_else_it_announces(
    generation: Generation, routing: str
) -> None:
    hosts = (HOST,) if routing == OSPF else (HOST, HOST4)
    with pair_of(generation, routing) as pair:
        pair.start()
        pair.there.hold(*hosts)
        for host in hosts:
            await reaches(pair.here, host, "e0")
        async with adapter(pair.here) as ap:
            pair.here.hold(*hosts)
            await ap.publish(hosts)
            await ap.exports(*hosts)
            for host in hosts:
                assert pair.here.way_to(host) == "wlan0"
            await soon(
                lambda: {e.address for e in ap.events if isinstance(e, ForeignRouteSeen)} == {*hosts}, lambda: ap.events
            )
            pair.there.leave(*hosts)  # its own route was best there: it sees ours only now
            for host in hosts:
                await reaches(pair.there, host, "e0")
            await soon(
                lambda: {e.address for e in ap.events if isinstance(e, ForeignRouteLost)} == {*hosts}, lambda: ap.events
            )
            pair.here.leave(*hosts)
            await ap.publish((), hosts)
            await ap.exports()
            for host in hosts:
                await reaches(pair.there, host, "")


async def test_five_thousand_routes_at_once_are_all_confirmed_though_bird_loses_notifications(
    generation: Generation,
) -> None:
    hosts = [ip_address(f"fd44:0:0:1::1:{number:x}") for number in range(5000)]
    with pair_of(generation) as pair:
        pair.start()
        async with adapter(pair.here) as ap:
            pair.here.hold(*hosts)
            await ap.publish(hosts)
            await ap.exports(*hosts)
            begun = time.monotonic()
            pair.here.hold(HOST)
            await ap.publish([HOST])
            await ap.exports(*hosts, HOST)
            assert time.monotonic() - begun < 2
            await ap.is_content()


async def test_a_route_that_bird_does_not_export_is_a_problem_with_the_reason(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "CONFIRMATION_S", 1.0)
    here = pair.here
    pair.there.hold(HOST)
    await reaches(here, HOST, "e0")
    async with adapter(here) as ap:
        here.hold(HOST)
        await ap.publish([HOST])
        await ap.exports(HOST)
        for broken, words in (
            (here.text.replace("preference = 250; ", ""), ("prefers the route of babel1", str(HOST))),
            (here.text.replace("hosts6; };", "{ reject; }; };"), ("does not export it to babel1", str(HOST))),
            (here.text.replace("krt_source = 144", "krt_source = 7"), ("has not learnt", str(HOST))),
        ):
            assert broken != here.text
            assert "Reconfigur" in here.configure(broken)
            await ap.complains(*words)
            here.configure()
            await ap.exports(HOST)
        here.ask("disable babel1")
        await ap.complains("no routing protocol of BIRD is up", "babel1 down")
        here.ask("enable babel1")
        await ap.exports(HOST)
        await ap.is_content()


async def test_protocols_that_are_named_must_all_export(pair: Pair) -> None:
    pair.here.hold(HOST)
    async with adapter(pair.here, protocols=["babel1", "rip1"]) as ap:
        await ap.publish([HOST])
        await ap.exports(HOST)  # nobody called rip1 carries IPv6
    pair.here.configure(pair.here.text + "protocol rip ng rip1 { ipv6 { export none; }; }\n")
    async with adapter(pair.here, protocols=["babel1", "rip1"]) as ap:
        await ap.publish([HOST])
        await ap.complains("does not export it to babel1, rip1")


@pytest.mark.parametrize("mode", ["kernel", "inject"])
async def test_a_bird_that_is_killed_in_the_middle_of_a_roam_exports_the_truth_afterwards(
    pair: Pair, mode: str
) -> None:
    here = pair.here
    async with adapter(here, mode=mode) as ap:
        here.hold(*([HOST] if mode == "kernel" else []))
        await ap.publish([HOST])
        await ap.exports(HOST)
        publishing = asyncio.create_task(ap.publish([OTHER], [HOST]))
        here.kill()
        assert await publishing < 1
        if mode == "kernel":
            here.leave(HOST)
            here.hold(OTHER)
        await soon(lambda: not ap.exporter.report().is_connected, lambda: "the end is noticed")
        await asyncio.to_thread(here.start)
        await ap.exports(OTHER)
        await reaches(pair.there, OTHER, "e0")
        await reaches(pair.there, HOST, "")


# -- mode "inject"


async def test_injected_routes_are_installed_by_bird_and_announced(pair: Pair) -> None:
    async with adapter(pair.here, mode="inject") as ap:
        await ap.publish([HOST, HOST4])
        await ap.exports(HOST, HOST4)
        await soon(lambda: {HOST, HOST4} <= installed(pair.here.namespace, "bird").keys(), lambda: "not installed")
        assert not installed(pair.here.namespace)
        for host in (HOST, HOST4):
            await reaches(pair.there, host, "e0")
        await ap.publish((), [HOST])
        await reaches(pair.there, HOST, "")
        assert pair.there.way_to(HOST4) == "e0"
        await ap.exporter.publish_all(())
        await reaches(pair.there, HOST4, "")
        assert "route" not in pair.here.include.read_text().replace("roamroute", "")


async def test_what_bird_announces_and_does_not_install_is_installed_all_the_same(pair: Pair) -> None:
    here = pair.here
    async with adapter(here, mode="inject") as ap:
        for number in range(4):
            host = ip_address(f"fd44:0:0:1::3:{number}")
            await ap.publish([host])
            await is_installed(here, host)
            here.ask("reload out 'kernel6'")
            here.ask("reload filters out 'kernel6'")  # BIRD 3: a scan, after which it forgets one
            await ap.publish((), [host])
            await ap.exports()
        await ap.publish([HOST])
        await ap.exports(HOST)
        await is_installed(here, HOST)
        here.ip(f"-6 route del {HOST} dev wlan0")
        await is_installed(here, HOST)
        here.configure(here.text.replace("export where source != RTS_DEVICE", "export none"))
        await ap.complains(f"announces {HOST} and has not put it into the kernel")
        here.configure()
        await ap.is_content()


async def test_a_burst_of_changes_needs_few_reconfigurations_and_ends_with_the_last_state(pair: Pair) -> None:
    def reconfigurations() -> int:
        return (pair.here.folder / "bird.log").read_text().count("Reconfiguring")

    async with adapter(pair.here, mode="inject") as ap:
        await ap.publish([OTHER])
        await ap.exports(OTHER)
        before, session = reconfigurations(), pair.here.ask("show babel neighbors")
        changes = [ap.publish([HOST], [THIRD]) if turn % 2 else ap.publish([THIRD], [HOST]) for turn in range(300)]
        await asyncio.gather(*changes)
        await ap.exports(HOST, OTHER)
        assert reconfigurations() - before < 30
        assert "fe80:" in session
        assert pair.here.ask("show protocols babel1").count(" up ") == 1
        await reaches(pair.there, HOST, "e0")
        await reaches(pair.there, THIRD, "")


async def test_a_new_start_takes_over_what_the_file_holds_without_a_flap(pair: Pair) -> None:
    async with adapter(pair.here, mode="inject") as ap:
        await ap.publish([HOST, OTHER])
        await ap.exports(HOST, OTHER)
    shown = pair.here.ask("show route protocol roamroute6")
    async with adapter(pair.here, mode="inject") as ap:
        await ap.exporter.publish_all(routes(OTHER, HOST))
        await ap.exports(HOST, OTHER)
        assert pair.here.ask("show route protocol roamroute6") == shown, "the times of the routes are those of before"


async def test_a_mistake_of_the_operator_is_told_in_bird_s_words_and_the_last_good_file_stays(pair: Pair) -> None:
    here = pair.here
    async with adapter(here, mode="inject") as ap:
        await ap.publish([HOST])
        await ap.exports(HOST)
        good = here.include.read_text()
        here.configuration.write_text(here.text + "protocol nonsense { }\n")
        await ap.publish([OTHER])
        line = here.text.count("\n") + 1
        await ap.complains("configure soft", "8002", f"{here.configuration}:{line}:10 syntax error", "stays in force")
        assert here.include.read_text() == good
        await reaches(pair.there, HOST, "e0")
        here.configuration.write_text(here.text)  # and nobody says so to anybody
        await ap.exports(HOST, OTHER)
        await ap.is_content()
        await reaches(pair.there, OTHER, "e0")


async def test_a_missing_include_is_told_and_its_appearance_is_noticed(pair: Pair) -> None:
    here = pair.here
    here.configure("\n".join(line for line in here.text.splitlines() if not line.startswith("include")))
    async with adapter(here, mode="inject") as ap:
        await ap.publish([HOST])
        await ap.complains(f"does not include {here.include}", "roamroute6")
        here.configure()
        await ap.exports(HOST)
        await ap.is_content()


async def test_an_include_that_cannot_be_written_is_told_with_its_path(pair: Pair) -> None:
    async with adapter(pair.here, mode="inject", include="/proc/nothing/hosts.conf") as ap:
        await ap.publish([HOST])
        await ap.complains("cannot write /proc/nothing/hosts.conf", "No such file or directory")


async def test_routes_that_the_operator_took_away_come_back(pair: Pair) -> None:
    here = pair.here
    async with adapter(here, mode="inject") as ap:
        await ap.publish([HOST])
        await ap.exports(HOST)
        assert "Reconfigur" in here.ask("configure undo")
        here.include.unlink()
        here.configure()
        await reaches(pair.there, HOST, "")
        await ap.exports(HOST)
        await reaches(pair.there, HOST, "e0")


async def test_an_undo_that_the_operator_has_scheduled_takes_no_route_of_ours_for_long(pair: Pair) -> None:
    async with adapter(pair.here, mode="inject") as ap:
        await ap.publish([OTHER])
        await ap.exports(OTHER)
        assert "Undo scheduled" in pair.here.ask("configure timeout 1")
        await ap.publish([HOST], [OTHER])
        await asyncio.sleep(1.5)  # 2.0.12 undoes it all the same
        await ap.exports(HOST)
        await reaches(pair.there, HOST, "e0")
        await reaches(pair.there, OTHER, "")


async def test_an_undo_that_the_operator_has_scheduled_comes_when_nothing_of_ours_changes(pair: Pair) -> None:
    here = pair.here
    async with adapter(here, mode="inject") as ap:
        await ap.publish([HOST])
        await ap.exports(HOST)
        here.configuration.write_text(here.text + "protocol static theirs { ipv6; }\n")
        assert "Undo scheduled" in here.ask("configure timeout 3")
        assert "theirs" in here.ask("show protocols")
        await soon(lambda: "theirs" not in here.ask("show protocols"), lambda: here.ask("show status"), 10)
        await ap.exports(HOST)


# -- a BIRD that does not answer, and a birdc that dies


@pytest.mark.parametrize("mode", ["kernel", "inject"])
async def test_a_stopped_bird_holds_nobody_up_and_goes_on_where_it_was(pair: Pair, mode: str) -> None:
    here = pair.here
    async with adapter(here, mode=mode) as ap:
        here.hold(*([HOST, OTHER] if mode == "kernel" else []))
        await ap.publish([HOST])
        await ap.exports(HOST)
        here.signal(signal.SIGSTOP)
        assert await ap.publish([OTHER]) < 1
        assert await ap.publish((), [HOST]) < 1
        await soon(lambda: not ap.exporter.report().is_connected, lambda: "the silence is noticed")
        assert "did not answer" in ap.exporter.report().problems[0].text
        here.signal(signal.SIGCONT)
        await ap.exports(OTHER)
        await ap.is_content()


@pytest.mark.parametrize("mode", ["kernel", "inject"])
async def test_a_birdc_that_dies_in_the_middle_of_a_command_is_started_again(pair: Pair, mode: str) -> None:
    here = pair.here
    birdc = ["ip", "netns", "exec", here.namespace, pair.generation.terminal, "-s", str(here.socket)]
    async with adapter(here, command=birdc, mode=mode) as ap:
        hosts = [ip_address(f"fd44:0:0:1::2:{number:x}") for number in range(40)]
        for count, host in enumerate(hosts):
            here.hold(*([host] if mode == "kernel" else []))
            await ap.publish([host])
            if count % 10 == 5:
                for child in children():
                    os.kill(child, signal.SIGKILL)
        await ap.exports(*hosts)
        await ap.is_content()


async def test_a_birdc_that_hangs_is_replaced(pair: Pair) -> None:
    here = pair.here
    birdc = ["ip", "netns", "exec", here.namespace, pair.generation.terminal, "-s", str(here.socket)]
    async with adapter(here, command=birdc, mode="inject") as ap:
        await ap.publish([HOST])
        await ap.exports(HOST)
        for child in children():
            os.kill(child, signal.SIGSTOP)
        assert await ap.publish([OTHER], [HOST]) < 1
        await ap.exports(OTHER, within_s=15)
        await reaches(pair.there, OTHER, "e0")


async def test_read_only_access_confirms_and_says_that_it_cannot_inject(pair: Pair) -> None:
    here = pair.here
    birdc = ["ip", "netns", "exec", here.namespace, pair.generation.terminal, "-r", "-s", str(here.socket)]
    async with adapter(here, command=birdc) as ap:
        here.hold(HOST)
        await ap.publish([HOST])
        await ap.exports(HOST)
    async with adapter(here, command=birdc, mode="inject") as ap:
        await ap.publish([OTHER])
        await ap.complains("8007 Access denied", "read-only")


async def test_a_socket_that_is_not_for_us_is_told_with_what_to_do(pair: Pair) -> None:
    pair.here.socket.chmod(0o660)
    with nobody(), pytest.raises(RoamrouteError, match=r"Permission denied .*group of the socket"):
        await Client(Settings(socket=str(pair.here.socket))).status()


def children() -> list[int]:
    """The processes that this one has started for birdc: the leaders of sessions of their own."""
    with open(f"/proc/self/task/{os.getpid()}/children") as listed:
        own = [int(word) for word in listed.read().split()]
    threads = [f"/proc/self/task/{name}/children" for name in os.listdir("/proc/self/task")]
    for path in threads:
        with open(path) as listed:
            own += [int(word) for word in listed.read().split()]
    return [process for process in set(own) if os.getsid(process) == process]


@contextmanager
def nobody() -> Iterator[None]:
    """Be another user for a while."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
