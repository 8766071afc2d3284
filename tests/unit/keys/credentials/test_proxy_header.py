import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.party import parse_address
from keys.credentials.proxy_header import MAX_HEADER, Header, Malformed, parse

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
LINE = b"PROXY TCP4 192.0.2.7 203.0.113.1 51842 22\r\n"
LINE_6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 51842 22\r\n"
BINARY = SIGNATURE + bytes.fromhex("21 11 000c c0000207 cb007101 ca82 0016")
BINARY_6 = (
    SIGNATURE
    + bytes.fromhex("21 21 0024")
    + bytes.fromhex("20010db8 00000000 00000000 00000007")
    + bytes.fromhex("20010db8 00000000 00000000 00000001 ca82 0016")
)
WITH_TLVS = SIGNATURE + bytes.fromhex("21 11 0013 c0000207 cb007101 ca82 0016 040004 00000000")
LOCAL = SIGNATURE + bytes.fromhex("20 00 0000")
LOCAL_WITH_ADDRESSES = SIGNATURE + bytes.fromhex("20 11 000c c0000207 cb007101 ca82 0016")
UNKNOWN = b"PROXY UNKNOWN\r\n"
UNKNOWN_LONG = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"
ALL = (
    (LINE, "192.0.2.7"),
    (LINE_6, "2001:db8::7"),
    (BINARY, "192.0.2.7"),
    (BINARY_6, "2001:db8::7"),
    (WITH_TLVS, "192.0.2.7"),
    (LOCAL, None),
    (LOCAL_WITH_ADDRESSES, None),
    (UNKNOWN, None),
    (UNKNOWN_LONG, None),
)
NAMES = (
    "v1-ipv4",
    "v1-ipv6",
    "v2-ipv4",
    "v2-ipv6",
    "v2-tlv",
    "local",
    "local-ipv4",
    "v1-?",
    "v1-??",
)


@pytest.mark.parametrize(("header", "source"), ALL, ids=NAMES)
@pytest.mark.parametrize("after", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_a_header_gives_the_source_and_its_own_length(
    header: bytes, source: str | None, after: bytes
) -> None:
    assert parse(header + after) == Header(len(header), parse_address(source) if source else None)


@pytest.mark.parametrize(("header", "_source"), ALL)
def test_a_truncated_header_is_incomplete(header: bytes, _source: str | None) -> None:
    assert [parse(header[:size]) for size in range(len(header))] == [None] * len(header)


def test_an_ipv4_mapped_ipv6_source_counts_as_ipv4() -> None:
    line = b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:203.0.113.1 51842 22\r\n"
    found = parse(line)
    assert found is not None
    assert found.source == parse_address("192.0.2.7")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PROXX",
        b"\r\n\r\n\0\r\nQUIX",
        b"GET / HTTP/1.1\r\n",
        b"proxy TCP4 192.0.2.7 203.0.113.1 51842 22\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 51842 22\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 51842\r\n",
        b"PROXY TCP4  192.0.2.7 203.0.113.1 51842 22\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 51842 22 x\r\n",
        b"PROXY TCP4 192.0.2.777 203.0.113.1 51842 22\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 65536 22\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 51842 22\r\n",
        b"PROXY TCP6 192.0.2.7 203.0.113.1 51842 22\r\n",
        b"PROXY UDP4 192.0.2.7 203.0.113.1 51842 22\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UNKNOWN\n",
        b"PROXY TCP4 192.0.2.7 \xff 51842 22\r\n",
        b"PROXY " + b"x" * 101,
        SIGNATURE + bytes.fromhex("11 11 000c c0000207 cb007101 ca82 0016"),  # version 1
        SIGNATURE + bytes.fromhex("22 11 000c c0000207 cb007101 ca82 0016"),  # unknown command
        SIGNATURE + bytes.fromhex("21 12 000c c0000207 cb007101 ca82 0016"),  # UDP
        SIGNATURE + bytes.fromhex("21 00 0000"),  # no address
        SIGNATURE + bytes.fromhex("21 31 00d8") + bytes(216),  # UNIX
        SIGNATURE + bytes.fromhex("21 11 000b c0000207 cb007101 ca82 00"),
        SIGNATURE + bytes.fromhex("21 21 000c c0000207 cb007101 ca82 0016"),
        SIGNATURE + bytes.fromhex("21 11 ffff"),
    ],
)
def test_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse(data)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda b: SIGNATURE + b)))
def test_any_bytes_are_a_header_or_incomplete_or_malformed(data: bytes) -> None:
    try:
        found = parse(data)
    except Malformed:
        return
    if found is None:
        assert len(data) < MAX_HEADER
    else:
        assert found.length <= len(data)
        assert parse(data[: found.length]) == found


@given(st.sampled_from([header for header, _ in ALL]), st.data())
def test_a_flipped_byte_never_makes_the_header_longer(header: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(header) - 1))
    flipped = bytearray(header)
    flipped[at] ^= data.draw(st.integers(1, 255))
    try:
        found = parse(bytes(flipped))
    except Malformed:
        return
    assert found is None or found.length <= len(header)
