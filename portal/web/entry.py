"""Giriş: the login, its steps, and the pages of a user's own account.

    /giris        name and password; announcements; what is open from when; the three services
    /parola       a password of one's own: the only page that an initial password opens (md. 5/c)
    /dogrulama    the code of the second factor
    /ikinci-adim  set up the second factor, or remove it
    /kosullar     the terms, accepted once, on record (md. 3, md. 3/b, md. 6/e)
    /cikis        end the session

Each step gives the session a new token. All failed logins look the same, in text and in time; only
a user with the right password, at a registered address, learns that it is early.
"""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from config.election import Rehearsal
from config.event import AccessEvent
from config.fault import Faults
from config.site import HOST_KEYS
from keys.credentials import passwords
from keys.credentials.admission import Reason, Refused
from keys.credentials.passwords import Problem
from keys.credentials.users import Role, Service
from keys.ledger.writer import LedgerBusy, Unwritable
from keys.operations import server_state, site_keys
from keys.server_keys import host
from portal import broker_client
from portal.access import own_account, totp
from portal.access.gate import (
    LOGIN_PAGE,
    STAGE_PAGES,
    Refusal,
    entrance_of,
    gated_router,
    public,
    record,
    signed_in,
)
from portal.access.identity import Identity
from portal.access.sessions import Session, Stage, form_token, is_form_token
from portal.access.site_entrance import SiteEntrance, Wait
from portal.web.announced import announced
from portal.web.qr import svg
from portal.web.rendering import moment, page

TERMS_EDITION = "2026-1"
_WRONG = "Kullanıcı adı veya parola yanlış."
_PROBLEMS = {
    Problem.NOT_TEXT: "Parola okunamadı, başka bir parola yazın.",
    Problem.LENGTH: f"Parola en az {passwords.MIN_LENGTH} karakter olmalı.",
    Problem.REUSED: "Yeni parola eskisinden farklı olmalı ve kullanıcı adını içermemeli.",
    Problem.TOO_SIMPLE: "Parolada en az altı farklı karakter olmalı.",
}
_BUSY = "Şu anda kaydedilemedi. Biraz sonra yeniden deneyin."
_FAILURES = (LedgerBusy, Unwritable, Faults, OSError)

router, party_router = gated_router(), gated_router()
_log = structlog.get_logger()


@router.get("/giris")
@public
def login_page(request: Request, sonra: str = "/", durum: str = "") -> Response:
    """Show the form of the login, and what is open from when."""
    return _login_form(request, sonra, told=_times(request, durum))


