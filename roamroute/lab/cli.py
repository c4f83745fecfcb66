"""The command `roamroute lab`: its options, and what it prints."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from roamroute.errors import ConfigError, RoamrouteError
from roamroute.lab.options import MODES, LabOptions

DESCRIPTION = """\
Build an emulated mesh on this machine, in network namespaces and with the real daemons; roam a client from access
point to access point; print how long each direction was without packets after the layer-2 connection. Needs root.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `roamroute lab`."""
    defaults = LabOptions()
    parser.description = DESCRIPTION
    parser.add_argument(
        "--roams", type=_positive, default=defaults.roams, metavar="N", help="roams of each kind of client"
    )
    parser.add_argument("--aps", type=_access_points, default=defaults.access_points, metavar="N", help="access points")
    parser.add_argument(
        "--addresses", type=_positive, default=defaults.addresses, metavar="N", help="addresses of a client"
    )
    parser.add_argument("--loop", action="store_true", help="link the two routers, so that the mesh has a loop")
    parser.add_argument("--mode", choices=MODES, default="roamroute", help="who publishes the client's routes")
    parser.add_argument(
        "--compare",
        choices=MODES,
        action="append",
        default=[],
        help="do the same in this mode after it; may be repeated",
    )
    parser.add_argument(
        "--compare-roams", type=_positive, metavar="N", help="roams in the modes to compare with (default: as many)"
    )
    behaviour = parser.add_mutually_exclusive_group()
    behaviour.add_argument("--silent", action="store_true", help="only a client that receives and never sends")
    behaviour.add_argument("--talk", action="store_true", help="only a client that sends, and downloads by TCP")
    parser.add_argument(
        "--routing", default="", metavar="NAME", help="the exporter whose routing daemon carries the routes"
    )
    parser.add_argument("--daemon", metavar="COMMAND", help="the routing daemon: a path or a command line")
    parser.add_argument("--hello-interval", metavar="S", help="the routing daemon's hello interval (default: its own)")
    parser.add_argument(
        "--routing-option", action="append", default=[], metavar="KEY=VALUE", help="passed to the exporter's lab hooks"
    )
    parser.add_argument(
        "--pps", type=float, default=defaults.packets_per_second, metavar="N", help="packets a second in each direction"
    )
    parser.add_argument(
        "--limit", type=float, default=defaults.limit_s, metavar="S", help="a roam that takes longer has failed"
    )
    parser.add_argument("--dwell", type=float, default=defaults.dwell_s, metavar="S", help="seconds between two roams")
    parser.add_argument(
        "--disassociate", action="store_true", help="the client says good-bye to the old access point; real ones do not"
    )
    parser.add_argument("--ipv4", action="store_true", help="the client has an IPv4 address too")
    parser.add_argument(
        "--first-visits",
        action="store_true",
        help="fresh clients all along, so that half of the roams are first visits",
    )
    parser.add_argument("--seed", type=int, default=defaults.seed, metavar="N", help="decides where the client goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report with every roam")
    parser.add_argument(
        "--keep-logs", type=Path, metavar="DIR", help="copy configurations and logs of all daemons there"
    )
    parser.add_argument("--quiet", action="store_true", help="no line for every roam")


def options_from(arguments: argparse.Namespace) -> LabOptions:
    """The options of a run. Raises: ConfigError for a `--routing-option` without "="."""
    routing_options = {}
    for text in arguments.routing_option:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError((f"--routing-option: must be KEY=VALUE, not {text!r}",))
        routing_options[key] = value
    if arguments.daemon is not None:
        routing_options["command"] = arguments.daemon
    if arguments.hello_interval is not None:
        routing_options["hello-interval"] = arguments.hello_interval
    behaviours = ("silent",) if arguments.silent else ("talking",) if arguments.talk else ("silent", "talking")
    return LabOptions(
        modes=tuple(dict.fromkeys([arguments.mode, *arguments.compare])),
        behaviours=behaviours,
        roams=arguments.roams,
        compare_roams=arguments.compare_roams,
        access_points=arguments.aps,
        addresses=arguments.addresses,
        routing=arguments.routing,
        routing_options=routing_options,
        packets_per_second=arguments.pps,
        dwell_s=arguments.dwell,
        limit_s=arguments.limit,
        has_loop=arguments.loop,
        is_polite=arguments.disassociate,
        has_ipv4=arguments.ipv4,
        first_visits=arguments.first_visits,
        seed=arguments.seed,
        json_file=arguments.json,
        log_directory=arguments.keep_logs,
    )


def main(arguments: Sequence[str], program: str = "roamroute lab") -> int:
    """Run the lab and print its report. 0: every roam came back, and every download was right; 1: not so, or no lab.

    `arguments` are the words after the program's name. Ends the process with 2 for a wrong option.
    """
    from rich.console import Console

    from roamroute.lab import run_lab

    parser = argparse.ArgumentParser(prog=program)
    add_arguments(parser)
    chosen = parser.parse_args(arguments)
    errors = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        options = options_from(chosen)
        report = run_lab(
            options, progress=lambda line: None if chosen.quiet else errors.print(line, style="dim", soft_wrap=True)
        )
    except ConfigError as error:
        errors.print(f"{program}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except RoamrouteError as error:
        errors.print(f"{program}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        errors.print(f"{program}: interrupted; everything has been removed", style="red")
        return 1
    report.print(Console(width=None if sys.stdout.isatty() else 140))
    if options.json_file is not None:
        report.write_json(options.json_file)
    return 0 if report.is_well() else 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {shlex.quote(text)}")
    return value


def _access_points(text: str) -> int:
    value = int(text)
    if not 2 <= value <= 99:
        raise argparse.ArgumentTypeError(f"must be 2 to 99, not {shlex.quote(text)}")
    return value
