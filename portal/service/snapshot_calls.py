"""Calls about snapshots: manifests, whole snapshots in one request, files, and the changes since.

A whole snapshot is NDJSON, one row a line, in the format of a batch, in the best encoding that the
client takes. A party that may see everything gets the ready-made files, with ranges; one with a
smaller scope gets the same rows within its scope, made for it (portal/exports/stored), with ranges
if it asks for no encoding.
"""

import asyncio
import gzip
import io
from collections.abc import Iterator
from functools import partial
from typing import Annotated

from fastapi import Path as InPath
from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse

from config.event import AccessEvent
from config.sheet import Secim
from config.snapshot import EXPORTS
from portal.access.gate import gated_router, portal_entrance_of, record, unauthorized
from portal.access.identity import Identity
from portal.access.limits import MAX_OPEN
from portal.data.live import LiveData
from portal.data.numbers.snapshots import BEGINNING, SnapshotInfo, parse_cursor
from portal.data.scoped import ScopedData
from portal.exports.stored import compressed, stored
from portal.service import answers
from portal.service.calls import (
    Caller,
    Data,
    Live,
    common_headers,
    json_answer,
    made_for,
    missing,
    raw_answer,
    refuse,
    refuse_many_files,
    sites_of,
    while_admitted,
)
from portal.service.serve_file import (
    GZIP,
    IDENTITY,
    ZSTD,
    Part,
    choose_encoding,
    matches,
    serve,
    serve_made,
)
from publisher.results.snapshots.headings import PROVISIONAL

NDJSON = "application/x-ndjson"
ENCODINGS = (ZSTD, GZIP, IDENTITY)
MAX_WAIT = 55.0  # seconds; below the usual timeouts of proxies
MAX_CHANGES = 10_000
MAX_MADE = 3  # parties for which one is made at a time, which takes seconds of processor time
_SUFFIX = {ZSTD: ".ndjson.zst", GZIP: ".ndjson.gz"}
_CHUNK = 256 * 1024
_MAX_NUMBER = 99_999_999
Number = Annotated[int, InPath(ge=1, le=_MAX_NUMBER, description="Anlık görüntü numarası")]

router = gated_router(prefix="/v1", tags=["snapshots"])
_making: set[str] = set()  # the parties for which a snapshot is made now: one for each


