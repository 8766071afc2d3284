"""`/api/ssps/…`: the calls of YSK's own result interface, so that existing clients need a new URL.

All calls are GET and answer with a flat JSON array; portal/service/ssps_rows has the shapes.
Unknown parameters are ignored, and ids that do not exist get an empty array.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta, timezone
from itertools import chain, islice
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from config.event import AccessEvent
from portal.access.gate import entrance_of, gated_router, record
from portal.data.scoped import ScopedData
from portal.exports.stored import stored
from portal.service.calls import (
    Caller,
    Data,
    begun,
    common_headers,
    json_answer,
    made_for,
    refuse_many_files,
    sent_to,
)
from portal.service.ssps_rows import PARAMETERS, Interface, Json, Query

_TURKEY = timezone(timedelta(hours=3))
_ROWS_A_CHUNK = 500
_MANY_ROWS = 20_000  # an answer with more counts as a file that is made for its user
Route = Callable[..., Response]

router = gated_router(prefix="/api/ssps", tags=["ssps"])


def _call(name: str, *more: str) -> Callable[[Route], Route]:
    """Make a function the answer to a call; its parameters are described, and read as they come."""
    described = [
        {"name": parameter, "in": "query", "schema": {"type": "string"}}
        for parameter in (*PARAMETERS, *more)
    ]
    return router.get(f"/{name}", openapi_extra={"parameters": described})


def _interface(request: Request, data: ScopedData) -> Interface:
    entrance = entrance_of(request)
    stage = entrance.settings.stage(entrance.clock()) or entrance.settings.election
    date = stage.opens.astimezone(_TURKEY).strftime("%d/%m/%Y")
    return Interface(data, stage.id, stage.title, date)


def _list(
    request: Request, data: ScopedData, rows_of: Callable[[Interface, Query], list[Json]]
) -> Response:
    interface = _interface(request, data)
    query = interface.query(request.query_params)
    found = rows_of(interface, query) if query is not None else []
    return json_answer(request, data, found, len(found))


@_call("getIlList")
def provinces(request: Request, data: Data) -> Response:
    """İller; milletvekili seçiminde seçim çevreleri."""
    return _list(request, data, Interface.provinces)


@_call("getIlceList")
def boards(request: Request, data: Data) -> Response:
    """İlçe seçim kurulları."""
    return _list(request, data, Interface.boards)


@_call("getIlceListWithSecim")
def boards_of_contest(request: Request, data: Data) -> Response:
    """İlçe seçim kurulları."""
    return _list(request, data, Interface.boards)


@_call("getMuhtarlikList")
def mahalles(request: Request, data: Data) -> Response:
    """Mahalleler ve köyler."""
    return _list(request, data, Interface.mahalles)


@_call("getGumrukList")
def gates(request: Request, data: Data) -> Response:
    """Gümrük kapıları."""
    return _list(request, data, Interface.gates)


@_call("getUlkeList")
def countries(request: Request, data: Data) -> Response:
    """Ülkeler."""
    return _list(request, data, Interface.countries)


@_call("getDisTemsilcilikList")
def missions(request: Request, data: Data) -> Response:
    """Dış temsilcilikler."""
    return _list(request, data, Interface.missions)


@_call("getSecimDetayList")
def elections(request: Request, data: Data) -> Response:
    """Seçimler."""
    found = _interface(request, data).elections(request.query_params)
    return json_answer(request, data, found, len(found))


@_call("getSandikSecimSonucBaslikList", "bagimsiz")
def headings(request: Request, data: Data) -> Response:
    """Oy sütunlarının anlamı."""
    return _list(request, data, Interface.headings)


@_call("getSecimSonucList")
def sums(request: Request, data: Data) -> Response:
    """Toplamlar."""
    return _list(request, data, Interface.sums)


@_call("getSecimSandikSonucList", "sorguTuru")
def rows(request: Request, who: Caller, data: Data) -> Response:
    """Sandık sonuçları; sorguTuru 1 ile ilçe, 2 ile il toplamları."""
    interface = _interface(request, data)
    query = interface.query(request.query_params)
    if query is None:
        return json_answer(request, data, [], 0)
    found = interface.rows(query, request.query_params.get("sorguTuru", "").strip())
    first = list(islice(found, _ROWS_A_CHUNK))
    if len(first) < _ROWS_A_CHUNK:
        return json_answer(request, data, first, len(first))
    count = interface.count(query)
    is_long = count > _MANY_ROWS
    if is_long:
        refuse_many_files(request, who)
    record(request, AccessEvent.CALL, rows=count, snapshot=data.snapshot.number)
    chunks = stored(_array(chain(first, found)))
    return StreamingResponse(
        begun(made_for(request, who, chunks) if is_long else sent_to(request, who, chunks)),
        headers=common_headers(request),
        media_type="application/json",
    )


def _array(rows: Iterable[Any]) -> Iterator[bytes]:
    """Yield a JSON array in chunks."""
    listed = iter(rows)
    start = b"["
    while part := list(islice(listed, _ROWS_A_CHUNK)):
        yield start + orjson.dumps(part)[1:-1]
        start = b","
    yield b"]"
