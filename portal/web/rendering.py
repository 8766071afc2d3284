"""Renders the pages: Jinja2 templates that escape everything, and numbers and times in Turkish."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from config import times, turkish
from portal.access.gate import entrance_of
from portal.access.identity import Identity
from portal.access.sessions import Stage, form_token
from portal.data import titles
from portal.web.assets import Assets
from portal.web.numbers import number, number_cells, percent

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """How a site looks: its folder of templates, its assets and its menu.

    `names` are what its templates use besides those that every site has. `help_of` has the help
    page of a screen, by the route of the screen.
    """

    templates: Path
    assets: Assets
    menu: Callable[[Identity | None], Sequence[tuple[str, str]]]
    names: Mapping[str, object] = field(default_factory=dict)
    help_of: Mapping[str, str] = field(default_factory=dict)


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
        environment(look)
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
            help_page=look.help_of.get(getattr(request.scope.get("route"), "path", ""), ""),
            **{"data": None, **context},
        )
    )


def moment(value: datetime | None) -> str:
    """Write a time: 2023-05-14T21:04:10+03:00; nothing for None."""
    return "" if value is None else times.format_time(value)


@cache
def environment(look: Look) -> Environment:
    """Return the templates of a site, with what they may use."""
    made = Environment(
        loader=FileSystemLoader((look.templates, _TEMPLATES)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(number=number, moment=moment, lower_tr=turkish.lower)
    made.globals.update(
        percent=percent,
        number_cells=number_cells,
        asset=look.assets.address,
        district=titles.district,
        board=titles.board,
        **look.names,
    )
    return made
