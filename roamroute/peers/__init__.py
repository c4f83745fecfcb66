"""The channel between access points: authenticated, encrypted, replay-protected UDP. docs/peers-protocol.md.

`codec` is the wire, `fields` the parts of a message, `sealing` the cryptography, `session` the agreement on keys,
`courier` the repetition of claims, `hints` what is told ahead, `relays` what hosts say during duplicate address
detection, `exchange` all of them for all peers; these are pure and take the time as an argument. `channel` gives them a
socket.
"""

from roamroute.peers.channel import DEFAULT_PORT, ChannelStatus, PeerChannel
from roamroute.peers.exchange import PEERS_MAXIMUM
from roamroute.peers.key import KEY_BYTES, KEYS_MAXIMUM, read_keys
from roamroute.peers.status import PeerStatus

__all__ = [
    "DEFAULT_PORT",
    "KEYS_MAXIMUM",
    "KEY_BYTES",
    "PEERS_MAXIMUM",
    "ChannelStatus",
    "PeerChannel",
    "PeerStatus",
    "read_keys",
]
