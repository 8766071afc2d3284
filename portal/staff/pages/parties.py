"""Partiler: who is connected, how far each party is, what was refused, and what to tell it.

    /partiler                          all parties, with the sessions that are connected now
    /partiler/canli                    the same as server-sent events (portal/staff/live)
    /partiler/PARTI                    one party: its attempts with what to say on the telephone
    /partiler/PARTI/durdur, /ac        suspend and resume, with why; supervisors
    /partiler/PARTI/oturum             end a session, with why; supervisors
    /partiler/PARTI/mektup             the letter as PDF; it has no secret

Everything that changes something is the command of the same name (portal/staff/commands).
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request, Response

from config.event import AccessEvent, TransferEvent
from config.fault import visible
from config.party import Party
from config.settings import Settings
from keys.operations import live_sessions
from keys.operations.live_sessions import LiveSession
from portal.access.event_stream import CHECK_SECONDS
from portal.access.gate import Refusal, entrance_of, gated_router, record, record_now
from portal.access.identity import Identity
from portal.staff.ages import age
from portal.staff.commands import Commands, Done
from portal.staff.live import stream
from portal.staff.refusals import Refusals
from portal.staff.roles import ANYONE, SUPERVISOR, Anyone, Supervisor
from portal.web.rendering import fragment, page

ROLES = ANYONE
router = gated_router()
_MAX_WHY = 500  # characters
_ATTEMPTS = 15
_BEHIND_SECONDS = 30.0  # how old the figures of `ssps audit behind` may be
_SAID = {
    "party suspend": "Parti durduruldu.",
    "party resume": "Parti yeniden açıldı.",
    "party end-session": "Oturum sonlandırıldı.",
}


@dataclass(slots=True)
class BehindFigures:
    """How far the parties are, kept for a while; `taken` is the time of `time.monotonic`."""

    taken: float = float("-inf")
    by_party: Mapping[str, Mapping[str, Any]] | None = None
    running: asyncio.Task[None] | None = None


@router.get("/partiler")
async def parties(request: Request, who: Anyone) -> Response:
    """Show all parties."""
    shown = await _all(request, who)
    record(request, AccessEvent.PAGE)
    return page(request, "partiler.html", **shown)


@router.get("/partiler/canli")
async def follow(request: Request, who: Anyone) -> Response:
    """Send the table of all parties to an open page whenever it changes."""
    record(request, AccessEvent.STREAM)

    async def render() -> str:
        await asyncio.sleep(CHECK_SECONDS)
        shown = await _all(request, who)
        return await asyncio.to_thread(fragment, request, "partiler_canli.html", **shown)

    return stream(request, who, render)


async def _all(request: Request, who: Identity) -> dict[str, Any]:
    """Return what the page of all parties shows now."""
    settings = entrance_of(request).settings
    sessions = await asyncio.to_thread(live_sessions.read, settings.site)
    counts: Refusals = request.app.state.refusals
    refused = await asyncio.to_thread(counts.update, settings)
    behind = _behind(request, who)
    most = settings.sftp.max_sessions_per_party
    connected = Counter((session.party, session.service) for session in sessions)
    rows = [
        {
            "party": party,
            "sessions": connected[party.id, live_sessions.SFTP],
            "web": connected[party.id, live_sessions.WEB],
            "full": connected[party.id, live_sessions.SFTP] >= most,
            "behind": (behind or {}).get(party.id),
            "refused": refused[party.id],
        }
        for party in settings.parties
    ]
    return {
        "rows": rows,
        "most": most,
        "counting": behind is None,
        **_session_rows(sessions, settings),
        "strangers": refused[""],
        "age": age,
    }


@router.get("/partiler/{party_id}")
async def one(request: Request, who: Anyone, party_id: str) -> Response:
    """Show one party."""
    party = _party(request, party_id)
    shown = await _shown(request, who, party)
    record(request, AccessEvent.PAGE)
    return page(request, "parti.html", **shown)


@router.post("/partiler/{party_id}/durdur")
async def suspend(request: Request, who: Supervisor, party_id: str) -> Response:
    """Suspend a party."""
    return await _change(request, who, party_id, "suspend")


@router.post("/partiler/{party_id}/ac")
async def resume(request: Request, who: Supervisor, party_id: str) -> Response:
    """Let a suspended party log in again."""
    return await _change(request, who, party_id, "resume")


@router.post("/partiler/{party_id}/oturum")
async def end_session(request: Request, who: Supervisor, party_id: str) -> Response:
    """End a session of a party."""
    number = str((await request.form()).get("oturum", ""))
    if not (number.isascii() and number.isdecimal() and len(number) < 20):
        raise Refusal(422, "session", "Oturum numarası anlaşılamadı.")
    return await _change(request, who, party_id, "end-session", number)


@router.get("/partiler/{party_id}/mektup")
async def letter(request: Request, who: Anyone, party_id: str) -> Response:
    """Return the letter to a party as PDF."""
    party = _party(request, party_id)
    with tempfile.TemporaryDirectory(prefix="ssps-letter-") as folder:
        file = Path(folder) / "mektup.pdf"
        done = await commands_of(request).run(
            who, "party", "letter", f"--pdf={file}", "--", party.id
        )
        if not done.ok:
            raise Refusal(409, "letter", f"Mektup yazılamadı: {visible(done.said)}")
        content = await asyncio.to_thread(file.read_bytes)
    record(request, AccessEvent.DOWNLOAD, bytes=len(content))
    headers = {"content-disposition": f'attachment; filename="mektup-{party.id}.pdf"'}
    return Response(content, media_type="application/pdf", headers=headers)


def commands_of(request: Request) -> Commands:
    """Return what runs commands for the pages."""
    found: Commands = request.app.state.commands
    return found


async def _change(
    request: Request, who: Identity, party_id: str, command: str, *words: str
) -> Response:
    party = _party(request, party_id)
    why = " ".join(str((await request.form()).get("neden", "")).split())[:_MAX_WHY]
    if not why:
        shown = await _shown(request, who, party)
        record(request, AccessEvent.PAGE, command=f"party {command}", reason="why is missing")
        return page(request, "parti.html", 422, wrong="Bir neden yazın: kayda geçer.", **shown)
    named = f"party {command}"
    await record_now(request, AccessEvent.PAGE, command=named, why=why)
    done = await commands_of(request).run(
        who, "party", command, "--json", f"--why={why}", "--", party.id, *words
    )
    record(request, AccessEvent.PAGE, command=named, ok=done.ok)
    shown = await _shown(request, who, party)
    if not done.ok:
        wrong = f"Yapılamadı: {visible(done.said.splitlines()[-1] if done.said else '')}"
        return page(request, "parti.html", 409, wrong=wrong, **shown)
    return page(request, "parti.html", told=_told(named, done), **shown)


def _told(command: str, done: Done) -> str:
    changed = (done.json() or {}).get("changed")
    return _SAID[command] if changed else "Değişen bir şey yok: zaten öyleydi."


async def _shown(request: Request, who: Identity, party: Party) -> dict[str, Any]:
    """Return what the page of a party shows, as it is now."""
    settings = entrance_of(request).settings
    party = settings.party(party.id) or party
    attempts: dict[str, Any] = {"attempts": [], "strangers": []}
    said = ""
    if party.mirrors:
        done = await commands_of(request).run(
            who, "party", "test", f"--last={_ATTEMPTS}", "--json", "--", party.id
        )
        attempts, said = (done.json(), "") if done.ok else (attempts, visible(done.said))
    sessions = await asyncio.to_thread(live_sessions.read, settings.site)
    return {
        "shown": party,
        "may_change": who.role in SUPERVISOR,
        "attempts": [_attempt_row(fields) for fields in attempts["attempts"]],
        "strangers": [_attempt_row(fields) for fields in attempts["strangers"]],
        "unreadable": said,
        **_session_rows([s for s in sessions if s.party == party.id], settings),
        "most": settings.sftp.max_sessions_per_party,
        "behind": (_behind(request, who) or {}).get(party.id),
        "age": age,
    }


def _party(request: Request, party_id: str) -> Party:
    party = entrance_of(request).settings.party(party_id)
    if party is None:
        raise Refusal(404, "missing", "Böyle bir parti yok.")
    return party


def _session_rows(sessions: Sequence[LiveSession], settings: Settings) -> dict[str, Any]:
    """Return the sessions of SFTP and those of the web site."""
    rows: dict[str, list[dict[str, Any]]] = {live_sessions.SFTP: [], live_sessions.WEB: []}
    for session in sessions:
        rows[session.service].append(_session_row(session, settings))
    return {"sessions": rows[live_sessions.SFTP], "web_sessions": rows[live_sessions.WEB]}


def _session_row(session: LiveSession, settings: Settings) -> dict[str, Any]:
    party = settings.party(session.party)
    return {
        "number": session.session,
        "party": session.party,
        "name": party.name if party is not None else session.party,
        "origin": session.origin,
        "client": visible(session.client) or "–",
        "user": session.user,
        "since": session.since,
        "used": session.used,
        "files": session.files,
        "bytes": session.bytes,
        "open": session.open,
    }


def _attempt_row(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what is shown of an attempt; a client chose the text of its version."""
    return {
        "time": fields["time"],
        "origin": fields["from"],
        "ok": fields["event"] == TransferEvent.LOGIN,
        "reason": fields["reason"],
        "client": visible(str(fields.get("client") or fields.get("missing") or "")) or "–",
        "credential": visible(str(fields.get("credential", ""))),
        "count": fields.get("count", 1),
        "advice": fields["advice"],
        "say": fields["tavsiye"],
    }


def _behind(request: Request, who: Identity) -> Mapping[str, Mapping[str, Any]] | None:
    """Return how far the parties were a moment ago; count again in the background if it is old."""
    kept: BehindFigures = request.app.state.behind
    commands = commands_of(request)

    async def count() -> None:
        began = time.monotonic()
        try:
            done = await commands.run(who, "audit", "behind", "--json")
            if done.ok:
                kept.by_party = {fields["party"]: fields for fields in done.json()}
        finally:
            took = time.monotonic() - began
            kept.taken, kept.running = time.monotonic() + 5 * took, None

    if kept.running is None and time.monotonic() > kept.taken + _BEHIND_SECONDS:
        kept.running = asyncio.create_task(count())
    return kept.by_party
