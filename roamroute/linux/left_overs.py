"""What an earlier run of forwarding left that died, for a start without forwarding: rules, routes and the rest of it.

Left alone it would go on sending a client's packets to where the client once went.
"""

from __future__ import annotations

import contextlib

from roamroute.errors import KernelRefused, MalformedInput
from roamroute.export import KernelNumbers
from roamroute.linux.client_guard import remove_guard
from roamroute.linux.forward_rules import former_sources, reconcile_rules
from roamroute.linux.rtnetlink import Log, Requests
from roamroute.linux.tunnel_source import TunnelSource
from roamroute.linux.tunnel_tables import TunnelTables


def remove_left_overs(tables: int, numbers: KernelNumbers, log: Log) -> None:
    """Remove it. Never raises. `tables`: the first of the three, as that run had it."""
    remove_guard()
    try:
        with contextlib.closing(Requests()) as requests:
            for source in former_sources(requests, numbers.protocol):
                with contextlib.closing(TunnelSource(source)) as left:
                    left.release()
            reconcile_rules(requests, (), numbers.protocol)
            TunnelTables(tables, numbers.protocol, 0).flush(requests, with_delivery=True)
    except (KernelRefused, MalformedInput, OSError) as error:
        log("warning", f'what an earlier run forwarded cannot be removed because="{error}"')
