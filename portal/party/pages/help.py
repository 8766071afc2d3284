"""Yardım: the users' handbook, a page for each screen, with pictures (Genelge md. 7).

    /yardim            the list of pages
    /yardim/<page>     one page

Anybody at a registered address may read it, also before the login. The pictures are drawn of a
rehearsal by tests/flow/test_screens.py, so they show no real sheet and no real person.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response

from portal.access.gate import Refusal, gated_router, public
from portal.party.look import HELP_FOLDER, HELP_PAGES
from portal.web.rendering import page

LABELS = "labels.json"  # of each picture, its size, and the texts of the screen when it was drawn

router = gated_router()


@router.get("/yardim")
@public
def contents(request: Request) -> Response:
    """Show the list of pages."""
    return page(request, "yardim.html", pages=HELP_PAGES, slug="", sizes=sizes())


@router.get("/yardim/{slug}")
@public
def one(request: Request, slug: str) -> Response:
    """Show the page about one screen."""
    if slug not in HELP_PAGES:
        raise Refusal(404, "missing", "Böyle bir yardım sayfası yok.")
    return page(request, f"yardim-{slug}.html", pages=HELP_PAGES, slug=slug, sizes=sizes())


@cache
def sizes() -> dict[str, tuple[int, int]]:
    """Return width and height of each picture."""
    return {
        name: (drawn["size"][0], drawn["size"][1]) for name, drawn in labels(HELP_FOLDER).items()
    }


def labels(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what is known of the pictures in a folder."""
    found: dict[str, dict[str, Any]] = json.loads((folder / LABELS).read_text("utf-8"))
    return found
