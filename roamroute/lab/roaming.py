"""`roamroute run` on every access point, with a configuration as an operator would write it."""

from __future__ import annotations

import secrets
import select
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roamroute.config import parse_config
from roamroute.errors import DaemonGone
from roamroute.lab import addresses
from roamroute.lab.modes import MODES, Mode
from roamroute.lab.namespaces import Process
from roamroute.lab.topology import Mesh, Router
from roamroute.lab.waiting import NotReached
from roamroute.lab.wifi import AccessPointDaemon
from roamroute.sysctl import sysctl_fragment

READY_LIMIT_S = 30.0
PEERS_PORT = 4544
CONTROL_SOCKET = "control.sock"

Table = Mapping[str, Any]


class RoamrouteDaemon:
    """roamroute on one access point. `tables` is its configuration: table name to keys, dots in the name allowed."""

    def __init__(self, access_point: Router, tables: Mapping[str, Table], command: Sequence[str] = ()) -> None:
        self.access_point = access_point
        self.directory = access_point.namespace.sandbox.subdirectory(f"{access_point.name}/roamroute")
        self.configuration = self.directory / "roamroute.toml"
        self.log = self.directory / "roamroute.log"
        self.control_socket = self.directory / CONTROL_SOCKET
        self.process: Process | None = None
        self._command = tuple(command) or (sys.executable, "-m", "roamroute", "run")
        self._notifications: socket.socket | None = None
        self.configuration.write_text(toml_text(tables))

    def start(self) -> None:
        """Start it; `wait_ready` then says when it is in sync."""
        path = self.directory / "notify"
        path.unlink(missing_ok=True)
        self._notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notifications.bind(str(path))
        self.access_point.namespace.sandbox.on_close(self._notifications.close)
        self.process = self.access_point.namespace.start(
            *self._command,
            "-c",
            str(self.configuration),
            log=self.log,
            environment={"NOTIFY_SOCKET": str(path)},
        )

    def wait_ready(self) -> None:
        """Wait for READY=1, as systemd would. Raises: NotReached, DaemonGone, with the end of its log."""
        if self.process is None or self._notifications is None:
            raise NotReached(f"roamroute on {self.access_point.name} has not been started")
        deadline = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if select.select([self._notifications], [], [], 0.1)[0] and b"READY=1" in self._notifications.recv(4096):
                return
        self.raise_if_ended()
        raise NotReached(f"roamroute on {self.access_point.name} is not ready; its log ends:\n{self._log_end()}")

    def raise_if_ended(self) -> None:
        """Raises: DaemonGone, with the end of its log."""
        if self.process is not None and (code := self.process.poll()) is not None:
            what = f"roamroute on {self.access_point.name} ended with exit code {code}"
            raise DaemonGone(f"{what}; its log ends:\n{self._log_end()}")

    def stop(self) -> None:
        """A clean stop: it withdraws its routes."""
        if self.process is not None:
            self.access_point.namespace.sandbox.stop(self.process)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def daemon_tables(
    mesh: Mesh,
    access_point: Router,
    hostapd: AccessPointDaemon,
    *,
    exporter: str,
    exporter_settings: Table,
    key_file: Path,
    mode: Mode = MODES["roamroute"],
    more_peers: Sequence[Router] = (),
) -> dict[str, Table]:
    """The configuration of one access point, as an operator would write it for this mode.

    Its peers are the other access points, and `more_peers`.
    """
    directory = mesh.sandbox.subdirectory(f"{access_point.name}/roamroute")
    tables: dict[str, Table] = {
        "roaming": {
            "interfaces": [addresses.CLIENT_LINK],
            "prefixes": [str(addresses.ROAMING_PREFIX), str(addresses.ROAMING_PREFIX_IPV4)],
            "exporter": exporter,
        },
        "stations": {"source": "none"}
        if access_point.dumb is not None
        else {"source": "hostapd", "hostapd_dir": str(hostapd.control_directory)},
        "control": {"socket": str(directory / CONTROL_SOCKET)},
    }
    if exporter_settings:
        tables[f"exporters.{exporter}"] = exporter_settings
    if not mode.has_packet_source:
        tables["packets"] = {"enabled": False}
    if mode.has_peers:
        others = [other for other in mesh.access_points if other is not access_point]
        tables["peers"] = _peers_table(access_point, [*others, *more_peers], key_file)
    if mode.handover:
        tables["handover"] = mode.handover
    return tables


def apply_neighbour_times(access_point: Router, tables: Mapping[str, Table]) -> None:
    """Set what `roamroute config sysctl` says for the client links, as an operator would; the rest is the machine's."""
    config = parse_config(toml_text(tables))
    wanted = tuple(f".neigh.{link}." for link in config.roaming.interfaces)
    lines = [line for line in sysctl_fragment(config).splitlines() if any(each in line for each in wanted)]
    access_point.namespace.sysctl(dict(line.split(" = ") for line in lines))


def router_tables(mesh: Mesh, router: Router, key_file: Path, mode: Mode) -> dict[str, Table]:
    """The configuration of a router without clients that is a peer of the access points."""
    directory = mesh.sandbox.subdirectory(f"{router.name}/roamroute")
    tables: dict[str, Table] = {
        "roaming": {"interfaces": [], "prefixes": [str(addresses.ROAMING_PREFIX), str(addresses.ROAMING_PREFIX_IPV4)]},
        "control": {"socket": str(directory / CONTROL_SOCKET)},
        "peers": _peers_table(router, mesh.access_points, key_file),
    }
    if mode.handover:
        tables["handover"] = mode.handover
    return tables


def _peers_table(router: Router, others: Sequence[Router], key_file: Path) -> Table:
    return {
        "address": str(router.address),
        "addresses": [str(other.address) for other in others],
        "key_file": str(key_file),
        "port": PEERS_PORT,
    }


def write_key(directory: Path) -> Path:
    """A fresh key for the peers, as `key_file` wants it: 32 bytes, hex, readable by root only."""
    path = directory / "peers.key"
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32) + "\n")
    return path


def toml_text(tables: Mapping[str, Table]) -> str:
    """Tables of plain values as TOML."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
