"""Durum, the coverage wall: what is expected and here of sheets and results, and how the site does.

    /                          the country, by district
    /durum/CEVRE               a district, by board
    /durum/CEVRE/KURUL         a board, by box
    /durum/CEVRE/KURUL/SANDIK  each sheet of a box
    /canli, /canli/…           the same as server-sent events

portal/staff/live has the format. Without a script, the page renews itself every ten seconds.

`?duvar=1` is for a screen on the wall: large and dark, and only what is read from five metres.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from config.event import AccessEvent
from config.fault import Faults
from config.turkish import sort_key
from keys.credentials.users import Role
from portal.access.event_stream import CHECK_SECONDS
from portal.access.gate import Refusal, entrance_of, gated_router, record
from portal.data import titles
from portal.staff import curve
from portal.staff.ages import age
from portal.staff.live import stream
from portal.staff.problems import DAEMONS, LITTLE_FREE, problems
from portal.staff.roles import ANYONE, Anyone
from portal.staff.watch import Seen, Watch
from portal.web import tile_map
from portal.web.rendering import fragment, page
from publisher.catalog.queries import coverage
from publisher.catalog.queries.coverage import MissingSheet
from publisher.results.reading import open_results
from publisher.results.store import StoredResult
from publisher.status.places import PlaceLine

ROLES = ANYONE
router = gated_router()
_WALL_LINES = 12  # places that a screen on the wall lists: those that lack most
_MAPS = {"sonuc": "Sonuçlar", "tutanak": "Tutanaklar"}


@dataclass(frozen=True, slots=True)
class Tile:
    """One province on the map; `level` is the tenth that is here, None if it has nothing."""

    plate: str
    name: str
    x: int
    y: int
    expected: int
    here: int
    district: str  # its first one

    @property
    def level(self) -> int | None:
        """The tenth of what is expected that is here, 0 to 10."""
        return None if not self.expected else min(10, self.here * 10 // self.expected)


@router.get("/")
async def country(request: Request, who: Anyone) -> Response:
    """Show the whole country."""
    return await _answer(request, "")


@router.get("/durum/{cevre}")
async def district(request: Request, who: Anyone, cevre: str) -> Response:
    """Show a district."""
    return await _answer(request, cevre)


@router.get("/durum/{cevre}/{kurul}")
async def board(request: Request, who: Anyone, cevre: str, kurul: str) -> Response:
    """Show a board."""
    return await _answer(request, f"{cevre}/{kurul}")


@router.get("/durum/{cevre}/{kurul}/{sandik}")
def box(request: Request, who: Anyone, cevre: str, kurul: str, sandik: str) -> Response:
    """Show every sheet that is expected of a box, and its results."""
    site = entrance_of(request).settings.site
    with coverage.open_coverage(site) as opened:
        sheets = opened.sheets(f"{cevre}/{kurul}/{sandik}") if sandik != "-" else []
    if not sheets:
        raise Refusal(404, "missing", "Kayıt defterinde böyle bir sandık yok.")
    with open_results(site) as reader:
        results = reader.history(cevre, kurul, sandik)
    record(request, AccessEvent.PAGE)
    return page(
        request,
        "durum_sandik.html",
        cevre=cevre,
        kurul=kurul,
        sandik=sandik,
        sheets=[_sheet_row(sheet, filed=f, absent=a) for sheet, f, a in sheets],
        results=[_result_row(result) for result in results],
    )


@router.get("/canli")
async def follow_country(request: Request, who: Anyone) -> Response:
    """Send the figures of the country to an open page whenever they change."""
    return await _follow(request, who, "")


@router.get("/canli/{cevre}")
async def follow_district(request: Request, who: Anyone, cevre: str) -> Response:
    """Send the figures of a district to an open page whenever they change."""
    return await _follow(request, who, cevre)


@router.get("/canli/{cevre}/{kurul}")
async def follow_board(request: Request, who: Anyone, cevre: str, kurul: str) -> Response:
    """Send the figures of a board to an open page whenever they change."""
    return await _follow(request, who, f"{cevre}/{kurul}")


def watch_of(request: Request) -> Watch:
    """Return the watch that takes the figures of the site."""
    found: Watch = request.app.state.watch
    return found


async def _answer(request: Request, place: str) -> Response:
    try:
        seen = await watch_of(request).now()
    except Faults as faults:
        record(request, AccessEvent.PAGE)
        return page(request, "durum_yok.html", faults=[str(fault) for fault in faults.faults])
    context = await _context(request, seen, place)
    record(request, AccessEvent.PAGE)
    return page(request, "durum.html", **context)


async def _follow(request: Request, who: Anyone, place: str) -> Response:
    watch, number = watch_of(request), 0
    try:
        await _context(request, await watch.now(), place)  # 404 before the stream begins
    except Faults as faults:
        raise Refusal(503, "unreadable", f"Sayılar okunamıyor: {faults}") from None
    record(request, AccessEvent.STREAM)

    async def render() -> str | None:
        nonlocal number
        seen = await watch.wait(number, CHECK_SECONDS)
        if seen is None:
            return None
        number = seen.number
        context = await _context(request, seen, place)
        return await asyncio.to_thread(fragment, request, "durum_canli.html", **context)

    # A screen on the wall stays logged in for `session_hours`, if its account may change nothing.
    keeps_session = _is_on_wall(request) and who.role is Role.AUDITOR
    return stream(request, who, render, keeps_session=keeps_session)


def _is_on_wall(request: Request) -> bool:
    return request.query_params.get("duvar") == "1"


async def _context(request: Request, seen: Seen, place: str) -> dict[str, Any]:
    """Return what the templates show of a place; raises Refusal if there is no such place."""
    parts = place.split("/") if place else []
    lines: Sequence[PlaceLine]
    lines = await watch_of(request).lines(place) if parts else seen.districts
    if parts and not lines:
        raise Refusal(404, "missing", "Kayıt defterinde böyle bir yer yok.")
    on_wall = _is_on_wall(request)
    shown = request.query_params.get("harita")
    of_map = shown if shown in _MAPS else "sonuc"
    entrance = entrance_of(request)
    figures = seen.figures
    if on_wall:
        lacking = [line for line in lines if line.sheets_missing or line.results_missing]
        lacking.sort(key=lambda line: -(line.sheets_missing + line.results_missing))
        listed, left_out = lacking[:_WALL_LINES], len(lacking[_WALL_LINES:])
    else:
        listed = sorted(lines, key=lambda line: _order(len(parts), line.place))
        left_out = 0
    return {
        "seen": seen,
        "figures": figures,
        "counted": figures.counted,
        "place": parts,
        "lines": [(line, _title(len(parts), line.place)) for line in listed],
        "left_out": left_out,
        "total": total(lines),
        "tiles": tiles_of(seen.districts, of_map) if not parts else [],
        "rows": tile_map.ROWS,
        "columns": tile_map.COLUMNS,
        "maps": _MAPS,
        "of_map": of_map,
        "wall": on_wall,
        "curve": curve.draw(figures.minutes, figures.expected, figures.at),
        "width": curve.WIDTH,
        "height": curve.HEIGHT,
        "problems": problems(figures, entrance.settings),
        "daemons": DAEMONS,
        "little_free": LITTLE_FREE,
        "age": age,
        "stream": _stream(parts, on_wall=on_wall, of_map=of_map),
    }


def total(lines: Sequence[PlaceLine]) -> PlaceLine:
    """Return one line with the sums of all columns."""
    _, *columns = zip(*lines, strict=True) if lines else ((), *([()] * 7))
    return PlaceLine("", *(sum(column) for column in columns))


def tiles_of(lines: Sequence[PlaceLine], of_map: str) -> list[Tile]:
    """Return the map's tiles, one for each province."""
    found = []
    for plate, (x, y) in tile_map.PLACES.items():
        here = [line for line in lines if line.place.partition("-")[0] == plate]
        if of_map == "sonuc":
            expected = sum(line.results for line in here)
            arrived = sum(line.results_here for line in here)
        else:
            expected = sum(line.sheets for line in here)
            arrived = sum(line.sheets_here + line.sheets_absent for line in here)
        first = here[0].place if here else ""
        found.append(Tile(plate, tile_map.name(plate), x, y, expected, arrived, first))
    return found


