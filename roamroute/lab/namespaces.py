"""Network namespaces and the processes in them, and that nothing of them is left behind.

A `Sandbox` owns what a lab makes on the machine: namespaces (`rl-<pid>-<number>-<label>`), processes and one private
directory in which every socket, configuration and log file lies. Leaving the sandbox removes all of it. A lab that was
killed with SIGKILL cannot do so: its processes die with it (parent death signal), and the next sandbox on this machine
removes its namespaces and directory, which it recognises by their lock being free.

Several sandboxes may exist at the same time, in one process or in several.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from roamroute.errors import MachineUnfit, RoamrouteError

NETNS_DIRECTORY = Path("/run/netns")
SANDBOX_DIRECTORY = Path("/run/roamroute-lab")
"""Short on purpose: the path of a Unix socket may have 107 bytes."""
SANDBOX_NAME = re.compile(r"rl-\d+-\d+")
CLONE_NEWNET = 0x40000000
PASSABLE = 0o711
"""Nobody else lists or writes a directory of ours; daemons that leave root reach what is given to them below it."""
TERMINATION_LIMIT_S = 5.0
"""A daemon that withdraws its routes has ended by then; what has not is killed."""

Process = subprocess.Popen[bytes]


class CommandFailed(RoamrouteError):
    """A program that the lab runs ended with an error; the text holds the command and what it printed."""


class Namespace:
    """One network namespace, known to `ip netns` by its name."""

    def __init__(self, sandbox: Sandbox, label: str) -> None:
        self.sandbox = sandbox
        self.label = label
        self.name = f"{sandbox.name}-{label}"

    @property
    def path(self) -> Path:
        return NETNS_DIRECTORY / self.name

    def run(self, *command: str, stdin: str = "", limit_s: float = 20.0) -> str:
        """Run a program in the namespace and return what it printed. Raises: CommandFailed."""
        return run_program(["nsenter", f"--net={self.path}", *command], stdin=stdin, limit_s=limit_s)

    def ip(self, *lines: str) -> None:
        """Run lines of `ip`, without the word itself: `ip("link set lo up")`. Raises: CommandFailed at the first."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def sysctl(self, settings: Mapping[str, str | int]) -> None:
        """Set kernel parameters of the namespace: `{"net.ipv6.conf.all.forwarding": 1}`. Raises: CommandFailed."""
        self.run("sysctl", "-q", "-w", *(f"{name}={value}" for name, value in settings.items()))

    def start(
        self,
        *command: str,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
    ) -> Process:
        """Start a program in the namespace; it ends with the sandbox at the latest.

        Its standard error, and its standard output unless `stdout` is given, are appended to `log`.
        """
        return self.sandbox.start(
            ["nsenter", f"--net={self.path}", *command], log=log, environment=environment, stdin=stdin, stdout=stdout
        )

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread into the namespace for the length of the block; to open sockets there."""
        with entered_namespace(self.path):
            yield

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket that lives in the namespace, for good."""
        with self.entered():
            return socket.socket(family, kind, protocol)


