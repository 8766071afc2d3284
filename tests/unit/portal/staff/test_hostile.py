"""What a person with an account, or a stranger's page, can send to the staff site."""

import html
import re
from itertools import product
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from staff_site import ROLES, Staff
from unit.portal.party.test_hostile import INJECTIONS
from unit.portal.staff.test_access import form_token, methods_of, routes

from portal.staff import site
from portal.staff.pages.records import FILTERS

pytestmark = pytest.mark.slow

_PARAMETER = re.compile(r"{(\w+)(?::path)?}")
NAMES = ("ara", "duvar", "harita", "kurul", "ne", "sayfa", "secim", "sonra")
LEAKS = ("root:", "CREATE TABLE", "Traceback", "sqlite3.", "__subclasses__")


def check(answer: httpx.Response, asked: str) -> None:
    text = html.unescape(answer.text)
    assert answer.status_code < 500, (asked, text)
    assert "x-injected" not in answer.headers
    assert "<script>alert" not in answer.text and "<img src=x" not in answer.text, asked
    for word in LEAKS:
        assert word not in text or word in asked, (word, asked)


def test_the_list_of_names_is_complete() -> None:
    folder = Path(site.__file__).parent
    read = "".join(file.read_text("utf-8") for file in folder.rglob("*.py"))

    assert set(re.findall(r'query(?:_params)?\.get\("(\w+)"', read)) == set(NAMES)


@pytest.mark.no_cover
def test_no_value_in_an_address_breaks_a_page_or_runs(staff: Staff) -> None:
    browsers = {role: staff.signed_in(name) for name, role in ROLES.items()}
    tried = 0
    for (v, value), (r, route) in product(enumerate(INJECTIONS), enumerate(routes(staff))):
        if "GET" not in methods_of(route) or route.roles is None or "canli" in route.path:
            continue
        raw = quote(value.encode("utf-8", "surrogatepass"), safe="")
        browser = browsers[sorted(route.roles)[0]]
        plain = _PARAMETER.sub("yok", route.path)
        names = (*NAMES, *FILTERS)[(v + r) % 3 :: 3]
        if route.path.startswith("/kayit") and v % 6:
            continue  # each of these starts a process of ssps audit
        targets = [f"{plain}?{name}={raw}" for name in names]
        if "{" in route.path:
            targets.append(_PARAMETER.sub(lambda _, v=raw: v, route.path))  # type: ignore[misc]
        for target in targets:
            check(browser.get(target), target)
            tried += 1
    assert tried > 500


def test_no_value_in_a_form_breaks_a_page_or_runs(staff: Staff) -> None:
    """All fields get the value at once; the page or party that the form is for is unknown."""
    browsers = {role: staff.signed_in(name) for name, role in ROLES.items()}
    tokens = {role: form_token(b.get("/hesap").text) for role, b in browsers.items()}
    fields = (
        "adim", "secim", "gerekce", "kuyruk", "neden", "dosya", "bolge", "donus", "sifre", "oturum",
        "sayfalar", "sonuc", "onay",
    )  # fmt: skip
    for value, route in product(INJECTIONS, routes(staff)):
        if "POST" not in methods_of(route) or route.roles is None:
            continue
        role = sorted(route.roles)[0]
        sent = {"form": tokens[role], **dict.fromkeys(fields, value.replace("\ud800", "?"))}
        target = _PARAMETER.sub("yok", route.path)
        check(browsers[role].send("POST", target, data=sent), f"{target} {value}")
