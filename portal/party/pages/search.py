"""Arama: results of the boxes of a place, with their sum; the address holds the whole search."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response

from config import turkish
from config.event import AccessEvent
from config.sheet import SandikTuru, Secim
from portal.access.gate import Refusal, gated_router, record
from portal.data import titles
from portal.data.answers.boxes import PLACE_ORDER, TURNOUT, VOTE
from portal.data.answers.places import Choices
from portal.data.criteria import Area, Criteria, Status
from portal.data.numbers.sums import Sum
from portal.data.scoped import ScopedData
from portal.party.cells import BOX_NUMBERS
from portal.party.dependencies import ROWS_A_PAGE, Data, Visitor, page_of, search_of
from portal.party.look import remembered_part
from portal.web.rendering import page

router = gated_router()
_RIVALS_A_PART = 10  # rows of one table of the summary

# The columns of the table before the votes: how they are sorted, their heading, their number.
NUMBERS = tuple(zip(BOX_NUMBERS, ("Seçmen", "Oy kullanan", "Geçerli", "Geçersiz"), strict=True))


@dataclass(frozen=True, slots=True)
class Choice:
    """One entry of a list: its value in the address, its text, and whether it is chosen."""

    value: str
    text: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table of boxes: how it is named in the address, and what it shows."""

    sort: str
    title: str
    is_number: bool = True


@router.get("/arama")
def search(request: Request, who: Visitor, data: Data) -> Response:
    """Show the boxes of a search."""
    criteria = search_of(request, data)
    sort = request.query_params.get("sirala", PLACE_ORDER)
    descending = request.query_params.get("yon") == "azalan"
    number = page_of(request)
    offset = (number - 1) * ROWS_A_PAGE
    try:
        content = remembered_part(
            data,
            "_arama-icerik.html",
            (criteria, sort, descending, number),
            lambda: _content(data, criteria, sort, descending, number),
        )
    except ValueError:
        raise Refusal(422, "bad-sort", "Tablo bu sütuna göre sıralanamaz.") from None
    rows = max(0, min(ROWS_A_PAGE, data.summary(criteria).boxes - offset))
    record(request, AccessEvent.QUERY, rows=rows, snapshot=data.snapshot.number)
    return page(request, "arama.html", data=data, content=content)


def _content(
    data: ScopedData, criteria: Criteria, sort: str, descending: bool, number: int
) -> Mapping[str, Any]:
    """Return what the template of the form, the summary and the table needs."""
    offset = (number - 1) * ROWS_A_PAGE
    table = data.table(criteria, sort, descending, offset, ROWS_A_PAGE)
    named = data.option_titles(criteria)
    options = data.shown_options(criteria)
    query = criteria.query()
    summary = data.summary(criteria)
    total = summary.total
    rivals = _rivals(data, criteria, total, options, named)
    choices = data.choices(criteria)
    return {
        "criteria": criteria,
        "lists": lists(choices, criteria),
        "choices": choices,
        "summary": summary,
        "table": table,
        "options": options,
        "named": named,
        "columns": _columns(options, named),
        "numbers": NUMBERS,
        "sort": sort,
        "descending": descending,
        "number": number,
        "pages": max(1, -(-table.count // ROWS_A_PAGE)),
        "query": urlencode(query),
        "sorted_query": urlencode(
            {**query, **({"sirala": sort} if sort != PLACE_ORDER else {})}
            | ({"yon": "azalan"} if descending else {})
        ),
        "rivals": rivals,
        "rival_parts": max(1, -(-len(rivals) // _RIVALS_A_PART)),
        "joint_votes": any(each.joint for each in rivals),
        "shared": bool(total.paylar),
        "undivided": sum(each["undefined_votes"] for each in (total.paylar or {}).values()),
    }


def lists(choices: Choices, criteria: Criteria) -> Mapping[str, tuple[str, list[Choice]]]:
    """Return the lists of the form, each within what was chosen before it."""
    districts = sorted(choices.districts, key=lambda d: turkish.sort_key(titles.district(d)))
    boards = sorted(choices.boards, key=lambda b: turkish.sort_key(titles.board(b)))
    mahalles = sorted(choices.mahalles, key=turkish.sort_key)

    def entries(values: Mapping[str, str], chosen: str, every: str = "Hepsi") -> list[Choice]:
        listed = [Choice("", every, not chosen)] if every else []
        return listed + [Choice(v, text, v == chosen) for v, text in values.items()]

    contests = {s.value: s.turkish for s in choices.contests or tuple(Secim)[:1]}
    return {
        "secim": ("Seçim türü", entries(contests, criteria.secim.value, "")),
        "alan": (
            "Yurt içi / yurt dışı",
            entries(
                {a.value: titles.AREAS[a] for a in choices.areas if a is not Area.EVERYWHERE},
                "" if criteria.area is Area.EVERYWHERE else criteria.area.value,
                titles.AREAS[Area.EVERYWHERE],
            ),
        ),
        "tur": (
            "Sandık türü",
            entries(
                {k.value: titles.KINDS[SandikTuru(k)] for k in choices.kinds},
                criteria.kind.value if criteria.kind else "",
            ),
        ),
        "cevre": (
            "Seçim çevresi",
            entries({d: titles.district(d) for d in districts}, criteria.cevre or ""),
        ),
        "kurul": (
            "İlçe seçim kurulu",
            entries({b: titles.board(b) for b in boards}, criteria.kurul or ""),
        ),
        "mahalle": (
            "Mahalle / köy",
            entries({m: m for m in mahalles}, criteria.mahalle or ""),
        ),
        "durum": (
            "Sonuç",
            entries(
                {s.value: titles.STATUSES[s] for s in Status if s is not Status.ALL},
                "" if criteria.status is Status.ALL else criteria.status.value,
            ),
        ),
    }


def _columns(options: tuple[str, ...], named: Mapping[str, str]) -> list[Column]:
    return [
        Column(PLACE_ORDER, "Yer", is_number=False),
        Column("mahalle", "Mahalle / köy", is_number=False),
        Column("sandik", "Sandık", is_number=False),
        Column("tur", "Tür", is_number=False),
        *(Column(name, title) for name, title in NUMBERS),
        Column(TURNOUT, "Katılım"),
        *(Column(f"{VOTE}{option}", named[option]) for option in options),
    ]


@dataclass(frozen=True, slots=True)
class Rival:
    """An option of the summary: its votes, and its share of its alliance's joint votes (md. 18)."""

    title: str
    votes: int
    share: int | None = None  # None: no alliance, or its joint votes cannot be divided
    joint: bool = False  # these are the joint votes themselves

    @property
    def total(self) -> int:
        """Its own votes and its share."""
        return self.votes + (self.share or 0)


def _rivals(
    data: ScopedData,
    criteria: Criteria,
    total: Sum,
    options: tuple[str, ...],
    named: Mapping[str, str],
) -> list[Rival]:
    """Return the options with most votes first, the joint votes of alliances last."""
    shares = {
        option: share["rounded"]
        for alliance in (total.paylar or {}).values()
        for option, share in alliance["members"].items()
    }
    joint = data.joint_options(criteria)
    found = [Rival(named[o], total.votes.get(o, 0), shares.get(o), o in joint) for o in options]
    return sorted(found, key=lambda each: (each.joint, -each.total))
