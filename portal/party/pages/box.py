"""Sandık: all numbers of one box beside its signed sheets, and how both came to be.

/sandik/<cevre>/<kurul>/<no>            the page; the rest of the address is the search it is in
/tutanak/resim/<path>                   a picture of a sheet, which a browser can show
/tutanak/ozgun/<path>                   the original bytes, with their SHA-256
/kanit/<ledger>/<number>                the receipt of a record
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import urlencode

from fastapi import Request, Response

from config.event import AccessEvent
from config.result import NUMBER_COLUMNS
from config.sheet import Belge, Secim
from portal.access.gate import Refusal, gated_router, record, when_recorded
from portal.access.identity import Identity
from portal.data import titles
from portal.data.answers.boxes import VOTE
from portal.data.numbers.boxes import BoxPlace
from portal.data.queries.history import BoxHistory, ResultVersion
from portal.data.queries.sheets import SheetFile
from portal.data.scoped import ScopedData
from portal.exports.file_name import with_user
from portal.party.cells import box_url, in_ballot_order
from portal.party.checks import CHECKS, numbers_of
from portal.party.dependencies import Data, Visitor, search_of
from portal.pictures.pictures import OriginalChanged, pictures_of
from portal.web.rendering import page
from publisher.results.snapshots.headings import HEADINGS

router = gated_router()
_IMMUTABLE = "private, max-age=3600, immutable"


@dataclass(frozen=True, slots=True)
class Moment:
    """One entry of the time line: a version of the numbers, or a scan."""

    time: datetime
    result: ResultVersion | None = None
    sheet: SheetFile | None = None
    differences: tuple[tuple[str, int | None, int | None], ...] = ()  # title, old and new number


@router.get("/sandik/{cevre}/{kurul}/{sandik}")
def box(
    request: Request, cevre: str, kurul: str, sandik: str, who: Visitor, data: Data
) -> Response:
    """Show one box."""
    place = BoxPlace(cevre, kurul, sandik)
    history = data.box(place)
    criteria = search_of(request, data)
    if history is None:
        raise _missing()
    contests = data.contests_of(place)
    if not contests:
        raise _missing()
    secim = criteria.secim if criteria.secim in contests else contests[0]
    row = data.box_row(secim, place)
    versions = [r for r in history.results if r.secim is secim]
    sheets = [s for s in history.sheets if s.secim is secim]
    before, after = data.neighbours(criteria, place)
    query = urlencode(criteria.query())
    options = _options(data, secim, cevre)
    named = dict(options)
    record(request, AccessEvent.PAGE, snapshot=data.snapshot.number)
    return page(
        request,
        "sandik.html",
        data=data,
        place=place,
        district=titles.district(cevre),
        board=titles.board(kurul),
        row=row,
        kind=titles.KINDS[row.kind] if row is not None else "",
        secim=secim,
        contests=contests,
        numbers=[(name, HEADINGS[name]) for name in NUMBER_COLUMNS],
        newest=next((v for v in versions if v.newest), None),
        options=options,
        sheets=sheets,
        shown=_shown(request, sheets),
        timeline=_timeline(versions, sheets, named),
        findings=list(_findings(history, secim, named)),
        before=before,
        after=after,
        query=query,
        url=box_url,
    )


@router.get("/tutanak/resim/{path:path}")
def picture(request: Request, path: str, who: Visitor, data: Data) -> Response:
    """Send a picture of a sheet."""
    sheet = data.sheet(path)
    if sheet is None:
        raise _missing()
    try:
        found = pictures_of(request).picture(who.site, sheet.sha256, sheet.frame)
    except OriginalChanged:
        raise _changed() from None
    if found is None:
        raise Refusal(404, "no-picture", "Bu tutanağın resmi yapılamadı; özgün dosyayı indirin.")
    form = "original" if found.original else "picture"
    record(request, AccessEvent.SHEET, f"/{sheet.path}", sha256=sheet.sha256, form=form)
    headers = {"cache-control": _IMMUTABLE}
    return Response(found.content, media_type=found.media_type, headers=headers)


@router.get("/tutanak/ozgun/{path:path}")
def original(request: Request, path: str, who: Visitor, data: Data) -> Response:
    """Send the original bytes of a sheet."""
    sheet = data.sheet(path)
    try:
        found = None if sheet is None else pictures_of(request).original(who.site, sheet.sha256)
    except OriginalChanged:
        raise _changed() from None
    if sheet is None or found is None:
        raise _missing()
    record(request, AccessEvent.SHEET, f"/{sheet.path}", sha256=sheet.sha256, form="original")
    name = "-".join(PurePosixPath(sheet.path).parts[-3:])
    headers = {
        "cache-control": _IMMUTABLE,
        "repr-digest": f"sha-256=:{_base64_of(sheet.sha256)}:",
    }
    response = Response(found.content, media_type=found.media_type, headers=headers)
    return _named(request, who, name, response)


@router.get("/kanit/{ledger}/{number}")
def receipt(request: Request, ledger: str, number: int, who: Visitor, data: Data) -> Response:
    """Send the receipt of a result or of a filed sheet."""
    found = data.receipt(ledger, number)
    if found is None:
        raise Refusal(404, "missing", "Bu kaydın kanıtı yok, ya da daha imzalanmadı.")
    record(request, AccessEvent.DOWNLOAD, bytes=len(found))
    response = Response(found, media_type="text/plain; charset=utf-8")
    return _named(request, who, f"kanit-{ledger}-{number}.txt", response)


def _named(request: Request, who: Identity, name: str, response: Response) -> Response:
    """Have the browser save the answer as a file whose name has the user and the record."""

    def recorded(number: int) -> None:
        shown = with_user(name, who.login, number, who.rehearsal)
        response.headers["content-disposition"] = f'attachment; filename="{shown}"'

    when_recorded(request, recorded)
    return response


def _options(data: ScopedData, secim: Secim, cevre: str) -> list[tuple[str, str]]:
    return [(option.id, option.ad) for option in data.options(secim, cevre)]


def _shown(request: Request, sheets: Sequence[SheetFile]) -> SheetFile | None:
    """Return the sheet that the address names, or the newest first page of the result sheet."""
    wanted = request.query_params.get("tutanak", "")
    named = next((sheet for sheet in sheets if sheet.path == wanted), None)
    if named is not None:
        return named
    results = [s for s in sheets if s.belge is Belge.SANDIK_SONUC] or list(sheets)
    return max(results, key=lambda s: (-s.page, s.version), default=None)


def _timeline(
    versions: Sequence[ResultVersion], sheets: Sequence[SheetFile], named: Mapping[str, str]
) -> list[Moment]:
    earlier = [None, *versions]
    found = [
        Moment(v.accepted_at, result=v, differences=tuple(_differences(before, v, named)))
        for before, v in zip(earlier, versions, strict=False)
    ]
    found += [Moment(s.filed_at, sheet=s) for s in sheets]
    return sorted(found, key=lambda moment: moment.time)


def _differences(
    before: ResultVersion | None, after: ResultVersion, named: Mapping[str, str]
) -> Iterator[tuple[str, int | None, int | None]]:
    if before is None:
        return
    old = {**before.numbers, **{f"{VOTE}{o}": n for o, n in before.votes.items()}}
    new = {**after.numbers, **{f"{VOTE}{o}": n for o, n in after.votes.items()}}
    changed = ((name, old.get(name), new.get(name)) for name in dict.fromkeys((*old, *new)))
    for name, was, now in in_ballot_order(changed, named):
        if was != now:
            yield titles.field(name, named), was, now


def _findings(
    history: BoxHistory, secim: Secim, named: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    for found in history.findings:
        if found.secim is secim:
            stated = ", ".join(f"{title} {n}" for title, n, _ in numbers_of(found, named))
            yield found.check.kind.value, CHECKS[found.check], stated


def _changed() -> Refusal:
    advice = "Bu yüzden gösterilmiyor; Kurul yetkilisine bildirin."
    return Refusal(
        500, "original-changed", f"Sistemdeki dosya, kayda geçen tutanağın dosyası değil. {advice}"
    )


def _missing() -> Refusal:
    return Refusal(404, "missing", "Böyle bir sandık veya tutanak yok, ya da görme yetkiniz yok.")


def _base64_of(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()
