"""The configuration file: every mistake at once, each with its dotted path."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roamroute.config import Config, parse_config, read_config
from roamroute.errors import ConfigError

EXAMPLES = Path(__file__).parents[3] / "examples"

SMALL = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64"]
"""

WHOLE = """
[roaming]
interfaces = ["wlan0", "br-client"]
prefixes   = ["fd44:0:0:1::/64", "10.44.0.0/16"]
exporter   = "babeld"
[kernel]
protocol = 144
withdrawing_protocol = 145
table    = 254
metric   = 8
keep_on_stop = true
[exporters.babeld]
socket = "/var/run/babeld.sock"
[stations]
source = "hostapd"
hostapd_dir = "/var/run/hostapd"
[peers]
address  = "fd44:0:0:a::1"
port     = 4544
addresses = ["fd44:0:0:a::2"]
key_file = "/etc/roamroute/peers.key"
[control]
socket = "/run/roamroute/control.sock"
[policy]
sleep_rounds = 2
stale_probe_after_s = 30
"""


def mistakes_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return caught.value.mistakes


def outcome_of(text: str) -> Config | tuple[str, ...]:
    try:
        return parse_config(text)
    except ConfigError as error:
        return error.mistakes


def test_interfaces_and_prefixes_suffice() -> None:
    config = parse_config(SMALL)
    assert config.roaming.exporter == "kernel"
    assert config.kernel.numbers.protocol == 144
    assert config.kernel.numbers.withdrawing_protocol == 145
    assert config.kernel.numbers.metric == 8
    assert config.peers is None
    assert config.control.socket == "/run/roamroute/control.sock"


def test_the_contract_s_example_is_read_whole() -> None:
    config = parse_config(WHOLE)
    assert config.roaming.prefixes == (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
    assert config.exporter_settings == {"socket": "/var/run/babeld.sock"}
    assert config.kernel.keep_on_stop
    assert config.peers is not None
    assert config.peers.addresses == (ip_address("fd44:0:0:a::2"),)
    assert config.policy.sleep_rounds == 2
    assert config.policy.stale_probe_after_s == 30.0


def test_all_mistakes_are_reported_at_once_each_with_its_path() -> None:
    found = mistakes_of(
        """
        [roaming]
        interfaces = ["wlan0", 3]
        prefixes = ["fd44:0:0:1::1/64", 5]
        exportr = "x"
        [kernel]
        metric = "a"
        [policy]
        foo = 1
        sleep_rounds = true
        [stations]
        source = "radio"
        [peers]
        port = 9
        """
    )
    assert {line.split(":", 1)[0] for line in found} == {
        "roaming.interfaces[1]",
        "roaming.prefixes[0]",
        "roaming.prefixes[1]",
        "roaming.exportr",
        "kernel.metric",
        "policy.foo",
        "policy.sleep_rounds",
        "stations.source",
        "peers.address",
        "peers.key_file",
    }


def test_a_misspelt_key_gets_a_suggestion() -> None:
    found = mistakes_of(SMALL + 'exportr = "babeld"')
    assert found == ('roaming.exportr: is not known here (did you mean "exporter"?)',)


def test_host_bits_in_a_prefix_get_the_prefix_that_was_meant() -> None:
    found = mistakes_of('[roaming]\ninterfaces = ["a"]\nprefixes = ["fd44:0:0:1::1/64"]')
    assert "did you mean fd44:0:0:1::/64?" in found[0]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[kernel]\nprotocol = 42", "kernel.protocol"),
        ("[kernel]\nprotocol = 188", "kernel.protocol"),
        ("[kernel]\nwithdrawing_protocol = 144", "kernel"),
        ("[kernel]\nprotocol = 2", "kernel.protocol"),
        ("[kernel]\nmetric = 0", "kernel.metric"),
        ("[policy]\nprobes_per_second = 0", "policy.probes_per_second"),
        ("[policy]\nstale_probe_jitter = 1.0", "policy.stale_probe_jitter"),
        ("[policy]\nstale_probe_after_s = -1", "policy.stale_probe_after_s"),
        ("[neighbours]\nstations = 0", "neighbours.stations"),
        ('[peers]\naddress = "fd44:0:0:1::9"\nkey_file = "k"\naddresses = ["fd44::1"]', "peers.address"),
        ('[peers]\naddress = "fd44:0:0:a::9"\nkey_file = "k"', "peers"),
        ('[peers]\naddress = "fd44:0:0:a::9"\nkey_file = "k"\naddresses = ["10.0.0.1"]', "peers.addresses"),
    ],
)
def test_a_contradiction_names_its_path(text: str, path: str) -> None:
    found = mistakes_of(SMALL + text)
    assert [line.split(":", 1)[0] for line in found] == [path]