@router.post("/giris")
@public
async def log_in(
    request: Request,
    kullanici: Annotated[str, Form(max_length=200)] = "",
    parola: Annotated[str, Form(max_length=2000)] = "",
    sonra: Annotated[str, Form(max_length=2000)] = "/",
    form: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Check name and password, and begin a session."""
    entrance = entrance_of(request)
    if not is_form_token(request.cookies.get(entrance.form_cookie, ""), form):
        return _login_form(request, sonra, 403, wrong="Form eskimiş, yeniden deneyin.")
    found = await entrance.log_in(kullanici, parola, request.state.address)
    if isinstance(found, Wait):
        seconds = max(1, round(found.seconds))
        wrong = f"Çok fazla deneme yapıldı. {seconds} saniye sonra yeniden deneyin."
        return _login_form(request, sonra, 429, wrong=wrong, headers={"Retry-After": str(seconds)})
    if isinstance(found, Refused):
        early = found.credential is not None
        told = _times(request, _STATES.get(found.reason, "")) if early else ""
        return _login_form(request, sonra, 403, wrong="" if told else _WRONG, told=told)
    token, session = found
    return _go_on(entrance, token, session.stage, sonra)


@router.post("/cikis")
async def log_out(request: Request, who: Annotated[Identity, Depends(signed_in())]) -> Response:
    """End the session."""
    entrance = entrance_of(request)
    record(request, AccessEvent.SESSION_END, "", reason="closed")
    entrance.sessions.end(request.state.token)
    response = RedirectResponse(entrance.root + LOGIN_PAGE, 303)
    _clear_cookie(response, entrance.cookie)
    return response


@router.get("/parola")
def initial_password_page(
    request: Request, who: Annotated[Identity, Depends(signed_in(stage=Stage.PASSWORD))]
) -> Response:
    """Show the only page that an initial password opens."""
    record(request, AccessEvent.PAGE)
    return page(request, "parola.html", wrong="", first=True)


@router.post("/parola")
async def set_initial_password(
    request: Request,
    who: Annotated[Identity, Depends(signed_in(stage=Stage.PASSWORD))],
    yeni: Annotated[str, Form(max_length=2000)] = "",
    tekrar: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Replace the initial password."""
    entrance = entrance_of(request)
    wrong = await _set_password(request, entrance, who, yeni, tekrar)
    if wrong:
        record(request, AccessEvent.DENIED, reason="password")
        return page(request, "parola.html", 422, wrong=wrong, first=True)
    record(request, AccessEvent.PASSWORD, who.login)
    stage = entrance.stage_after_password(who)
    if stage is None:
        entrance.sessions.end(request.state.token)
        state = "servis" if who.service is Service.API else "degisti"
        response: Response = RedirectResponse(f"{entrance.root}{LOGIN_PAGE}?durum={state}", 303)
        _clear_cookie(response, entrance.cookie)
        return response
    return _go_on(entrance, _advance(request, entrance, stage), stage)


@party_router.get("/hesap")
def account_page(request: Request, who: Annotated[Identity, Depends(signed_in())]) -> Response:
    """Show one's own account."""
    record(request, AccessEvent.PAGE)
    everything = who.scope.places is None
    return page(request, "hesap.html", everything=everything, places=str(who.scope))


@router.get("/hesap/parola")
def password_page(request: Request, who: Annotated[Identity, Depends(signed_in())]) -> Response:
    """Show the form for another password."""
    record(request, AccessEvent.PAGE)
    return page(request, "parola.html", wrong="", first=False)


@router.post("/hesap/parola")
async def change_password(
    request: Request,
    who: Annotated[Identity, Depends(signed_in())],
    eski: Annotated[str, Form(max_length=2000)] = "",
    yeni: Annotated[str, Form(max_length=2000)] = "",
    tekrar: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Replace the password with another one, if the user knows the old one."""
    entrance = entrance_of(request)
    if seconds := entrance.limits.login_wait(who.address, who.login):
        headers = {"Retry-After": str(max(1, round(seconds)))}
        raise Refusal(429, "too-many", "Çok fazla deneme yapıldı.", headers)
    wrong = ""
    user = entrance.accounts.in_force(who.party).named(who.user)
    async with entrance.limits.hashing:
        known = None
        if user is not None:
            known = await asyncio.to_thread(user.by_password, eski, entrance.clock())
    if known is None or known.fingerprint != who.credential:
        entrance.limits.login_failed(who.address, Reason.CREDENTIAL)
        wrong = "Eski parola yanlış."
    elif eski == yeni:
        wrong = _PROBLEMS[Problem.REUSED]
    wrong = wrong or await _set_password(request, entrance, who, yeni, tekrar)
    if wrong:
        record(request, AccessEvent.DENIED, reason="password")
        return page(request, "parola.html", 422, wrong=wrong, first=False)
    record(request, AccessEvent.PASSWORD, who.login)
    return _go_on(entrance, _advance(request, entrance, Stage.FULL), Stage.FULL)


@router.get("/dogrulama")
def code_page(
    request: Request, who: Annotated[Identity, Depends(signed_in(stage=Stage.TOTP))]
) -> Response:
    """Ask for the code of the second factor."""
    record(request, AccessEvent.PAGE)
    return page(request, "dogrulama.html", wrong="")


@router.post("/dogrulama")
async def check_code(
    request: Request,
    who: Annotated[Identity, Depends(signed_in(stage=Stage.TOTP))],
    kod: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Check the code of the second factor."""
    entrance = entrance_of(request)
    user = entrance.user(who)
    if seconds := entrance.limits.login_wait(who.address, f"{who.login} kod"):
        headers = {"Retry-After": str(max(1, round(seconds)))}
        raise Refusal(429, "too-many", "Çok fazla deneme yapıldı.", headers)
    if user is None or not await entrance.codes.accept(who.login, user.totp, kod, entrance.clock()):
        entrance.limits.login_failed(who.address, Reason.CREDENTIAL)
        record(request, AccessEvent.DENIED, reason="code")
        return page(request, "dogrulama.html", 403, wrong="Kod yanlış ya da süresi geçmiş.")
    record(request, AccessEvent.TOTP, who.login, state="accepted")
    stage = entrance.stage_after_code(who)
    return _go_on(entrance, _advance(request, entrance, stage), stage)


@router.get("/ikinci-adim")
def enrol_page(
    request: Request, who: Annotated[Identity, Depends(signed_in(stage=Stage.ENROL))]
) -> Response:
    """Show the secret of a new second factor, which this site or party requires."""
    record(request, AccessEvent.PAGE)
    return _enrol_form(request, who, required=True)


@router.post("/ikinci-adim")
async def enrol(
    request: Request,
    who: Annotated[Identity, Depends(signed_in(stage=Stage.ENROL))],
    gizli: Annotated[str, Form(max_length=64)] = "",
    kod: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Set up the second factor that is required, once its first code is right."""
    return await _enrol(request, who, gizli, kod, required=True)


@party_router.get("/hesap/ikinci-adim")
def factor_page(request: Request, who: Annotated[Identity, Depends(signed_in())]) -> Response:
    """Show the second factor of one's account."""
    record(request, AccessEvent.PAGE)
    return _enrol_form(request, who, required=False)


@party_router.post("/hesap/ikinci-adim")
async def change_factor(
    request: Request,
    who: Annotated[Identity, Depends(signed_in())],
    gizli: Annotated[str, Form(max_length=64)] = "",
    kod: Annotated[str, Form(max_length=20)] = "",
    kaldir: Annotated[str, Form(max_length=5)] = "",
) -> Response:
    """Set up a second factor, or remove it."""
    entrance = entrance_of(request)
    if not kaldir:
        return await _enrol(request, who, gizli, kod, required=False)
    if who.role is Role.REPRESENTATIVE:
        record(request, AccessEvent.DENIED, reason="representative")
        wrong = "Temsilcinin ikinci adımı kapatılamaz: talep sayfaları onu ister."
        return _enrol_form(request, who, required=False, status=403, wrong=wrong)
    user = entrance.accounts.in_force(who.party).named(who.user)
    if user is None or not await entrance.codes.accept(who.login, user.totp, kod, entrance.clock()):
        record(request, AccessEvent.DENIED, reason="code")
        wrong = "Kod yanlış ya da süresi geçmiş."
        return _enrol_form(request, who, required=False, status=403, wrong=wrong)
    if wrong := await _store_totp(entrance, who, ""):
        record(request, AccessEvent.DENIED, reason="busy")
        return _enrol_form(request, who, required=False, status=503, wrong=wrong)
    record(request, AccessEvent.TOTP, who.login, state="removed")
    return RedirectResponse("/hesap/ikinci-adim", 303)


@party_router.get("/kosullar")
def terms_page(
    request: Request, who: Annotated[Identity, Depends(signed_in(stage=Stage.TERMS))]
) -> Response:
    """Show the terms, which a user accepts once."""
    record(request, AccessEvent.PAGE)
    return page(request, "kosullar.html", wrong="", edition=TERMS_EDITION)


@party_router.post("/kosullar")
async def accept_terms(
    request: Request,
    who: Annotated[Identity, Depends(signed_in(stage=Stage.TERMS))],
    kabul: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    """Record that the user accepts the terms."""
    entrance = entrance_of(request)
    if kabul != TERMS_EDITION:
        record(request, AccessEvent.DENIED, reason="terms")
        wrong = "Devam etmek için koşulları kabul edin."
        return page(request, "kosullar.html", 422, wrong=wrong, edition=TERMS_EDITION)
    try:
        await asyncio.to_thread(
            own_account.accept_terms,
            entrance.settings.site,
            who.party,
            who.user,
            TERMS_EDITION,
            entrance.clock,
        )
    except (*_FAILURES, ValueError) as error:
        _log.error("account-not-changed", user=who.login, cause=str(error))
        record(request, AccessEvent.DENIED, reason="busy")
        return page(request, "kosullar.html", 503, wrong=_BUSY, edition=TERMS_EDITION)
    record(request, AccessEvent.TERMS, TERMS_EDITION)
    return _go_on(entrance, _advance(request, entrance, Stage.FULL), Stage.FULL)


_STATES = {Reason.NOT_YET_OPEN: "erken", Reason.CLOSED: "kapali", Reason.SERVICE: "servis"}


def _times(request: Request, state: str) -> str:
    match state:
        case "erken":
            return f"Parolanız doğru. {_opening(request)}"
        case "prova":
            return f"Prova sona erdi. {_opening(request)}"
        case "kapali":
            return "Erişim kapanmıştır."
        case "servis":
            return "Bu kullanıcı yalnız web servisi içindir; sitede sayfası yoktur."
        case "degisti":
            return f"Parolanız değişti. {_opening(request)}"
    return ""


def _opening(request: Request) -> str:
    """Say when users may log in: for the next rehearsal, the election, or now."""
    settings, now = entrance_of(request).settings, entrance_of(request).clock()
    if settings.stage(now) is not None:
        return "Giriş yapabilirsiniz."
    if now >= settings.election.opens:
        return "Erişim kapanmıştır."
    if rehearsals := _coming_rehearsals(request):
        return f"Erişim prova için {moment(rehearsals[0].opens)} itibarıyla açılır."
    return f"Erişim {moment(settings.election.opens)} itibarıyla açılır."


def _coming_rehearsals(request: Request) -> list[Rehearsal]:
    entrance = entrance_of(request)
    settings, now = entrance.settings, entrance.clock()
    if now >= settings.election.opens:
        return []
    return sorted((r for r in settings.rehearsals if r.closes > now), key=lambda r: r.opens)


@dataclass(frozen=True, slots=True)
class ShownService:
    """One of the three services (md. 3/d): where it is, and of SFTP the host keys in use."""

    title: str
    address: str
    keys: tuple[tuple[str, str], ...] = ()  # type and fingerprint, as OpenSSH prints them


def _services(request: Request) -> list[ShownService]:
    settings = entrance_of(request).settings
    address = entrance_of(request).web.address.rstrip("/")
    host_name = urlsplit(address).hostname or "bu sunucu"
    host_name, port = settings.sftp.public_address or (host_name, settings.sftp.port)
    # Without a stated address, what the client calls this host (`Host`) is not repeated.
    return [
        ShownService("Web sitesi", address or "bu adres"),
        ShownService("Web servisi", f"{address or 'bu adres, '}/v1"),
        ShownService("SFTP", f"{host_name}, port {port}", _host_keys(settings.site)),
    ]


def _host_keys(site: Path) -> tuple[tuple[str, str], ...]:
    if broker_client.in_use():
        return tuple(broker_client.ask("host_keys"))
    return host_keys(site)


def host_keys(site: Path) -> tuple[tuple[str, str], ...]:
    """Return type and fingerprint of each host key that the SFTP server uses."""
    running = server_state.read(site)
    with suppress(OSError, ValueError, Faults):
        site_keys.require(site, HOST_KEYS)
        known = {key.fingerprint: key.kind for key in host.public_host_keys(site)}
        used = known if running is None else running.host_keys
        return tuple((known.get(each, ""), each) for each in used)
    return tuple(("", each) for each in running.host_keys) if running else ()


def _state(request: Request) -> tuple[bool, str]:
    """Return whether the access is open now, and a sentence that says so."""
    settings, now = entrance_of(request).settings, entrance_of(request).clock()
    stage = settings.stage(now)
    if isinstance(stage, Rehearsal):
        return True, f"Prova şu anda açık ({stage.title})."
    if stage is not None:
        return True, "Erişim şu anda açık."
    if now < settings.election.opens:
        return False, "Erişim henüz açılmadı."
    return False, "Erişim kapanmıştır."


def _login_form(
    request: Request,
    back: str,
    status: int = 200,
    *,
    wrong: str = "",
    told: str = "",
    headers: dict[str, str] | None = None,
) -> Response:
    name = entrance_of(request).form_cookie
    cookie = request.cookies.get(name) or secrets.token_urlsafe(24)
    response = page(
        request,
        "giris.html",
        status,
        headers,
        wrong=wrong,
        told=told,
        back=_own_path(back),
        rehearsals=_coming_rehearsals(request),
        services=_services(request),
        announcements=announced(entrance_of(request).settings.site),
        state=_state(request),
        login_token=form_token(cookie),
    )
    _set_cookie(response, name, cookie)
    return response


def _go_on(entrance: SiteEntrance, token: str, stage: Stage, back: str = "/") -> Response:
    where = entrance.root + STAGE_PAGES[stage] if stage is not Stage.FULL else _own_path(back)
    if not where.startswith(entrance.root + "/"):
        where = entrance.root + "/"
    response = RedirectResponse(where, 303)
    _set_cookie(response, entrance.cookie, token)
    return response


def _own_path(text: str) -> str:
    """Return a path of this site as it was given, and `/` for anything else."""
    own = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if own and "\\" not in text else "/"


def _advance(request: Request, entrance: SiteEntrance, stage: Stage) -> str:
    session: Session = request.state.session
    user = entrance.accounts.in_force(session.party).named(session.user)
    chosen = [c for c in user.credentials if c.chosen] if user else []
    credential = chosen[-1].fingerprint if chosen else session.credential
    return entrance.sessions.advance(request.state.token, stage, credential)


async def _set_password(
    request: Request, entrance: SiteEntrance, who: Identity, new: str, again: str
) -> str:
    """Replace the password; return what is wrong with the new one, nothing if it was done."""
    if new != again:
        return "İki parola aynı değil."
    if problem := passwords.problem(who.user, "", new):
        return _PROBLEMS[problem]
    if who.party and who.party in new.casefold():
        return _PROBLEMS[Problem.REUSED]
    user = entrance.accounts.in_force(who.party).named(who.user)
    async with entrance.limits.hashing:
        if user is None:
            return _BUSY
        if await asyncio.to_thread(user.by_password, new, entrance.clock()) is not None:
            return _PROBLEMS[Problem.REUSED]
        try:
            await asyncio.to_thread(
                own_account.set_password,
                entrance.settings.site,
                who.party,
                who.user,
                who.credential,
                new,
                entrance.clock,
            )
        except (*_FAILURES, ValueError) as error:
            _log.error("account-not-changed", user=who.login, cause=str(error))
            return _BUSY
    entrance.sessions.end_others(request.state.token)
    return ""


def _enrol_form(
    request: Request,
    who: Identity,
    *,
    required: bool,
    status: int = 200,
    wrong: str = "",
    secret: str = "",
) -> Response:
    user = entrance_of(request).accounts.in_force(who.party).named(who.user)
    has_one = bool(user and user.totp)
    secret = secret or totp.new_secret()
    return page(
        request,
        "ikinci-adim.html",
        status,
        wrong=wrong,
        required=required,
        has_one=has_one,
        secret="" if has_one else secret,
        picture="" if has_one else svg(totp.address(who.login, secret)),
    )


async def _enrol(
    request: Request, who: Identity, secret: str, code: str, *, required: bool
) -> Response:
    entrance = entrance_of(request)
    user = entrance.user(who)
    if (
        user is None
        or user.totp
        or not totp.is_secret(secret)
        or not await entrance.codes.accept(who.login, secret, code, entrance.clock())
    ):
        record(request, AccessEvent.DENIED, reason="code")
        wrong = "Kod yanlış. Telefonunuzun saatini denetleyip yeniden deneyin."
        known = secret if totp.is_secret(secret) else ""
        return _enrol_form(request, who, required=required, status=422, wrong=wrong, secret=known)
    if wrong := await _store_totp(entrance, who, secret):
        record(request, AccessEvent.DENIED, reason="busy")
        return _enrol_form(request, who, required=required, status=503, wrong=wrong)
    record(request, AccessEvent.TOTP, who.login, state="set")
    if not required:
        return RedirectResponse("/hesap/ikinci-adim", 303)
    stage = entrance.stage_after_code(who)
    return _go_on(entrance, _advance(request, entrance, stage), stage)


async def _store_totp(entrance: SiteEntrance, who: Identity, secret: str) -> str:
    try:
        await asyncio.to_thread(
            own_account.set_totp,
            entrance.settings.site,
            who.party,
            who.user,
            secret,
            entrance.clock,
        )
    except (*_FAILURES, ValueError) as error:
        _log.error("account-not-changed", user=who.login, cause=str(error))
        return _BUSY
    return ""


def _set_cookie(response: Response, name: str, value: str) -> None:
    response.set_cookie(name, value, path="/", secure=True, httponly=True, samesite="lax")


def _clear_cookie(response: Response, name: str) -> None:
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
