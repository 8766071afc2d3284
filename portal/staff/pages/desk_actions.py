"""What operators send from the desk: identify, reject, ask for a new scan, read again, decide.

    POST /masa/sayfa/<file>/tanimla          adim, secim, gerekce     which sheets it shows
    POST /masa/sayfa/<file>/reddet           adim, gerekce            it is not to be filed
    POST /masa/sayfa/<file>/yeniden-tarama   kurul, karekod, gerekce  its board must scan it again
    POST /masa/sayfa/<file>/yeniden-oku      sayfa, yon, parca        read it with all passes
    POST /masa/sayfa/<file>/karar            secim, gerekce           a supervisor decides

Each is a record in the staff ledger, then one in the operations ledger, then a request to the
publisher (portal/staff/desk/requests). The browser goes on with the next page at once. `adim` is
the step of the page that the form was made for: if another operator has acted on the page since,
the answer is 409, and nothing is sent.
"""

from collections.abc import Callable, Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Form, Request, Response
from fastapi.responses import RedirectResponse

from config.event import AccessEvent, StaffEvent, Value
from config.site import QUARANTINE
from keys.ledger.writer import LedgerBusy, Unwritable
from keys.operations.change_record import ACCOUNT, account
from portal.access.gate import Refusal, gated_router, record, record_now_in_thread
from portal.access.identity import Identity
from portal.staff.desk import queue as queues
from portal.staff.desk.held import Case, State
from portal.staff.desk.sheets import sheet_facts
from portal.staff.pages.desk import choice_of, desk_of, missing, next_url, page_url
from portal.staff.roles import Desk, Supervisor
from portal.web.rendering import page as render_page
from publisher.catalog.decisions import review
from publisher.reading.reread_task import RereadSettings, parse_settings
from publisher.requests import queue

router = gated_router()
MOST_WHY = 500  # characters
_EVENTS = {
    queue.IDENTIFY: StaffEvent.IDENTIFY,
    queue.REJECT: StaffEvent.REJECT,
    queue.RULE: StaffEvent.RULE,
    queue.RESCAN: StaffEvent.RESCAN,
    queue.REREAD: StaffEvent.REREAD,
}
Field = Annotated[str, Form()]


class Conflict(Exception):
    """Somebody else has acted on the page; the text says what, for the operator."""


@router.post("/masa/sayfa/{file}/tanimla")
def identify(
    request: Request,
    file: str,
    who: Desk,
    adim: Field = "",
    secim: Field = "",
    gerekce: Field = "",
    kuyruk: Field = "",
) -> Response:
    """Send which sheets a page shows."""
    case = _case(request, file)
    return _act(
        request,
        who,
        case,
        kuyruk,
        lambda: send_identification(request, who, case, adim, choice_of(secim, case), gerekce),
    )


@router.post("/masa/sayfa/{file}/reddet")
def reject(
    request: Request,
    file: str,
    who: Desk,
    adim: Field = "",
    gerekce: Field = "",
    kuyruk: Field = "",
) -> Response:
    """Send that a page is not to be filed."""
    case = _case(request, file)
    return _act(
        request, who, case, kuyruk, lambda: send_rejection(request, who, case, adim, gerekce)
    )


@router.post("/masa/sayfa/{file}/yeniden-tarama")
def rescan(
    request: Request,
    file: str,
    who: Desk,
    kurul: Field = "",
    karekod: Field = "",
    gerekce: Field = "",
    kuyruk: Field = "",
) -> Response:
    """Send that the board must scan a page again."""
    case = _case(request, file)
    cevre, _, board = kurul.strip().partition("/")
    with sheet_facts(desk_of(request).site) as facts:
        entry = facts.lookup(karekod)
        known = facts.has_board(cevre, board)
    if entry is not None:
        cevre, board, known = entry.sheet.cevre or "", entry.sheet.kurul or "", True
    if not known or (karekod and entry is None):
        told = "Hangi kuruldan isteneceği belli değil: 34-istanbul-1/kadikoy-2 gibi yazın."
        raise Refusal(422, "board", told)
    return _act(
        request,
        who,
        case,
        kuyruk,
        lambda: send_rescan(request, who, case, cevre, board, karekod, gerekce),
    )


