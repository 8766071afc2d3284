"""Masa: ten pages at once, and what the boards are asked to scan again.

GET  /masa/toplu?<filters>          the first ten pages of a queue, with their likeliest sheets
POST /masa/toplu                    sira, adim, tutanak (one for each page), dosya (those ticked),
                                    islem, gerekce
GET  /masa/yeniden-tarama           a list for each board, to print or to read out on the telephone
"""

from typing import Annotated

from fastapi import Form, Request, Response
from fastapi.responses import RedirectResponse

from config.event import AccessEvent
from keys.operations.change_record import ACCOUNT, account
from portal.access.gate import Refusal, gated_router, record
from portal.access.identity import Identity
from portal.staff.desk import queue
from portal.staff.desk.held import Case, State, reason_title
from portal.staff.desk.sheets import SheetFacts, sheet_facts
from portal.staff.pages import desk_actions
from portal.staff.pages.desk import (
    REJECT_REASONS,
    RESCAN_WHY,
    WHY,
    board_title,
    choice_of,
    desk_of,
    notices,
    page_url,
)
from portal.staff.pages.desk_actions import Conflict
from portal.staff.roles import Anyone, Desk
from portal.web.rendering import page as render_page

AT_ONCE = 10
_OFFERED = 5  # sheets that each page is offered
_WHYS = {"tanimla": WHY, "reddet": "", "yeniden-tarama": RESCAN_WHY, "yeniden-oku": "yeniden okuma"}
router = gated_router()
Fields = Annotated[list[str], Form()]


@router.get("/masa/toplu")
def batch(request: Request, who: Desk) -> Response:
    """Show the first ten pages of a queue."""
    desk, filters = desk_of(request), queue.parse(request.query_params)
    leased = desk.leases.by_file(account(who.user))
    shown = desk.queue(who.user).shown(filters)
    cases = [case for case in shown if case.page.file not in leased][:AT_ONCE]
    with sheet_facts(desk.site) as facts:
        offered = [
            [facts.words(each.entry) for each in desk.look(case, facts).suggestions[:_OFFERED]]
            for case in cases
        ]
    record(request, AccessEvent.PAGE, rows=len(cases))
    return render_page(
        request,
        "masa-toplu.html",
        filters=filters,
        query=filters.query(),
        cards=list(zip(cases, offered, strict=True)),
        count=len(shown),
        sent=_number(request, "gonderildi"),
        left=_number(request, "kaldi"),
        reason_title=reason_title,
        reject_reasons=REJECT_REASONS,
        url=lambda case: page_url(case.page.file, filters),
        **notices(desk, who),
    )


@router.post("/masa/toplu")
def act_on_batch(
    request: Request,
    who: Desk,
    islem: Annotated[str, Form()] = "",
    gerekce: Annotated[str, Form()] = "",
    kuyruk: Annotated[str, Form()] = "",
    sira: Fields = [],  # noqa: B006 - FastAPI copies it
    adim: Fields = [],  # noqa: B006
    tutanak: Fields = [],  # noqa: B006
    dosya: Fields = [],  # noqa: B006
) -> Response:
    """Send one action about several pages; those for which that is not possible are left."""
    desk, filters = desk_of(request), desk_actions.filters_of(kuyruk)
    rows = list(zip(sira[:AT_ONCE], adim, tutanak, strict=False))
    if islem not in _WHYS or not rows:
        raise Refusal(422, "action", "Hangi işlemin yapılacağı anlaşılamadı.")
    why = gerekce.strip() or _WHYS[islem]
    done = left = 0
    with sheet_facts(desk.site) as facts:
        for file, step, choice in rows:
            case = desk.held.case(file)
            if case is None or not (choice if islem == "tanimla" else file in dosya):
                continue
            try:
                _act(request, who, case, islem, step, choice, why, facts)
                done += 1
            except Conflict:
                left += 1
            except Refusal:
                if not done:
                    raise
                left += 1
    if not done and not left:
        raise Refusal(422, "nothing", "Önce sayfaları işaretleyin ya da tutanaklarını seçin.")
    if left:
        record(request, AccessEvent.DENIED, status=409, rows=left)
    more = f"gonderildi={done}&kaldi={left}"
    return RedirectResponse(f"/masa/toplu?{'&'.join(filter(None, (filters.query(), more)))}", 303)


def _act(
    request: Request,
    who: Identity,
    case: Case,
    action: str,
    step: str,
    choice: str,
    why: str,
    facts: SheetFacts,
) -> None:
    match action:
        case "tanimla":
            desk_actions.send_identification(request, who, case, step, choice_of(choice, case), why)
        case "reddet":
            desk_actions.send_rejection(request, who, case, step, why)
        case "yeniden-tarama":
            board = desk_of(request).look(case, facts).board
            if board is None:
                raise Conflict("kurulu bilinmiyor")
            desk_actions.send_rescan(request, who, case, *board, "", why)
        case "yeniden-oku":
            desk_actions.send_reread(request, who, case, "1 0 -")


@router.get("/masa/yeniden-tarama")
def rescans(request: Request, who: Anyone) -> Response:
    """Show what the boards are asked to scan again."""
    desk, wanted = desk_of(request), request.query_params.get("kurul", "")
    now = desk.queue(who.user)
    boards: dict[str, list[tuple[Case, object]]] = {}
    with sheet_facts(desk.site) as facts:
        for case in now.shown(queue.Filters(status=queue.RESCANS)):
            asked = case.rescan
            if asked is None:
                continue
            board = f"{asked.cevre}/{asked.kurul}"
            entry = facts.lookup(asked.karekod) if asked.karekod else None
            words = facts.words(entry) if entry else None
            if not wanted or board == wanted:
                boards.setdefault(board, []).append((case, words))
    record(request, AccessEvent.PAGE, rows=sum(map(len, boards.values())))
    return render_page(
        request,
        "masa-yeniden-tarama.html",
        boards=sorted(boards.items(), key=lambda item: board_title(item[0])),
        wanted=wanted,
        board_title=board_title,
        reason_title=reason_title,
        person=lambda name: name.removeprefix(ACCOUNT),
        link=lambda case: page_url(case.page.file, queue.Filters(status=queue.RESCANS)),
        decided=State.DECIDED,
        **notices(desk, who),
    )


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else None
