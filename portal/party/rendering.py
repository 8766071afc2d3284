"""Renders the pages: Jinja2 templates that escape everything, and numbers and times in Turkish."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from config import times, turkish
from portal.access.gate import entrance_of
from portal.access.identity import Identity
from portal.access.sessions import Stage, form_token
from portal.data import titles
from portal.data.scoped import ScopedData
from portal.party import checks
from portal.party.assets import PARTY_ASSETS, Assets
from portal.party.cells import box_rows, box_url, difference_items, number, number_cells, percent

TEMPLATES = Path(__file__).parent / "templates"
PAGES = (
    ("/", "Genel durum"),
    ("/arama", "Arama"),
    ("/degisiklikler", "Değişiklikler"),
    ("/eksikler", "Eksikler"),
    ("/uyarilar", "Uyarılar"),
    ("/birlestirme", "Birleştirme"),
)
HELP_PAGES = {
    "giris": "Giriş, ilk parola, koşullar",
    "ikinci-adim": "İki adımlı giriş",
    "genel-durum": "Genel durum",
    "arama": "Arama",
    "sandik": "Sandık ve imzalı tutanak",
    "degisiklikler": "Değişiklikler",
    "eksikler": "Eksikler",
    "uyarilar": "Uyarılar",
    "birlestirme": "Birleştirme",
    "kaydet": "Kaydetme, yazdırma ve kanıt",
    "hesap": "Hesap ve oturum",
}
# The help page of each screen, by the route of the screen.
HELP_OF = {
    "/giris": "giris",
    "/parola": "giris",
    "/kosullar": "giris",
    "/dogrulama": "ikinci-adim",
    "/ikinci-adim": "ikinci-adim",
    "/hesap/ikinci-adim": "ikinci-adim",
    "/": "genel-durum",
    "/arama": "arama",
    "/sandik/{cevre}/{kurul}/{sandik}": "sandik",
    "/degisiklikler": "degisiklikler",
    "/eksikler": "eksikler",
    "/uyarilar": "uyarilar",
    "/birlestirme": "birlestirme",
    "/hesap": "hesap",
    "/hesap/parola": "hesap",
}


@dataclass(frozen=True, slots=True)
class Look:
    """How a site looks: folders with templates, the first one first, assets, and the menu."""

    templates: tuple[Path, ...]
    assets: Assets
    menu: Callable[[Identity | None], Sequence[tuple[str, str]]]


PARTY_LOOK = Look((TEMPLATES,), PARTY_ASSETS, lambda _: PAGES)


def page(
    request: Request,
    template: str,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """Render one page for the user who asks."""
    return HTMLResponse(fragment(request, template, **context), status, headers)


def fragment(request: Request, template: str, **context: Any) -> str:
    """Render a page, or a part of one that replaces what a browser shows, as text."""
    entrance = entrance_of(request)
    identity = getattr(request.state, "identity", None)
    session = getattr(request.state, "session", None)
    name = entrance.cookie if identity is not None else entrance.form_cookie
    cookie = request.cookies.get(name, "")
    look: Look = request.app.state.look
    return (
        _environment(look)
        .get_template(template)
        .render(
            request=request,
            path=request.scope["path"],
            root=entrance.root,
            identity=identity,
            party=entrance.settings.party(identity.party) if identity is not None else None,
            election=entrance.settings.election,
            rehearsal=identity.rehearsal if identity is not None else "",
            form_token=form_token(getattr(request.state, "token", "") or cookie),
            now=entrance.clock(),
            signed_in=session is not None and session.stage is Stage.FULL,
            menu=look.menu(identity),
            help_page=HELP_OF.get(getattr(request.scope.get("route"), "path", ""), ""),
            **{"data": None, **context},
        )
    )


def remembered_part(
    data: ScopedData, template: str, key: Hashable, context: Callable[[], Mapping[str, Any]]
) -> Markup:
    """Return the part of a page that is the same for every user with this view and scope.

    It is rendered once. Nothing of a user may be in it: neither its name nor a token of its forms.
    """
    text = data.remembered_text(
        (template, key),
        lambda: _environment(PARTY_LOOK).get_template(template).render(**context()),
    )
    return Markup(text)  # noqa: S704 - the template escapes


def render(template: str, **context: Any) -> str:
    """Render a template of the web site, such as a feed, that is no page of a user."""
    return _environment(PARTY_LOOK).get_template(template).render(**context)


def moment(value: datetime | None) -> str:
    """Write a time: 2023-05-14T21:04:10+03:00; nothing for None."""
    return "" if value is None else times.format_time(value)


@cache
def _environment(look: Look) -> Environment:
    made = Environment(
        loader=FileSystemLoader(look.templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number, moment=moment, upper_tr=turkish.upper, lower_tr=turkish.lower
    )
    made.globals.update(
        percent=percent,
        number_cells=number_cells,
        difference_items=difference_items,
        asset=look.assets.address,
        district=titles.district,
        board=titles.board,
        kinds=titles.KINDS,
        box_rows=box_rows,
        box_url=box_url,
        kind_names={kind.value: text for kind, text in checks.KINDS.items()},
    )
    return made
