"""Eksikler and Uyarılar: the boxes without result or sheet, and what the checks found."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from urllib.parse import urlencode

from fastapi import Request, Response

from config import layout
from config.event import AccessEvent
from portal.access.gate import Refusal, gated_router, record
from portal.data import titles
from portal.data.criteria import Criteria
from portal.data.numbers.boxes import BoxPlace
from portal.data.scoped import ScopedData
from portal.party.cells import box_url
from portal.party.checks import CHECKS, KINDS, numbers_of
from portal.party.dependencies import ROWS_A_PAGE, Data, Visitor, page_of, search_of
from portal.party.pages.search import lists
from portal.web.rendering import page
from publisher.results.checks.finding import Check, Finding

router = gated_router()


@router.get("/eksikler")
def gaps(request: Request, who: Visitor, data: Data) -> Response:
    """Show the boxes that have no result, or no sheet."""
    criteria, number = search_of(request, data), page_of(request)
    without_sheet = request.query_params.get("ne") == "tutanak"
    found, count = data.gaps(criteria, without_sheet, (number - 1) * ROWS_A_PAGE, ROWS_A_PAGE)
    record(request, AccessEvent.QUERY, rows=len(found), snapshot=data.snapshot.number)
    query = {**criteria.query(), **({"ne": "tutanak"} if without_sheet else {})}
    return page(
        request,
        "eksikler.html",
        data=data,
        criteria=criteria,
        lists=lists(data.choices(criteria), criteria),
        without_sheet=without_sheet,
        found=found,
        count=count,
        number=number,
        pages=max(1, -(-count // ROWS_A_PAGE)),
        query=urlencode(query),
        url=box_url,
        box_query=urlencode(criteria.query()),
    )


@router.get("/uyarilar")
def findings(request: Request, who: Visitor, data: Data) -> Response:
    """Show what the checks found."""
    criteria, number = search_of(request, data), page_of(request)
    wanted = request.query_params.get("kontrol", "")
    try:
        check = Check(wanted) if wanted else None
    except ValueError:
        raise Refusal(422, "bad-check", "Böyle bir kontrol yok.") from None
    found = data.findings(criteria, check, (number - 1) * ROWS_A_PAGE, ROWS_A_PAGE)
    counts = data.finding_counts(criteria)
    record(
        request,
        AccessEvent.QUERY,
        rows=len(found.findings),
        snapshot=data.snapshot.number,
    )
    query = {**criteria.query(), **({"kontrol": wanted} if wanted else {})}
    return page(
        request,
        "uyarilar.html",
        data=data,
        criteria=criteria,
        lists=lists(data.choices(criteria), criteria),
        checks=[(c.value, CHECKS[c], KINDS[c.kind], counts[c]) for c in Check if counts.get(c)],
        wanted=wanted,
        place_query=urlencode(criteria.query()),
        found=[_described(each, criteria, data) for each in found.findings],
        count=found.count,
        number=number,
        pages=max(1, -(-found.count // ROWS_A_PAGE)),
        query=urlencode(query),
    )


def _described(found: Finding, criteria: Criteria, data: ScopedData) -> Mapping[str, object]:
    named = data.option_titles(criteria)
    return {
        "kind": KINDS[found.check.kind],
        "text": CHECKS[found.check],
        "places": list(_places(found, urlencode(criteria.query()))),
        "numbers": list(numbers_of(found, named)),
        "sheets": list(_sheets(found)),
    }


def _sheets(found: Finding) -> Iterator[tuple[str, str]]:
    """Yield path and name of each sheet that a finding is about."""
    for path in found.sheets:
        with suppress(ValueError):
            sheet = layout.parse(path).sheet
            yield path, f"{sheet.belge.turkish}, sayfa {sheet.page}"


def _places(found: Finding, query: str) -> Iterator[tuple[str, str]]:
    """Yield name and address of each place: of a box, or of the aggregate sheets of a place."""
    for place in found.places:
        parts = [] if place == "-" else place.split("/")
        names = [titles.district(parts[0])] if parts else ["Ülke geneli"]
        names += [titles.board(parts[1])] if len(parts) > 1 else []
        if len(parts) > 2:
            box = parts[2].removeprefix("sandik-")
            names.append(f"Sandık {box}")
            yield " / ".join(names), box_url(BoxPlace(parts[0], parts[1], box), query)
        else:
            parameters = dict(zip(("cevre", "kurul"), parts, strict=False))
            sheets = urlencode({"secim": found.secim.value, **parameters})
            yield " / ".join(names), f"/birlestirme?{sheets}"
