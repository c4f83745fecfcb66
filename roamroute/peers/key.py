"""The key that all access points share: 32 bytes, in a file of 64 hexadecimal digits."""

from __future__ import annotations

import stat
from pathlib import Path

from roamroute.errors import ConfigError

KEY_BYTES = 32
_FILE_BYTES_MAXIMUM = 4096  # 64 digits and white space; whatever is longer is another file


def read_key(path: Path) -> bytes:
    """Read the shared key.

    Raises: ConfigError with one mistake, for the first that is found: the file is missing or unreadable, others than
    its owner may read it, it is not hexadecimal, it is not 32 bytes long.
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
    digits = b"".join(text[:_FILE_BYTES_MAXIMUM].split())
    try:
        key = bytes.fromhex(digits.decode("ascii"))
    except ValueError as error:
        raise _mistake(f"{path} must hold {2 * KEY_BYTES} hexadecimal digits and nothing else") from error
    if len(key) != KEY_BYTES or len(text) > _FILE_BYTES_MAXIMUM:
        raise _mistake(f"{path} must hold {KEY_BYTES} bytes ({2 * KEY_BYTES} hexadecimal digits), not {len(key)}")
    return key


def _mistake(text: str) -> ConfigError:
    return ConfigError((f"peers.key_file: {text}",))
