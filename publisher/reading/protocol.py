"""The messages between the publisher and a reading worker, over a socket.

A message is its length in four bytes, big-endian, followed by that many bytes. The worker first
sends `ready`. Then each request is the bytes of a file, and the answer is its ReadResult as JSON,
for example

    ["JPEG", 1654, 2339, [["1093717526", "zxing-cpp", "whole", 2, [[1490, 80], ...]]], 9, null, 1,
     "9f86…", "AAVW…"]

These are format, width, height, readings (text, engine, scan, ms, corners), ms, fault, the number
of pages in the file, the digest of the page's pixels or null, and the page's print map in Base64
(publisher/print_map) or null. If the file has several pages,
the list of readings is empty, and one message for each page follows: the bytes of a file that has
only this page.
"""

import base64
import json
import re
import socket
import time
from typing import Any

from publisher.page import MAGIC, Reading, ReadResult, Reason
from publisher.print_map import SIZE

MAX_FRAMES = 64
MAX_READINGS, MAX_TEXT_LENGTH = 64, 4096
_NUMBER_LIMIT = 1 << 31
READY = b"ready"
_DIGEST = re.compile("[0-9a-f]{64}", re.ASCII)


def format_result(seen: ReadResult) -> bytes:
    """Format the result of one page."""
    readings = [[r.text, r.engine, r.scan, r.ms, r.corners] for r in seen.readings]
    size = [seen.width, seen.height]
    print_map = seen.print_map and base64.b64encode(seen.print_map).decode()
    answer = [
        seen.format,
        *size,
        readings,
        seen.ms,
        seen.fault,
        seen.frames,
        seen.pixels,
        print_map,
    ]
    return json.dumps(answer).encode()


def parse_result(answer: bytes) -> ReadResult:
    """Parse the result of one page; raise ValueError for what `format_result` would not write.

    A page may have taken over the worker that read it, so the answer is checked here: at most 64
    pages, 64 readings, 64 corners of each, texts of 4096 characters, numbers below 2**31.
    """
    try:
        kind, width, height, readings, ms, fault, frames, pixels, print_map = json.loads(answer)
        if kind not in (*MAGIC, None) or (kind is None and fault is None):
            raise ValueError("the format of the page is not known")
        if not 1 <= _count(frames) <= MAX_FRAMES:
            raise ValueError(f"{frames} pages, at most {MAX_FRAMES} are allowed")
        return ReadResult(
            kind,
            _count(width),
            _count(height),
            tuple(
                Reading(_text(text), _text(engine), _text(scan), _count(took), _corners(corners))
                for text, engine, scan, took, corners in _short_list(readings)
            ),
            _count(ms),
            None if fault is None else Reason(fault),
            frames,
            None if pixels is None else _digest(pixels),
            None if print_map is None else _print_map(print_map),
        )
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError("not the answer of a worker") from error


def _short_list(found: list[Any]) -> list[Any]:
    if type(found) is not list or len(found) > MAX_READINGS:
        raise ValueError(f"not a list of at most {MAX_READINGS}")
    return found


def _corners(found: list[Any]) -> tuple[tuple[int, int], ...]:
    # A code at the edge of a page may have a corner outside it, so a corner may be negative.
    return tuple((_number(x), _number(y)) for x, y in _short_list(found))


def _count(found: int) -> int:
    if _number(found) < 0:
        raise ValueError("a count is negative")
    return found


def _number(found: int) -> int:
    if type(found) is not int or not -_NUMBER_LIMIT < found < _NUMBER_LIMIT:
        raise ValueError("not an integer in range")
    return found


def _digest(found: str) -> str:
    if type(found) is not str or not _DIGEST.fullmatch(found):
        raise ValueError("not a digest")
    return found


def _print_map(found: str) -> bytes:
    print_map = base64.b64decode(found, validate=True)
    if len(print_map) != SIZE:
        raise ValueError("not a print_map")
    return print_map


def _text(found: str) -> str:
    if type(found) is not str or len(found) > MAX_TEXT_LENGTH:
        raise ValueError("not a text of allowed length")
    found.encode()  # a lone surrogate raises ValueError: no record could hold it
    return found


def send(channel: socket.socket, message: bytes) -> None:
    """Send one message."""
    channel.sendall(len(message).to_bytes(4, "big"))
    channel.sendall(message)


def receive(channel: socket.socket, limit: int, deadline: float | None = None) -> bytes | None:
    """Return one message, or None if the peer closed the socket.

    Raises ValueError if the message is longer than `limit` bytes, and TimeoutError if it is not
    complete at `deadline` on the monotonic clock, even if bytes keep arriving.
    """
    head = _receive_exactly(channel, 4, deadline)
    if head is None:
        return None
    size = int.from_bytes(head, "big")
    if size > limit:
        raise ValueError(f"a message of {size} bytes, at most {limit} are allowed")
    return _receive_exactly(channel, size, deadline)


def _receive_exactly(channel: socket.socket, size: int, deadline: float | None) -> bytes | None:
    buffer = bytearray(size)
    view, got = memoryview(buffer), 0
    while got < size:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            channel.settimeout(left)
        more = channel.recv_into(view[got:])
        if more == 0:
            return None
        got += more
    return bytes(buffer)
