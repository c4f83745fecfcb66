"""What `roamroute check` looks at in babeld: is it there, is it the right one, will it export our routes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from roamroute.errors import DaemonGone, DaemonRefused, MalformedInput
from roamroute.export import ExporterContext, Finding
from roamroute.values import Seconds
from roamroute_babeld.connection import Connection, connect
from roamroute_babeld.exporter import FRAGMENT, GREETING_LIMIT_S, duplicates_remedy
from roamroute_babeld.rules import Statements, announces_lingering, statements_of
from roamroute_babeld.session import Session, Stage
from roamroute_babeld.settings import Settings
from roamroute_babeld.tables import DORMANT, LINGERING, POISON
from roamroute_babeld.version import Quirks, Version, quirks_of

_LOADING_LIMIT_S: Seconds = 5.0
_NEWEST_READ = Version(1, 14)


async def check(settings: Settings, context: ExporterContext) -> Iterable[Finding]:
    """Every finding about babeld, good and bad."""
    try:
        connection = await connect(settings)
    except DaemonGone as error:
        remedy = f"systemctl start babeld; local-path {settings.place} must stand in its configuration: {FRAGMENT}"
        return [Finding("error", "babeld", str(error), remedy)]
    try:
        session = await _converse(connection)
        process_id = connection.process_id
    except (DaemonGone, DaemonRefused, MalformedInput) as error:
        return [Finding("error", "babeld", str(error), "systemctl restart babeld")]
    finally:
        connection.close()
    if session is None:
        text = f"takes the connection at {settings.place} and says nothing: it has four clients already, or it hangs"
        return [Finding("error", "babeld", text, "end another client of its socket (ss -xp, ss -tp name them)")]
    statements = statements_of(process_id) if process_id is not None else None
    return [
        *_version(session),
        *_rules(session, statements, context),
        *_options(settings, session, statements, context),
        *_default_routes(),
    ]


async def _converse(connection: Connection) -> Session | None:
    """Greet and load; None when babeld says nothing."""
    session = Session()
    while session.stage is not Stage.FOLLOWING:
        limit_s = GREETING_LIMIT_S if session.stage is Stage.GREETING else _LOADING_LIMIT_S
        data = await connection.read(limit_s)
        if data is None and session.stage is Stage.GREETING:
            return None
        if data is None:
            raise DaemonGone(f"babeld did not answer `monitor` within {limit_s:g} s")
        to_send, _ = session.receive(data)
        connection.write(to_send)
    return session


def _version(session: Session) -> Iterator[Finding]:
    program, version = session.greeting.program, session.greeting.version
    quirks = quirks_of(version)
    if version is None:
        yield Finding("warning", "babeld", f"{program!r} is no version known here", "see docs/howto-babeld.md")
    elif quirks.text:
        text = f"{program} {quirks.text}; roamroute parks withdrawn host routes instead (other routes of yours suffer)"
        yield Finding("warning", "babeld", text, "see docs/babeld-facts.md")
    elif version >= Version(_NEWEST_READ.major, _NEWEST_READ.minor + 1):
        text = f"{program} is newer than what roamroute was tried with"
        yield Finding("warning", "babeld", text, "roam once, and see what `roamroute status` says is exported")
    else:
        yield Finding("ok", "babeld", program)


def _rules(session: Session, statements: Statements | None, context: ExporterContext) -> Iterator[Finding]:
    if statements is None or statements.unreadable:
        why = "; ".join(statements.unreadable) if statements is not None else "no process to look at"
        exported = sum(1 for (prefix, _), metric in session.tables.xroutes.items() if _is_ours(prefix, context))
        if exported:
            yield Finding("ok", "babeld rules", f"babeld exports {exported} of our host routes")
        else:
            text = f"cannot tell whether babeld exports our routes: its configuration cannot be seen ({why})"
            yield Finding("unknown", "babeld rules", text, FRAGMENT)
        return
    numbers = context.kernel
    for prefix in context.prefixes:
        address = prefix.network_address + 2
        subject = f"babeld rules for {prefix}"
        faults = []
        live = statements.decide(address, numbers.protocol)
        if live is None:
            faults.append(f"no redistribute rule matches proto {numbers.protocol}")
        elif live.metric >= POISON:
            faults.append(f'"{live.text}" ({live.where}) stands in front and denies proto {numbers.protocol}')
        for protocol, metric in ((numbers.withdrawing_protocol, POISON), (numbers.dormant_protocol, DORMANT)):
            parked = statements.decide(address, protocol)
            if live is not None and (parked is None or parked.metric != metric):
                seen = f'"{parked.text}" ({parked.where})' if parked is not None else "no rule"
                faults.append(f"proto {protocol} must have metric {metric}, but {seen} decides")
        announced = announces_lingering(statements, [prefix], numbers.lingering_protocol)
        if live is not None and not faults and not announced:
            text = (
                f"no rule gives proto {numbers.lingering_protocol} the metric {LINGERING}: a router may be "
                "without a route for 0.1 s when this access point withdraws a host that has moved on"
            )
            yield Finding("warning", subject, text, FRAGMENT)
        hidden = statements.decide(address, numbers.hidden_protocol)
        if live is not None and hidden is not None and hidden.metric < 65535:
            faults.append(f'proto {numbers.hidden_protocol} must be denied, "{hidden.text}" ({hidden.where}) decides')
        for fault in faults:
            yield Finding("error", subject, fault, FRAGMENT)
        if not faults:
            yield Finding("ok", subject, "our host routes are redistributed")


def _is_ours(prefix: object, context: ExporterContext) -> bool:
    from ipaddress import IPv4Network, IPv6Network

    if not isinstance(prefix, IPv4Network | IPv6Network) or prefix.prefixlen != prefix.max_prefixlen:
        return False
    return any(ours.version == prefix.version and prefix.network_address in ours for ours in context.prefixes)


def _options(
    settings: Settings, session: Session, statements: Statements | None, context: ExporterContext
) -> Iterator[Finding]:
    quirks: Quirks = session.greeting.quirks
    if statements is None:
        return
    if (statements.allow_duplicates or 0) <= DORMANT and settings.allow_duplicates is not True:
        yield Finding(
            "warning",
            "babeld allow-duplicates",
            "is not 65534: this access point keeps no poisoned route for a host that left, and one lost packet on the "
            "air delays its move by up to 60 s",
            duplicates_remedy(quirks),
        )
    if statements.kernel_priority != POISON:
        yield Finding(
            "error",
            "babeld kernel-priority",
            f"is {statements.kernel_priority or 0}, not {POISON}: babeld may send another route and no withdrawal, "
            "and neighbours keep the way to a host that left",
            f"remove kernel-priority and -k after the fragment: {FRAGMENT}",
        )
    if statements.reflects_metric:
        yield Finding(
            "error",
            "babeld reflect-kernel-metric",
            f"is on: with kernel-priority {POISON} every route of babeld becomes unreachable in the kernel",
            "remove reflect-kernel-metric from babeld's configuration",
        )


def _default_routes(folder: Path = Path("/proc/thread-self/net")) -> Iterator[Finding]:
    """With our kernel-priority every other default route is better than babeld's."""
    for family, metrics in (("IPv6", _default_metrics6(folder)), ("IPv4", _default_metrics4(folder))):
        better = [(metric, link) for metric, link in metrics if metric < POISON]
        if better and any(metric == POISON for metric, _ in metrics):
            metric, link = min(better)
            yield Finding(
                "warning",
                f"{family} default route",
                f"the one by {link} (metric {metric}) wins over babeld's (metric {POISON})",
                f"remove it, or give it a metric above {POISON}, if the mesh is to carry what leaves the site",
            )


def _default_metrics6(folder: Path) -> list[tuple[int, str]]:
    """proc(5) net/ipv6_route: destination, length, source, length, gateway, metric, uses, …, link; in hexadecimal."""
    found = []
    for line in _lines(folder / "ipv6_route"):
        words = line.split()
        if len(words) == 10 and words[1] == words[3] == "00" and words[9] != "lo":
            found.append((int(words[5], 16), words[9]))
    return found


def _default_metrics4(folder: Path) -> list[tuple[int, str]]:
    """proc(5) net/route: link, destination, gateway, flags, references, uses, metric, mask, …"""
    found = []
    for line in _lines(folder / "route")[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == words[7] == "00000000":
            found.append((int(words[6]), words[0]))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
