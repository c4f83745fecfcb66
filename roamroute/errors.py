"""The errors a caller can meet, one class per party at fault.

A message says what was tried, what came back verbatim and what to do; lower case, no full stop at the end.
"""

from __future__ import annotations


class RoamrouteError(Exception):
    """Base of every error that roamroute raises on purpose."""


class ConfigError(RoamrouteError):
    """The configuration file is wrong; the operator mends it. `mistakes` holds every mistake, each with its path."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class KernelRefused(RoamrouteError):
    """The kernel answered a netlink request with an error; `errno` is its number."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class DaemonRefused(RoamrouteError):
    """Another daemon (babeld, hostapd, ...) is there and said no."""


class DaemonGone(RoamrouteError):
    """Another daemon cannot be reached, or went away in the middle."""


class MalformedInput(RoamrouteError):
    """Bytes from outside (a socket, a peer, the kernel) do not parse; nothing was taken from them."""


class MachineUnfit(RoamrouteError):
    """This machine lacks something that is needed to go on (privilege, interface, program)."""
