"""The representatives' pages as an application of its own, beside the portal's (portal/server)."""

from pathlib import Path

from fastapi import FastAPI

from portal.access.gate import add_routes, check_routes, gated_app
from portal.party.sipport import pages
from portal.party.sipport.entrance import ROOT, RequestsEntrance
from portal.web import entry
from portal.web.assets import Assets
from portal.web.errors import answer_error
from portal.web.rendering import Look

_FOLDER = Path(__file__).parent
_ASSETS = Assets(_FOLDER / "static", root=ROOT)
LOOK = Look(_FOLDER / "templates", _ASSETS, lambda _: [(f"{ROOT}/", "Talepler")])
ROUTERS = (_ASSETS.router(), entry.router, pages.router)


def create_app(entrance: RequestsEntrance) -> FastAPI:
    """Make the application for a scope whose `root_path` is ROOT; checks as portal/server."""
    app = gated_app("SSPS talep", entrance, answer_error)
    app.state.look = LOOK
    add_routes(app, *ROUTERS)
    check_routes(app)
    return app
