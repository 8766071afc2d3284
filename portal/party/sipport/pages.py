"""SİPPORT: the representative fills in the request form, sends it, prints it, and sees its state.

    /sipport/                    the requests and their states, and the draft
    /sipport/form                fill in: save the draft, or send it
    /sipport/form/kagit          the draft as it will be printed
    /sipport/talep/N             a form that was sent, to be printed and signed
    /sipport/talep/N/geri-cek    withdraw it, as long as nobody has decided

A draft is saved as it is typed (static/talep.js), so it is there if the browser closes; without
script, a button saves it. A draft that was saved in another window meanwhile is not overwritten.
Each save, each form that is sent or withdrawn, and each view is on record before the answer.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from config.event import AccessEvent
from config.fault import Faults
from config.party import Party
from keys.access_requests import comparison, form, store
from keys.access_requests.form import SERVICE_USER, Form
from keys.access_requests.store import AccessRequest, Draft, State
from keys.credentials.ring import fingerprint
from keys.credentials.users import MAX_WEB_USERS, Role, login_name
from portal.access.gate import Refusal, entrance_of, gated_router, record, record_now, signed_in
from portal.access.identity import Identity
from portal.data import titles
from portal.party.sipport import fields as typed
from portal.party.sipport import saving
from portal.party.sipport.entrance import ROOT
from portal.web.rendering import page

Representative = Annotated[Identity, Depends(signed_in(roles=frozenset({Role.REPRESENTATIVE})))]
STATES = {
    State.SUBMITTED: "Gönderildi, karar bekliyor",
    State.RETURNED: "İade edildi",
    State.ACCEPTED: "Kabul edildi",
    State.WITHDRAWN: "Geri çekildi",
}
_SAVES_PER_MINUTE = 60
_CONFLICT = "Taslak başka bir pencerede kaydedilmiş. Sayfayı yenileyip yeniden yazın."
_WAITING = "Gönderilmiş bir talebiniz karar bekliyor. Değiştirmek için önce onu geri çekin."
_BUSY = "Şu anda kaydedilemedi. Biraz sonra yeniden deneyin."

router = gated_router()
_log = structlog.get_logger()


@router.get("/")
def overview(request: Request, who: Representative) -> Response:
    """Show the requests, the newest first, and whether there is a draft."""
    site = entrance_of(request).settings.site
    (made, damage), draft = store.readable(site, who.party), _draft(request, who)
    if damage:
        _log.error("request-not-readable", cause=str(Faults(damage)))
    record(request, AccessEvent.PAGE)
    waiting = any(each.state is State.SUBMITTED for each in made)
    returned = made[-1] if made and made[-1].state is State.RETURNED else None
    return page(
        request,
        "ozet.html",
        made=made[::-1],
        damaged=len(damage),
        states=STATES,
        draft=draft,
        waiting=waiting,
        returned=returned,
    )


@router.get("/form")
def form_page(request: Request, who: Representative) -> Response:
    """Show the draft, or one that asks for what is in force."""
    if _waiting(request, who):
        record(request, AccessEvent.PAGE)
        return RedirectResponse(f"{ROOT}/", 303)
    draft = _draft(request, who) or _first_draft(request, who)
    record(request, AccessEvent.PAGE)
    return _form(request, who, draft.version, draft.fields)


@router.post("/form")
async def save_form(request: Request, who: Representative) -> Response:
    """Save the draft; if the button says so, send it."""
    sent = await request.form()
    quiet, sending = sent.get("islem") == "taslak", sent.get("islem") == "gonder"
    _refuse_too_many(request, who)
    draft = await asyncio.to_thread(_draft, request, who)
    old = await asyncio.to_thread(_first_draft, request, who) if draft is None else draft
    fields, wrong = await typed.posted(sent, old.fields)
    stated = str(sent.get("surum", ""))
    version = int(stated) if stated.isascii() and stated.isdecimal() and len(stated) < 9 else -1
    if await asyncio.to_thread(_waiting, request, who):
        return _refused(request, who, version, fields, {"": _WAITING}, quiet=quiet)
    content, missing = (
        typed.sent_form(fields, _party(request, who)) if sending and not wrong else (None, {})
    )
    sha256 = store.digest(content) if content is not None else None
    state = "submitted" if content is not None else "draft"
    await record_now(request, AccessEvent.REQUEST, "form", state=state, sha256=sha256)
    entrance = entrance_of(request)
    site, now = entrance.settings.site, entrance.clock()
    try:
        if content is not None:
            made = await asyncio.to_thread(
                saving.submit, site, who.party, content, version, fields, who.login, now
            )
            return RedirectResponse(f"{ROOT}/talep/{made.number}", 303)
        saved = await asyncio.to_thread(saving.save_draft, site, who.party, version, fields, now)
    except store.Conflict:
        waiting = await asyncio.to_thread(_waiting, request, who)
        problem = {"": _WAITING if waiting else _CONFLICT}
        return _refused(request, who, version, fields, problem, quiet=quiet)
    except (OSError, Faults, ValueError) as error:
        _log.error("request-not-saved", user=who.login, cause=str(error))
        return _refused(request, who, version, fields, {"": _BUSY}, quiet=quiet, status=503)
    if quiet:
        return JSONResponse({"surum": saved.version, "sorunlar": wrong})
    if wrong or missing:
        return _form(request, who, saved.version, fields, {**missing, **wrong}, 422)
    return _form(request, who, saved.version, fields, told="Taslak kaydedildi.")


@router.get("/form/kagit")
def draft_paper(request: Request, who: Representative) -> Response:
    """Show the draft as it will be printed."""
    draft = _draft(request, who) or _first_draft(request, who)
    content, missing = typed.sent_form(draft.fields, _party(request, who))
    record(request, AccessEvent.PAGE)
    if content is None:
        return _form(request, who, draft.version, draft.fields, missing, 422)
    return _paper(request, who, content, None)


@router.get("/talep/{number}")
def request_page(request: Request, number: int, who: Representative) -> Response:
    """Show a form that was sent, as it is printed."""
    found = _find(request, who, number)
    record(request, AccessEvent.PAGE, sha256=found.sha256)
    return _paper(request, who, found.form, found)


@router.post("/talep/{number}/geri-cek")
async def withdraw(request: Request, number: int, who: Representative) -> Response:
    """Withdraw a form that nobody has decided on."""
    _refuse_too_many(request, who)
    found = await asyncio.to_thread(_find, request, who, number)
    await record_now(
        request, AccessEvent.REQUEST, "form", state="withdrawn", number=number, sha256=found.sha256
    )
    entrance = entrance_of(request)
    site, now = entrance.settings.site, entrance.clock()
    try:
        await asyncio.to_thread(saving.withdraw, site, found, who.login, now)
    except store.Conflict:
        raise Refusal(409, "decided", "Bu talep hakkında karar verilmiş.") from None
    return RedirectResponse(f"{ROOT}/", 303)


@dataclass(frozen=True, slots=True)
class _ShownKey:
    """A public key as it is shown: its label, type and fingerprint."""

    label: str
    kind: str
    fingerprint: str


def _refuse_too_many(request: Request, who: Identity) -> None:
    limits = entrance_of(request).limits
    if seconds := limits.call_wait(who.login, _SAVES_PER_MINUTE):
        headers = {"Retry-After": str(max(1, round(seconds)))}
        raise Refusal(429, "too-many", "Çok fazla istek geldi. Biraz bekleyin.", headers)


def _refused(
    request: Request,
    who: Identity,
    version: int,
    fields: Mapping[str, Any],
    problems: typed.Problems,
    *,
    quiet: bool,
    status: int = 409,
) -> Response:
    record(request, AccessEvent.DENIED, reason="request", status=status)
    if quiet:
        return JSONResponse({"sorunlar": problems}, status)
    return _form(request, who, max(version, 0), fields, problems, status)


def _form(
    request: Request,
    who: Identity,
    version: int,
    fields: Mapping[str, Any],
    problems: typed.Problems | None = None,
    status: int = 200,
    told: str = "",
) -> Response:
    party = _party(request, who)
    entrance = entrance_of(request)
    empty = {"name": "", "person": ""}
    users = [*fields["users"], *[empty] * (MAX_WEB_USERS - len(fields["users"]))]
    return page(
        request,
        "form.html",
        status,
        version=version,
        fields=fields,
        users=users,
        keys=[_shown(key["line"], key["label"]) for key in fields["keys"]],
        problems=problems or {},
        told=told,
        services=titles.SERVICES,
        service_login=login_name(party.id, SERVICE_USER),
        frozen=comparison.addresses_frozen(party, entrance.settings.election, entrance.clock()),
    )


def _paper(
    request: Request, who: Identity, content: bytes, found: AccessRequest | None
) -> Response:
    party = _party(request, who)
    asked: Form = form.parse(content, "form")
    return page(
        request,
        "kagit.html",
        asked=asked,
        found=found,
        code=store.digest(content)[:16],
        state=STATES[found.state] if found else "Taslak",
        services=titles.SERVICES,
        users=[(name, role) for name, role in asked.users if role is not Role.SERVICE],
        service_login=login_name(party.id, SERVICE_USER),
        keys=[_shown(key.line, key.label) for key in asked.keys],
    )


def _shown(line: str, label: str) -> _ShownKey:
    kind, _, encoded = line.partition(" ")
    return _ShownKey(label, kind, fingerprint(typed.decoded(encoded)))


def _party(request: Request, who: Identity) -> Party:
    found = entrance_of(request).settings.party(who.party)
    if found is None:
        raise AssertionError("only a party's representative is signed in")
    return found


def _site_faults(error: Faults) -> Refusal:
    _log.error("request-not-readable", cause=str(error))
    return Refusal(503, "damaged", "Talebiniz şu anda gösterilemiyor. Bizi arayın.")


def _waiting(request: Request, who: Identity) -> bool:
    try:
        made = store.requests_of(entrance_of(request).settings.site, who.party)
    except Faults as error:  # the damaged one may be waiting
        raise _site_faults(error) from None
    return any(each.state is State.SUBMITTED for each in made)


def _draft(request: Request, who: Identity) -> Draft | None:
    try:
        return store.draft(entrance_of(request).settings.site, who.party)
    except Faults as error:
        raise _site_faults(error) from None


def _first_draft(request: Request, who: Identity) -> Draft:
    """Return a draft that asks for what is in force."""
    site = entrance_of(request).settings.site
    try:
        return Draft(0, saving.in_force(site, _party(request, who)))
    except Faults as error:
        raise _site_faults(error) from None


def _find(request: Request, who: Identity, number: int) -> AccessRequest:
    try:
        found = store.request(entrance_of(request).settings.site, who.party, number)
    except Faults as error:
        raise _site_faults(error) from None
    if found is None:
        raise Refusal(404, "missing", "Böyle bir talep yok.")
    return found