@pytest.mark.parametrize("prefix", ["fe80::/64", "ff00::/16", "::/0", "0.0.0.0/0"])
def test_a_prefix_that_cannot_roam_is_refused(prefix: str) -> None:
    assert mistakes_of(f'[roaming]\ninterfaces = ["a"]\nprefixes = ["{prefix}"]')


def test_a_toml_error_has_the_file_s_name_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "roamroute.toml"
    path.write_text("[roaming\n")
    with pytest.raises(ConfigError, match=rf"{path}: .*line 1"):
        read_config(path)


def test_an_absent_file_is_one_clear_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        read_config(tmp_path / "absent.toml")


def test_a_file_that_is_not_text_is_one_clear_mistake(tmp_path: Path) -> None:
    path = tmp_path / "roamroute.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_config(path)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_list_of_mistakes(text: str) -> None:
    assert outcome_of(text)


VALUES = st.recursive(
    st.one_of(st.integers(-10, 300), st.booleans(), st.sampled_from(['"x"', '"fd44::/64"', "1.5", '"::1"'])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
TABLES = ("roaming", "kernel", "exporters", "stations", "packets", "peers", "neighbours", "policy", "control", "log")
KEYS = ("interfaces", "prefixes", "exporter", "protocol", "metric", "source", "address", "port", "socket", "level", "x")


@given(st.dictionaries(st.sampled_from(TABLES), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), max_size=4))
def test_any_table_is_a_configuration_or_a_list_of_mistakes(document: dict[str, dict[str, object]]) -> None:
    lines = []
    for table, values in document.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {str(value).lower().replace(chr(39), '')}" for key, value in values.items()]
    assert outcome_of("\n".join(lines))


PEERS = """
[peers]
address = "fd44:0:0:a::9"
addresses = ["fd44:0:0:a::1"]
key_file = "/etc/roamroute/peers.key"
"""


def test_a_peer_needs_no_client_links() -> None:
    gateway = '[roaming]\ninterfaces = []\nprefixes = ["fd44:0:0:1::/64"]\n'
    config = parse_config(gateway + PEERS)
    assert config.roaming.interfaces == ()
    assert mistakes_of(gateway) == (
        'roaming.interfaces: name at least one client link, such as ["wlan0"]; only a peer has none',
    )
    assert mistakes_of(gateway + 'exporter = "babeld"\n' + PEERS) == (
        'roaming.exporter: without a client link there is nothing to export; leave it out, or "kernel"',
    )


@pytest.mark.parametrize("number", [147, 148])
def test_what_marks_other_routes_of_ours_is_refused(number: int) -> None:
    found = mistakes_of(f"{SMALL}[kernel]\nwithdrawing_protocol = {number}\n")
    assert found == (f"kernel.withdrawing_protocol: {number} marks other routes of ours already",)


@pytest.mark.parametrize(
    ("setting", "mistake"),
    [
        ("tables = 252", "handover.tables: 252 to 254 must be ours alone, and 253 is one of the kernel's own"),
        ("tables = 0", "handover.tables: must be 1 to 4294967293, not 0"),
        (
            "rule_priority = 32766",
            "handover.rule_priority: must be 1 to 32765, before the rule of the main table, not 32766",
        ),
    ],
)
def test_the_handover_s_tables_and_rules_are_ours_alone(setting: str, mistake: str) -> None:
    assert mistakes_of(f"{SMALL}{PEERS}[handover]\n{setting}\n") == (mistake,)


def test_the_table_of_the_host_routes_is_not_among_the_handover_s() -> None:
    found = mistakes_of(f"{SMALL}{PEERS}[kernel]\ntable = 4546\n")
    assert found == ("handover.tables: 4544 to 4546 must be ours alone, and 4546 is kernel.table",)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_have_no_mistakes(example: Path) -> None:
    assert read_config(example).roaming.prefixes


def test_the_dad_proxy_is_on_unless_it_is_switched_off() -> None:
    assert parse_config(SMALL).dad.enabled
    assert not parse_config(SMALL + "[dad]\nenabled = false\n").dad.enabled
    assert mistakes_of(SMALL + '[dad]\nmode = "some"\n') == (
        'dad.mode: must be one of "all", "targeted", not \'some\'',
    )
