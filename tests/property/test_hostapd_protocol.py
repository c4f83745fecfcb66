"""Any bytes from hostapd's socket give a value or the one named error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roamroute.errors import MalformedInput
from roamroute.hostapd.protocol import Connected, Reply, means_left, read_datagram, read_fields, read_station
from roamroute.values import mac

pieces = st.sampled_from(
    [
        *(b"<3>", b"<", b">", b"IFNAME=wlan0 ", b"AP-STA-CONNECTED", b"AP-STA-DISCONNECTED", b" ", b"\n", b"\0", b"="),
        *(
            b"02:00:00:00:07:00",
            b"flags=",
            b"[AUTH",
            b"[AUTHORIZED]",
            b"timeout_next=REMOVE",
            b"connected_time=",
            b"FAIL",
        ),
        *(b"dot1xAuthEapolLogoffFramesRx=", b"9" * 400, b"connected_time=", b"-1", b"1e9", b"\xff", b"keyid=a b"),
    ]
)
datagrams = st.binary(max_size=300) | st.lists(pieces, max_size=12).map(b"".join)


@given(datagram=datagrams)
def test_any_datagram(datagram: bytes) -> None:
    try:
        message = read_datagram(datagram)
    except MalformedInput:
        return
    if isinstance(message, Connected):
        assert mac(message.mac) == message.mac


@given(datagram=datagrams)
def test_any_reply_to_a_station_request(datagram: bytes) -> None:
    text = datagram.decode("utf-8", errors="replace")
    read_fields(text)
    try:
        record = read_station(text)
    except MalformedInput:
        return
    assert isinstance(means_left(record, 0), bool)


@given(text=st.text(max_size=50).filter(lambda text: not text.startswith(("<", "IFNAME="))))
def test_what_is_no_event_is_a_reply(text: str) -> None:
    assert read_datagram(text.encode()) == Reply(text.rstrip("\n\0"))
