"""Makes the parts of pages that are made thousands of times.

Jinja takes most of its time for each expression, so the cells and rows of long tables are made
here. Everything that is not a number or a text of our own is escaped.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote

from markupsafe import Markup, escape

from portal.data import titles
from portal.data.answers.boxes import VOTE, BoxRow
from portal.data.numbers.boxes import BoxPlace
from portal.web.numbers import number, number_cells, percent

BOX_NUMBERS = ("secmen", "oy_kullanan", "gecerli", "gecersiz")  # in the table of boxes
_SHEET = '<path d="M5.5 7h5M5.5 9.5h5M5.5 12h3"/>'
_COUNT_SHEET = '<path d="M6 6v6M8 6v6M10 6v6M5 12l6-6"/>'
_UNOPENED = ' class="unopened"'
_NO_SHEET = '<span class="soft">–</span>'


def in_ballot_order(
    differences: Iterable[tuple[str, int | None, int | None]], options: Iterable[str]
) -> list[tuple[str, int | None, int | None]]:
    """Return what changed: the numbers of the form, then the votes in the order of the options."""
    order = {f"{VOTE}{option}": place for place, option in enumerate(options)}

    def place(difference: tuple[str, int | None, int | None]) -> int:
        name = difference[0]
        return order.get(name, len(order)) if name.startswith(VOTE) else -1

    return sorted(differences, key=place)


def difference_items(differences: Iterable[tuple[str, int | None, int | None]]) -> Markup:
    """Return the items of a list of changes: title, old number, new number."""
    items = "".join(
        f"<li>{escape(title)}: <del>{'yok' if old is None else number(old)}</del> → "
        f"<ins>{'yok' if new is None else number(new)}</ins></li>"
        for title, old, new in differences
    )
    return Markup(items)  # noqa: S704 - the titles are escaped


def box_url(place: BoxPlace, query: str = "") -> str:
    """Return the address of the page of a box."""
    path = "/".join(quote(part, safe="") for part in place)
    return f"/sandik/{path}" + (f"?{query}" if query else "")


def box_rows(rows: Iterable[BoxRow], options: Sequence[str], query: str) -> Markup:
    """Return the rows of the table of boxes; `options` are the columns of votes."""
    return Markup("\n".join(_box_row(row, options, query) for row in rows))  # noqa: S704 - escaped


def _box_row(row: BoxRow, options: Sequence[str], query: str) -> str:
    place, url = row.place, escape(box_url(row.place, query))
    changed = ""
    if row.version > 1:
        changed = (
            f' <a class="changed" href="{url}#gecmis" title="{row.version}. sürüm">değişti</a>'
        )
    turnout = percent(row.numbers["oy_kullanan"], row.numbers["secmen"]) if row.version else ""
    icons = [
        f'<a href="{url}#tutanak" title="{title}: {pages} sayfa"><svg class="icon" '
        f'viewBox="0 0 16 16" aria-hidden="true"><path d="M3.5 1.5h6l3 3v10h-9z"/>{drawn}</svg>'
        f'<span class="sr">{title}</span></a>'
        for title, pages, drawn in (
            ("Sonuç tutanağı", row.sheets, _SHEET),
            ("Sayım döküm cetveli", row.count_sheets, _COUNT_SHEET),
        )
        if pages
    ]
    return (
        f"<tr{'' if row.version else _UNOPENED}>"
        f'<td class="place">{_where(place.cevre, place.kurul)}</td>'
        f'<td class="place">{_escaped(row.mahalle)}</td>'
        f'<th scope="row"><a href="{url}">{escape(place.sandik)}</a>{changed}</th>'
        f"<td>{titles.KINDS[row.kind]}</td>"
        f"{number_cells(map(row.numbers.get, BOX_NUMBERS))}"
        f'<td class="num">{turnout}</td>'
        f"{number_cells(map(row.votes.get, options))}"
        f'<td class="icons">{" ".join(icons) or _NO_SHEET}</td></tr>'
    )


@lru_cache(maxsize=4096)
def _where(cevre: str, kurul: str) -> str:
    return str(escape(f"{titles.district(cevre)} / {titles.board(kurul)}"))


@lru_cache(maxsize=4096)
def _escaped(text: str) -> str:
    return str(escape(text))