@router.post("/masa/sayfa/{file}/yeniden-oku")
def reread(
    request: Request,
    file: str,
    who: Desk,
    sayfa: Field = "1",
    yon: Field = "0",
    parca: Field = "",
    kuyruk: Field = "",
) -> Response:
    """Have a page read again with other settings."""
    case = _case(request, file)
    part = ",".join(parca.replace(",", " ").split()) or "-"
    settings = send_reread(request, who, case, f"{sayfa} {yon} {part}")
    back = page_url(file, filters_of(kuyruk), sayfa=str(settings.page))
    return RedirectResponse(f"{back}#okuma", 303)


@router.post("/masa/sayfa/{file}/karar")
def rule(
    request: Request,
    file: str,
    who: Supervisor,
    secim: Field = "",
    gerekce: Field = "",
    ret: Field = "",
    kuyruk: Field = "",
) -> Response:
    """Send the decision of a supervisor about a page on which two accounts differ."""
    case = _case(request, file)
    sheets = () if ret else choice_of(secim, case)
    if not ret:
        _check_sheets(request, sheets)
    return _act(
        request, who, case, kuyruk, lambda: _send_ruling(request, who, case, sheets, gerekce)
    )


# Each of these sends one request, or raises Conflict or Refusal.


def send_identification(
    request: Request, who: Identity, case: Case, step: str, sheets: review.Sheets, why: str
) -> None:
    """Send which sheets a page shows."""
    _check_sheets(request, sheets)
    text = review.format_sheets(sheets)
    if not _repeated(request, who, case, queue.IDENTIFY, why, {"sheets": text}):
        _check_step(request, who, case, step)
        _send(request, who, queue.IDENTIFY, case, why, {"sheets": text, "step": step})


def send_rejection(request: Request, who: Identity, case: Case, step: str, why: str) -> None:
    """Send that a page is not to be filed."""
    if not _repeated(request, who, case, queue.REJECT, why, {}):
        _check_step(request, who, case, step)
        _send(request, who, queue.REJECT, case, why, {"step": step})


def send_rescan(
    request: Request, who: Identity, case: Case, cevre: str, kurul: str, karekod: str, why: str
) -> None:
    """Send that a board must scan a page again."""
    if case.state(account(who.user)) is State.DECIDED:
        raise Conflict("Bu sayfa karara bağlanmış.")
    detail: dict[str, Value] = {"cevre": cevre, "kurul": kurul, "karekod": karekod}
    if not _repeated(request, who, case, queue.RESCAN, why, detail):
        _send(request, who, queue.RESCAN, case, why, detail)


def send_reread(request: Request, who: Identity, case: Case, line: str) -> RereadSettings:
    """Have a page read again, as the line of settings says."""
    try:
        settings = parse_settings(line)
    except ValueError:
        told = "Parça dört sayıdır: sol, üst, sağ, alt; sol sağdan, üst alttan küçük olmalı."
        raise Refusal(422, "settings", told) from None
    if settings.page > case.page.frames:
        raise missing()
    why, detail = "yeniden okuma", {"settings": str(settings)}
    if not _repeated(request, who, case, queue.REREAD, why, detail):
        _send(request, who, queue.REREAD, case, why, detail)
    return settings


def _send_ruling(
    request: Request, who: Identity, case: Case, sheets: review.Sheets, why: str
) -> None:
    name, text = account(who.user), review.format_sheets(sheets)
    if _repeated(request, who, case, queue.RULE, why, {"sheets": text}):
        return
    if case.state(name) is not State.DISPUTED:
        raise Conflict("Bu sayfada artık anlaşmazlık yok.")
    if case.by(name) is not None:
        raise Conflict("Bu sayfayı siz de tanımladınız: kararı başka bir amir vermeli.")
    _send(request, who, queue.RULE, case, why, {"sheets": text})


def _case(request: Request, file: str) -> Case:
    desk = desk_of(request)
    desk.requests.poll()
    case = desk.held.case(file)
    if case is None:
        raise missing()
    return case


def filters_of(kuyruk: str) -> queues.Filters:
    """Return the filters of the queue from which a form was sent."""
    fields = parse_qsl(kuyruk[:2000]) if kuyruk.count("&") < 20 else []
    return queues.parse(dict(fields))


