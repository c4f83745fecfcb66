"""`roamroute check` with real BIRDs: the printed configuration is well, and each mistake in it is found and told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import attrs
import pytest
from bird_routers import LIMIT_S, Pair, wait_for
from generations import BIRD, parameters
from roamroute_bird.check import check
from roamroute_bird.config import fragment
from roamroute_bird.settings import Settings

from roamroute.export import ExporterContext, Finding, KernelNumbers

from .linux_namespaces import inside

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "nsenter")]

HOST, HOST4 = ip_address("fd44:0:0:1::77"), ip_address("10.44.0.77")
CONTEXT = ExporterContext(
    ("wlan0",),
    (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16")),
    KernelNumbers(),
    lambda event: None,
    lambda *line: None,
)
ELSEWHERE = (
    "\nprotocol bgp reflector9 { local fd44:0:0:e::1 as 65000; neighbor fd44:0:0:e::99 as 65000; ipv6; ipv4; }\n"
)


@attrs.frozen
class Mistake:
    """`old` becomes `new` in the printed configuration; then an error with these words must be told."""

    old: str
    new: str
    words: str
    commands: tuple[str, ...] = ()


KERNEL_MISTAKES = {
    "learn is off": Mistake("  learn;\n", "", "does not learn"),
    "the filter drops our routes": Mistake("krt_source = 144", "krt_source = 99", "has not learnt"),
    "the preference is too low": Mistake("preference = 250", "preference = 10", "prefers another route"),
    "nothing is imported": Mistake("import filter roamroute_learn6", "import none", "imports nothing"),
    "another kernel table": Mistake(
        "protocol kernel kernel6 {\n", "protocol kernel kernel6 {\n kernel table 1000;\n", "table"
    ),
    "routes of the mesh before ours": Mistake(
        "protocol kernel kernel6 {\n", "protocol kernel kernel6 {\n metric 4;\n", "with metric 4"
    ),
    "the kernel protocol is disabled": Mistake(
        "protocol kernel kernel6 {\n", "protocol kernel kernel6 {\n  disabled;\n", "kernel6 is down"
    ),
    "nothing is exported": Mistake("|| net ~ ROAMROUTE_HOSTS6;", "&& false;", "no routing protocol of BIRD takes"),
    "the routing protocol is down": Mistake("", "", "is down", ("disable mesh",)),
    "the kernel protocol is down": Mistake("", "", "is down", ("disable kernel4",)),
}


@pytest.fixture(scope="module", params=parameters(BIRD))
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    made = Pair(request.param)
    try:
        made.build()
        made.start()
        made.here.hold(HOST, HOST4)
        yield made
    finally:
        for router in (made.here, made.there):
            router.remove()


def settings_of(
    pair: Pair, *, mode: str = "kernel", routing: str = "babel", include: str = "", socket: str = ""
) -> Settings:
    return Settings(
        socket=socket or str(pair.here.socket), routing=routing, mode=mode, include=include or str(pair.here.include)
    )


def printed(pair: Pair, settings: Settings) -> str:
    """What `roamroute config bird` prints, with the test's log, router ID and mesh link."""
    text = fragment(settings, CONTEXT)
    text = text.replace("log syslog all;", f'log "{pair.here.folder}/bird.log" all;')
    text = text.replace('router id from -"wlan0", "*";', "router id 10.0.0.1;")
    return text.replace('-"wlan0", "*"', '"e0" { type wired; hello interval 500 ms; update interval 1 s; }')


def findings(pair: Pair, settings: Settings) -> list[Finding]:
    with inside(pair.here.namespace):
        return list(asyncio.run(_check(settings)))


async def _check(settings: Settings) -> list[Finding]:
    return list(await check(settings, CONTEXT))


def faults(pair: Pair, settings: Settings) -> list[Finding]:
    return [finding for finding in findings(pair, settings) if finding.level not in ("ok", "unknown")]


def wait_for_error(pair: Pair, settings: Settings, words: str) -> None:
    """Wait until an error with these words is found, and has a remedy."""

    def is_found() -> bool:
        return any(
            words in finding.text and finding.remedy for finding in findings(pair, settings) if finding.level == "error"
        )

    wait_for(is_found, f"an error with {words!r}, not {findings(pair, settings)}", LIMIT_S)


def wait_until_well(pair: Pair, settings: Settings) -> None:
    wait_for(lambda: not faults(pair, settings), f"no fault, not {faults(pair, settings)}", LIMIT_S)


def configure(pair: Pair, text: str) -> None:
    """Start BIRD with it: 3.1.7 crashes when a kernel protocol is reconfigured in its first second."""
    pair.here.stop()
    pair.here.configuration.write_text(text, encoding="utf-8")
    pair.here.start()


def test_nothing_is_wrong_with_the_printed_configuration(pair: Pair) -> None:
    settings = settings_of(pair)
    configure(pair, printed(pair, settings))
    wait_until_well(pair, settings)
    levels = {finding.subject: finding.level for finding in findings(pair, settings)}
    assert levels["bird host routes for IPv6"] == levels["bird host routes for IPv4"] == "ok"


