"""A BIRD whose socket is out of reach, by a birdc that is kept open: `sudo birdc`, `ssh -tt ap birdc`.

With `-v` birdc shows the codes of the replies. What differs from the socket (BIRD 2.0.12, 2.17 and 3.1, client.c): the
end of a reply is not shown where its code is 0; a line that goes on has five blanks; log messages begin with `>>>`.
birdc with readline shows its prompt before an answer and nothing after it, so every command is followed by `help`,
which birdc answers by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from roamroute.adapter.terminal import Terminal
from roamroute.errors import DaemonGone, MalformedInput
from roamroute.values import Seconds
from roamroute_bird.protocol import Reply, ReplyReader

START_LIMIT_S: Seconds = 10.0
"""A remote shell has to log in first."""

_END = r"Press `\?' for context sensitive help\."
_START = r"0001 BIRD[^\r\n]*(?:\r*\n0016[^\r\n]*)?"
_PROMPT = "bird> "
_FRAMED = re.compile(r"[0-9]{4}[- ]")
_LAST = re.compile(r"[0-9]{4} ")


class Birdc:
    """One birdc, started by the first question."""

    def __init__(self, command: Sequence[str]) -> None:
        self._terminal = Terminal(
            [*command, "-v"],
            prompt=rf"(?:{_PROMPT})*(?:{_START}|{_END})\r*\n{_PROMPT}",
            follow="help",
            limit_s=START_LIMIT_S,
        )

    async def ask(self, command: str, limit_s: Seconds) -> Reply:
        """Type a command and collect its reply.

        Raises: DaemonGone, MalformedInput.
        """
        return reply_of(await self._terminal.ask(command, limit_s=limit_s))

    async def close(self) -> None:
        await self._terminal.close()


def reply_of(shown: str) -> Reply:
    """What birdc showed for one command, as the reply that BIRD sent it.

    Raises: DaemonGone when birdc speaks for itself; MalformedInput.
    """
    reader = ReplyReader()
    replies: list[Reply] = []
    last = ""
    for text in shown.removeprefix(_PROMPT).splitlines():
        if text.startswith(">>> "):
            continue
        if text.startswith("     "):
            text = text[4:]
        elif not _FRAMED.match(text):
            raise DaemonGone(f"birdc: {text[:200]}")
        last = text
        replies += reader.feed(text.encode() + b"\n")
    if not _LAST.match(last):
        replies += reader.feed(b"0000 \n")
    if len(replies) != 1:
        raise MalformedInput(f"birdc showed {len(replies)} replies to one command")
    return replies[0]
