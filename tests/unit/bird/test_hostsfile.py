"""The file of static routes."""

from __future__ import annotations

import os
import stat
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from roamroute_bird.hostsfile import line_of, read, render, versions_of, write

from roamroute.errors import KernelRefused
from roamroute.values import HostRoute

SIX, FOUR = HostRoute(ip_address("fd44::a"), "wlan0"), HostRoute(ip_address("10.44.0.7"), "wlan0")


def test_each_address_family_has_its_protocol() -> None:
    text = render({6: {SIX.address: line_of(SIX)}, 4: {FOUR.address: line_of(FOUR)}})
    assert text == (
        "# written by roamroute at every change; what is changed here is lost\n"
        'protocol static roamroute4 {\n\tipv4 { preference 250; };\n\troute 10.44.0.7/32 via "wlan0";\n}\n'
        'protocol static roamroute6 {\n\tipv6 { preference 250; };\n\troute fd44::a/128 via "wlan0";\n}\n'
    )


def test_the_protocols_are_there_without_routes() -> None:
    assert render({6: {}}).count("protocol static") == 1
    assert versions_of([ip_network("fd44::/64"), ip_network("fd45::/64"), ip_network("10.0.0.0/8")]) == (4, 6)


@pytest.mark.parametrize("link", ['wl"an0', "wlan0\n", ""])
def test_an_interface_that_bird_cannot_name_is_refused(link: str) -> None:
    with pytest.raises(ValueError):
        line_of(HostRoute(ip_address("fd44::a"), link))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "hosts.conf")
    assert read(path) is None
    write(path, "one")
    write(path, "two")
    assert read(path) == "two"
    assert os.listdir(tmp_path) == ["hosts.conf"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644


def test_owner_and_mode_of_an_older_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "hosts.conf"
    path.touch()
    path.chmod(0o640)
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(path, owner, -1)
    write(str(path), "text")
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o640, owner)


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    link = tmp_path / "hosts.conf"
    link.symlink_to(tmp_path / "run" / "hosts.conf")
    write(str(link), "text")
    assert link.is_symlink()
    assert (tmp_path / "run" / "hosts.conf").read_text() == "text"


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "hosts.conf"
    write(str(path), "old")
    with path.open() as opened:
        write(str(path), "new")
        assert opened.read() == "old"


def test_what_the_file_system_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(KernelRefused, match=r"cannot write .*missing/hosts\.conf: No such file or directory"):
        write(str(tmp_path / "missing" / "hosts.conf"), "text")
    with pytest.raises(KernelRefused, match="cannot read"):
        read(str(tmp_path))
