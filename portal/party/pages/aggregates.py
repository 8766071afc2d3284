"""Birleştirme: the aggregate sheets beside the sums of their boxes (Genelge md. 2, md. 6/b)."""

from urllib.parse import urlencode

from fastapi import Request, Response

from config.event import AccessEvent
from portal.access.gate import gated_router, record
from portal.data import titles
from portal.party.dependencies import Data, Visitor, search_of
from portal.party.pages.search import lists
from portal.web.rendering import page

router = gated_router()


@router.get("/birlestirme")
def aggregates(request: Request, who: Visitor, data: Data) -> Response:
    """Show the aggregate sheets of a place."""
    criteria = search_of(request, data)
    found = data.aggregates(criteria.secim, criteria.cevre, criteria.kurul)
    record(request, AccessEvent.QUERY, rows=len(found), snapshot=data.snapshot.number)
    named = data.option_titles(criteria)
    lines = []
    for line in found:
        differs = set(line.differs)
        numbers = [(titles.field(name, named), name, *both) for name, *both in line.numbers()]
        key = line.key
        where = [titles.district(key.cevre)] if key.cevre else ["Ülke geneli"]
        where += [titles.board(key.kurul)] if key.kurul else []
        lines.append(
            {
                "line": line,
                "title": key.belge.turkish,
                "where": " / ".join(where),
                "rows": [(title, stated, summed) for title, _, stated, summed in numbers],
                "marks": {title for title, name, *_ in numbers if name in differs},
                "first": max(line.sheets, key=lambda s: (-s.page, s.version), default=None),
            }
        )
    return page(
        request,
        "birlestirme.html",
        data=data,
        criteria=criteria,
        lists=lists(data.choices(criteria), criteria),
        lines=lines,
        query=urlencode(criteria.query()),
    )
