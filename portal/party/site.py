"""All pages of the web site, as one list of routers."""

from fastapi import FastAPI

from portal.access.gate import add_routes
from portal.party import assets, entry, home

ROUTERS = (assets.router, entry.router, home.router)


def include(app: FastAPI) -> None:
    """Add the pages to the application."""
    add_routes(app, *ROUTERS)
