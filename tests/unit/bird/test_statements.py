"""What BIRD's configuration file says of its kernel protocols."""

from __future__ import annotations

from pathlib import Path

import pytest
from roamroute_bird.statements import KernelStatement, Statements, read_statements


def statements(folder: Path, text: str) -> Statements:
    (folder / "bird.conf").write_text(text)
    found = read_statements(folder / "bird.conf")
    assert isinstance(found, Statements)
    return found


def kernels(folder: Path, text: str) -> tuple[KernelStatement, ...]:
    return statements(folder, text).kernels


def test_defaults_are_those_of_bird(tmp_path: Path) -> None:
    assert kernels(tmp_path, "protocol kernel { ipv6 { export all; }; }") == (KernelStatement("", 6),)


def test_all_that_decides_is_read(tmp_path: Path) -> None:
    text = """protocol kernel mine {  # a comment with a } brace
      kernel table 1000; metric 4;
      /* learn off; { */ learn;
      scan time 1;
      ipv4 { import filter { if net ~ [ 10.0.0.0/8 ] then { accept; } reject; }; export where source != RTS_DEVICE; };
    }"""
    expected = KernelStatement("mine", 4, learns=True, table=1000, metric=4, scan_time_s=1)
    assert kernels(tmp_path, text) == (expected,)


@pytest.mark.parametrize(
    ("statement", "learns"),
    [("learn", True), ("learn on", True), ("learn all", True), ("learn off", False), ("", False)],
)
def test_learn_is_on_or_off(tmp_path: Path, statement: str, learns: bool) -> None:
    [found] = kernels(tmp_path, f"protocol kernel {{ {statement}; ipv6; }}")
    assert found.learns is learns


def test_what_stands_inside_a_channel_is_not_the_protocols(tmp_path: Path) -> None:
    [found] = kernels(tmp_path, "protocol kernel k { ipv6 { import filter { krt_metric = 5; accept; }; }; metric 64; }")
    assert found.metric == 64


def test_included_files_are_read_and_named(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "kernel.conf").write_text("protocol kernel k6 { learn; ipv6; }")
    found = statements(tmp_path, 'include "parts/*.conf";\ninclude "/nonexistent/hosts.conf";\n# include "not.conf";\n')
    assert [each.name for each in found.kernels] == ["k6"]
    assert found.includes == (str(tmp_path / "parts/*.conf"), "/nonexistent/hosts.conf")


def test_a_file_that_includes_itself_ends(tmp_path: Path) -> None:
    assert statements(tmp_path, 'include "bird.conf";\nprotocol kernel { ipv6; }').kernels


def test_a_protocol_without_a_name_is_known_where_it_is_the_only_one(tmp_path: Path) -> None:
    found = statements(tmp_path, "protocol kernel { learn; ipv6; }\nprotocol kernel { ipv4; }\n")
    assert found.kernel_named("kernel1", 6) == KernelStatement("", 6, learns=True)
    two = statements(tmp_path, "protocol kernel { learn; ipv6; }\nprotocol kernel { kernel table 7; ipv6; }\n")
    assert two.kernel_named("kernel1", 6) is None


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    assert read_statements(tmp_path / "nowhere.conf") == f"{tmp_path}/nowhere.conf: No such file or directory"


@pytest.mark.parametrize("text", ["protocol kernel {", 'protocol kernel x { ipv6 { "', "}}}", "", "protocol kernel"])
def test_half_a_file_does_no_harm(tmp_path: Path, text: str) -> None:
    kernels(tmp_path, text)
