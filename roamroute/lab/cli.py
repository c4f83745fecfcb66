"""The command `roamroute lab`: its options, and what it prints."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from roamroute.errors import ConfigError, RoamrouteError
from roamroute.lab.dumb import Stations
from roamroute.lab.installed import installed_routings
from roamroute.lab.modes import HANDOVERS, MODES
from roamroute.lab.options import LabOptions

if TYPE_CHECKING:
    from roamroute.lab.report import Report
    from roamroute.lab.survey import Survey

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
    parser.add_argument(
        "--stations",
        choices=[each.value for each in Stations],
        default=defaults.stations.value,
        help="who tells roamroute which stations are there: hostapd (the default); none: a plain bridge carries the "
        "Wi-Fi of every access point; mixed: of every second one",
    )
    parser.add_argument(
        "--no-update-frames",
        action="store_true",
        help="the bridges of --stations none and mixed send no layer-2 update frame for a new station; Linux' do",
    )
    parser.add_argument(
        "--trust-update-frames", action="store_true", help="roamroute takes a layer-2 update frame for an association"
    )
    parser.add_argument("--loop", action="store_true", help="link the two routers, so that the mesh has a loop")
    parser.add_argument("--mode", choices=MODES, default="roamroute", help="who publishes the client's routes")
    parser.add_argument(
        "--handover",
        choices=HANDOVERS,
        action="append",
        default=[],
        help="what the access points do for each other in mode roamroute: nothing and no peers, claims alone, or hints "
        "and forwarding too (the default); may be repeated: one after the other, on one mesh",
    )
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
        "--routing",
        action="append",
        default=[],
        metavar="NAME[,KEY=VALUE...]",
        help="the routing daemon and protocol that carry the routes, with options of its own; may be repeated: "
        "the same measurement with each, in one table (default: the first that is installed)",
    )
    parser.add_argument("--all", action="store_true", help="with every routing that is installed, in one table")
    parser.add_argument("--daemon", metavar="COMMAND", help="the routing daemon: as --routing-option command=COMMAND")
    parser.add_argument("--hello-interval", metavar="S", help="the routing daemon's hello interval (default: its own)")
    parser.add_argument(
        "--routing-option", action="append", default=[], metavar="KEY=VALUE", help="an option for every --routing"
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
    parser.add_argument(
        "--gateway-peer", action="store_true", help="the gateway runs roamroute too, as a peer without clients"
    )
    parser.add_argument(
        "--peer-loss",
        type=_percent,
        default=defaults.peer_loss_percent,
        metavar="PERCENT",
        help="lose so much of what the access points tell each other, at random",
    )
    parser.add_argument(
        "--delay",
        type=_milliseconds,
        default=defaults.link_delay_s,
        metavar="MS",
        help="what every link between two routers takes, in each direction; the server is two links away",
    )
    parser.add_argument(
        "--client-mtu",
        type=_client_mtu,
        default=defaults.client_mtu_bytes,
        metavar="BYTES",
        help="of the client's link; what an access point sends on grows by 40 bytes",
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


def runs_from(arguments: argparse.Namespace) -> list[LabOptions]:
    """What to do, one run for each routing. Raises: ConfigError for an option that makes no sense."""
    common = _pairs("--routing-option", arguments.routing_option)
    if arguments.hello_interval is not None:
        common["hello-interval"] = arguments.hello_interval
    routings: list[tuple[str, dict[str, str]]] = []
    if arguments.all:
        offers = installed_routings()
        routings += [(name, {}) for name in (*(routing.name for routing in offers.routings), *offers.broken)]
    for text in arguments.routing:
        name, *pairs = text.split(",")
        routings.append((name, _pairs(f"--routing {name}", pairs)))
    if arguments.daemon is not None:
        if len(routings) > 1:
            raise ConfigError(("--daemon: belongs to one routing; with several write --routing NAME,command=COMMAND",))
        common["command"] = arguments.daemon
    behaviours = ("silent",) if arguments.silent else ("talking",) if arguments.talk else ("silent", "talking")
    runs = [
        LabOptions(
            modes=_modes([arguments.mode, *arguments.compare], arguments.handover),
            behaviours=behaviours,
            roams=arguments.roams,
            compare_roams=arguments.compare_roams,
            access_points=arguments.aps,
            stations=Stations(arguments.stations),
            has_update_frames=not arguments.no_update_frames,
            are_update_frames_trusted=arguments.trust_update_frames,
            addresses=arguments.addresses,
            routing=name,
            routing_options={**common, **own},
            packets_per_second=arguments.pps,
            dwell_s=arguments.dwell,
            limit_s=arguments.limit,
            has_loop=arguments.loop,
            link_delay_s=arguments.delay,
            has_gateway_peer=arguments.gateway_peer,
            peer_loss_percent=arguments.peer_loss,
            client_mtu_bytes=arguments.client_mtu,
            is_polite=arguments.disassociate,
            has_ipv4=arguments.ipv4,
            first_visits=arguments.first_visits,
            seed=arguments.seed,
            json_file=arguments.json,
            log_directory=arguments.keep_logs,
        )
        for name, own in routings or [("", {})]
    ]
    return [run for position, run in enumerate(runs) if run not in runs[:position]]


def main(arguments: Sequence[str], program: str = "roamroute lab") -> int:
    """Run the lab and print its report. 0: every roam came back, and every download was right; 1: not so, or no lab.

    `arguments` are the words after the program's name. Ends the process with 2 for a wrong option.
    """
    from rich.console import Console

    from roamroute.lab.comparison import comparison
    from roamroute.lab.report import Report

    parser = argparse.ArgumentParser(prog=program)
    add_arguments(parser)
    chosen = parser.parse_args(arguments)
    errors = Console(stderr=True, emoji=False)

    def progress(line: str) -> None:
        if not chosen.quiet:
            errors.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)

    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        found = _measure(runs_from(chosen), progress, is_survey=chosen.all)
    except ConfigError as error:
        errors.print(f"{program}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except RoamrouteError as error:
        errors.print(f"{program}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        errors.print(f"{program}: interrupted; everything has been removed", style="red")
        return 1
    console = Console(width=None if sys.stdout.isatty() else 140, emoji=False)
    found.print(console)
    if isinstance(found, Report) and len(found.options.modes) > 1:
        console.print(comparison(found))
    if chosen.json is not None:
        found.write_json(chosen.json)
    return 0 if found.is_well() else 1


def _measure(runs: Sequence[LabOptions], progress: Callable[[str], None], *, is_survey: bool) -> Report | Survey:
    """One routing has a report of its own; several, or all that are installed, one table.

    Raises as `run_lab`, and ConfigError where a routing is not known: nothing is measured then.
    """
    from roamroute.lab import run_lab
    from roamroute.lab.survey import survey

    if len(runs) == 1 and not is_survey:
        return run_lab(runs[0], progress)
    offers = installed_routings()
    for asked in runs:
        if asked.routing not in offers.broken:
            offers.find(asked.routing)
    return survey(runs, progress)


def _modes(asked: Sequence[str], handovers: Sequence[str]) -> tuple[str, ...]:
    """Each mode once, in the order asked for; those of `--handover` stand where mode roamroute would.

    Raises: ConfigError where mode roamroute is not asked for.
    """
    if handovers and "roamroute" not in asked:
        raise ConfigError((f"--handover: belongs to mode roamroute, which --mode {asked[0]} leaves out",))
    variants = [HANDOVERS[handover] for handover in handovers] or ["roamroute"]
    return tuple(dict.fromkeys(name for mode in asked for name in (variants if mode == "roamroute" else [mode])))


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError((f"{option}: must be KEY=VALUE, not {text!r}",))
        pairs[key] = value
    return pairs


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {shlex.quote(text)}")
    return value


def _percent(text: str) -> float:
    value = float(text)
    if not 0 <= value < 100:
        raise argparse.ArgumentTypeError(f"must be at least 0 and less than 100, not {shlex.quote(text)}")
    return value


def _milliseconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"must be 0 to 1000, not {shlex.quote(text)}")
    return value / 1000


def _client_mtu(text: str) -> int:
    value = int(text)
    if not 1280 <= value <= 1500:
        raise argparse.ArgumentTypeError(f"must be 1280 to 1500, not {shlex.quote(text)}")
    return value


def _access_points(text: str) -> int:
    value = int(text)
    if not 2 <= value <= 99:
        raise argparse.ArgumentTypeError(f"must be 2 to 99, not {shlex.quote(text)}")
    return value
