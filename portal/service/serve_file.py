"""Serves files of a snapshot: one encoding of them, with a strong ETag, and ranges of bytes.

A snapshot never changes, so its files can be fetched in parts and gone on with at any time. Several
files are served as one, since Zstandard frames and gzip members may follow each other (RFC 8878,
RFC 1952).

    Accept-Encoding: zstd, gzip     the best encoding that the client takes (RFC 9110 12.5.3)
    If-None-Match                   304 if the client has it already
    Range, If-Range                 206 with one range; several ranges get the whole (RFC 9110 14)
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from fastapi import Response
from fastapi.responses import StreamingResponse

from portal import problem

ZSTD, GZIP, IDENTITY = "zstd", "gzip", "identity"
_CHUNK = 512 * 1024
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_ENCODING = re.compile(
    r"\s*([A-Za-z0-9*!#$%&'+.^_`|~-]+)\s*(?:;\s*[qQ]\s*=\s*([01](?:\.[0-9]{0,3})?))?\s*", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Part:
    """One of the files that are served as one."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes from `first`, before `end`."""

    first: int
    end: int


def choose_encoding(accepted: str | None, offered: Sequence[str]) -> str | None:
    """Return the best offered encoding, in the order offered; None if the client takes none.

    Without the header, everything is accepted by the protocol, but a simple client can only read
    the identity.
    """
    if accepted is None:
        return IDENTITY if IDENTITY in offered else None
    weights: dict[str, float] = {}
    for part in accepted[:1000].split(","):
        match = _ENCODING.fullmatch(part)
        if match is not None:
            weights[match[1].lower()] = float(match[2]) if match[2] else 1.0
    rest = weights.get("*")

    def weight(encoding: str) -> float:
        if encoding in weights:
            return weights[encoding]
        if rest is not None:
            return rest
        return 0.001 if encoding == IDENTITY else 0.0

    best = max(offered, key=weight)  # the first of equal ones
    return best if weight(best) > 0 else None


def parse_range(text: str, size: int) -> Range | None:
    """Return the range of a `Range` header, None to serve the whole; ValueError if beyond it."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None  # several ranges, another unit, or nonsense: ignored
    if not match[1]:
        last = int(match[2])
        if last == 0 or size == 0:
            raise ValueError(text)
        return Range(max(0, size - last), size)
    first = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < first:
        return None
    if first >= size:
        raise ValueError(text)
    return Range(first, end)


def serve(
    headers: Mapping[str, str],
    parts: Sequence[Part],
    etag: str,
    media_type: str,
    encoding: str = IDENTITY,
    extra: Mapping[str, str] | None = None,
    sending: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]] = lambda chunks: chunks,
) -> Response:
    """Answer a request with these files; `headers` are those of the request.

    `sending` gets what is sent, and may end it.
    """
    size = sum(part.size for part in parts)
    answered = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Vary": "Accept-Encoding",
        **(extra or {}),
    }
    if encoding != IDENTITY:
        answered["Content-Encoding"] = encoding
    if matches(headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=answered)
    wanted = Range(0, size)
    status = 200
    asked = headers.get("range")
    if asked is not None and headers.get("if-range", etag) == etag:
        try:
            found = parse_range(asked, size)
        except ValueError:
            return _beyond(size, answered)
        if found is not None:
            wanted, status = found, 206
            answered["Content-Range"] = f"bytes {found.first}-{found.end - 1}/{size}"
    answered["Content-Length"] = str(wanted.end - wanted.first)
    return StreamingResponse(sending(_bytes(parts, wanted)), status, answered, media_type)


async def serve_made(
    headers: Mapping[str, str],
    made: AsyncGenerator[bytes, None],
    size_when_made: Callable[[], int],
    answered: dict[str, str],
    media_type: str,
) -> Response:
    """Answer a request for a range of what is made for it, in no encoding.

    `made` yields nothing (b"") until all is made and its size is known (portal/exports/stored).
    """
    begun = b""
    async for begun in made:
        if begun:
            break
    size = size_when_made()
    try:
        found = parse_range(headers.get("range", ""), size)
    except ValueError:
        await made.aclose()
        return _beyond(size, answered)
    wanted, status = Range(0, size), 200
    if found is not None:
        wanted, status = found, 206
        answered["Content-Range"] = f"bytes {found.first}-{found.end - 1}/{size}"
    answered["Content-Length"] = str(wanted.end - wanted.first)
    return StreamingResponse(_cut(begun, made, wanted), status, answered, media_type)


async def _cut(
    begun: bytes, made: AsyncGenerator[bytes, None], wanted: Range
) -> AsyncIterator[bytes]:
    async with aclosing(made):
        at = 0
        chunk: bytes | None = begun
        while chunk is not None and at < wanted.end:
            if part := chunk[max(wanted.first - at, 0) : wanted.end - at]:
                yield part
            at += len(chunk)
            chunk = await anext(made, None)


def _beyond(size: int, answered: dict[str, str]) -> Response:
    told = problem.content(416, f"Range: dosya {size} bayttır.")
    del answered["ETag"]
    answered.pop("Content-Encoding", None)
    answered["Content-Range"] = f"bytes */{size}"
    return Response(told, 416, answered, problem.MEDIA_TYPE)


def matches(header: str | None, etag: str) -> bool:
    """Say whether `If-None-Match` names this ETag."""
    if header is None:
        return False
    named = [part.strip().removeprefix("W/") for part in header.split(",")]
    return "*" in named or etag in named


async def _bytes(parts: Sequence[Part], wanted: Range) -> AsyncIterator[bytes]:
    """Yield the bytes; a chunk does not end with a part, unless it is the last.

    Some clients cannot go on when what they read at once ends with a Zstandard frame (httpx 0.28).
    """
    at, chunk = 0, b""
    for part in parts:
        first, end = max(wanted.first - at, 0), min(wanted.end - at, part.size)
        at += part.size
        if first >= end:
            continue
        file = await asyncio.to_thread(os.open, part.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while first < end:
                size = min(max(_CHUNK - len(chunk), 1), end - first)
                read = await asyncio.to_thread(os.pread, file, size, first)
                if not read:
                    raise OSError(f"{part.path} is shorter than it was")
                first += len(read)
                chunk = chunk + read if chunk else read
                if len(chunk) >= _CHUNK and first < end:
                    yield chunk
                    chunk = b""
        finally:
            os.close(file)
    if chunk:
        yield chunk
