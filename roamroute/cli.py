"""The command line. Exit codes: 0 well, 1 the environment or a check failed, 2 usage or configuration error.

Heavy imports (netlink, rich, the lab) stand inside the commands that need them: `status` must not pay for `run`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from roamroute import __version__
from roamroute.config import DEFAULT_PATH, DEFAULT_SOCKET, Config, read_config
from roamroute.errors import ConfigError, RoamrouteError

OK, FAILED, USAGE = 0, 1, 2
_FRAGMENTS = ("hostapd", "nftables", "radvd", "sysctl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if arguments[:1] == ["lab"]:  # it has options of its own, and argparse would look at them first
            return _lab(arguments[1:])
        options = _parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"roamroute: {mistake}", file=sys.stderr)
        return USAGE
    except RoamrouteError as error:
        print(f"roamroute: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nothing to say, and nobody to say it to
        return FAILED
    except KeyboardInterrupt:
        return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="roamroute", description="Host routes for roaming Wi-Fi clients on routed meshes."
    )
    parser.add_argument("--version", action="version", version=f"roamroute {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], int], text: str, **kinds: bool
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(command=command)
        is_required = kinds.get("needs_file", False)
        sub.add_argument(
            "-c",
            "--config",
            type=Path,
            metavar="FILE",
            required=is_required,
            help=f"configuration file ({DEFAULT_PATH})",
        )
        if kinds.get("has_json", False):
            sub.add_argument("--json", action="store_true", help="print JSON, in the stable form of docs/json.md")
        return sub

    add("run", _run, "run the daemon in the foreground", needs_file=True)
    add("check", _check, "check the file and the machine, and say what to do", needs_file=True, has_json=True)
    add("status", _status, "show hosts, routes, peers and the exporter", has_json=True)
    add("watch", _watch, "follow events and effects until interrupted", has_json=True)
    drain = add("drain", _drain, "withdraw everything and hold, for maintenance")
    drain.add_argument("--resume", action="store_true", help="end the drain")
    fragment = add("config", _config, "print what another program needs", needs_file=True)
    fragment.add_argument("program", metavar="PROGRAM", help="hostapd, nftables, radvd, sysctl, or an exporter's name")
    commands.add_parser("lab", help="an emulated mesh with real daemons on this machine; see roamroute lab --help")
    return parser


def _load(options: argparse.Namespace) -> Config:
    return read_config(options.config or DEFAULT_PATH)


def _socket_of(options: argparse.Namespace) -> Path:
    """The control socket; without a file to say otherwise, the usual one."""
    if options.config is None and not DEFAULT_PATH.exists():
        return Path(DEFAULT_SOCKET)
    return Path(_load(options).control.socket)


# -- the daemon -----------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    config = _load(options)
    from roamroute import logs
    from roamroute.daemon import Daemon
    from roamroute.export import find_exporter

    logs.configure(config.log.level)
    spec = find_exporter(config.roaming.exporter)
    asyncio.run(Daemon(config, spec).run())
    return OK


def _check(options: argparse.Namespace) -> int:
    config = _load(options)
    from roamroute.check import check_machine
    from roamroute.export import find_exporter

    findings = asyncio.run(check_machine(config, find_exporter(config.roaming.exporter)))
    if options.json:
        import attrs

        print(json.dumps({"findings": [attrs.asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            print(f"{finding.level:8} {finding.subject}: {finding.text}")
            if finding.remedy and finding.level != "ok":
                print(f"{'':8}   -> {finding.remedy}")
    return FAILED if any(finding.level == "error" for finding in findings) else OK


# -- asking the daemon ----------------------------------------------------------------------------------------------


def _status(options: argparse.Namespace) -> int:
    from roamroute import control

    status = control.ask(_socket_of(options), "status")
    if options.json:
        print(json.dumps(status, indent=2))
    else:
        from roamroute.tables import print_status

        print_status(status)
    return OK


def _watch(options: argparse.Namespace) -> int:
    from roamroute import control

    for answer in control.stream(_socket_of(options), "watch"):
        if options.json:
            print(json.dumps(answer), flush=True)
        elif answer["kind"] in ("event", "effect", "discovery"):
            arrow = {"event": "<-", "effect": "->"}.get(answer["kind"], "--")
            print(f"{_clock(answer['time'])} {arrow} {answer['line']}", flush=True)
        elif answer["kind"] == "handover":
            print(f"{_clock(time.time())} == {answer['line']}", flush=True)
        elif answer["kind"] == "dropped":
            print(f"... {answer['count']} lines were dropped: this terminal is too slow", flush=True)
    print("roamroute: the daemon has stopped", file=sys.stderr)
    return FAILED


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{int(seconds % 1 * 1000):03d}"


def _drain(options: argparse.Namespace) -> int:
    from roamroute import control

    answer = control.ask(_socket_of(options), "resume" if options.resume else "drain")
    print("drained: everything is withdrawn until --resume" if answer["is_drained"] else "resumed")
    return OK


# -- fragments and the lab ------------------------------------------------------------------------------------------


def _config(options: argparse.Namespace) -> int:
    config = _load(options)
    if options.program == "sysctl":
        from roamroute.sysctl import sysctl_fragment

        print(sysctl_fragment(config), end="")
    elif options.program == "nftables":
        from roamroute.redirects import nftables_fragment

        print(nftables_fragment(), end="")
    elif options.program == "radvd":
        from roamroute.radvd import radvd_fragment

        print(radvd_fragment(config), end="")
    elif options.program == "hostapd":
        from roamroute.hostapd import hostapd_fragment

        print(hostapd_fragment(Path(config.stations.hostapd_dir), config.roaming.interfaces), end="")
    else:
        print(_exporter_fragment(config, options.program), end="")
    return OK


def _exporter_fragment(config: Config, name: str) -> str:
    from roamroute.export import exporter_names, find_exporter

    if name not in exporter_names():
        known = ", ".join([*(each for each in exporter_names() if each != "kernel"), *_FRAGMENTS])
        raise ConfigError((f'config: nothing is known of "{name}"; known: {known}',))
    spec = find_exporter(name)
    if spec.config is None:
        raise ConfigError((f'config: the exporter "{name}" needs no configuration elsewhere',))
    return spec.config(spec.parse(config.exporters.get(name, {})), config.printing_context(name))


def _lab(arguments: Sequence[str]) -> int:
    from roamroute.lab.cli import main as lab_main

    return lab_main(arguments)
