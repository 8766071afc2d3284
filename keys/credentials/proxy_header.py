r"""Parses the PROXY protocol header, in which a balancer states the client's address.

Source: HAProxy's proxy-protocol.txt, versions 1 and 2. Before anything else the balancer sends
either a line of at most 107 bytes (section 2.1),

    PROXY TCP4 192.0.2.7 203.0.113.1 51842 22\r\n
    PROXY TCP6 2001:db8::7 2001:db8::1 51842 22\r\n
    PROXY UNKNOWN ...\r\n

with the source before the destination, or a binary header (section 2.2), in network byte order:

    signature   12 bytes    0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a
    version     4 bits      2
    command     4 bits      0 LOCAL, 1 PROXY
    family      4 bits      0 unspecified, 1 IPv4, 2 IPv6, 3 UNIX
    transport   4 bits      0 unspecified, 1 stream, 2 datagram
    length      uint16      of what follows: addresses, ports, TLVs
    addresses   source, destination: 4 bytes each for IPv4, 16 for IPv6
    ports       source, destination: uint16 each
    TLVs        the rest; ignored

For example, the same as the first line above:

    0d0a0d0a000d0a515549540a 21 11 000c c0000207 cb007101 ca82 0016

LOCAL and UNKNOWN mean a health check by the balancer itself. Otherwise only TCP is accepted.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from config.party import Address, parse_address

MAX_HEADER = 2048  # bytes of a header; with TLVs, version 2 would allow 65,551
_MAX_LINE = 107
_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (\d{1,5}) (\d{1,5})\r\n")
_UNKNOWN = b"PROXY UNKNOWN"
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_head = Struct(">12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_STREAMS: dict[int, tuple[int, type[IPv4Address] | type[IPv6Address]]] = {
    0x11: (4, IPv4Address),
    0x21: (16, IPv6Address),
}
_PORTS = 4


class Malformed(Exception):
    """The bytes are not a PROXY header that this server accepts."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header of `length` bytes; `source` is None for a health check by the balancer."""

    length: int
    source: Address | None


def parse(data: bytes) -> Header | None:
    """Return the header at the start of `data`, None if it is incomplete; raise Malformed."""
    if data[:5] == b"PROXY"[: len(data)]:
        return _line(data)
    if data[:12] == _SIGNATURE[: len(data)]:
        return _binary(data)
    raise Malformed("not a PROXY header")


def _line(data: bytes) -> Header | None:
    line, feed, _ = data[:_MAX_LINE].partition(b"\n")
    if not feed:
        if len(data) >= _MAX_LINE:
            raise Malformed("line too long")
        return None
    line += feed
    if line.startswith(_UNKNOWN) and line.endswith(b"\r\n") and line[13:14] in b" \r":
        return Header(len(line), None)
    found = _LINE.fullmatch(line)
    if found is None:
        raise Malformed("not a PROXY line")
    family, *names, _, _ = found.groups()
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        source, _ = (kind(name.decode()) for name in names)
    except ValueError as error:
        raise Malformed(str(error)) from None
    if any(int(port) > 65535 for port in found.groups()[3:]):
        raise Malformed("port above 65535")
    return Header(len(line), _unmapped(source))


def _binary(data: bytes) -> Header | None:
    if len(data) < _head.size:
        return None
    _, command, family, size = _head.unpack_from(data)
    length = _head.size + size
    if command not in (_LOCAL, _PROXY):
        raise Malformed(f"version and command {command:#04x}")
    if length > MAX_HEADER:
        raise Malformed(f"header of {length} bytes")
    if command == _PROXY:
        width, kind = _STREAMS.get(family, (0, IPv4Address))
        if not width or size < 2 * width + _PORTS:
            raise Malformed(f"family {family:#04x} with {size} bytes")
    if len(data) < length:
        return None
    if command == _LOCAL:
        return Header(length, None)
    return Header(length, _unmapped(kind(data[_head.size : _head.size + width])))


def _unmapped(source: Address) -> Address:
    return parse_address(str(source))