class Sandbox:
    """What one lab has made on this machine; a context manager that removes it all.

    Needs root. Raises: MachineUnfit on entry, when not root or when a program is missing.
    """

    _numbers = itertools.count(1)

    def __init__(self, *, programs: Sequence[str] = ("ip", "nft", "nsenter", "setpriv", "sysctl")) -> None:
        self.name = f"rl-{os.getpid()}-{next(self._numbers)}"
        self.directory = SANDBOX_DIRECTORY / self.name
        self._programs = tuple(programs)
        self._namespaces: list[Namespace] = []
        self._processes: list[Process] = []
        self._lock: IO[str] | None = None
        self._closers: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        require_root_and_programs(self._programs)
        with _sweeping():
            remove_left_overs()
            self.directory.mkdir(mode=PASSABLE)
            self._lock = (self.directory / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop every process, remove every namespace and the directory. Idempotent; signals wait until it is done."""
        with _signals_held():
            for closer in reversed(self._closers):
                closer()
            self._closers.clear()
            stop_processes(self._processes)
            self._processes.clear()
            _delete_namespaces(sorted(namespace.name for namespace in self._namespaces))
            self._namespaces.clear()
            if self._lock is not None:
                shutil.rmtree(self.directory, ignore_errors=True)
                self._lock.close()
                self._lock = None

    def on_close(self, closer: Callable[[], None]) -> None:
        """Call `closer` when the sandbox ends, before processes are stopped: for sockets; it must not raise."""
        self._closers.append(closer)

    def namespaces(self, labels: Sequence[str]) -> list[Namespace]:
        """Make namespaces with their loopback up; all at once, which is quicker than one by one."""
        made = [Namespace(self, label) for label in labels]
        self._namespaces.extend(made)
        run_program(["ip", "-batch", "-"], stdin="".join(f"netns add {namespace.name}\n" for namespace in made))
        for namespace in made:
            namespace.ip("link set lo up")
        return made

    def namespace(self, label: str) -> Namespace:
        """Make one namespace, with its loopback up."""
        return self.namespaces([label])[0]

    def remove_namespace(self, namespace: Namespace) -> None:
        """Remove one namespace and the links in it before the sandbox ends; its processes must have ended."""
        self._namespaces.remove(namespace)
        _delete_namespaces([namespace.name])

    def subdirectory(self, label: str) -> Path:
        """A directory of the sandbox for files of one kind or one node; made when missing."""
        directory = self.directory / label
        directory.mkdir(mode=PASSABLE, parents=True, exist_ok=True)
        return directory

    def start(
        self,
        command: Sequence[str],
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
    ) -> Process:
        """Start a program that ends with the sandbox, or with this process, whichever comes first."""
        with contextlib.ExitStack() as files:
            errors: int | IO[bytes] = subprocess.DEVNULL
            if log is not None:
                log.parent.mkdir(parents=True, exist_ok=True)
                errors = files.enter_context(log.open("ab"))
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=stdin,
                stdout=errors if stdout is None else stdout,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C is for the lab, which then stops its daemons in order
            )
        self._processes.append(process)
        return process

    def stop(self, *processes: Process) -> None:
        """Stop some of the processes now: SIGTERM, and SIGKILL for those that do not end in time."""
        stop_processes(processes)
        for process in processes:
            if process in self._processes:
                self._processes.remove(process)


def require_root_and_programs(programs: Sequence[str]) -> None:
    """Raises: MachineUnfit, with what is missing and how to get it."""
    if os.geteuid() != 0:
        raise MachineUnfit("the lab makes network namespaces and needs root: run it with sudo")
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise MachineUnfit(
            f"the lab needs {', '.join(missing)}: install the packages that contain them "
            "(Debian: iproute2 nftables util-linux procps hostapd wpasupplicant)"
        )


def run_program(command: Sequence[str], *, stdin: str = "", limit_s: float = 20.0) -> str:
    """Run a program to its end and return its standard output. Raises: CommandFailed."""
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=limit_s, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(command)}: did not end within {limit_s} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise CommandFailed(f"{' '.join(command)}: exit code {done.returncode}: {said}; input: {stdin.strip()!r}")
    return done.stdout


def stop_processes(processes: Sequence[Process], limit_s: float = TERMINATION_LIMIT_S) -> None:
    """SIGTERM to all at once, SIGKILL to those that are left after `limit_s`; returns when all have ended."""
    for process in reversed(processes):
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + limit_s
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def entered_namespace(path: Path) -> Iterator[None]:
    """Put the calling thread into the network namespace at `path` for the length of the block.

    Python has `os.setns` from 3.12 on; before, the C library's is called.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(target, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {path}")
        finally:
            os.close(target)
        try:
            yield
        finally:
            if libc.setns(home, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns back")
    finally:
        os.close(home)


def remove_left_overs() -> list[str]:
    """Remove namespaces and directories of labs that were killed; returns the names of those labs.

    A lab is dead when nobody holds the lock in its directory. Processes that are still in its namespaces are killed.
    """
    known = {path.name for path in SANDBOX_DIRECTORY.iterdir() if SANDBOX_NAME.fullmatch(path.name)}
    namespaces = sorted(path.name for path in NETNS_DIRECTORY.iterdir()) if NETNS_DIRECTORY.is_dir() else []
    for name in namespaces:
        if (match := SANDBOX_NAME.match(name)) and name.startswith(match[0] + "-"):
            known.add(match[0])
    dead = sorted(name for name in known if not _is_locked(SANDBOX_DIRECTORY / name / "lock"))
    for name in dead:
        theirs = [namespace for namespace in namespaces if namespace.startswith(name + "-")]
        for namespace in theirs:
            for pid in run_program(["ip", "netns", "pids", namespace]).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        _delete_namespaces(theirs)
        shutil.rmtree(SANDBOX_DIRECTORY / name, ignore_errors=True)
    return dead


@contextlib.contextmanager
def _sweeping() -> Iterator[None]:
    """One lab at a time looks for left-overs or makes its own directory."""
    SANDBOX_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    with (SANDBOX_DIRECTORY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _delete_namespaces(names: Sequence[str]) -> None:
    if names:  # -force: a namespace that is gone already does not keep the others
        batch = "".join(f"netns delete {name}\n" for name in names)
        subprocess.run(["ip", "-force", "-batch", "-"], input=batch, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block has ended; they are delivered then."""
    held = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