@router.get("/snapshots")
async def list_snapshots(
    request: Request,
    who: Caller,
    live: Live,
    since: Annotated[int, Query(ge=0, le=_MAX_NUMBER, description="Bundan sonrakiler")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    wait: Annotated[
        float, Query(ge=0, le=MAX_WAIT, description="Yenisi için beklenecek saniye")
    ] = 0,
) -> Response:
    """List snapshots after a number, oldest first, with manifest and signature.

    The manifests are a chain: each names the SHA-256 of the one before it. With `wait`, the answer
    comes as soon as there is one.
    """
    if wait:
        await _wait(request, who, live, since, wait)
    data = live.scoped(who.scope)
    newest = data.snapshot.number
    numbers = range(since + 1, min(newest, since + limit) + 1)
    found = [info for number in numbers if (info := data.snapshot_info(number)) is not None]
    content = {
        "newest": newest,
        "exports": data.newest_exports,
        "snapshots": [answers.manifest(info) for info in found],
    }
    return json_answer(request, data, content, len(found))


@router.get("/snapshots/latest")
@router.head("/snapshots/latest", include_in_schema=False)
async def latest_snapshot(request: Request, data: Data) -> Response:
    """Return the newest snapshot's manifest and signature; 404 before the first one.

    `exports` is the newest snapshot whose ready-made files are there, so that it can be fetched
    whole at once; that of the newest one follows within a minute.
    """
    if not data.snapshot.number:
        refuse(404, "no-snapshot", "Henüz anlık görüntü yok; /v1/snapshots?wait=50 ile bekleyin.")
    content = {**answers.manifest(data.snapshot), "exports": data.newest_exports}
    return json_answer(request, data, content)


@router.get("/snapshots/{number}/manifest")
async def snapshot_manifest(request: Request, data: Data, number: Number) -> Response:
    """Return the manifest and signature of one snapshot."""
    return json_answer(request, data, answers.manifest(_info(data, number)))


@router.get("/snapshots/{number}")
@router.head("/snapshots/{number}", include_in_schema=False)
async def whole_snapshot(
    request: Request,
    who: Caller,
    data: Data,
    number: Number,
    secim: Annotated[
        str, Query(description="Yalnız bu seçim", json_schema_extra={"enum": ["", *Secim]})
    ] = "",
) -> Response:
    """Return every row of a snapshot as NDJSON, of one contest or of all."""
    info = _info(data, number)
    if secim and secim not in list(Secim):
        refuse(400, "bad-criterion", f"secim: şunlardan birini yazın: {', '.join(Secim)}")
    tables = [t for t in data.snapshot_tables(number) if not secim or t.split("-")[0] == secim]
    encoding = choose_encoding(request.headers.get("accept-encoding"), ENCODINGS)
    if encoding is None:
        refuse(406, "not-acceptable", f"Accept-Encoding: {', '.join(ENCODINGS)} gönderilebilir.")
    etag = f'"{info.sha256[:32]}-{secim or "hepsi"}-{encoding}"'
    headers = common_headers(request)
    parts = _ready_made(data, number, tables, encoding)
    if parts is not None:
        size = sum(part.size for part in parts)
        record(request, AccessEvent.CALL, bytes=size, snapshot=number)
        sending = partial(while_admitted, request, who)
        return serve(request.headers, parts, etag, NDJSON, encoding, headers, sending)
    record(request, AccessEvent.CALL, bytes=None, snapshot=number)
    ranges = "bytes" if encoding == IDENTITY else "none"
    headers |= {"ETag": etag, "Vary": "Accept-Encoding", "Accept-Ranges": ranges}
    if not data.sees_everything:
        headers["ETag"] = f'"{info.sha256[:32]}-{secim or "hepsi"}-{encoding}-kapsam"'
    if encoding != IDENTITY:
        headers["Content-Encoding"] = encoding
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=NDJSON)
    refuse_many_files(request, who)
    if who.party in _making or len(_making) >= MAX_MADE:
        busy = "Başka bir anlık görüntü hazırlanıyor. Retry-After kadar bekleyip yeniden isteyin."
        refuse(503, "busy", busy, {"Retry-After": "10"})
    _making.add(who.party)
    made = partial(_making.discard, who.party)
    keep = compressed if encoding == ZSTD else stored
    sizes: list[int] = []
    chunks = keep(_counted(_chunks(data, number, tables), sizes), made)
    next(chunks)  # from now on its end calls `made`, also if no part of the answer is sent
    if encoding == GZIP:
        chunks = _as_gzip(chunks)
    sent = made_for(request, who, chunks)
    asks_for_part = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    if encoding == IDENTITY and "range" in request.headers and asks_for_part:
        return await serve_made(request.headers, sent, partial(sum, sizes), headers, NDJSON)
    return StreamingResponse(sent, headers=headers, media_type=NDJSON)


@router.get("/snapshots/{number}/files/{name}")
@router.head("/snapshots/{number}/files/{name}", include_in_schema=False)
async def snapshot_file(
    request: Request,
    who: Caller,
    data: Data,
    number: Number,
    name: Annotated[str, InPath(max_length=100, description="ör. mv.changes.ndjson")],
) -> Response:
    """Return one file of a snapshot, byte for byte as its manifest (or exports.json) signs it.

    Only for parties that may see everything: a file holds the whole country.
    """
    info = _info(data, number)
    path = data.whole_file(name, number)
    if path is None:
        missing(f"{number} numaralı anlık görüntüde bu dosya")
    size = path.stat().st_size
    record(request, AccessEvent.CALL, bytes=size, snapshot=number)
    etag = f'"{info.sha256[:32]}-{name}"'
    return serve(
        request.headers,
        [Part(path, size)],
        etag,
        "application/octet-stream",
        extra=common_headers(request),
        sending=partial(while_admitted, request, who),
    )


