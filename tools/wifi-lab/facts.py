"""What roamroute rests on, asked of the real hostapd, wpa_supplicant and mac80211. Prints a line for each fact.

Exit code 1 when one of them is not so.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import AccessPoint, Bench
from namespaces import wait_until

LOGS = Path("/shared")
_failed = 0


def fact(is_so: bool, text: str, figures: str = "") -> None:
    global _failed
    _failed += not is_so
    print(f"{'yes' if is_so else 'NO '}  {text}{'    ' + figures if figures else ''}", flush=True)


def exit_code() -> int:
    return 1 if _failed else 0


def spread(seconds: Sequence[float]) -> str:
    ms = sorted(1000 * each for each in seconds)
    return f"min/median/max {ms[0]:.1f}/{statistics.median(ms):.1f}/{ms[-1]:.1f} ms of {len(ms)}" if ms else "none"


class StationLog:
    """What the nl80211 source of one access point has emitted, and the bare notifications of `iw event`."""

    def __init__(self, ap: AccessPoint) -> None:
        self._path = LOGS / f"nl80211-{ap.name}.log"
        self._raw = LOGS / f"iw-{ap.name}.log"
        ap.namespace.start(sys.executable, "/shared/stations.py", ap.link, log=str(self._path))
        ap.namespace.start("stdbuf", "-oL", "iw", "event", "-t", log=str(self._raw))
        wait_until(lambda: "resynced" in self._text(), f"the nl80211 source of {ap.name} begins", 10)

    def _text(self) -> str:
        return self._path.read_text() if self._path.exists() else ""

    def events(self, since: float) -> list[tuple[float, str]]:
        lines = (line.split() for line in self._text().splitlines())
        return [(float(line[0]), line[1]) for line in lines if float(line[0]) >= since]

    def notifications(self, since: float) -> list[tuple[float, str]]:
        """Of the kernel: (moment by the monotonic clock, "new" or "del")."""
        offset = time.time() - time.monotonic()
        found = []
        for line in self._raw.read_text().splitlines():
            stamp, _, text = line.partition(": ")
            if " station " in text and (moment := float(stamp) - offset) >= since - 0.001:
                found.append((moment, text.split(": ")[-1].split()[0]))
        return found


class Air:
    """Every frame on the air, whoever it is for: the monitor of the simulated radios."""

    def __init__(self) -> None:
        subprocess.run(["ip", "link", "set", "hwsim0", "up"], check=True)
        self._path = LOGS / "air.pcap"
        with (LOGS / "tcpdump.log").open("wb") as log:
            subprocess.Popen(
                ["tcpdump", "-U", "--immediate-mode", "-i", "hwsim0", "-w", str(self._path)], stdout=log, stderr=log
            )
        wait_until(self._path.exists, "tcpdump begins", 10)

    def farewells(self, since: float, until: float) -> int:
        """How many deauthentication and disassociation frames."""
        time.sleep(0.2)
        offset = time.time() - time.monotonic()
        kinds = "type mgt subtype deauth or type mgt subtype disassoc"
        command = ["tcpdump", "-tt", "-nr", str(self._path), kinds]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        moments = [float(line.split()[0]) - offset for line in shown.stdout.splitlines()]
        return sum(since <= moment <= until for moment in moments)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=10, help="how often each is tried (10)")
    count = parser.parse_args().n
    air = Air()
    bench = Bench(LOGS, channels=(1, 1))
    recorder = bench.recorder
    recorder.start()
    ap1, ap2 = bench.access_points
    logs = {ap.name: StationLog(ap) for ap in (ap1, ap2)}
    mac = bench.client_mac
    bench.scan()
    bench.connect("ap1")
    time.sleep(1)

    # roams: ap2 for the first time, then again and again to one that still has the ghost
    farewells, told, orders, returns, early, late, handshakes, marks, removals = 0, 0, [], [], [], [], [], [], []
    for number in range(2 * count):
        new, old = (ap2, ap1) if number % 2 == 0 else (ap1, ap2)
        bench.scan()
        time.sleep(0.5)
        since = time.monotonic()
        connected = bench.roam(new.name)
        time.sleep(0.5)
        farewells += air.farewells(since, time.monotonic())
        told += recorder.first(old.name, "AP-STA-DISCONNECTED", since) is not None
        ghost = recorder.first(new.name, "AP-STA-DISCONNECTED", since)
        if ghost is not None:
            orders.append(ghost < connected)
            returns.append(connected - ghost)
        news = logs[new.name].notifications(since)
        appeared = next((moment for moment, kind in news if kind == "new"), None)
        if appeared is not None:
            early.append(connected - appeared)
            handshakes.append(sum(1 for moment, _ in news if moment > appeared))
        removals += [appeared - moment for moment, kind in news if kind == "del" and appeared is not None]
        emitted = logs[new.name].events(since)
        at = next((moment for moment, kind in emitted if kind == "connected"), None)
        if at is not None:
            late.append(at - connected)
        marks.append([kind for _, kind in emitted] in (["connected"], ["reauthenticating", "connected"]))
    total = 2 * count
    fact(
        farewells == 0,
        "a roaming station says good-bye to nobody: no deauthentication or disassociation on the air",
        f"{farewells} frames in {total} roams",
    )
    fact(told == 0, "the old access point's hostapd is told nothing", f"{told} AP-STA-DISCONNECTED in {total} roams")
    fact(
        len(orders) >= total - 2 and all(orders),
        "at re-authentication the new one's hostapd says AP-STA-DISCONNECTED (its ghost), then AP-STA-CONNECTED",
        f"{len(orders)} of {total}, {spread(returns)} between",
    )
    fact(len(early) == total, "NEW_STATION comes before AP-STA-CONNECTED", spread(early))
    fact(
        not any(handshakes), "nothing is notified when the station becomes authorised", f"{sum(handshakes)} in {total}"
    )
    fact(bool(removals), "DEL_STATION and NEW_STATION of a re-authentication follow at once", spread(removals))
    fact(
        all(marks) and len(late) == total,
        "the nl80211 source says connected once a roam, and reauthenticating, never left, for the ghost",
        f"connected after AP-STA-CONNECTED: {spread(late)}",
    )

    # ghosts: dropped without a frame, and with one, which shows that the monitor would have seen it
    current, ghost_ap = ap1, ap2  # after an even number of roams
    for tail, what in (("tx=0", "without"), ("", "with")):
        since = time.monotonic()
        answer = ghost_ap.control.request(f"DEAUTHENTICATE {mac} {tail}".strip())
        time.sleep(1)
        sent = air.farewells(since, time.monotonic())
        status = bench.supplicant.request("STATUS")
        is_well = "wpa_state=COMPLETED" in status and current.bssid in status and mac in current.stations()
        replies = bench.client.run("ping", "-c3", "-i0.2", "-W1", "fe80::1%wlan0").count("bytes from")
        is_right = answer == "OK" and (sent == 0 if tail else sent > 0)
        fact(
            is_right and is_well and replies == 3,
            f"DEAUTHENTICATE {'tx=0 ' if tail else ''}of a ghost: {what} a frame, and the station stays where it is",
            f"{sent} frames, the ghost is {'gone' if mac not in ghost_ap.stations() else 'still in the kernel'}, "
            f"3 pings: {replies} answers; nl80211 source: {[kind for _, kind in logs[ghost_ap.name].events(since)]}",
        )
        bench.scan()
        time.sleep(0.3)
        since = time.monotonic()
        bench.roam(ghost_ap.name)
        time.sleep(0.3)
        said = [each.text.split()[0] for each in recorder.sayings if each.at >= since and each.who == ghost_ap.name]
        fact("AP-STA-DISCONNECTED" not in said, "… and its return there is that of a stranger", " ".join(said))
        current, ghost_ap = ghost_ap, current

    # a quick return
    away = []
    for _ in range(count):
        bench.scan()
        since = time.monotonic()
        bench.roam(ghost_ap.name)
        back = bench.roam(current.name)
        away.append(back - since)
        time.sleep(0.5)
    fact(max(away) < 1, "there and back again within a second works", spread(away))

    # who is not authorised is not connected
    since = time.monotonic()
    bench.supplicant.request('SET_NETWORK 0 psk "not the passphrase"')
    bench.supplicant.request("REASSOCIATE")
    time.sleep(3)
    tried = sum(len(log.notifications(since)) for log in logs.values())
    connected_events = [kind for log in logs.values() for _, kind in log.events(since) if kind == "connected"]
    fact(
        tried > 0 and not connected_events,
        "a station with a wrong passphrase is notified, but never said to be connected",
        f"{tried} notifications, {len(connected_events)} events",
    )
    return exit_code()


if __name__ == "__main__":
    sys.exit(main())