def _check_sheets(request: Request, sheets: review.Sheets) -> None:
    if not sheets:
        raise Refusal(422, "sheets", "Önce sayfanın hangi tutanak olduğunu seçin.")
    with sheet_facts(desk_of(request).site) as facts:
        for _, karekod in sheets:
            if facts.lookup(karekod) is None:
                raise Refusal(422, "karekod", f"{karekod}: bu karekod kayıtlı değil.")


def _repeated(
    request: Request, who: Identity, case: Case, kind: str, why: str, wanted: Mapping[str, Value]
) -> bool:
    """Return whether the very same request of the same account is on its way: a second click."""
    for sent in desk_of(request).requests.waiting_for(case.page.file):
        asked = sent.request
        same = (sent.who, asked.kind, asked.why) == (account(who.user), kind, _reason(why))
        if same and all(asked.detail.get(key) == value for key, value in wanted.items()):
            record(request, AccessEvent.PAGE, f"{QUARANTINE}/{case.page.file}", again=True)
            return True
    return False


def _reason(why: str) -> str:
    """Return a reason as it is recorded."""
    return " ".join(why.split())[:MOST_WHY]


def _check_step(request: Request, who: Identity, case: Case, step: str) -> None:
    """Raise Conflict if an account may not identify or reject the page now."""
    name = account(who.user)
    for sent in desk_of(request).requests.waiting_for(case.page.file):
        if sent.request.kind in (queue.IDENTIFY, queue.REJECT, queue.RULE):
            other = sent.who.removeprefix(ACCOUNT)
            raise Conflict(f"Bu sayfa için bir işlem gönderilmiş, yanıtı bekleniyor ({other}).")
    match case.state(name):
        case State.DISPUTED:
            raise Conflict("Bu sayfada iki kişi farklı tutanak seçti; kararı amir verecek.")
        case State.DECIDED if case.reviewed and case.reviewed.outcome == review.FILED:
            raise Conflict("Bu sayfa siz bakarken karara bağlandı ve dosyalandı.")
    if case.step != step:
        raise Conflict(
            "Bu sayfada siz bakarken başka biri işlem yaptı; sizin seçiminiz gönderilmedi. "
            "Sayfayı yeniden açıp bakın."
        )


def _send(
    request: Request,
    who: Identity,
    kind: str,
    case: Case,
    why: str,
    detail: Mapping[str, Value],
) -> None:
    reason = _reason(why)
    if not reason:
        raise Refusal(422, "why", "Gerekçe yazın: adınızla birlikte kayda geçer.")
    name = account(who.user)
    before, whole = case.state(name).value, {"file": case.page.file, **detail}
    requests = desk_of(request).requests
    identity = requests.new_identity()
    shown = {key: value for key, value in detail.items() if key != "step"}
    what = f"{QUARANTINE}/{case.page.file}"
    record_now_in_thread(request, _EVENTS[kind], what, errand=identity, why=reason, **shown)
    try:
        requests.send(identity, kind, name, str(who.address), reason, whole, before)
    except (LedgerBusy, Unwritable, OSError):
        told = "Kayıt yazılamadı, bu yüzden işleminiz gönderilmedi. Yeniden deneyin."
        raise Refusal(503, "not-recorded", told) from None


def _act(
    request: Request, who: Identity, case: Case, kuyruk: str, send: Callable[[], None]
) -> Response:
    """Send something about a page and go on with the next one, or show why it was not sent."""
    try:
        send()
    except Conflict as conflict:
        return _conflict(request, case, kuyruk, str(conflict))
    return _on_to_next(request, who, case, kuyruk)


def _on_to_next(request: Request, who: Identity, case: Case, kuyruk: str) -> Response:
    desk, filters = desk_of(request), filters_of(kuyruk)
    name = account(who.user)
    desk.leases.release(name)
    found = desk.queue(who.user).next(filters, case.page.file, desk.leases.by_file(name))
    return RedirectResponse(next_url(found, filters), 303)


def _conflict(request: Request, case: Case, kuyruk: str, told: str) -> Response:
    what = f"{QUARANTINE}/{case.page.file}"
    record(request, AccessEvent.DENIED, what, status=409, reason=told)
    return render_page(
        request,
        "masa-cakisma.html",
        409,
        told=told,
        link=page_url(case.page.file, filters_of(kuyruk)),
        query=filters_of(kuyruk).query(),
    )
