"""Room in the kernel's neighbour table."""

from __future__ import annotations

from roamroute.config import parse_config
from roamroute.sysctl import neighbour_table, stale_time_s, sysctl_fragment

CONFIG = parse_config(
    """
    [roaming]
    interfaces = ["wlan0", "br.7"]
    prefixes = ["fd44:0:0:1::/64", "10.44.0.0/16"]
    [neighbours]
    stations = 250
    addresses_per_station = 8
    """
)


def test_every_station_has_room_for_all_its_addresses_and_its_link_local_one() -> None:
    table = neighbour_table(CONFIG)
    assert table.keep == 250 * 9 + 128
    assert table.keep < table.soft_limit < table.hard_limit


def test_the_fragment_serves_both_versions() -> None:
    text = sysctl_fragment(CONFIG)
    assert "net.ipv6.neigh.default.gc_thresh1 = 2378\n" in text
    assert "net.ipv4.neigh.default.gc_thresh3 = 9512\n" in text
    assert "net.ipv6.conf.all.forwarding = 1\n" in text
    assert "net.ipv4.conf.br/7.rp_filter = 0\n" in text


def test_where_peers_send_packets_on_mesh_links_are_mentioned() -> None:
    peers = '[peers]\naddress = "fd44:0:0:a::1"\naddresses = ["fd44:0:0:a::2"]\nkey_file = "key"'
    config = parse_config(f'[roaming]\ninterfaces = ["wlan0"]\nprefixes = ["10.44.0.0/16"]\n{peers}')
    assert "on each mesh link too" in sysctl_fragment(config)
    assert "on each mesh link too" not in sysctl_fragment(CONFIG)


def test_ipv4_is_left_alone_when_only_ipv6_roams() -> None:
    config = parse_config('[roaming]\ninterfaces = ["wlan0"]\nprefixes = ["fd44::/64"]')
    assert "ipv4" not in sysctl_fragment(config)


def test_the_times_that_sleeping_stations_need_are_spelled_out_for_each_link() -> None:
    text = sysctl_fragment(CONFIG)
    for version in (4, 6):
        for link in ("wlan0", "br/7"):
            prefix = f"net.ipv{version}.neigh.{link}"
            assert f"{prefix}.retrans_time_ms = 1000\n" in text
            assert f"{prefix}.ucast_solicit = 3\n" in text
            assert f"{prefix}.gc_stale_time = {stale_time_s(CONFIG)}\n" in text


def test_the_stale_time_covers_two_probings_of_everybody() -> None:
    """45 s in REACHABLE, 45 s until the probe is due, and the budget of 100 a second for all of them."""
    assert stale_time_s(CONFIG) == 2 * (45 + 45 + (250 * 9 + 128) / 100) // 1 + 1


def test_where_bridges_carry_the_wifi_neighbours_are_asked_more_often_and_at_last_on_all_ports() -> None:
    dumb = parse_config('[roaming]\ninterfaces = ["br0"]\nprefixes = ["fd44::/64"]\n[stations]\nsource = "none"')
    text = sysctl_fragment(dumb)
    for line in (
        "base_reachable_time_ms = 10000",
        "delay_first_probe_time = 1",
        "ucast_solicit = 2",
        "mcast_resolicit = 1",
        "retrans_time_ms = 1000",
    ):
        assert f"net.ipv6.neigh.br0.{line}\n" in text
    assert "mcast_resolicit" not in sysctl_fragment(CONFIG)


def test_redirects_are_forbidden_for_all_links_for_either_is_enough_to_send_them() -> None:
    text = sysctl_fragment(CONFIG)
    assert "net.ipv4.conf.all.send_redirects = 0\n" in text
    assert "net.ipv4.conf.wlan0.send_redirects = 0\n" in text


def test_arp_for_clients_elsewhere_is_answered_and_for_isolated_ones_here_too() -> None:
    text = sysctl_fragment(CONFIG)
    assert "net.ipv4.conf.br/7.proxy_arp = 1\nnet.ipv4.neigh.br/7.proxy_delay = 0\n" in text
    assert "net.ipv4.conf.wlan0.proxy_arp_pvlan = 1\n" in text
    joined = parse_config('[roaming]\ninterfaces = ["wlan0"]\nprefixes = ["10.44.0.0/16"]\n[dad]\nisolated = false')
    assert "proxy_arp_pvlan" not in sysctl_fragment(joined)


def test_where_nobody_tells_of_associations_arp_is_not_answered_for_others() -> None:
    """A client that has roamed announces its address while its route still leads to the former access point."""
    roaming = '[roaming]\ninterfaces = ["wlan0"]\nprefixes = ["10.44.0.0/16"]\n'
    dumb = parse_config(f'{roaming}[stations]\nsource = "none"')
    assert "proxy_arp =" not in sysctl_fragment(dumb)
