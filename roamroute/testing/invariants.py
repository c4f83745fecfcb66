"""What must hold in an engine after every call; for property tests and simulations. Looks inside, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from roamroute.engine import Engine
from roamroute.values import Nud, PeerId


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
    forwards = book.forwards
    yield from _too_many("forwards", len(forwards), policy.forwards_total)
    of_hosts = {address for addresses in forwards._of_host.values() for address in addresses}
    if set(forwards) != of_hosts:
        yield "the forwards' indices differ"
    for address, forward in forwards.items():
        if not admission.admits_address(address) or not (
            forward.segment is None or admission.is_segment(forward.segment)
        ):
            yield f"{forward} is not admitted"
        if ("forward", address) not in book.times:
            yield f"{forward}: nothing will ever end it"
    for address in engine.lingering:
        if ("linger", address) not in book.times:
            yield f"{address} lingers for ever"
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


def broken_forwards(engines: Mapping[PeerId, Engine], is_all_known: bool = True) -> Iterator[str]:
    """Say which forwards of several access points may send a packet round in a circle.

    No chain for an address of one host comes back. Along it the order grows, unless one of them was restarted, and
    counts anew until it has been told (`is_all_known` is false). Two hosts that fight for an address while messages are
    lost may make a circle for it: IPv6 does not follow it, since what was sent on is delivered or dropped.
    """
    for peer, engine in engines.items():
        for address, forward in engine.forwards.items():
            if forward.segment is None:
                continue
            sending = engine._book.forwards._sending[address]
            if address in engine._book.entries and engine._book.entries[address].is_wanted:
                yield f"{peer} sends {address} on to {forward.peer}, although it is here"
            if forward.peer == peer:
                yield f"{peer} sends {address} on to itself"
            beyond = engines.get(forward.peer)
            if beyond is not None and beyond._book.forwards.sends(address):
                further = beyond._book.forwards._sending[address]
                if is_all_known and further.mac == sending.mac and not further.order > sending.order:
                    yield f"{address} goes from {peer} by {sending.order} to {forward.peer}, and on by {further.order}"
            passed = {peer}
            while beyond is not None and beyond._book.forwards.sends(address):
                if beyond._book.forwards._sending[address].mac != sending.mac:
                    break
                if forward.peer in passed:
                    yield f"{address} goes round: {peer}, …, {forward.peer}"
                    break
                passed.add(forward.peer)
                forward = beyond.forwards[address]
                beyond = engines.get(forward.peer)
            beyond = engines.get(engine.forwards[address].peer)
            host = None if beyond is None else beyond.hosts.get(sending.mac)
            if beyond is None or host is None or address.version == 6 or address not in host.binding:
                continue
            # IPv4 is routed where it arrives: what is not here must be stopped, or it comes back.
            is_ours = host.order == sending.order and host.taken_from is not None
            if is_ours and not host.is_here and address not in beyond.forwards and address not in beyond.wanted:
                yield f"{address} goes from {peer} to {forward.peer}, and is not stopped there"
    for peer, engine in engines.items():
        for address in engine.lingering:
            mac = engine._book.lingering.owner(address)
            host = engine.hosts.get(mac) if mac is not None else None
            if not engine._book.forwards.sends(address) and (host is None or host.holder != peer):
                yield f"{address} lingers at {peer}, and is not sent on"


def _too_many(what: str, count: int, limit: int) -> Iterator[str]:
    if count > limit:
        yield f"{what}: {count}, the limit is {limit}"
