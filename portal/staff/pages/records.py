"""Kayıt: the record for auditors, read only, and whether it is verified comes first.

/kayit                      the last verification; search, with the filters of `ssps audit query`
/kayit/dogrula              verify now, in the background
/kayit/izle?ne=…            the timeline of a sheet or a box (`ssps audit timeline`)
/kayit/rapor/PARTI          have a report made, and read it (`ssps audit report`)
/kayit/rapor/PARTI/pdf
"""

import base64
import csv
import hashlib
import io
import re
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from config.event import AccessEvent
from config.fault import visible
from config.site import LEDGER_NAMES
from keys.credentials.users import Role
from keys.operations import verified
from portal.access.gate import Refusal, entrance_of, gated_router, record, record_now
from portal.staff.pages.parties import commands_of
from portal.staff.reports import LANGUAGES, Reports
from portal.staff.roles import AUDIT, Auditor
from portal.staff.verification import Verification
from portal.web.rendering import page

ROLES: frozenset[Role] = AUDIT
router = gated_router()
_ROWS = 200
_MAX_TEXT = 300  # characters of a filter
# The filters as the page names them, and the command's options.
FILTERS = {
    "kayit": "--ledger",
    "parti": "--party",
    "baslangic": "--since",
    "bitis": "--until",
    "yol": "--path",
    "olay": "--event",
    "sonuc": "--outcome",
    "adres": "--address",
    "anahtar": "--credential",
}
OUTCOMES = {"ok": "başarılı", "refused": "reddedildi", "failed": "başarısız"}
_FORMULA = re.compile(r"'[=+\-@\t\r]")  # how the command's CSV protects spreadsheets


@router.get("/kayit")
async def search(request: Request, who: Auditor) -> Response:
    """Show when the record was verified, and the records that a search finds."""
    stated = {
        name: " ".join(request.query_params.get(name, "").split())[:_MAX_TEXT] for name in FILTERS
    }
    asked = {name: value for name, value in stated.items() if value}
    rows, wrong = None, ""
    if asked:
        words = [f"{FILTERS[name]}={value}" for name, value in asked.items()]
        done = await commands_of(request).run(
            who, "audit", "query", *words, f"--limit={_ROWS}", "--csv"
        )
        rows = _rows(done.out) if done.ok else None
        wrong = "" if done.ok else visible(done.said.splitlines()[-1] if done.said else "?")
    record(request, AccessEvent.QUERY, rows=len(rows or ()))
    return page(
        request,
        "kayit.html",
        **_state(request),
        stated=stated,
        ledgers=LEDGER_NAMES,
        outcomes=OUTCOMES,
        found=rows,
        most=_ROWS,
        wrong=wrong,
        parties=[p for p in entrance_of(request).settings.parties if p.mirrors],
        reports=reports_of(request),
        languages=LANGUAGES,
    )


@router.post("/kayit/dogrula")
async def verify(request: Request, who: Auditor) -> Response:
    """Start a verification."""
    verification: Verification = request.app.state.verification
    await record_now(request, AccessEvent.PAGE, command="audit verify")
    verification.start(who, entrance_of(request).clock())
    return RedirectResponse("/kayit", 303)


@router.get("/kayit/izle")
async def timeline(request: Request, who: Auditor) -> Response:
    """Show the timeline of a sheet or a box."""
    what = " ".join(request.query_params.get("ne", "").split())[:_MAX_TEXT]
    steps, wrong = [], ""
    if what:
        done = await commands_of(request).run(
            who, "audit", "timeline", "--json", "--every", "--", what
        )
        steps = [_step(fields) for fields in done.lines()] if done.ok else []
        if not done.ok:
            wrong = "Kayıtta böyle bir tutanak ya da sandık yok."
            wrong += f" ({visible(done.said.splitlines()[-1])})" if done.said else ""
    record(request, AccessEvent.QUERY, rows=len(steps))
    return page(request, "kayit_izle.html", **_state(request), what=what, steps=steps, wrong=wrong)


@router.post("/kayit/rapor/{party_id}")
async def make_report(request: Request, who: Auditor, party_id: str) -> Response:
    """Have a report on a party made."""
    _known(request, party_id)
    stated = str((await request.form()).get("dil", "tr"))
    language = stated if stated in LANGUAGES else "tr"
    await record_now(request, AccessEvent.PAGE, command=f"audit report {party_id}")
    reports_of(request).start(who, party_id, language, entrance_of(request).clock())
    return RedirectResponse("/kayit#raporlar", 303)


@router.get("/kayit/rapor/{party_id}")
def report(request: Request, who: Auditor, party_id: str) -> Response:
    """Show the last report on a party, as its file."""
    _known(request, party_id)
    made = reports_of(request).of(party_id)
    if made is None or made.html is None:
        raise Refusal(404, "missing", "Bu partinin raporu yok: önce hazırlatın.")
    record(request, AccessEvent.DOWNLOAD, bytes=len(made.html), sha256=_digest(made.html))
    # A document of its own: nothing in it may run, and it may be no part of this site.
    policy = "default-src 'none'; img-src data:; sandbox; frame-ancestors 'none'; style-src "
    policy += " ".join(_style_hashes(made.html)) or "'none'"
    return HTMLResponse(made.html, headers={"content-security-policy": policy})


@router.get("/kayit/rapor/{party_id}/pdf")
def report_pdf(request: Request, who: Auditor, party_id: str) -> Response:
    """Send the last report on a party as PDF."""
    _known(request, party_id)
    made = reports_of(request).of(party_id)
    if made is None or made.pdf is None:
        raise Refusal(404, "missing", "Bu partinin raporu yok: önce hazırlatın.")
    record(request, AccessEvent.DOWNLOAD, bytes=len(made.pdf), sha256=_digest(made.pdf))
    headers = {"content-disposition": f'attachment; filename="rapor-{party_id}.pdf"'}
    return Response(made.pdf, media_type="application/pdf", headers=headers)


def reports_of(request: Request) -> Reports:
    """Return the reports on parties."""
    found: Reports = request.app.state.reports
    return found


def _state(request: Request) -> dict[str, Any]:
    """Return what every page of the record shows first."""
    verification: Verification = request.app.state.verification
    return {
        "verified": verified.read(entrance_of(request).settings.site),
        "running": verification.running,
        "verification_failed": visible(verification.failed),
    }


def _known(request: Request, party_id: str) -> None:
    if entrance_of(request).settings.party(party_id) is None:
        raise Refusal(404, "missing", "Böyle bir parti yok.")


def _rows(text: str) -> list[dict[str, str]]:
    return [
        {key: _shown(value or "") for key, value in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]


def _shown(text: str) -> str:
    """Return a cell as it is on record, with control characters escaped."""
    return visible(text[1:] if _FORMULA.match(text) else text)


def _step(fields: dict[str, Any]) -> dict[str, str]:
    found = {key: visible(str(fields[key])) for key in ("time", "step", "who", "what")}
    ledger = str(fields["ledger"]).rpartition("/")[2]
    return {**found, "record": f"{ledger} #{fields['seq']}", "hash": str(fields["hash"])[:16]}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _style_hashes(html: bytes) -> list[str]:
    """Return the sources of a Content-Security-Policy for the style sheets in a document."""
    return [
        f"'sha256-{base64.b64encode(hashlib.sha256(style).digest()).decode()}'"
        for style in re.findall(rb"<style>(.*?)</style>", html, re.DOTALL)
    ]
