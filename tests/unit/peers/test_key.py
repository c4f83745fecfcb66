"""The shared key's file: one clear mistake for each way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from roamroute.errors import ConfigError
from roamroute.peers import read_keys

KEY = bytes(range(32))
OTHER = bytes(range(32, 64))


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "peers.key"
    path.write_text(text, encoding="latin-1")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "text", [KEY.hex(), KEY.hex() + "\n", KEY.hex().upper(), f" {KEY.hex()[:32]}\n{KEY.hex()[32:]}\n"]
)
def test_a_key_is_64_hexadecimal_digits_and_white_space(tmp_path: Path, text: str) -> None:
    assert read_keys(write(tmp_path, text)) == (KEY,)


def test_several_keys_are_in_the_order_of_their_lines(tmp_path: Path) -> None:
    path = write(tmp_path, f"{OTHER.hex()}\n\n  {KEY.hex()[:20]} {KEY.hex()[20:]}\n")
    assert read_keys(path) == (OTHER, KEY)


@pytest.mark.parametrize(
    ("text", "mode", "complaint"),
    [
        (KEY.hex(), 0o644, "can be read by others than its owner (mode 0644); run: chmod 600"),
        (KEY.hex(), 0o620, "mode 0620"),
        (KEY.hex()[:-2], 0o600, "not 31"),
        (KEY.hex() + "00", 0o600, "not 33"),
        ("", 0o600, "not 0"),
        ("swordfish", 0o600, "64 hexadecimal digits a line and nothing else"),
        ("\xe4" * 64, 0o600, "64 hexadecimal digits a line and nothing else"),
        (KEY.hex() + " " * 5000, 0o600, "keys of 32 bytes"),
        (f"{KEY.hex()}\n{KEY.hex()[2:]}", 0o600, "not 31"),
        (f"{KEY.hex()}\n{KEY.hex().upper()}", 0o600, "a key twice"),
        ("".join(f"{octet:064x}\n" for octet in range(4)), 0o600, "at most 3 keys, not 4"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, text: str, mode: int, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_keys(write(tmp_path, text, mode))
    (mistake,) = caught.value.mistakes
    assert mistake.startswith("peers.key_file: ")
    assert complaint in mistake


def test_a_missing_file_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or directory; make one with: openssl rand"):
        read_keys(tmp_path / "absent")


def test_the_key_itself_is_never_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_keys(write(tmp_path, "secret" * 10))
    assert "secretsecret" not in str(caught.value)
