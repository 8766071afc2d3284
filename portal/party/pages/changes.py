"""Değişiklikler: what changed since a time or a snapshot, as a page and as an Atom feed (RFC 4287).

/degisiklikler?cevre=…&itibaren=42           the page; the rest of the address is a search
/degisiklikler?zaman=2023-05-14T21:00        what changed since a time
/degisiklikler.atom?…                        the same, the newest hundred
"""

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

from fastapi import Request, Response

from config import times
from config.event import AccessEvent
from config.result import BOX_SHEET
from portal.access.gate import Refusal, entrance_of, gated_router, record
from portal.data import titles
from portal.data.answers.changes import ChangedResult, ChangePage
from portal.data.criteria import Criteria
from portal.data.numbers.boxes import BoxPlace
from portal.data.scoped import ScopedData
from portal.party.cells import box_url, in_ballot_order
from portal.party.dependencies import ROWS_A_PAGE, Data, Visitor, page_of, search_of
from portal.party.look import render
from portal.party.pages.search import lists
from portal.web.rendering import moment, page

router = gated_router()


@router.get("/degisiklikler")
def changes(request: Request, who: Visitor, data: Data) -> Response:
    """Show what changed."""
    criteria, (since, time) = search_of(request, data), since_of(request)
    number = page_of(request)
    found = data.changes(criteria, since, time, (number - 1) * ROWS_A_PAGE, ROWS_A_PAGE)
    record(
        request,
        AccessEvent.QUERY,
        rows=len(found.changes),
        snapshot=data.snapshot.number,
    )
    stated = request.query_params.get("zaman", "").strip()
    query = dict(criteria.query())
    query |= {"itibaren": str(since)} if since else {}
    query |= {"zaman": stated} if stated else {}
    return page(
        request,
        "degisiklikler.html",
        data=data,
        criteria=criteria,
        lists=lists(data.choices(criteria), criteria),
        found=_described(found, data, criteria),
        count=found.count,
        since=since,
        time=time,
        stated=stated,
        place_query=urlencode(criteria.query()),
        number=number,
        pages=max(1, -(-found.count // ROWS_A_PAGE)),
        query=urlencode(query),
    )


@router.get("/degisiklikler.atom")
def atom(request: Request, who: Visitor, data: Data) -> Response:
    """Return the newest changes as an Atom feed."""
    criteria, (since, time) = search_of(request, data), since_of(request)
    found = data.changes(criteria, since, time, 0, ROWS_A_PAGE)
    record(
        request,
        AccessEvent.QUERY,
        rows=len(found.changes),
        snapshot=data.snapshot.number,
    )
    election = entrance_of(request).settings.election
    updated = data.snapshot.closed_at or election.opens
    text = render(
        "degisiklikler.atom",
        election=election,
        rehearsal=who.rehearsal,
        query=urlencode(criteria.query()),
        updated=updated,
        found=_described(found, data, criteria),
        snapshot=data.snapshot,
    )
    return Response(text, media_type="application/atom+xml; charset=utf-8")


def since_of(request: Request) -> tuple[int, datetime | None]:
    """Return the snapshot and the time after which changes are asked for; 0 and None for all.

    A time is one of Turkey, `2023-05-14T21:00`, as a browser's field for times sends it.
    """
    text = request.query_params.get("itibaren", "").strip()
    if text and not (text.isascii() and text.isdecimal() and len(text) < 9):
        raise Refusal(422, "bad-snapshot", "itibaren bir anlık görüntü numarası olmalı, ör. 42.")
    stated = request.query_params.get("zaman", "").strip()
    try:
        time = datetime.fromisoformat(stated[:40]) if stated else None
    except ValueError:
        wrong = "zaman okunamadı, şöyle yazın: 2023-05-14T21:00."
        raise Refusal(422, "bad-time", wrong) from None
    if time is not None and time.tzinfo is None:
        time = time.replace(tzinfo=times.TURKEY)
    return int(text or 0), time


def _described(
    found: ChangePage, data: ScopedData, criteria: Criteria
) -> list[Mapping[str, object]]:
    named = data.option_titles(criteria)
    return [_describe(change, named, urlencode(criteria.query())) for change in found.changes]


def _describe(change: ChangedResult, named: Mapping[str, str], query: str) -> Mapping[str, object]:
    is_box = change.belge is BOX_SHEET
    place = BoxPlace(change.cevre, change.kurul, change.sandik)
    parts = [titles.district(change.cevre) if change.cevre else "Ülke geneli"]
    parts += [titles.board(change.kurul)] if change.kurul else []
    parts += [f"Sandık {change.sandik}"] if change.sandik else [change.belge.turkish]
    return {
        "change": change,
        "where": " / ".join(parts),
        "url": box_url(place, query) if is_box else "",
        "differences": [
            (titles.field(name, named), old, new)
            for name, old, new in in_ballot_order(change.differences(), named)
        ],
        "key": f"{change.snapshot}-{change.secim}-{change.belge}-{place}-{change.version}",
        "when": times.format_time(change.closed_at or change.time),
        "shown": moment(change.closed_at or change.time),
    }
