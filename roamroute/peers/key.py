"""The keys that all access points share: 32 bytes each, in a file with 64 hexadecimal digits a line."""

from __future__ import annotations

import stat
from pathlib import Path

from roamroute.errors import ConfigError

KEY_BYTES = 32
KEYS_MAXIMUM = 3
"""The one in use, its successor, and one that somebody forgot to remove: each costs every forged hello a check."""
_FILE_BYTES_MAXIMUM = 4096  # a few lines of 64 digits; whatever is longer is another file


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Read the shared keys, one a line, `KEYS_MAXIMUM` at most; the first is the one to use. Blank lines do not count.

    One key may also be spread over several lines.

    Raises: ConfigError with one mistake, for the first that is found: the file is missing or unreadable, others than
    its owner may read it, it is not hexadecimal, a key is not 32 bytes long, there are too many, or one is there twice.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            text = file.read(_FILE_BYTES_MAXIMUM + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _mistake(f"cannot read {path}: {reason}; make one with: openssl rand -hex 32 > {path}") from error
    if mode & 0o077:
        raise _mistake(f"{path} can be read by others than its owner (mode {mode:04o}); run: chmod 600 {path}")
    if len(text) > _FILE_BYTES_MAXIMUM:
        raise _mistake(
            f"{path} must hold keys of {KEY_BYTES} bytes, one a line, not more than {_FILE_BYTES_MAXIMUM} bytes"
        )
    lines = [digits for line in text.splitlines() if (digits := b"".join(line.split()))]
    whole = b"".join(lines)
    keys = tuple(_key(path, digits) for digits in ([whole] if len(whole) <= 2 * KEY_BYTES else lines))
    if len(keys) > KEYS_MAXIMUM:
        raise _mistake(f"{path} must hold at most {KEYS_MAXIMUM} keys, not {len(keys)}")
    if len(set(keys)) < len(keys):
        raise _mistake(f"{path} holds a key twice")
    return keys


def _key(path: Path, digits: bytes) -> bytes:
    try:
        key = bytes.fromhex(digits.decode("ascii"))
    except ValueError as error:
        raise _mistake(f"{path} must hold {2 * KEY_BYTES} hexadecimal digits a line and nothing else") from error
    if len(key) != KEY_BYTES:
        raise _mistake(
            f"{path} must hold {KEY_BYTES} bytes ({2 * KEY_BYTES} hexadecimal digits) a line, not {len(key)}"
        )
    return key


def _mistake(text: str) -> ConfigError:
    return ConfigError((f"peers.key_file: {text}",))
