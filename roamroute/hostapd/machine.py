"""hostapd on this machine: which BSS feeds which interface, what `check` finds, what `config hostapd` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from roamroute.errors import DaemonGone
from roamroute.export import Finding
from roamroute.hostapd.connection import ControlConnection
from roamroute.hostapd.protocol import read_fields

SYS_CLASS_NET = Path("/sys/class/net")
_SUBJECT = "hostapd"


def roaming_link_of(interfaces: Iterable[str], sys_class_net: Path = SYS_CLASS_NET) -> Callable[[str], str | None]:
    """Make the function that names the roaming interface of a BSS: the BSS itself, or the bridge that it is a port of.

    It looks at every call, because a BSS joins its bridge only when hostapd starts it. None: it is none of ours.
    """
    roaming = frozenset(interfaces)

    def link_of(bss: str) -> str | None:
        if bss in roaming:
            return bss
        try:
            bridge = (sys_class_net / bss / "master").readlink().name
        except OSError:
            return None
        return bridge if bridge in roaming else None

    return link_of


async def check_hostapd(
    directory: Path, link_of: Callable[[str], str | None], interfaces: Iterable[str]
) -> tuple[Finding, ...]:
    """What `roamroute check` says of hostapd: is it reachable, and does it serve every roaming interface?"""
    try:
        paths = _sockets(directory)
    except FileNotFoundError:
        return (_missing(directory, "does not exist"),)
    except OSError as error:
        return (_missing(directory, f"cannot be read: {(error.strerror or str(error)).lower()}"),)
    findings: list[Finding] = []
    served: set[str] = set()
    for path in paths:
        link = link_of(path.name)
        if link is None:
            findings.append(Finding("ok", _SUBJECT, f"{path.name} belongs to no roaming interface and is ignored"))
            continue
        finding = await _check_bss(path, link)
        findings.append(finding)
        if finding.level == "ok":
            served.add(link)
    for interface in sorted(set(interfaces) - served):
        findings.append(
            Finding(
                "error",
                _SUBJECT,
                f"no BSS that answers in {directory} belongs to {interface}: associations there are not seen",
                f"put ctrl_interface={directory} into hostapd.conf and, where {interface} is a bridge, "
                f'bridge={interface}; or set source = "none" under [stations] if no hostapd runs there',
            )
        )
    return tuple(findings)


def hostapd_fragment(directory: Path, interfaces: Iterable[str]) -> str:
    """What `roamroute config hostapd` prints: lines to be added to each BSS of hostapd.conf."""
    lines = [
        "# For roamroute. hostapd.conf has no include: add these lines to every BSS whose stations roam",
        "# (after interface=... for the first BSS, after each bss=... for the others).",
        "",
        "# roamroute listens here for AP-STA-CONNECTED and AP-STA-DISCONNECTED; it is hostapd_dir of its [stations].",
        f"ctrl_interface={directory}",
        "",
        "# Stations reach each other through the router, not through the access point: that is what a route for each",
        "# host means, and with L=0 in the router advertisements they expect nothing else.",
        "ap_isolate=1",
        "",
    ]
    for interface in interfaces:
        lines += [
            f"# If {interface} is a bridge; leave it out if {interface} is the wireless interface itself.",
            f"#bridge={interface}",
            "",
        ]
    lines += [
        "# Not needed, and of use: a station whose frames are not acknowledged any more is dropped at once, and one",
        "# that has been silent is asked earlier than after the default of 300 s.",
        "#disassoc_low_ack=1",
        "#ap_max_inactivity=60",
    ]
    return "\n".join(lines) + "\n"


def _sockets(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_socket())


async def _check_bss(path: Path, link: str) -> Finding:
    try:
        connection = ControlConnection(path, lambda _: None)
    except DaemonGone as error:
        return _unreachable(path, str(error))
    try:
        if (reply := await connection.request("PING")) != "PONG":
            return _unreachable(path, f"it answers PING with {reply[:60]!r}")
        state = read_fields(await connection.request("STATUS")).get("state", "unknown")
    except DaemonGone as error:
        return _unreachable(path, str(error))
    finally:
        connection.close()
    if state != "ENABLED":
        return Finding("warning", _SUBJECT, f"{path.name} for {link} answers, but its state is {state}")
    return Finding("ok", _SUBJECT, f"{path.name} for {link} answers and is enabled")


def _missing(directory: Path, reason: str) -> Finding:
    return Finding(
        "error",
        _SUBJECT,
        f"{directory} {reason}: associations are not seen",
        f"start hostapd with ctrl_interface={directory}, or set hostapd_dir under [stations] to its directory",
    )


def _unreachable(path: Path, reason: str) -> Finding:
    return Finding(
        "error",
        _SUBJECT,
        f"{path.name} does not answer: {reason}",
        "is hostapd running, in this network namespace? restart it; a socket left by a crash is replaced",
    )
