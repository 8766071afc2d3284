"""Birleştirme: the aggregate sheets beside the sums of their boxes (Genelge md. 2, md. 6/b)."""

from urllib.parse import urlencode

from fastapi import Request, Response

from config.event import AccessEvent
from config.result import NUMBER_COLUMNS
from portal.access.gate import gated_router, record
from portal.data import titles
from portal.data.scoped import VOTE
from portal.party.dependencies import Data, Visitor, search_of
from portal.party.pages.search import lists
from portal.party.rendering import page
from publisher.results.snapshots.exports import HEADINGS

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
        stated = line.stated
        differs = set(line.differs)
        rows = [
            (HEADINGS[name], stated.numbers.get(name) if stated else None, line.summed.get(name))
            for name in NUMBER_COLUMNS
        ]
        rows = [row for row in rows if row[1] is not None or row[2]]
        marks = [HEADINGS[n] for n in NUMBER_COLUMNS if n in differs]
        votes = dict.fromkeys((*(stated.votes if stated else ()), *line.summed_votes))
        for option in votes:
            title = named.get(option, option)
            rows.append(
                (title, stated.votes.get(option) if stated else None, line.summed_votes.get(option))
            )
            if f"{VOTE}{option}" in differs:
                marks.append(title)
        key = line.key
        where = [titles.district(key.cevre)] if key.cevre else ["Ülke geneli"]
        where += [titles.board(key.kurul)] if key.kurul else []
        lines.append(
            {
                "line": line,
                "title": key.belge.turkish,
                "where": " / ".join(where),
                "rows": rows,
                "marks": set(marks),
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
