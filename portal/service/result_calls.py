"""Calls about results: elections, ballots, places, results, boxes, sheets, proofs."""

from itertools import islice
from typing import Annotated

from fastapi import Path as InPath
from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import Field

from config.event import AccessEvent
from config.sheet import Secim
from portal.access.gate import entrance_of, gated_router, portal_entrance_of, public, record
from portal.data.answers.boxes import PLACE_ORDER, SORTS, VOTE
from portal.data.criteria import Criteria
from portal.data.numbers import ids
from portal.data.numbers.boxes import BoxPlace
from portal.exports.stored import stored
from portal.service import answers, nist
from portal.service.calls import (
    Caller,
    Data,
    Search,
    begun,
    common_headers,
    documented,
    json_answer,
    missing,
    query_of,
    raw_answer,
    refuse,
    sent_to,
)
from publisher.results.checks.finding import Check

MAX_ROWS = 10_000
_ROWS_A_PART = 500
_MAX_OFFSET = 10_000_000
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS)]
Offset = Annotated[int, Field(ge=0, le=_MAX_OFFSET)]
Place = Annotated[str, InPath(max_length=100)]

router = gated_router(prefix="/v1", tags=["results"])


class Paged(Search):
    """A search, and which part of its rows is returned."""

    limit: Limit = 1000
    offset: Offset = 0


class Sorted(Paged):
    """A search whose rows are in an order."""

    sirala: str = Field(
        PLACE_ORDER, max_length=60, description=f"{', '.join(SORTS)} veya {VOTE}<seçenek>"
    )
    azalan: bool = Field(False, description="Büyükten küçüğe")


class Gaps(Paged):
    """A search for what is missing."""

    eksik: str = Field(
        "sonuc",
        description="Sonucu veya tutanağı gelmeyen sandıklar",
        json_schema_extra={"enum": ["sonuc", "tutanak"]},
    )


class Findings(Paged):
    """A search for what the checks found."""

    kontrol: str = Field(
        "", description="Yalnız bu kontrol", json_schema_extra={"enum": ["", *Check]}
    )


@router.get("/health")
@public
async def health() -> dict[str, str]:
    """Say that the service runs; needs no login."""
    return {"status": "ok"}


@router.get("/elections")
async def elections(request: Request, who: Caller, data: Data) -> Response:
    """Return the election that is open now, its contests, and the limits of this service."""
    entrance = portal_entrance_of(request)
    stage = entrance.settings.stage(entrance.clock()) or entrance.settings.election
    lifts = entrance.settings.election.ban_lifts
    contests = []
    for secim in data.contests:
        found = data.summary(Criteria(secim))
        contests.append(
            {
                "secim": secim.value,
                "ad": secim.turkish,
                "sandik_toplam": found.boxes,
                "sandik_acilan": found.opened,
            }
        )
    election = {
        "id": stage.id,
        "ad": stage.title,
        "secim_id": ids.election_number(stage.id),
        "acilis": answers.time(stage.opens),
        "kapanis": answers.time(stage.closes),
        "yayin_yasagi_bitis": answers.time(lifts),
        "secimler": contests,
    }
    limits = {"calls_per_minute": entrance.portal.calls_per_minute, "rows_per_call": MAX_ROWS}
    content = {**answers.head(data.snapshot), "elections": [election], "limits": limits}
    return json_answer(request, data, content)


@router.get("/ballots", **documented(Search))
async def ballots(
    request: Request, data: Data, query: Annotated[Search, query_of(Search)]
) -> Response:
    """Return what a vote can go to: in every district, and in each district what it has besides."""
    wanted = [query.criteria(data).secim] if query.secim else list(data.contests)
    found = []
    for secim in wanted:
        common = data.options(secim)
        shown = {option.id for option in common}
        options = [answers.option(option) for option in common]
        found.append({"secim": secim.value, "cevre": None, "secenekler": options})
        for cevre in data.choices(Criteria(secim)).districts:
            own = [answers.option(o) for o in data.options(secim, cevre) if o.id not in shown]
            if own and query.cevre in ("", cevre):
                found.append({"secim": secim.value, "cevre": cevre, "secenekler": own})
    return json_answer(request, data, {"ballots": found}, len(found))


