"""The channel between access points: authenticated, encrypted, replay-protected UDP. docs/peers-protocol.md.

`codec` is the wire, `session` the keys, `courier` the repetition of claims, `exchange` all of them for all peers; these
are pure and take the time as an argument. `channel` gives them a socket.
"""

from roamroute.peers.channel import DEFAULT_PORT, ChannelStatus, PeerChannel
from roamroute.peers.exchange import PEERS_MAXIMUM, PeerStatus
from roamroute.peers.key import KEY_BYTES, read_key

__all__ = [
    "DEFAULT_PORT",
    "KEY_BYTES",
    "PEERS_MAXIMUM",
    "ChannelStatus",
    "PeerChannel",
    "PeerStatus",
    "read_key",
]
