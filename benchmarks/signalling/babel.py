"""What babeld sends and receives on an access point's link for the host routes of a whole mesh, at its default timers.

    ap --- r --- east        100 routes are the access point's own; the others come from east and west, half each.
            \\--- west

A host that moves is a route added at one end and, a moment later, removed at the other. Kernel routes of protocol 144,
`redistribute`d, as the kernel exporter makes them; nothing of roamroute runs.
"""

from __future__ import annotations

import random
import subprocess
import time
from ipaddress import IPv6Address

import attrs
from roamroute_babeld.lab import BabeldLab

from benchmarks.signalling.counted import Rate, count, start_counting
from roamroute.lab.namespaces import Namespace, Process, Sandbox
from roamroute.lab.waiting import wait_until
from roamroute.values import Seconds

PORT = 6696
FIRST = int(IPv6Address("fd44:0:0:1::1:0"))
CONVERGED_LIMIT_S: Seconds = 120.0
OVERLAP_S: Seconds = 0.02
"""The new access point announces, the old one withdraws after a claim has reached it."""
CONFIGURATION = """\
redistribute local deny
redistribute proto 144 allow
redistribute deny
"""


@attrs.frozen
class BabelCost:
    """On the link of the access point: at rest, and while hosts move."""

    version: str
    idle: Rate
    moving: Rate


def measure(
    command: str, *, routes: int, own: int, moves_per_second: float, idle_s: Seconds, moving_s: Seconds
) -> BabelCost:
    """Run four babelds. Raises: NotReached, MachineUnfit."""
    version = BabeldLab().version({"command": command})
    with Sandbox() as sandbox:
        ap, r, east, west = sandbox.namespaces(["ap", "r", "east", "west"])
        for end in (ap, east, west):
            r.ip(
                f"link add {end.label} type veth peer name mesh netns {end.name}",
                f"link set {end.label} up",
            )
            end.ip("link set mesh up", "link add wlan0 type bridge", "link set wlan0 up")
            start_counting(end, PORT)
        for namespace in (ap, r, east, west):
            _start_babeld(sandbox, namespace, command)
        numbers = list(range(routes))
        place: dict[int, Namespace] = dict.fromkeys(numbers[:own], ap)
        place |= {number: (east, west)[number % 2] for number in numbers[own:]}
        for end in (ap, east, west):
            end.ip(*(_line("add", number) for number in numbers if place[number] is end))
        wait_until(lambda: _learned(ap) == routes - own, "every route has arrived", CONVERGED_LIMIT_S, poll_s=1.0)
        time.sleep(20)  # what a new route sets off: repeated updates, acknowledgements, requests
        before = count(ap)
        time.sleep(idle_s)
        idle = count(ap).since(before)
        before = count(ap)
        _move(sandbox, (ap, east, west), place, own / routes, moves_per_second, moving_s)
        return BabelCost(version, idle, count(ap).since(before))


def _start_babeld(sandbox: Sandbox, namespace: Namespace, command: str) -> None:
    directory = sandbox.subdirectory(namespace.label)
    namespace.sysctl({"net.ipv6.conf.all.forwarding": 1})
    configuration = directory / "babeld.conf"
    configuration.write_text(CONFIGURATION)
    links = ["ap", "east", "west"] if namespace.label == "r" else ["mesh"]
    state = ("-S", str(directory / "state"), "-I", str(directory / "pid"))
    namespace.start(command, *state, "-c", str(configuration), *links, log=directory / "babeld.log")


def _learned(namespace: Namespace) -> int:
    return namespace.run("ip", "-6", "route", "show", "proto", "babel").count(" via ")


def _line(verb: str, number: int) -> str:
    return f"route {verb} {IPv6Address(FIRST + number)}/128 dev wlan0 proto 144 metric 8"


def _move(
    sandbox: Sandbox,
    ends: tuple[Namespace, Namespace, Namespace],
    place: dict[int, Namespace],
    own_share: float,
    per_second: float,
    duration: Seconds,
) -> None:
    """Move hosts between east and west, and now and then to or from ap, as often as chance would have it."""
    ap, east, west = ends
    choice = random.Random(44)
    hands = {end: _Hand(end) for end in ends}
    begun = time.monotonic()
    for step in range(round(duration * per_second)):
        number = choice.choice(list(place))
        former = place[number]
        others = (west if former is east else east) if former is not ap else choice.choice((east, west))
        new = ap if former is not ap and choice.random() < own_share else others
        time.sleep(max(0.0, begun + step / per_second - time.monotonic()))
        hands[new].do(_line("replace", number))
        time.sleep(OVERLAP_S)
        hands[former].do(_line("del", number))
        place[number] = new
    time.sleep(max(0.0, begun + duration - time.monotonic()))
    sandbox.stop(*(hand.process for hand in hands.values()))


class _Hand:
    """One `ip -batch` that is kept, because starting one takes longer than a move may."""

    def __init__(self, namespace: Namespace) -> None:
        self.process: Process = namespace.start("ip", "-force", "-batch", "-", stdin=subprocess.PIPE)

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
