"""What must hold in an engine after every call; for property tests and simulations. Looks inside, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from roamroute.engine import Engine
from roamroute.values import Nud


def broken_invariants(engine: Engine) -> Iterator[str]:
    """Say what does not hold. Quadratic in nothing, linear in everything: for tests, not for an access point."""
    book = engine._book
    trials = engine._trials
    policy = engine.policy
    admission = book.admission
    entries = {address: entry for host in book.hosts.values() for address, entry in host.entries.items()}
    if entries != book.entries:
        yield "the books' entries are not the union of the hosts' entries"
    expected = {} if book.is_drained else {entry.address: entry.route for entry in entries.values() if entry.is_wanted}
    expected |= {route.address: route for route in book.lingering.routes()}
    if dict(engine.wanted) != expected:
        yield f"wanted is {dict(engine.wanted)}, the wanted entries say {expected}"
    for entry in entries.values():
        if not admission.admits(entry.link, entry.address, entry.mac):
            yield f"{entry} is not admitted"
        if entry.nud in (Nud.INCOMPLETE, Nud.NOARP, Nud.PERMANENT):
            yield f"{entry} has a state that says nothing"
        is_watched_over = (
            book.is_asked(entry)
            or ("probe", entry.address) in book.times
            or entry.address in book._routine_members
            or entry.nud in (Nud.REACHABLE, Nud.DELAY, Nud.PROBE)
        )
        if not is_watched_over:
            yield f"{entry}: nothing will ever test it"
    for mac, host in book.hosts.items():
        if host.mac != mac:
            yield f"{mac} is filed under another host"
        if book.is_elsewhere(host) and host.entries:
            yield f"{mac} is held by {host.holder}, but has entries here"
        if not 0 <= host.sequence < 2**32:
            yield f"{mac} has number {host.sequence}"
        yield from _too_many(f"entries of {mac}", len(host.entries), policy.addresses_per_host)
        yield from _too_many(f"binding of {mac}", len(host.binding), policy.addresses_per_host)
        yield from _too_many(f"denied of {mac}", len(host.denied), 4 * policy.addresses_per_host)
        yield from _too_many(f"surrendered of {mac}", len(host.surrendered), 2 * policy.addresses_per_host)
        for address in host.binding:
            if book._bound.get(address) != mac:
                yield f"{address} is in the binding of {mac}, but bound to {book._bound.get(address)}"
    bindings = sum(len(host.binding) for host in book.hosts.values())
    yield from _too_many("bound addresses", len(book._bound), bindings)
    yield from _too_many("hosts", len(book.hosts), policy.hosts_remembered)
    yield from _too_many("entries", len(entries), policy.addresses_total)
    yield from _too_many("foreign routes", len(engine.foreign), 4 * policy.addresses_total)
    yield from _too_many("questions", len(book.questions), 1024)
    yield from _too_many("urgent probes", len(book._urgent), 4096)
    yield from _too_many("urgent members", len(book._urgent_members), len(book._urgent))
    yield from _too_many("routine probes", len(book._routine), 64 + 2 * policy.addresses_total)
    yield from _too_many("forgotten neighbours", len(book._forgotten), 4096)
    yield from _too_many("trials", len(trials._trials), 4096)
    times = 10 * len(book.hosts) + 2 * len(entries) + len(trials._trials)
    times += len(engine.forwards) + len(engine.lingering)
    yield from _too_many("due times", len(book.times), times)
    yield from _too_many("the timetable's heap", len(book.times._heap), 64 + 4 * times + 1)
    tested = {(address, mac) for address, macs in trials._tested_for.items() for mac in macs}
    if tested != {(address, mac) for mac, trial in trials._trials.items() for address in trial.untested}:
        yield "the index of tested addresses is not the union of the trials"


def _too_many(what: str, count: int, limit: int) -> Iterator[str]:
    if count > limit:
        yield f"{what}: {count}, the limit is {limit}"
