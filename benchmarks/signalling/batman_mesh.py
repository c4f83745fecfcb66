"""batman-adv's traffic on the link of an access point, measured inside the Wi-Fi lab's kernel: run by `batman.py`.

    python3 batman_mesh.py ACCESS_POINTS CLIENTS MOVES_PER_SECOND SECONDS

A tree: a gateway, routers with at most 7 access points each, each node a network namespace with a bat0 over veth pairs,
BATMAN IV with its defaults. (A router with 50 links loses most of its messages: batman-adv queues at most 256, main.h.)
A client is a MAC address that has sent a frame through an access point's bat0; it moves by sending one through
another's. Prints JSON: octets and frames per second and access point, and those of an average link between gateway and
router, without the 14 octets of Ethernet, at rest and while clients move; and the share of clients to which frames from
elsewhere find their way. Needs nothing but Python and iproute2.
"""

import ctypes
import json
import os
import random
import socket
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
LOCAL_EXPERIMENTAL = b"\x88\xb5"
NOBODY = b"\x02\xff\xff\xff\xff\xff"
ETHERNET_BYTES = 14
SETTLE_S = 30
ACCESS_POINTS_PER_ROUTER = 7
Frame = bytes
Counters = list[int]


def main() -> None:
    access_points, clients, per_second, seconds = (
        int(sys.argv[1]),
        int(sys.argv[2]),
        float(sys.argv[3]),
        int(sys.argv[4]),
    )
    numbers = range(1, access_points + 1)
    groups = {"": [f"n{number}" for number in numbers], "inner_": build(numbers)}
    doors = {number: opened(f"n{number}") for number in numbers}
    time.sleep(10)
    place = {client: client % access_points + 1 for client in range(clients)}
    for client, number in place.items():
        doors[number].send(frame(NOBODY, mac_of(client)))
    time.sleep(SETTLE_S)
    measured = {"reached_at_rest": reached(doors, place)}
    before = {group: counters(names) for group, names in groups.items()}
    time.sleep(seconds)
    for group, names in groups.items():
        measured |= rates(f"{group}idle", before[group], counters(names), seconds, len(names))
    before = {group: counters(names) for group, names in groups.items()}
    move(doors, place, per_second, seconds)
    for group, names in groups.items():
        measured |= rates(f"{group}moving", before[group], counters(names), seconds, len(names))
    time.sleep(SETTLE_S)
    measured["reached_after"] = reached(doors, place)
    print(json.dumps(measured))


def move(doors: dict[int, socket.socket], place: dict[int, int], per_second: float, seconds: int) -> None:
    """Any client, to any other access point."""
    choice = random.Random(44)
    begun = time.monotonic()
    for step in range(round(seconds * per_second)):
        time.sleep(max(0.0, begun + step / per_second - time.monotonic()))
        client = choice.randrange(len(place))
        place[client] = choice.choice([number for number in doors if number != place[client]])
        doors[place[client]].send(frame(NOBODY, mac_of(client)))
    time.sleep(max(0.0, begun + seconds - time.monotonic()))


def build(numbers: range) -> list[str]:
    """Gateway gw, routers r0, r1, ... and access points n1, n2, ...; nothing but batman-adv speaks on the links.

    Returns the routers: each has a link `mesh` to the gateway, as each access point has one to its router.
    """
    above = {f"n{number}": f"r{(number - 1) // ACCESS_POINTS_PER_ROUTER}" for number in numbers}
    above |= dict.fromkeys(above.values(), "gw")
    names = ["gw", *above]
    ip("", [f"netns add {name}" for name in names])
    for name in names:
        settings = [f"net.ipv6.conf.{scope}.disable_ipv6=1" for scope in ("all", "default")]
        subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", *settings], check=True)
        ip(name, ["link add bat0 type batadv"])
    for lower, upper in above.items():
        ip(upper, [f"link add {lower} type veth peer name mesh netns {lower}", f"link set {lower} master bat0 up"])
        ip(lower, ["link set mesh master bat0 up"])
    for name in names:
        ip(name, ["link set bat0 up"])
    return [name for name, upper in above.items() if upper == "gw"]


def ip(namespace: str, lines: list[str]) -> None:
    where = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def opened(namespace: str) -> socket.socket:
    """A packet socket on bat0 of the namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    home, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if libc.setns(there, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns {namespace}")
    door = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    door.bind(("bat0", 0x88B5))
    libc.setns(home, CLONE_NEWNET)
    os.close(home)
    os.close(there)
    door.settimeout(1.0)
    return door


def mac_of(client: int) -> bytes:
    return b"\x02\x00\x5e" + client.to_bytes(3, "big")


def frame(destination: bytes, source: bytes) -> Frame:
    return destination + source + LOCAL_EXPERIMENTAL + bytes(46)


def reached(doors: dict[int, socket.socket], place: dict[int, int]) -> float:
    """The share of some clients to which a frame from another access point's client finds its way."""
    choice = random.Random(1)
    found, asked = 0, 0
    for client in choice.sample(sorted(place), min(50, len(place))):
        source = choice.choice([other for other in place if place[other] != place[client]])
        sent = frame(mac_of(client), mac_of(source))
        doors[place[source]].send(sent)
        asked += 1
        try:
            while doors[place[client]].recv(2048)[:14] != sent[:14]:
                pass
            found += 1
        except TimeoutError:
            pass
    return found / asked


def counters(names: list[str]) -> Counters:
    """Octets and frames sent, then received, by all of them together on the link to what is above them."""
    total = [0, 0, 0, 0]
    for name in names:
        shown = subprocess.run(
            ["ip", "-n", name, "-j", "-s", "link", "show", "mesh"], capture_output=True, text=True, check=True
        )
        told = json.loads(shown.stdout)[0]["stats64"]
        for position, (direction, what) in enumerate((d, w) for d in ("tx", "rx") for w in ("bytes", "packets")):
            total[position] += told[direction][what]
    return total


def rates(name: str, before: Counters, after: Counters, seconds: float, share: int) -> dict[str, float]:
    sent_octets, sent, received_octets, received = (
        (now - then) / seconds / share for now, then in zip(after, before, strict=True)
    )
    return {
        f"{name}_sent_octets": sent_octets - ETHERNET_BYTES * sent,
        f"{name}_sent_frames": sent,
        f"{name}_received_octets": received_octets - ETHERNET_BYTES * received,
        f"{name}_received_frames": received,
    }


if __name__ == "__main__":
    main()