@router.get("/changes")
async def changes(
    request: Request,
    who: Caller,
    live: Live,
    since: Annotated[str, Query(max_length=200, description="Bir önceki yanıttaki cursor")] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_CHANGES)] = 1000,
    wait: Annotated[
        float, Query(ge=0, le=MAX_WAIT, description="Değişiklik için beklenecek saniye")
    ] = 0,
) -> Response:
    """Return what changed after a cursor: first results, corrections and withdrawals with reasons.

    Without a cursor: from the very first result. `cursor` of the answer is the next `since`. While
    `more` is true there is more already. With `wait`, the answer comes as soon as there is a
    change.
    """
    try:
        cursor = parse_cursor(since) if since else BEGINNING
    except ValueError:
        refuse(
            400, "bad-cursor", "since: bir önceki yanıttaki cursor değerini olduğu gibi gönderin."
        )
    if wait and not cursor.contest and cursor.snapshot >= live.number:
        await _wait(request, who, live, cursor.snapshot, wait)
    data = live.scoped(who.scope)  # not before: a view takes much memory
    found = await asyncio.to_thread(data.feed, cursor, limit)
    lines = b",".join(b'{"snapshot":%d,%s' % (c.snapshot, c.line.strip()[1:]) for c in found.lines)
    text = b'{"snapshot":%d,"durum":"%s","cursor":"%s","more":%s,"changes":[%s]}' % (
        data.snapshot.number,
        PROVISIONAL.encode(),
        str(found.cursor).encode(),
        b"true" if found.more else b"false",
        lines,
    )
    return raw_answer(request, data, text, len(found.lines))


async def _wait(
    request: Request, who: Identity, live: LiveData, number: int, seconds: float
) -> None:
    """Wait for a snapshot after `number`, or until the client is gone.

    Raises Refusal if many calls of this user wait already, or if it may not call any more.
    """
    waiting = portal_entrance_of(request).limits.waiting_calls
    if waiting.is_full(who.login):
        many = f"Aynı anda en çok {MAX_OPEN} çağrı bekleyebilir. Yanıtlarını bekleyin."
        refuse(429, "too-many", many, {"Retry-After": "10"})
    with waiting.counted(who.login):
        news = asyncio.create_task(sites_of(request).wait(live, number, seconds))
        gone = asyncio.create_task(_until_gone(request))
        try:
            await asyncio.wait((news, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            gone.cancel()
    if not portal_entrance_of(request).still_admitted(who):
        raise unauthorized("Bu arada erişiminiz sona erdi.")


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _info(data: ScopedData, number: int) -> SnapshotInfo:
    info = data.snapshot_info(number)
    if info is None:
        missing(f"{number} numaralı anlık görüntü")
    return info


def _ready_made(
    data: ScopedData, number: int, tables: list[str], encoding: str
) -> list[Part] | None:
    """Return the ready-made files of these tables; None if they cannot be served as they are."""
    if encoding not in _SUFFIX or data.whole_file(EXPORTS, number) is None:
        return None
    found = [data.whole_file(f"{table}{_SUFFIX[encoding]}", number) for table in tables]
    return [Part(path, path.stat().st_size) for path in found if path is not None]


def _chunks(data: ScopedData, number: int, tables: list[str]) -> Iterator[bytes]:
    waiting = io.BytesIO()
    for table in tables:
        for line in data.snapshot_lines(number, table):
            waiting.write(line)
            if waiting.tell() >= _CHUNK:
                yield waiting.getvalue()
                waiting = io.BytesIO()
    yield waiting.getvalue()


def _counted(chunks: Iterator[bytes], sizes: list[int]) -> Iterator[bytes]:
    for chunk in chunks:
        sizes.append(len(chunk))
        yield chunk


def _as_gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    target = io.BytesIO()
    with gzip.GzipFile("", "wb", 5, target, mtime=0) as packed:
        for chunk in chunks:
            packed.write(chunk)
            yield target.getvalue()
            target.seek(0)
            target.truncate()
    yield target.getvalue()
