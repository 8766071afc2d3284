"""All pages of the staff site, as one list of routers, and how it looks."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI

from keys.credentials.users import Role
from portal.access.gate import GatedRoute, add_routes, check_routes, gated_app
from portal.access.identity import Identity
from portal.data.sites import Sites
from portal.pictures.pictures import Pictures
from portal.staff.commands import Commands
from portal.staff.desk.desk import Desk
from portal.staff.entrance import StaffEntrance
from portal.staff.pages import (
    account,
    desk,
    desk_actions,
    desk_lists,
    parties,
    records,
    requests,
    wall,
)
from portal.staff.pages.parties import BehindFigures
from portal.staff.refusals import Refusals
from portal.staff.reports import Reports
from portal.staff.roles import check_roles
from portal.staff.verification import Verification
from portal.staff.watch import Watch
from portal.web import entry
from portal.web.assets import Assets
from portal.web.errors import answer_error
from portal.web.rendering import Look

_FOLDER = Path(__file__).parent
_ASSETS = Assets(_FOLDER / "static")
_MENU: tuple[tuple[str, str, frozenset[Role]], ...] = (
    ("/", "Durum", wall.ROLES),
    ("/masa", "Masa", desk.ROLES),
    ("/partiler", "Partiler", parties.ROLES),
    ("/kayit", "Kayıt", records.ROLES),
    ("/talepler", "Talepler", requests.ROLES),
)
ROUTERS = (
    _ASSETS.router(),
    entry.router,
    account.router,
    wall.router,
    parties.router,
    records.router,
    desk.router,
    desk_actions.router,
    desk_lists.router,
    requests.router,
)


def _menu(who: Identity | None) -> list[tuple[str, str]]:
    return [(path, text) for path, text, roles in _MENU if who is not None and who.role in roles]


LOOK = Look(_FOLDER / "templates", _ASSETS, _menu)


def create_app(entrance: StaffEntrance, command_line: Sequence[str] = ()) -> FastAPI:
    """Make the application; AssertionError if a route has no gate or names no roles.

    `command_line` starts scripts/staff_command, for pages that do what a command does.
    """
    app = gated_app("SSPS personel", entrance, answer_error)
    app.state.look = LOOK
    app.state.pictures = Pictures()
    app.state.commands = Commands(command_line, entrance.settings.site)
    app.state.verification = Verification(app.state.commands)
    app.state.reports = Reports(app.state.commands)
    app.state.behind = BehindFigures()
    app.state.refusals = Refusals()
    app.state.watch = Watch(lambda: entrance.settings, entrance.clock)
    app.state.desk = Desk(entrance.settings.site, entrance.clock)
    app.state.sites = Sites(lambda: entrance.settings.results.share_level)
    add_routes(app, *ROUTERS)
    check_routes(app)
    own_account = {r.path for r in entry.router.routes if isinstance(r, GatedRoute)}
    check_roles(app, frozenset(own_account))
    return app