def _title(level: int, key: str) -> str:
    if key == "-":
        return ("Seçimin kendi tutanakları", "Çevrenin tutanakları", "Kurulun tutanakları")[level]
    if level == 0:
        return titles.district(key)
    return titles.board(key) if level == 1 else f"Sandık {key}"


def _order(level: int, key: str) -> tuple[bool, tuple[str, str]]:
    """Return the key by which places sort: by title, the sheets of the place itself last."""
    return key == "-", sort_key(_title(level, key))


def _stream(parts: Sequence[str], *, on_wall: bool, of_map: str) -> str:
    options = [*(["duvar=1"] if on_wall else []), f"harita={of_map}"]
    return "/".join(("/canli", *parts)) + "?" + "&".join(options)


def _sheet_row(sheet: MissingSheet, *, filed: bool, absent: bool) -> dict[str, Any]:
    state = "Geldi" if filed else "Gelmeyecek" if absent else "Eksik"
    return {
        "secim": sheet.sheet.secim.turkish,
        "belge": sheet.sheet.belge.turkish,
        "page": sheet.sheet.page,
        "karekod": sheet.karekod,
        "state": state,
        "missing": not filed and not absent,
    }


def _result_row(result: StoredResult) -> dict[str, Any]:
    found = result.result
    return {
        "secim": found.key.secim.turkish,
        "version": found.version,
        "reason": found.reason,
        "at": result.accepted_at,
    }
