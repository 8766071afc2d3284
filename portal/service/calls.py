"""What every call of the web service shares: who calls, what it may see, its record, its answer.

A call is recorded before its answer is sent (portal/access/gate), with the number of rows and the
snapshot. Every answer says how many calls a minute the user may make, in `RateLimit-Policy`
(draft-ietf-httpapi-ratelimit-headers); one call too many is answered with 429 and `Retry-After`.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Annotated, Any, NoReturn

import orjson
from fastapi import Depends, Request, Response
from fastapi.concurrency import iterate_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.event import AccessEvent
from config.sheet import SandikTuru, Secim
from config.turkish import to_ascii
from keys.credentials.users import Service
from portal.access.gate import Refusal, portal_entrance_of, record, signed_in
from portal.access.identity import Identity
from portal.access.limits import MAX_FILES
from portal.data.criteria import Area, BadCriterion, Criteria, Status, parse
from portal.data.live import LiveData
from portal.data.scoped import ScopedData
from portal.data.sites import Sites
from publisher.results.snapshots.headings import PROVISIONAL

_STATUS = to_ascii(PROVISIONAL)

Caller = Annotated[Identity, Depends(signed_in(Service.API))]


def sites_of(request: Request) -> Sites:
    """Return the data of all sites of the portal."""
    found: Sites = request.app.state.sites
    return found


async def _live(request: Request, who: Caller) -> LiveData:
    return await sites_of(request).live(who.site)


Live = Annotated[LiveData, Depends(_live)]


async def _scoped(request: Request, who: Caller) -> ScopedData:
    return (await _live(request, who)).scoped(who.scope)


Data = Annotated[ScopedData, Depends(_scoped)]


def _enum(values: Iterable[str]) -> dict[str, Any]:
    return {"enum": ["", *values]}


class Search(BaseModel):
    """The criteria of a search (portal/data/criteria), all optional; others are refused."""

    model_config = ConfigDict(extra="forbid")

    secim: str = Field(
        "", description="Seçim türü; boşsa ilk seçim", json_schema_extra=_enum(Secim)
    )
    alan: str = Field("", description="Yurt içi, yurt dışı, genel", json_schema_extra=_enum(Area))
    tur: str = Field("", description="Sandık türü", json_schema_extra=_enum(SandikTuru))
    cevre: str = Field("", max_length=200, description="Seçim çevresi, ör. 34-istanbul-1")
    kurul: str = Field("", max_length=200, description="İlçe seçim kurulu, ör. kadikoy-2")
    mahalle: str = Field(
        "", max_length=200, description="Mahalle veya köy, sandık listesindeki adıyla"
    )
    ilk: str = Field("", max_length=200, description="İlk sandık numarası veya rumuzu")
    son: str = Field("", max_length=200, description="Son sandık numarası veya rumuzu")
    durum: str = Field("", description="Sonucu gelen, gelmeyen", json_schema_extra=_enum(Status))

    def criteria(self, data: ScopedData) -> Criteria:
        """Return the criteria; raises Refusal if one cannot be read."""
        default = next(iter(data.contests), Secim.CB)
        try:
            return parse({name: str(value) for name, value in self}, default)
        except BadCriterion as error:
            refuse(400, "bad-criterion", str(error))


def query_of(model: type[BaseModel]) -> Any:
    """Return the dependency that reads the query of a call; other parameters are refused.

    It does what FastAPI does for a model as `Query()`, in a third of the time: no look at each
    field before the model itself is validated. The route gets `documented` too.
    """

    async def read(request: Request) -> BaseModel:
        try:
            return model.model_validate(dict(request.query_params))
        except ValidationError as error:
            wrong = error.errors(include_url=False)
            raise RequestValidationError(
                [{**each, "loc": ("query", *each["loc"])} for each in wrong]
            ) from None

    return Depends(read)


def documented(model: type[BaseModel]) -> dict[str, Any]:
    """Return the options of a route that describe the query that `query_of` reads."""
    parameters = []
    for name, schema in model.model_json_schema()["properties"].items():
        about = {"description": schema["description"]} if "description" in schema else {}
        stated = {"name": name, "in": "query", "required": False, "schema": schema, **about}
        parameters.append(stated)
    return {"openapi_extra": {"parameters": parameters}}


def refuse(status: int, slug: str, detail: str, headers: dict[str, str] | None = None) -> NoReturn:
    """Raise the refusal of a call, which is answered as `application/problem+json`."""
    raise Refusal(status, slug, detail, headers)


def missing(what: str) -> NoReturn:
    """Answer that there is no such thing, or that it is outside the scope: both look the same."""
    refuse(404, "not-found", f"{what} yok, ya da yetki alanınızda değil.")


def json_answer(
    request: Request, data: ScopedData | None, content: Mapping[str, Any] | list[Any], rows: int = 1
) -> Response:
    """Record a call and answer it with JSON."""
    return raw_answer(request, data, orjson.dumps(content), rows)


def raw_answer(
    request: Request,
    data: ScopedData | None,
    content: bytes,
    rows: int = 1,
    media_type: str = "application/json",
) -> Response:
    """Record a call and answer it with bytes."""
    number = data.snapshot.number if data is not None else None
    record(request, AccessEvent.CALL, rows=rows, bytes=len(content), snapshot=number)
    return Response(content, media_type=media_type, headers=common_headers(request))


def refuse_many_files(request: Request, who: Identity) -> None:
    """Refuse one more file that is made for a user who has as many as it may have."""
    if portal_entrance_of(request).limits.files.is_full(who.login):
        many = f"Aynı anda en çok {MAX_FILES} büyük yanıt alabilirsiniz. Bitmelerini bekleyin."
        refuse(429, "too-many", many, {"Retry-After": "10"})


async def made_for(
    request: Request, who: Identity, chunks: Iterator[bytes]
) -> AsyncGenerator[bytes, None]:
    """Yield a file that is made for a user (portal/exports/stored), and count it meanwhile."""
    files = portal_entrance_of(request).limits.files
    if files.is_full(who.login):
        request.state.abort()  # the others came at the same moment
        return
    with files.counted(who.login):
        async for chunk in sent_to(request, who, chunks):
            yield chunk


def sent_to(request: Request, who: Identity, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what a thread makes, as long as the user is admitted."""
    return while_admitted(request, who, iterate_in_threadpool(chunks))


async def begun(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the chunks of a JSON text, and blanks until the first one.

    So no client thinks that we hang.
    """
    has_begun = False
    async for chunk in chunks:
        has_begun = has_begun or bool(chunk)
        yield chunk if has_begun else b" "


async def while_admitted(
    request: Request, who: Identity, chunks: AsyncIterable[bytes]
) -> AsyncIterator[bytes]:
    """Yield a long answer, which is cut off when its user is no longer admitted."""
    entrance = portal_entrance_of(request)
    async for chunk in chunks:
        if not entrance.still_admitted(who):
            request.state.abort()
            return
        yield chunk


def common_headers(request: Request) -> dict[str, str]:
    """Return the headers of every answer: its status, the rate limit, the rehearsal it is of.

    The status is that of the results (md. 3): the rows of YSK's own interface have no place for it.
    """
    calls = portal_entrance_of(request).portal.calls_per_minute
    headers = {
        "SSPS-Status": _STATUS,
        "RateLimit-Policy": f'"calls";q={calls};w=60',
    }
    who: Identity | None = request.state.identity
    if who is not None and who.rehearsal:
        headers["SSPS-Rehearsal"] = who.rehearsal
    return headers
