"""How a peer stands, and what is counted; as `roamroute status` and the metrics show it. Pure."""

from __future__ import annotations

import attrs

from roamroute.values import Instant, PeerId, Seconds

COUNTERS = (
    "datagrams_received",
    "datagrams_sent",
    "from_strangers",
    "malformed",
    "other_version",
    "forged",
    "replayed",
    "unknown_session",
    "claims_sent",
    "claims_repeated",
    "claims_received",
    "claims_unanswered",
    "claims_evicted",
    "answers_sent",
    "answers_unsent",
    "answers_received",
    "hint_batches_sent",
    "hint_batches_repeated",
    "hints_spared",
    "hints_received",
    "hints_refused",
    "reports_sent",
    "reports_received",
    "dad_sent",
    "dad_repeated",
    "dad_unacknowledged",
    "dad_evicted",
    "dad_unsent",
    "dad_received",
    "dad_copies",
    "dad_refused",
    "addresses_cut",
    "peers_refused",
)

REFUSED = (
    "from_strangers",
    "malformed",
    "other_version",
    "forged",
    "replayed",
    "unknown_session",
    "hints_refused",
    "dad_refused",
)
"""In datagrams, but for "hints_refused": these are hints."""


@attrs.frozen
class PeerStatus:
    """One peer as `roamroute status` shows it. `since`: the last change of `is_up`; `rtt_s` is smoothed.

    `has_own_key`: its session is under the first of our keys; once that is true of all, the other keys can be removed.
    `capabilities`: "hints", "reports", "segments", "router", "dad", as the peer has said for its session; one of an
    older version says nothing. `hints_held`: of our bindings, those that it has acknowledged; `hints_unacknowledged`:
    the others.
    """

    peer: PeerId
    is_up: bool
    since: Instant
    heard: Instant | None
    rtt_s: Seconds | None
    restarts: int
    sent: int
    received: int
    forged: int
    has_own_key: bool
    capabilities: tuple[str, ...]
    hints_held: int
    hints_unacknowledged: int
