"""How the web site looks: its menu, its help pages, its files, and what its templates use."""

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from portal.data import titles
from portal.data.scoped import ScopedData
from portal.party import checks
from portal.party.cells import box_rows, box_url, difference_items
from portal.web.assets import Assets
from portal.web.rendering import Look, environment

_FOLDER = Path(__file__).parent
HELP_FOLDER = _FOLDER / "help"
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
PARTY_ASSETS = Assets(pictures=HELP_FOLDER)
PARTY_LOOK = Look(
    _FOLDER / "templates",
    PARTY_ASSETS,
    lambda _: PAGES,
    {
        "box_rows": box_rows,
        "box_url": box_url,
        "difference_items": difference_items,
        "kinds": titles.KINDS,
        "kind_names": {kind.value: text for kind, text in checks.KINDS.items()},
    },
    HELP_OF,
)


def remembered_part(
    data: ScopedData, template: str, key: Hashable, context: Callable[[], Mapping[str, Any]]
) -> Markup:
    """Return the part of a page that is the same for every user with this view and scope.

    It is rendered once. Nothing of a user may be in it: neither its name nor a token of its forms.
    """
    text = data.remembered_text(
        (template, key),
        lambda: environment(PARTY_LOOK).get_template(template).render(**context()),
    )
    return Markup(text)  # noqa: S704 - the template escapes


def render(template: str, **context: Any) -> str:
    """Render a template of the web site, such as a feed, that is no page of a user."""
    return environment(PARTY_LOOK).get_template(template).render(**context)
