"""What the publisher and its reading workers say to each other, over a socket.

A message is its length, four bytes big-endian, and that many bytes. The worker first says
`ready`; then each request is a file's bytes, and the answer a message for each of its pages: a
ReadResult at that one page as JSON, for example

    ["JPEG", 1654, 2339, [["1093717526", "zxing-cpp", "whole", 2, [[1490, 80], ...]]], 9, null, 1]

format, width, height, readings (text, engine, scan, ms, corners), ms, fault, and how many pages
the file has, which is how many messages there are.
"""

import json
import socket
import time
from typing import Any

from publisher.page import MAGIC, Reading, ReadResult, Reason

MAX_FILE_BYTES = 64 << 20
MAX_FRAMES = 64
MAX_READINGS, MAX_TEXT_LENGTH = 64, 4096
_NUMBER_LIMIT = 1 << 31
READY = b"ready"


def format_result(seen: ReadResult) -> bytes:
    """Write what was seen on one page."""
    readings = [[r.text, r.engine, r.scan, r.ms, r.corners] for r in seen.readings]
    answer = [seen.format, seen.width, seen.height, readings, seen.ms, seen.fault, seen.frames]
    return json.dumps(answer).encode()


def parse_result(answer: bytes) -> ReadResult:
    """Read what was seen on one page; ValueError for what `format_result` would not have written.

    A worker may have been taken over by the page it read, so what it says is bounded here: at
    most 64 pages, 64 readings, and corners of each, texts of 4096 characters, numbers below 2**31.
    """
    try:
        kind, width, height, readings, ms, fault, frames = json.loads(answer)
        if kind not in (*MAGIC, None) or (kind is None and fault is None):
            raise ValueError("a page of no known format")
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
        )
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError("not a worker's answer") from error


def _short_list(found: list[Any]) -> list[Any]:
    if type(found) is not list or len(found) > MAX_READINGS:
        raise ValueError(f"no list of at most {MAX_READINGS}")
    return found


def _corners(found: list[Any]) -> tuple[tuple[int, int], ...]:
    # A code on the very edge of a page may have a corner beyond it.
    return tuple((_number(x), _number(y)) for x, y in _short_list(found))


def _count(found: int) -> int:
    if _number(found) < 0:
        raise ValueError("no count")
    return found


def _number(found: int) -> int:
    if type(found) is not int or not -_NUMBER_LIMIT < found < _NUMBER_LIMIT:
        raise ValueError("no number of a page's")
    return found


def _text(found: str) -> str:
    if type(found) is not str or len(found) > MAX_TEXT_LENGTH:
        raise ValueError("no text of a page's")
    found.encode()  # ValueError for what no record could hold
    return found


def send(channel: socket.socket, message: bytes) -> None:
    """Send one message."""
    channel.sendall(len(message).to_bytes(4, "big"))
    channel.sendall(message)


def receive(channel: socket.socket, limit: int, deadline: float | None = None) -> bytes | None:
    """Return one message, or None where the peer is gone.

    Raises ValueError if it is longer than `most` bytes, and TimeoutError if it is not complete
    when the monotonic clock says `until`, however steadily it trickles.
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
