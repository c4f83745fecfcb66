"""What must hold in an engine after every call; for property tests and simulations. Looks inside, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from roamroute.engine import Engine
from roamroute.forwards import Sending
from roamroute.values import Address, Mac, Nud, PeerId


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
            or book.probing.is_queued(entry.address)
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
    forwards = book.forwards
    yield from _too_many("forwards", len(forwards), policy.forwards_total)
    of_hosts = {address for addresses in forwards._of_host.values() for address in addresses}
    if set(forwards) != of_hosts:
        yield "the forwards' indices differ"
    for address, forward in forwards.items():
        if not admission.admits_address(address) or not admission.is_segment(forward.segment):
            yield f"{forward} is not admitted"
        is_here = address in entries and entries[address].is_wanted
        if forward.peer == book.me or (is_here and not trials.is_on_trial(address)):
            yield f"{forward}, although it is here"
        if ("forward", address) not in book.times:
            yield f"{forward}: nothing will ever end it"
    for address in engine.lingering:
        if ("linger", address) not in book.times:
            yield f"{address} lingers for ever"
        owner = book.hosts.get(book.lingering.owner(address) or Mac(""))
        if address not in forwards and (owner is None or book.is_elsewhere(owner)):
            yield f"{address} lingers, and is not sent on"
    oscillations = book.oscillations
    yield from _too_many("oscillations", len(oscillations), policy.hosts_remembered + 1 + 1024)
    for mac in engine.oscillating:
        if ("hold", mac) not in book.times:
            yield f"{mac} is held for ever"
    for peer, count in book._hinted.items():
        if count != sum(host.hinted_by == peer for host in book.hosts.values()):
            yield f"{count} hosts are hinted by {peer}"
        yield from _too_many(f"hints of {peer}", count, policy.hints_per_peer)
    shared = engine._hints._shared
    if any(mac not in book.hosts or book.hosts[mac].holder != book.me for mac in shared):
        yield "what is shared is not ours"
    yield from _too_many("foreign routes", len(engine.foreign), 4 * policy.addresses_total)
    yield from _too_many("questions", len(book.questions), 1024)
    yield from _too_many("urgent probes", len(book.probing._urgent), 4096)
    yield from _too_many("urgent members", len(book.probing._urgent_members), len(book.probing._urgent))
    yield from _too_many("routine probes", len(book.probing._routine), 64 + 2 * policy.addresses_total)
    yield from _too_many("forgotten neighbours", len(book._forgotten), 4096)
    yield from _too_many("trials", len(trials._trials), 4096)
    times = 10 * len(book.hosts) + 2 * len(entries) + len(trials._trials)
    times += len(engine.forwards) + len(engine.lingering)
    yield from _too_many("due times", len(book.times), times)
    yield from _too_many("the timetable's heap", len(book.times._heap), 64 + 4 * times + 1)
    tested = {(address, mac) for address, macs in trials._tested_for.items() for mac in macs}
    if tested != {(address, mac) for mac, trial in trials._trials.items() for address in trial.untested}:
        yield "the index of tested addresses is not the union of the trials"


def broken_forwards(engines: Mapping[PeerId, Engine]) -> Iterator[str]:
    """Say which forwards of several access points may send a packet round in a circle, were it to follow them.

    Along a chain of forwards for one host the order grows. That is not so when one of them was restarted, and counts
    anew until it has been told; then only that no packet goes through two tunnels keeps it from a circle.
    """
    for peer, engine in engines.items():
        sendings = engine._book.forwards._sending
        for address, sending in sendings.items():
            further = next_forward(engines, engine, address)
            if further is not None and further.mac == sending.mac and not further.order > sending.order:
                yield f"{address} goes on from {peer} by {sending.order}, and then by {further.order}"


def next_forward(engines: Mapping[PeerId, Engine], engine: Engine, address: Address) -> Sending | None:
    """What becomes of the address where this engine sends it on to."""
    beyond = engines.get(engine.forwards[address].peer)
    return None if beyond is None else beyond._book.forwards._sending.get(address)


def _too_many(what: str, count: int, limit: int) -> Iterator[str]:
    if count > limit:
        yield f"{what}: {count}, the limit is {limit}"