@router.get("/places", **documented(Search))
async def places(
    request: Request, data: Data, query: Annotated[Search, query_of(Search)]
) -> Response:
    """Return the districts, their boards, and with `cevre` the mahalles of each board."""
    criteria = query.criteria(data)
    found = []
    for cevre, ad, kurullar in _districts(data, criteria):
        boards = []
        for kurul in kurullar:
            place = Criteria(criteria.secim, criteria.area, criteria.kind, cevre, kurul)
            board: answers.Json = {"kurul": kurul, "ad": answers.board_title(kurul)}
            if criteria.cevre is not None:
                chosen = data.choices(place)
                board |= {
                    "ilk": chosen.first,
                    "son": chosen.last,
                    "mahalleler": list(chosen.mahalles),
                }
            boards.append(board)
        found.append({"cevre": cevre, "ad": ad, "kurullar": boards})
    content = {"secim": criteria.secim.value, "places": found}
    return json_answer(request, data, content, len(found))


@router.get("/summary", **documented(Search))
async def summary(
    request: Request, data: Data, query: Annotated[Search, query_of(Search)]
) -> Response:
    """Return how many boxes of a search are opened, and their sums with the shares of md. 18."""
    criteria = query.criteria(data)

    def content() -> bytes:
        found = {
            **answers.head(data.snapshot),
            **criteria.query(),
            "toplam": answers.summary(data.summary(criteria)),
        }
        return answers.dumps(found)

    return raw_answer(request, data, data.remembered(("summary", criteria), content))


@router.get("/results", **documented(Sorted))
async def results(
    request: Request, data: Data, query: Annotated[Sorted, query_of(Sorted)]
) -> Response:
    """Return the boxes of a search with their newest results, and the sum of all of them."""
    criteria = query.criteria(data)

    def answer() -> Response:
        try:
            rows, count, total = data.listed(
                criteria, query.sirala, query.azalan, query.offset, query.limit
            )
        except ValueError:
            refuse(400, "bad-criterion", f"sirala: {', '.join(SORTS)} veya {VOTE}<seçenek> yazın.")
        content = {
            **answers.head(data.snapshot),
            "count": count,
            "toplam": answers.total(total),
            "results": [],
        }
        made = (answers.box(criteria.secim, row) for row in rows)
        parts = []  # the rows themselves would need five times as much
        while some := list(islice(made, _ROWS_A_PART)):
            parts.append(answers.dumps(some)[1:-1])
        text = b"%b%b]}" % (answers.dumps(content).removesuffix(b"]}"), b",".join(parts))
        return raw_answer(request, data, text, max(0, min(query.limit, count - query.offset)))

    # To find one box takes less time than to hand the work to a thread.
    is_one = criteria.cevre and criteria.kurul and criteria.first == criteria.last is not None
    return answer() if is_one else await run_in_threadpool(answer)


@router.get("/boxes/{cevre}/{kurul}/{sandik}")
async def box(request: Request, data: Data, cevre: Place, kurul: Place, sandik: Place) -> Response:
    """Return every version of a box's numbers and sheets, the findings, and the proofs."""
    place = BoxPlace(cevre, kurul, sandik)
    # Of files this takes less time than to hand the work to a thread, and the record of each call
    # is written from the event loop too.
    found = data.box(place) if data.in_files else await run_in_threadpool(data.box, place)
    if found is None:
        missing("Bu sandık")
    rows = len(found.results)
    return json_answer(
        request, data, {**answers.head(data.snapshot), **answers.history(found)}, rows
    )


@router.get("/aggregates", **documented(Search))
def aggregates(
    request: Request, data: Data, query: Annotated[Search, query_of(Search)]
) -> Response:
    """Return the aggregate sheets beside the sums of their boxes.

    Without a place: of districts and of the election; with `cevre`: its own and its boards'.
    """
    criteria = query.criteria(data)
    found = data.aggregates(criteria.secim, criteria.cevre, criteria.kurul)
    content = {**answers.head(data.snapshot), "aggregates": list(map(answers.aggregate, found))}
    return json_answer(request, data, content, len(found))


@router.get("/coverage", **documented(Search))
def coverage(request: Request, data: Data, query: Annotated[Search, query_of(Search)]) -> Response:
    """Return how much of each district is here; with `cevre`, of each of its boards."""
    criteria = query.criteria(data)
    found = data.coverage(criteria.secim, criteria.cevre)
    content = {**answers.head(data.snapshot), "coverage": list(map(answers.coverage, found))}
    return json_answer(request, data, content, len(found))