def test_nothing_is_wrong_with_the_printed_configuration_that_injects(pair: Pair) -> None:
    settings = settings_of(pair, mode="inject")
    pair.here.include.write_text(
        f'protocol static roamroute6 {{ ipv6 {{ preference 250; }}; route {HOST}/128 via "wlan0"; }}\n'
        f'protocol static roamroute4 {{ ipv4 {{ preference 250; }}; route {HOST4}/32 via "wlan0"; }}\n'
    )
    pair.here.leave(HOST, HOST4)
    try:
        configure(pair, printed(pair, settings))
        wait_until_well(pair, settings)
        wait_for(
            lambda: [each.level for each in findings(pair, settings) if "host routes" in each.subject] == ["ok"] * 2,
            f"the routes are seen: {findings(pair, settings)}",
        )
    finally:
        pair.here.include.unlink()
        pair.here.hold(HOST, HOST4)


@pytest.mark.parametrize("name", KERNEL_MISTAKES)
def test_a_mistake_in_mode_kernel_is_found(pair: Pair, name: str) -> None:
    mistake, settings = KERNEL_MISTAKES[name], settings_of(pair)
    text = printed(pair, settings)
    assert mistake.old in text
    pair.there.hold(HOST)  # so that another access point announces it, too
    try:
        configure(pair, text.replace(mistake.old, mistake.new))
        for command in mistake.commands:
            pair.here.ask(command)
        wait_for_error(pair, settings, mistake.words)
    finally:
        pair.there.leave(HOST)


def test_a_bird_without_a_kernel_protocol_is_found(pair: Pair) -> None:
    settings = settings_of(pair)
    text = re.sub(r"protocol kernel kernel6 \{.*?\n\}\n", "", printed(pair, settings), flags=re.DOTALL)
    configure(pair, text)
    wait_for_error(pair, settings, "there is none")


def test_an_include_that_bird_does_not_read_is_found(pair: Pair) -> None:
    wait_for_error(pair, settings_of(pair, mode="inject", include="/etc/bird/elsewhere.conf"), "does not read")


def test_an_include_that_cannot_be_written_is_found(pair: Pair) -> None:
    settings = settings_of(pair, mode="inject", include="/nonexistent/roamroute-hosts.conf")
    wait_for_error(pair, settings, "cannot be written")


def test_a_static_protocol_that_is_down_is_found(pair: Pair) -> None:
    settings = settings_of(pair, mode="inject")
    pair.here.include.write_text(
        "protocol static roamroute6 { disabled; ipv6; }\nprotocol static roamroute4 { ipv4; }\n"
    )
    try:
        configure(pair, printed(pair, settings))
        wait_for_error(pair, settings, "roamroute6 is down")
    finally:
        pair.here.include.unlink()


def test_a_kernel_protocol_that_installs_nothing_is_found(pair: Pair) -> None:
    settings = settings_of(pair, mode="inject")
    text = printed(pair, settings).replace("export where source != RTS_DEVICE", "export none")
    pair.here.include.touch()
    try:
        configure(pair, text)
        wait_for_error(pair, settings, "does not install our routes")
    finally:
        pair.here.include.unlink()


def test_a_routing_protocol_that_is_not_there_is_found(pair: Pair) -> None:
    wait_for_error(pair, settings_of(pair, routing="ospf"), "BIRD has no OSPF protocol")
    wait_for_error(pair, attrs.evolve(settings_of(pair), protocols=("nosuch",)), "BIRD has no routing protocol nosuch")


def test_a_reflector_that_does_not_answer_is_found(pair: Pair) -> None:
    settings = settings_of(pair, routing="ibgp")
    configure(pair, printed(pair, settings_of(pair)) + ELSEWHERE)
    wait_for_error(pair, settings, "reflector9 (BGP) is start")


def test_the_gateways_address_as_router_id_is_found(pair: Pair) -> None:
    settings = settings_of(pair)
    text = printed(pair, settings).replace("router id 10.0.0.1", "router id 10.44.0.1")
    pair.here.ip("addr add 10.44.0.1/32 dev wlan0")
    try:
        configure(pair, text)
        wait_for_error(pair, settings, "which every access point has")
    finally:
        pair.here.ip("addr del 10.44.0.1/32 dev wlan0")


def test_a_better_route_in_the_kernel_is_found(pair: Pair) -> None:
    pair.here.ip(f"-6 route add {HOST} via fe80::99 dev e0 metric 1")
    try:
        wait_for_error(pair, settings_of(pair), f"the kernel sends {HOST} over e0 (metric 1)")
    finally:
        pair.here.ip(f"-6 route del {HOST} via fe80::99 dev e0 metric 1")


def test_bird_3_that_scans_the_kernel_rarely_is_warned_of(pair: Pair) -> None:
    settings = settings_of(pair)
    text = printed(pair, settings).replace("  scan time 1;\n", "")
    configure(pair, text)
    warnings = [finding for finding in faults(pair, settings) if finding.subject == "bird scan time"]
    assert bool(warnings) == pair.generation.version.startswith("3")


def test_a_bird_that_is_not_there_is_found(pair: Pair, tmp_path: Path) -> None:
    [finding] = findings(pair, settings_of(pair, socket=str(tmp_path / "bird.ctl")))
    assert finding.level == "error"
    assert "systemctl start bird" in finding.remedy
