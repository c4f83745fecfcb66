"""Run roamroute so that it says and understands only what version 0.1.0 did: `python earlier_version.py run -c FILE`.

That is: pings, claims and answers, with the fields that they had then; everything else is skipped, as it was then. The
configuration does the rest ([handover] hints = false, forwarding = false).
"""

from __future__ import annotations

import sys

from roamroute.cli import main
from roamroute.peers import codec, fields

LAST_MESSAGE, LAST_FIELD = 4, 14

_element, _collect = fields.element, fields.collect


def _element_of_then(kind: int, contents: bytes) -> bytes:
    return _element(kind, contents) if kind <= LAST_FIELD else b""


def _collect_of_then(body: bytes) -> dict[int, bytes]:
    return {kind: value for kind, value in _collect(body).items() if kind <= LAST_FIELD}


def forget() -> None:
    """Take from the codec what came later."""
    codec.element = fields.element = _element_of_then  # type: ignore[attr-defined]
    codec.collect = fields.collect = _collect_of_then  # type: ignore[attr-defined]
    for kind in [kind for kind in codec._DECODERS if kind > LAST_MESSAGE]:
        del codec._DECODERS[kind]


if __name__ == "__main__":
    forget()
    sys.exit(main())
