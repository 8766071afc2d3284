"""Talepler: the request forms of the parties, beside what is in force; accepted or returned.

    /talepler                      the requests that wait, and those that are decided
    /talepler.csv                  all of them, for a spreadsheet
    /talepler/PARTY/N              one form: what is in force, what is asked for
    /talepler/PARTY/N/kabul        accept it, when every row was compared with the signed paper
    /talepler/PARTY/N/iade         return it with a reason, which the representative sees

Everybody may look; operators and supervisors decide. A decision is a command of `ssps`
(portal/staff/commands), so its steps and records are those of the console.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from config.event import AccessEvent
from config.fault import Faults
from keys.access_requests import store
from keys.access_requests.comparison import Comparison, Topic
from keys.access_requests.store import AccessRequest, State
from portal import broker_client
from portal.access.gate import Refusal, entrance_of, gated_router, record, record_now
from portal.access.identity import Identity
from portal.data import titles
from portal.exports.csv_file import write_csv
from portal.exports.tables import Cell, ExportTable
from portal.staff.commands import Commands
from portal.staff.compared import compare
from portal.staff.roles import ANYONE, DESK, Anyone, Desk
from portal.web.rendering import page

ROLES = ANYONE
MAX_WHY = 1000
STATES = {
    State.SUBMITTED: "Bekliyor",
    State.RETURNED: "İade edildi",
    State.ACCEPTED: "Kabul edildi",
    State.WITHDRAWN: "Geri çekildi",
}
TOPICS = {
    Topic.SERVICES: "Hizmetler",
    Topic.ADDRESSES: "Sabit adresler",
    Topic.CONTACT: "İrtibat",
    Topic.USERS: "Web sitesi kullanıcıları",
    Topic.SERVICE_USER: "Web servisi kullanıcısı",
    Topic.KEYS: "SFTP açık anahtarları",
    Topic.APPROVAL: "Onaylayan ve tarih",
}
router = gated_router()


@router.get("/talepler")
def requests_page(request: Request, who: Anyone) -> Response:
    """Show the requests: those that wait first."""
    made, wrong = _all(request)
    record(request, AccessEvent.PAGE)
    waiting = sorted((r for r in made if r.state is State.SUBMITTED), key=lambda r: r.sent)
    decided = [r for r in made if r.state is not State.SUBMITTED]
    return page(
        request,
        "talepler.html",
        waiting=waiting,
        decided=decided,
        states=STATES,
        names=_names(request),
        wrong=wrong,
    )


@router.get("/talepler.csv")
def requests_csv(request: Request, who: Anyone) -> Response:
    """Send all requests that can be read as a table."""
    made, names = _all(request)[0], _names(request)

    def rows() -> Any:
        for each in made:
            row: Sequence[Cell] = (
                each.party,
                names.get(each.party, ""),
                each.number,
                STATES[each.state],
                each.sent,
                each.by,
                each.decided,
                each.decided_by,
                each.reason,
                each.sha256,
            )
            yield row

    headings = (
        "Parti",
        "Adı",
        "Talep",
        "Durum",
        "Gönderildi",
        "Gönderen",
        "Karar",
        "Karar veren",
        "Neden",
        "SHA-256",
    )
    table = ExportTable("Talepler", headings, rows, 0)
    record(request, AccessEvent.DOWNLOAD, rows=len(made))
    headers = {"content-disposition": 'attachment; filename="talepler.csv"'}
    return StreamingResponse(write_csv(table), media_type="text/csv", headers=headers)


@router.get("/talepler/{party}/{number}")
def request_page(request: Request, party: str, number: int, who: Anyone) -> Response:
    """Show one form beside what is in force."""
    found = _find(request, party, number)
    record(request, AccessEvent.PAGE, sha256=found.sha256)
    return _show(request, who, found)


@router.post("/talepler/{party}/{number}/kabul")
async def accept(request: Request, party: str, number: int, who: Desk) -> Response:
    """Accept a form, if every row was ticked and the form is still the one that was shown."""
    found = _find(request, party, number)
    form = await request.form()
    why, stated = _text(form.get("neden")), _text(form.get("sha256"))
    wrong = _not_ready(found, why, stated)
    ticked = {str(name) for name in form if str(name).startswith("ayni-")}
    if not wrong and ticked != {f"ayni-{n}" for n in range(len(Topic))}:
        wrong = "Her satırı imzalı kâğıtla karşılaştırıp işaretleyin."
    if wrong:
        record(request, AccessEvent.DENIED, reason="not compared")
        return _show(request, who, found, 422, wrong, why)
    words = ["party", "requests", "accept", party, str(number), f"--why={why}"]
    words += [f"--sha256={stated}", "--yes", "--json"]
    if form.get("adres"):
        words.append("--override-addresses")
    answer = await _decide(request, who, found, words, why, State.ACCEPTED)
    if not answer.accepted:
        told = " ".join(answer.messages) or _FAILED
        wrong = f"{_UNFINISHED} {told}" if answer.changed else told
        now = _find(request, party, number)
        return _show(request, who, now, 409, wrong, why, answer.passwords)
    left = () if answer.ok else answer.messages
    return page(
        request,
        "talep-kabul.html",
        found=found,
        name=_name(request, party),
        passwords=answer.passwords,
        left=left,
    )


@router.post("/talepler/{party}/{number}/iade")
async def return_(request: Request, party: str, number: int, who: Desk) -> Response:
    """Return a form with a reason."""
    found = _find(request, party, number)
    form = await request.form()
    why, stated = _text(form.get("neden")), _text(form.get("sha256"))
    if wrong := _not_ready(found, why, stated):
        record(request, AccessEvent.DENIED, reason="no reason")
        return _show(request, who, found, 422, wrong, why)
    words = ["party", "requests", "return", party, str(number), f"--why={why}"]
    words += [f"--sha256={stated}", "--json"]
    answer = await _decide(request, who, found, words, why, State.RETURNED)
    if not answer.changed:
        return _show(request, who, found, 409, " ".join(answer.messages) or _FAILED, why)
    return RedirectResponse("/talepler", 303)


_FAILED = "Yapılamadı. Biraz sonra yeniden deneyin."
_UNFINISHED = (
    "Talep kabul edilmedi: bir adım yapılamadı. Ondan öncekiler yapıldı ve geçerli; aşağıda "
    "“değişiyor” yazan satırlar kaldı. Nedenini giderip yeniden kabul edin, yalnız kalanlar "
    "yapılır. Komutun söylediği:"
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """How a command ended; it may have changed something and ended with an error later."""

    changed: bool
    accepted: bool
    passwords: Mapping[str, str]
    messages: tuple[str, ...]
    ok: bool


def _not_ready(found: AccessRequest, why: str, stated: str) -> str:
    if stated != found.sha256:
        return "Form bu arada değişti: yeniden karşılaştırın."
    if not why:
        return "Nedenini yazın: kayda adınızla geçer."
    if len(why) > MAX_WHY or not why.isprintable():
        return f"Neden en çok {MAX_WHY} karakterlik tek bir satır olabilir."
    return ""


async def _decide(
    request: Request,
    who: Identity,
    found: AccessRequest,
    words: Sequence[str],
    why: str,
    state: State,
) -> "_Answer":
    await record_now(
        request,
        AccessEvent.REQUEST,
        f"{found.party}/{found.number}",
        state=str(state),
        sha256=found.sha256,
        why=why,
    )
    commands: Commands = request.app.state.commands
    # No timeout: a command that is killed half-way can print no password of those it has made.
    done = await commands.run(who, *words, timeout=None)
    lines = tuple(line for line in done.said.splitlines() if line.strip())
    try:
        outcome = done.json() or {}
    except ValueError:
        outcome = {}
    changed, accepted = (bool(outcome.get(key)) for key in ("changed", "accepted"))
    return _Answer(changed, accepted, outcome.get("passwords", {}), lines, done.ok)


def _show(
    request: Request,
    who: Identity,
    found: AccessRequest,
    status: int = 200,
    wrong: str = "",
    why: str = "",
    passwords: Mapping[str, str] = {},
) -> Response:
    compared, damage = _compared(request, found)
    return page(
        request,
        "talep.html",
        status,
        found=found,
        compared=compared,
        damage=damage,
        name=_name(request, found.party),
        states=STATES,
        topics=TOPICS,
        words=titles.SERVICES,
        people=compared.form.people if compared else {},
        may_decide=who.role in DESK and found.state is State.SUBMITTED,
        wrong=wrong,
        why=why,
        passwords=passwords,
    )


def _compared(request: Request, found: AccessRequest) -> tuple[Comparison | None, str]:
    entrance = entrance_of(request)
    try:
        if broker_client.in_use():
            return broker_client.ask("compare", found.party, found.number), ""
        return compare(entrance.settings.site, found, entrance.clock()), ""
    except Faults as faults:
        return None, str(faults)


def _find(request: Request, party: str, number: int) -> AccessRequest:
    settings = entrance_of(request).settings
    found = None
    try:
        if settings.party(party) is not None:
            found = store.request(settings.site, party, number)
    except Faults as faults:
        raise Refusal(503, "damaged", str(faults)) from None
    if found is None:
        raise Refusal(404, "missing", "Böyle bir talep yok.")
    return found


def _all(request: Request) -> tuple[tuple[AccessRequest, ...], str]:
    made, damage = store.all_requests(entrance_of(request).settings.site)
    return made, "; ".join(map(str, damage))


def _names(request: Request) -> dict[str, str]:
    return {party.id: party.name for party in entrance_of(request).settings.parties}


def _name(request: Request, party: str) -> str:
    return _names(request).get(party, party)


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
