"""roamroute as it is, and a file that says how long its parts took: what compare.py --trace runs.

A line for each call: when it began (monotonic seconds), how long it took, how much of that this process computed (both
in ms), depth, name. The rest of the time another process had the processor.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roamroute.cli import main
from roamroute.daemon import Daemon
from roamroute.engine import Engine
from roamroute.hostapd.source import HostapdSource
from roamroute.linux.fib import KernelFib
from roamroute.linux.forwarding import Forwarding
from roamroute.linux.gateway import GatewayAdvertiser
from roamroute.linux.neighbours import NeighbourSource
from roamroute.linux.packets import PacketSource
from roamroute.linux.rtnetlink import Requests
from roamroute.peering import Peering
from roamroute.peers.channel import PeerChannel
from roamroute.peers.exchange import Exchange

CALLS: tuple[tuple[type, str], ...] = (
    (Daemon, "take _handle _perform _perform_later _observe"),
    (Engine, "handle tick"),
    (Peering, "before tell forward deliver after"),
    (PeerChannel, "send_claim send_answer _read _send _tick share_hint"),
    (Exchange, "send_claim receive tick"),
    (Forwarding, "forward deliver"),
    (KernelFib, "apply _settle_now"),
    (NeighbourSource, "probe forget _readable"),
    (PacketSource, "watch unwatch"),
    (GatewayAdvertiser, "advertise _send"),
    (HostapdSource, "_connected"),
    (Requests, "transact dump get"),
)
_lines: list[tuple[float, float, float, int, str]] = []
_depth = 0


def timed(call: Callable[..., Any], name: Callable[[tuple[Any, ...]], str]) -> Callable[..., Any]:
    """`call`, noted under `name` of its arguments."""

    @functools.wraps(call)
    def noting(*args: Any, **named: Any) -> Any:
        global _depth
        _depth += 1
        began, computed = time.monotonic(), time.thread_time()
        try:
            return call(*args, **named)
        finally:
            _depth -= 1
            took = time.monotonic() - began
            _lines.append((began, 1e3 * took, 1e3 * (time.thread_time() - computed), _depth, name(args)))

    return noting


def write(file: Path) -> None:
    """From time to time: nobody ends the daemon before the machine is switched off."""
    while True:
        time.sleep(2)
        taken = sorted(_lines[:])
        del _lines[: len(taken)]
        with file.open("a") as text:
            for began, took, computed, depth, name in taken:
                text.write(f"{began:.6f} {took:8.3f} {computed:8.3f} {'  ' * depth}{name}\n")


def instrument() -> None:
    """Replace every call of CALLS, and each callback of the event loop."""
    for kind, names in CALLS:
        for name in names.split():
            call = getattr(kind, name, None)
            if call is not None:
                label = f"{kind.__name__}.{name}"
                setattr(kind, name, timed(call, lambda _, label=label: label))  # type: ignore[misc]
    handle: Any = asyncio.events.Handle

    def label_of(args: tuple[Any, ...]) -> str:
        callback = args[0]._callback
        task = getattr(callback, "__self__", None)
        if isinstance(task, asyncio.Task):
            return f"task {task.get_coro().__qualname__}"  # type: ignore[union-attr]
        return f"callback {getattr(callback, '__qualname__', callback)}"

    handle._run = timed(handle._run, label_of)


if __name__ == "__main__":
    instrument()
    target = Path(f"/shared/trace-{Path(sys.argv[-1]).stem}.txt")
    threading.Thread(target=write, args=(target,), daemon=True).start()
    sys.exit(main())
