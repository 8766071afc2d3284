"""Masa: the queue of quarantined pages, and one of them, large, beside all that is known about it.

/masa?durum=…&neden=…&klasor=…&kurul=…&yas=…     the queue (portal/staff/desk/queue)
/masa/sayfa/<file>?…&sayfa=1&secim=1:<karekod>&ara=…
                                                 one page; `secim` is the sheet that is chosen for
                                                 one of its pages, `ara` a search for sheets
/masa/resim/<file>/<page>                        a picture of it
/masa/form/<karekod>                             a specimen of the form of a sheet

portal/staff/pages/desk_actions has what an operator sends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from config.event import AccessEvent
from config.registry import RegistryEntry
from config.site import QUARANTINE
from keys.credentials.users import Role
from keys.operations.change_record import ACCOUNT, account
from portal.access.gate import Refusal, gated_router, record
from portal.access.identity import Identity
from portal.data import titles
from portal.pictures.pictures import OriginalChanged, pictures_of
from portal.staff.desk import queue, specimen
from portal.staff.desk.desk import Desk, Looked
from portal.staff.desk.held import Case, State, reason_title
from portal.staff.desk.sheets import SheetFacts, SheetWords, sheet_facts
from portal.staff.roles import ANYONE, DESK, Anyone
from portal.web.rendering import page as render_page
from publisher.catalog.decisions import review
from publisher.catalog.decisions.review import Sheets
from publisher.page import Reading
from publisher.reading.reread_task import TURNS

ROLES = ANYONE
ROWS_A_PAGE = 200
router = gated_router()
_PICTURE_CACHE = "private, max-age=600"
_MOST_SEARCH = 100  # characters
REJECT_REASONS = (
    "Tutanak değil",
    "Boş sayfa",
    "Okunmuyor, yeniden taranacak",
    "Aynı sayfa zaten sistemde",
    "Başka bir seçimin belgesi",
)
WHY = "Gözle okundu: çevre, kurul, sandık, seçim ve tutanak türü karşılaştırıldı"
RESCAN_WHY = "Sayfa okunmuyor"


@dataclass(frozen=True, slots=True)
class Said:
    """What one operator said about a page, in words."""

    who: str
    sheets: tuple[tuple[int, SheetWords | None, str], ...]  # page, sheet, karekod
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ReadText:
    """One text that was read on a page: by what, and what the registry says about it."""

    text: str
    how: tuple[str, ...]
    words: SheetWords | None
    again: bool = False  # only when it was read again


def desk_of(request: Request) -> Desk:
    """Return the desk of this staff site."""
    found: Desk = request.app.state.desk
    return found


def missing() -> Refusal:
    """Return the refusal of a page that is not in quarantine."""
    return Refusal(404, "missing", "Karantinada böyle bir sayfa yok.")


def page_url(file: str, filters: queue.Filters, **fields: str) -> str:
    """Return the address of a page in a queue."""
    more = urlencode(fields)
    query = "&".join(filter(None, (filters.query(), more)))
    return f"/masa/sayfa/{quote(file, safe='')}" + (f"?{query}" if query else "")


def next_url(case: Case | None, filters: queue.Filters) -> str:
    """Return the address of the case that comes next, or of the queue if none does."""
    if case is not None:
        return page_url(case.page.file, filters)
    query = filters.query()
    return "/masa" + (f"?{query}" if query else "")


@router.get("/masa")
def desk_queue(request: Request, who: Anyone) -> Response:
    """Show the queue."""
    desk, filters = desk_of(request), queue.parse(request.query_params)
    now = desk.queue(who.user)
    shown = now.shown(filters)
    counts = now.counts(filters)
    leased = desk.leases.by_file(account(who.user))
    desk.leases.release(account(who.user))
    record(request, AccessEvent.PAGE, rows=len(shown))
    return render_page(
        request,
        "masa.html",
        filters=filters,
        query=filters.query(),
        rows=[(case, case.state(account(who.user))) for case in shown[:ROWS_A_PAGE]],
        count=len(shown),
        leased={file: name.removeprefix(ACCOUNT) for file, name in leased.items()},
        statuses=[(k, v, counts["durum"][k]) for k, v in queue.STATUSES.items()],
        reasons=queue.grouped(counts["neden"], reason_title),
        folders=queue.grouped(counts["klasor"], str),
        boards=queue.grouped(counts["kurul"], board_title),
        ages=queue.AGES,
        board_of=now.board_of,
        age=lambda case: int((now.now - case.page.at).total_seconds() // 60),
        url=lambda case: page_url(case.page.file, filters),
        reason_title=reason_title,
        board_title=board_title,
        may_act=who.role in DESK,
        may_rule=who.role is Role.SUPERVISOR,
        disputes=counts["durum"][State.DISPUTED.value],
        **notices(desk, who),
    )


@router.get("/masa/sayfa/{file}")
def desk_page(request: Request, file: str, who: Anyone) -> Response:
    """Show one page in quarantine."""
    desk, filters = desk_of(request), queue.parse(request.query_params)
    desk.requests.poll()
    case = desk.held.case(file)
    if case is None:
        raise missing()
    name = account(who.user)
    if who.role in DESK:
        desk.leases.take(name, file)
    frame = _frame(request, case)
    chosen = parse_choice(request, case)
    search = request.query_params.get("ara", "").strip()[:_MOST_SEARCH]
    with sheet_facts(desk.site) as facts:
        looked = desk.look(case, facts)
        seen = desk.reread(file)
        again = () if seen is None else seen.readings
        context: dict[str, Any] = {
            "suggestions": [(each, facts.words(each.entry)) for each in looked.suggestions],
            "chosen": [(number, _words(facts, karekod), karekod) for number, karekod in chosen],
            "found": [facts.words(entry) for entry in facts.search(search, looked.board)]
            if search
            else [],
            "beside": [
                (each, facts.words(each.entry) if each.entry else None) for each in looked.beside
            ],
            "read": _texts(case.page.codes, again, facts),
            "lacking": lacking(looked, facts),
            "said": _visible(case, who, facts),
        }
    sent = desk.requests.reread(file)
    record(request, AccessEvent.PAGE, f"{QUARANTINE}/{file}", sha256=case.page.sha256)
    others = desk.leases.others(file, name) if who.role in DESK else ()
    return render_page(
        request,
        "masa-sayfa.html",
        case=case,
        page_=case.page,
        state=case.state(name).value,
        frame=frame,
        filters=filters,
        query=filters.query(),
        search=search,
        choice=[review.format_sheets(((number, karekod),)) for number, karekod in chosen],
        choice_text=review.format_sheets(chosen),
        marks=_marks((*case.page.readings, *again), frame),
        size=case.page.size if frame == 1 else None,
        reason=reason_title(case.page.reason),
        board=looked.board,
        looking=[other.removeprefix(ACCOUNT) for other in others],
        on_its_way=desk.requests.waiting_for(file),
        reread=sent,
        reread_fault=seen.fault if seen is not None else None,
        reread_texts=[] if seen is None else seen.texts,
        may_act=who.role in DESK,
        may_rule=who.role is Role.SUPERVISOR and case.state(name) is State.DISPUTED,
        why=WHY,
        rescan_why=RESCAN_WHY,
        reject_reasons=REJECT_REASONS,
        turns=TURNS,
        with_choice=lambda karekod: page_url(
            file,
            filters,
            sayfa=str(frame),
            secim=review.format_sheets(with_choice(chosen, frame, karekod)),
        ),
        reason_title=reason_title,
        board_title=board_title,
        link=lambda other: page_url(other, filters),
        after=urlencode({"sonra": file}),
        **context,
        **notices(desk, who),
    )


@router.get("/masa/sonraki")
def desk_next(request: Request, who: Anyone) -> Response:
    """Send the browser to the next page of a queue, after the one that `sonra` names."""
    desk, filters = desk_of(request), queue.parse(request.query_params)
    leased = desk.leases.by_file(account(who.user))
    found = desk.queue(who.user).next(filters, request.query_params.get("sonra", ""), leased)
    record(request, AccessEvent.PAGE)
    return RedirectResponse(next_url(found, filters), 303)


@router.get("/masa/resim/{file}/{frame}")
def desk_picture(request: Request, file: str, frame: int, who: Anyone) -> Response:
    """Send a picture of a page in quarantine."""
    desk = desk_of(request)
    case = desk.held.case(file)
    if case is None or not 1 <= frame <= case.page.frames:
        raise missing()
    page, path = case.page, desk.site / QUARANTINE / file
    try:
        found = pictures_of(request).of_held(
            path, page.sha256, frame, page.size if page.frames == 1 else None
        )
    except OriginalChanged:
        told = "Karantinadaki dosya, kayda geçen dosya değil: `ssps verify` çalıştırılsın."
        raise Refusal(500, "original-changed", told) from None
    if found is None:
        raise Refusal(404, "no-picture", "Bu dosyanın resmi yapılamıyor.")
    form = "original" if found.original else "picture"
    record(request, AccessEvent.SHEET, f"{QUARANTINE}/{file}", sha256=page.sha256, form=form)
    headers = {"cache-control": _PICTURE_CACHE}
    return Response(found.content, media_type=found.media_type, headers=headers)


@router.get("/masa/form/{karekod}")
def desk_specimen(request: Request, karekod: str, who: Anyone) -> Response:
    """Send a specimen of the form of a sheet."""
    with sheet_facts(desk_of(request).site) as facts:
        entry = facts.lookup(karekod)
        if entry is None:
            raise Refusal(404, "missing", "Bu karekod kayıtlı değil.")
        drawn = specimen.svg(facts.words(entry))
    record(request, AccessEvent.PAGE)
    return Response(drawn, media_type="image/svg+xml", headers={"cache-control": _PICTURE_CACHE})


def parse_choice(request: Request, case: Case) -> Sheets:
    """Return the sheets that an address names; nothing if they cannot be read."""
    return choice_of(request.query_params.get("secim", ""), case)


def choice_of(text: str, case: Case) -> Sheets:
    """Return the sheets in a text such as `1:1093717526`; nothing if they cannot be read."""
    try:
        sheets = review.parse_sheets(text[: _MOST_SEARCH * 10].split())
    except ValueError:
        return ()
    return sheets if all(number <= case.page.frames for number, _ in sheets) else ()


def with_choice(chosen: Sheets, frame: int, karekod: str) -> Sheets:
    """Return the choice with another sheet on one page."""
    return tuple(sorted({**dict(chosen), frame: karekod}.items()))


def board_title(board: str) -> str:
    """Return the title of a board that is written `34-istanbul-1/kadikoy-2`."""
    cevre, _, kurul = board.partition("/")
    return " · ".join(filter(None, (titles.district(cevre), titles.board(kurul) if kurul else "")))


def lacking(looked: Looked, facts: SheetFacts) -> list[tuple[str, list[RegistryEntry]]]:
    """Return the boxes of the probable board that lack sheets, each with these."""
    if looked.board is None:
        return []
    boxes: dict[str, list[RegistryEntry]] = {}
    for entry in facts.missing(*looked.board):
        boxes.setdefault(entry.sheet.sandik or "birleştirme", []).append(entry)
    return list(boxes.items())


def notices(desk: Desk, who: Identity) -> dict[str, Any]:
    """Return what every page of the desk says: the latest actions, and if requests wait."""
    latest = desk.requests.latest(account(who.user))
    return {
        "latest": latest[:8],
        "refused": [sent for sent in latest[:3] if sent.answer and not sent.answer.done],
        "waits": bool(desk.requests.waiting()) and not desk.requests.is_running(),
    }


def _frame(request: Request, case: Case) -> int:
    text = request.query_params.get("sayfa", "1")
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else 1
    return min(max(number, 1), case.page.frames)


def _words(facts: SheetFacts, karekod: str) -> SheetWords | None:
    entry = facts.lookup(karekod)
    return facts.words(entry) if entry else None


def _texts(codes: Sequence[Reading], again: Sequence[Reading], facts: SheetFacts) -> list[ReadText]:
    found: dict[str, list[str]] = {}
    for reading in (*codes, *again):
        how = f"{reading.engine}, {reading.scan}, {reading.ms} ms"
        found.setdefault(reading.text, []).append(how)
    first = {reading.text for reading in codes}
    return [
        ReadText(text, tuple(dict.fromkeys(how)), _words(facts, text), text not in first)
        for text, how in found.items()
    ]


def _marks(readings: Sequence[Reading], frame: int) -> list[Mapping[str, str]]:
    """Return the outline of each code that was found, once for each place."""
    found: dict[str, Mapping[str, str]] = {}
    for reading in readings:
        if reading.frame == frame and len(reading.corners) == 4:
            points = " ".join(f"{x},{y}" for x, y in reading.corners)
            x, y = reading.corners[0]
            place = f"{round(x / 24)} {round(y / 24)}"
            found.setdefault(place, {"points": points, "text": reading.text})
    return list(found.values())


def _visible(case: Case, who: Identity, facts: SheetFacts) -> list[Said]:
    """Return what operators said, as far as this one may see it.

    An operator who may still identify the page sees only their own choice.
    """
    name = account(who.user)
    everything = who.role is Role.AUDITOR or (
        case.state(name) is State.DISPUTED and who.role is Role.SUPERVISOR
    )
    shown = [each for each in case.identifications if everything or each.who == name]
    return [
        Said(
            each.who,
            tuple((number, _words(facts, karekod), karekod) for number, karekod in each.sheets),
            each.why,
            datetime.fromisoformat(each.named_at),
        )
        for each in shown
    ]