@router.get("/gaps", **documented(Gaps))
def gaps(request: Request, data: Data, query: Annotated[Gaps, query_of(Gaps)]) -> Response:
    """Return the boxes without a result, or without a sheet, with the recorded reason."""
    if query.eksik not in ("sonuc", "tutanak"):
        refuse(400, "bad-criterion", "eksik: sonuc veya tutanak yazın.")
    criteria = query.criteria(data)
    found, count = data.gaps(criteria, query.eksik == "tutanak", query.offset, query.limit)
    content = {
        **answers.head(data.snapshot),
        "count": count,
        "gaps": list(map(answers.gap, found)),
    }
    return json_answer(request, data, content, len(found))


@router.get("/findings", **documented(Findings))
def findings(
    request: Request, data: Data, query: Annotated[Findings, query_of(Findings)]
) -> Response:
    """Return what the checks found; a finding never blocks a number."""
    check = None
    if query.kontrol:
        if query.kontrol not in list(Check):
            refuse(400, "bad-criterion", f"kontrol: şunlardan birini yazın: {', '.join(Check)}")
        check = Check(query.kontrol)
    placed = query.secim or query.cevre or query.kurul
    criteria = query.criteria(data) if placed else None
    found = data.findings(criteria, check, query.offset, query.limit)
    content = {
        **answers.head(data.snapshot),
        "count": found.count,
        "findings": list(map(answers.finding, found.findings)),
    }
    return json_answer(request, data, content, len(found.findings))


@router.get("/sheets")
def sheets(
    request: Request,
    data: Data,
    cevre: Annotated[str, Query(max_length=100)] = "",
    kurul: Annotated[str, Query(max_length=100)] = "",
    sandik: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """Return the scans of one place: of a box, or the aggregate sheets of a board or a district."""
    found = data.sheets(cevre, kurul, sandik)
    content = {"sheets": list(map(answers.sheet, found))}
    return json_answer(request, data, content, len(found))


@router.get("/sheets/{path:path}")
def sheet(request: Request, data: Data, path: Annotated[str, InPath(max_length=400)]) -> Response:
    """Return what is known of one scan, and its SHA-256, by its path in the party's tree.

    The picture itself is on the web site and over SFTP (Genelge md. 3/e).
    """
    found = data.sheet(path)
    if found is None:
        missing("Bu tutanak")
    return json_answer(request, data, answers.sheet(found))


@router.get("/receipts/{ledger}/{seq}")
def receipt(
    request: Request,
    data: Data,
    ledger: Annotated[str, InPath(max_length=20, description="results veya filing")],
    seq: Annotated[int, InPath(ge=0, le=1 << 53)],
) -> Response:
    """Return the proof that a result or a sheet is on record (c2sp.org/tlog-proof)."""
    found = data.receipt(ledger, seq)
    if found is None:
        missing("Bu kayıt (imzalanması bir dakika sürebilir)")
    return raw_answer(request, data, found, media_type="text/plain; charset=utf-8")


@router.get("/nist/{secim}/{cevre}")
def nist_report(
    request: Request,
    who: Caller,
    data: Data,
    secim: Annotated[str, InPath(json_schema_extra={"enum": list(Secim)})],
    cevre: Place,
) -> Response:
    """Return the results of a district as NIST SP 1500-100 version 2 (JSON)."""
    entrance = entrance_of(request)
    stage = entrance.settings.stage(entrance.clock()) or entrance.settings.election
    if secim not in list(Secim):
        missing("Bu seçim")
    found = nist.report(data, Secim(secim), cevre, stage.id, stage.title, stage.opens)
    if found is None:
        missing("Bu seçim çevresi")
    record(request, AccessEvent.CALL, rows=1, snapshot=data.snapshot.number)
    return StreamingResponse(
        begun(sent_to(request, who, stored(found))),
        headers=common_headers(request),
        media_type="application/json",
    )


def _districts(data: Data, criteria: Criteria) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return name, title and boards of the districts of a search."""
    base = Criteria(criteria.secim, criteria.area, criteria.kind)
    found = []
    for cevre in data.choices(base).districts:
        if criteria.cevre in (None, cevre):
            chosen = data.choices(Criteria(criteria.secim, criteria.area, criteria.kind, cevre))
            found.append((cevre, answers.district_title(cevre), chosen.boards))
    return found
