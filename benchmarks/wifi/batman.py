"""The other side of the comparison: one layer-2 network, by batman-adv, from the gateway to the radios."""

from __future__ import annotations

from pathlib import Path

from bench import CLIENT_ADDRESS, GATEWAY_ADDRESS, GATEWAY_LINK_LOCAL, ROAMING_PREFIX, Bench
from namespaces import wait_until

_MTU_BYTES = 1560  # of the backbone: batman-adv's header fits beside 1500 bytes, nothing is fragmented


class BridgedMesh:
    """bat0 on all routers: bridged with the radio on the access points, the clients' gateway on the other."""

    def __init__(self, bench: Bench, algorithm: str = "BATMAN_IV") -> None:
        version = Path("/sys/module/batman_adv/version").read_text().strip()
        self.version = f"batman-adv {version} ({algorithm})"
        for router in (bench.gateway, *(ap.namespace for ap in bench.access_points)):
            router.run("ip", "link", "add", "bat0", "type", "batadv", "ra", algorithm)
            for link in bench.mesh_links[router.name]:
                router.run("ip", "link", "set", link, "mtu", str(_MTU_BYTES))
                router.run("ip", "link", "set", link, "master", "bat0")
            router.run("ip", "link", "set", "bat0", "up")
        for ap in bench.access_points:
            ap.namespace.run("ip", "link", "set", "bat0", "master", "br0")
        gateway = bench.gateway
        gateway.run("ip", "addr", "add", f"{GATEWAY_LINK_LOCAL}/64", "dev", "bat0", "nodad")
        gateway.run("ip", "route", "add", ROAMING_PREFIX, "dev", "bat0", "src", GATEWAY_ADDRESS)
        self._gateway = gateway
        bench.client.run("ip", "link", "set", "wlan0", "up")

    def wait_for_the_client(self) -> None:
        """Once the client is connected. Raises: NotReached."""
        wait_until(lambda: "1 received" in self._ping(), "the gateway reaches the client", 60, 1)

    def _ping(self) -> str:
        return self._gateway.run("sh", "-c", f"ping -c1 -W1 {CLIENT_ADDRESS} || true")
