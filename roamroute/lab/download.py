"""A TCP download that goes on as long as the lab wants, and proves that nothing of it was lost or changed.

    python -m roamroute.lab.download serve PORT RATE
    python -m roamroute.lab.download fetch SOURCE SERVER PORT LOG

The server sends RATE bytes a second, in small pieces, until its standard input is closed; the last 32 bytes are the
SHA-256 of all before. The client writes a record of time and total to LOG for everything it reads, and prints one JSON
object at the end. Both run in their namespaces.
"""

from __future__ import annotations

import hashlib
import json
import random
import select
import socket
import struct
import sys
import time
from pathlib import Path

RECORD = struct.Struct("<qq")
"""Nanoseconds of CLOCK_MONOTONIC, bytes read up to then."""
PIECE_INTERVAL_S = 0.01
DIGEST_BYTES = hashlib.sha256().digest_size
CONNECT_LIMIT_S = 30.0
STALL_LIMIT_S = 120.0
"""A download that stands still for so long has failed."""


def serve(port: int, rate: float) -> None:
    """Serve one client, in pieces of random bytes, until standard input ends."""
    piece_bytes = max(1, round(rate * PIECE_INTERVAL_S))
    content, digest = random.Random(port), hashlib.sha256()
    with socket.create_server(("::", port), family=socket.AF_INET6) as listener:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if listener not in ready:
            return
        connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(STALL_LIMIT_S)
        due = time.monotonic()
        while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            piece = content.randbytes(piece_bytes)
            digest.update(piece)
            connection.sendall(piece)
            due = max(due + PIECE_INTERVAL_S, time.monotonic())
        connection.sendall(digest.digest())


def fetch(source: str, server: str, port: int, log: Path) -> None:
    """Read all there is, and print what came of it."""
    digest, tail, total, error = hashlib.sha256(), b"", 0, ""
    with log.open("ab", buffering=0) as records:
        try:
            with socket.create_connection((server, port), CONNECT_LIMIT_S, source_address=(source, 0)) as connection:
                connection.settimeout(STALL_LIMIT_S)
                while piece := connection.recv(65536):
                    total += len(piece)
                    records.write(RECORD.pack(time.monotonic_ns(), total))
                    tail += piece
                    digest.update(tail[:-DIGEST_BYTES])
                    tail = tail[-DIGEST_BYTES:]
        except OSError as failure:
            error = str(failure)
    is_verified = not error and tail == digest.digest()
    print(json.dumps({"bytes": total, "is_verified": is_verified, "error": error}), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", port_text, rate_text]:
            serve(int(port_text), float(rate_text))
        case ["fetch", source_text, server_text, port_text, log_path]:
            fetch(source_text, server_text, int(port_text), Path(log_path))
        case _:
            sys.exit(__doc__)
