"""All pages of the web site, as one list of routers."""

from fastapi import FastAPI

from portal.access.gate import add_routes
from portal.party.look import PARTY_ASSETS
from portal.party.pages import (
    aggregates,
    box,
    changes,
    help,
    home,
    live,
    missing,
    saves,
    search,
)
from portal.web import entry

ROUTERS = (
    PARTY_ASSETS.router(),
    entry.router,
    entry.party_router,
    home.router,
    search.router,
    box.router,
    changes.router,
    missing.router,
    aggregates.router,
    saves.router,
    live.router,
    help.router,
)


def include(app: FastAPI) -> None:
    """Add the pages to the application."""
    add_routes(app, *ROUTERS)
