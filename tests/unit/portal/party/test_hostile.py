"""What a user with a login of one board can send: every parameter of every page of the site."""

import html
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from unit.portal.party.conftest import Night
from unit.portal.portal_site import BOARDS, BOXES

from config.sheet import Belge, Secim
from keys.ledger.receipt import parse_receipt
from keys.ledger.record import parse_record
from portal.access.gate import GatedRoute
from portal.data.criteria import NAMES
from portal.party import site

OWN = ("34-istanbul-1", "kadikoy-2")
OTHERS = [board for board in BOARDS if board != OWN]
# How the pages name what parti-b must not see, and how addresses do.
HIDDEN = (
    "Konak", "Çankaya", "İzmir 2", "Aladağ", "Almanya", "Kapıkule", "Veli Bağımsız", "Kadıköy 1",
    "Moda", "Caferağa", "35-izmir-2", "01-adana", "kadikoy-1", "kapikule", "A10",
)  # fmt: skip
PARAMETERS = (*NAMES, "sirala", "yon", "sayfa", "itibaren", "zaman", "kontrol", "ne", "tutanak")
INJECTIONS = (
    "' OR '1'='1", "1; DROP TABLE result", '" UNION SELECT * FROM sqlite_master --', "{{7*7}}",
    "${7*7}", "{% for x in ().__class__.__base__.__subclasses__() %}", "%(a)s", "%00", "\x00",
    "../../../../etc/passwd", "..\\..\\site.toml", "/etc/passwd", "\ud800", "A" * 3000, "-1",
    "1e999", "NaN", "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "=1+1",
    "\r\nX-Injected: 1", "İ" * 150, "oylar.", "oylar.'; --", "999999999999999999999",
)  # fmt: skip
_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")


def addresses() -> list[str]:
    """Return the paths of all pages and files that a user gets."""
    routes = [route for router in site.ROUTERS for route in router.routes]
    return [
        route.path
        for route in routes
        if isinstance(route, GatedRoute)
        and "GET" in (route.methods or ())
        and not route.is_public
        and route.path not in ("/canli", "/parola", "/dogrulama", "/ikinci-adim", "/kosullar")
    ]


def filled(route: str, /, **values: str) -> Iterator[str]:
    """Yield the path with what a client would write for its parameters."""
    usual = {
        "cevre": OWN[0], "kurul": OWN[1], "sandik": "1001", "ledger": "results", "number": "0",
        "path": "x", "form": "csv",
    }  # fmt: skip
    for what in ("sandiklar", "degisiklikler", "eksikler", "uyarilar"):
        chosen = {"what": what, **usual, **values}
        yield _PARAMETER.sub(lambda found, c=chosen: quote(c[found[1]], safe="/"), route)  # type: ignore[misc]
        if "{what}" not in route:
            return


def seen(text: str, asked: str) -> list[str]:
    """Return what is hidden and still in an answer, beside what the client has sent itself."""
    text = html.unescape(text)
    text = re.sub(r"<title>[^<]*: kapsamınızda sandık yok</title>", "", text)  # of the map
    echoed = {asked, *re.split(r"[/?&=]", asked)} - {""}
    return [word for word in HIDDEN if word in text and not any(word in e for e in echoed)]


def test_the_list_of_parameters_is_complete() -> None:
    folder = Path(site.__file__).parent
    read = "".join(file.read_text("utf-8") for file in folder.rglob("*.py"))

    assert set(re.findall(r'query(?:_params)?\.get\("(\w+)"', read)) <= set(PARAMETERS)


@pytest.mark.slow
@pytest.mark.no_cover
def test_no_place_of_another_party_is_seen_by_any_parameter_of_any_page(night: Night) -> None:
    browser = night.board()
    queries = [{"cevre": cevre} for cevre, _ in OTHERS]
    queries += [{"kurul": kurul} for _, kurul in OTHERS]
    queries += [{"cevre": cevre, "kurul": kurul} for cevre, kurul in OTHERS]
    queries += [{"cevre": OWN[0], "kurul": kurul} for _, kurul in OTHERS]
    queries += [{"mahalle": name} for name in ("Moda", "Caferağa", "Çankaya", "Şıhlı")]
    queries += [{"alan": area} for area in ("genel", "yurt-ici", "yurt-disi")]
    queries += [{"tur": kind} for kind in ("cezaevi", "gumruk", "yurt-disi")]
    queries += [{"ilk": "1", "son": "9999"}, {"ilk": "A1", "son": "A99"}, {"itibaren": "1"}]
    queries += [{"sirala": "oylar.bagimsiz-2"}, {"ne": "tutanak"}, {"sayfa": "2"}]
    queries += [{"tutanak": night.other}, {"kontrol": "more-voted-than-registered"}]
    for path, query, secim in product(addresses(), queries, ("mv", "cb")):
        if "{path" in path or path.startswith("/kanit"):
            continue  # below
        for target in filled(path):
            asked = f"{target}?{urlencode({'secim': secim, **query})}"
            answer = browser.get(asked)

            assert answer.status_code in (200, 422), asked
            assert seen(answer.text, asked) == [], asked


@pytest.mark.slow
@pytest.mark.no_cover
def test_no_box_sheet_or_record_of_another_party_is_sent(night: Night) -> None:
    browser = night.board()
    targets = [f"/sandik/{'/'.join(box)}" for box in BOXES if box[:2] != OWN]
    forms = [(s, b) for s in Secim for b in (Belge.SANDIK_SONUC, Belge.SAYIM_DOKUM_CETVELI)]
    election = night.other.split("/")[0]
    for way, box, (secim, belge) in product(("resim", "ozgun"), BOXES, forms):
        if box[:2] != OWN:
            folder = f"{election}/{box[0]}/{box[1]}/sandik-{box[2]}"
            targets += [
                f"/tutanak/{way}/{folder}/{secim}-{belge}-s1.{end}" for end in ("jpg", "png")
            ]
    targets += [f"/tutanak/{way}/{night.other}" for way in ("resim", "ozgun")]
    targets += [f"/kanit/{ledger}/{n}" for ledger in ("access", "operations") for n in range(3)]
    for target in targets:
        answer = browser.get(target)

        assert answer.status_code == 404, target
        assert seen(answer.text, target) == [], target
    proofs = [browser.get(f"/kanit/results/{n}") for n in range(50)]
    own = [parse_receipt(answer.content) for answer in proofs if answer.status_code == 200]
    places = {parse_record(receipt.line).event.what for receipt in own}
    assert places == {f"{'/'.join(OWN)}/sandik-{box}" for box in BOARDS[OWN]}


@pytest.mark.slow
@pytest.mark.no_cover
def test_no_value_of_any_parameter_breaks_a_page_or_runs(night: Night) -> None:
    browser = night.board()
    # Of the 6,800 combinations a third, which has each pair of value, page and parameter.
    targets = []
    for (v, value), (p, path) in product(enumerate(INJECTIONS), enumerate(addresses())):
        raw = value.encode("utf-8", "surrogatepass")
        base = next(filled(path))
        names = PARAMETERS[-(v + p) % 3 :: 3]
        targets += [f"{base}?{name}={quote(raw, safe='')}" for name in names]
        for name in _PARAMETER.findall(path):
            marked = next(filled(path, **{name: "MARK"}))
            targets.append(marked.replace("MARK", quote(raw, safe="")))
    for target in targets:
        answer = browser.get(target)

        assert answer.status_code < 500, (target, answer.text)
        assert "x-injected" not in answer.headers
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text, target
        for word in ("root:", "CREATE TABLE", "Traceback", "sqlite3", "__subclasses__"):
            assert word not in answer.text.replace(html.escape(str(target)), "") or word in (
                target.replace("%5F", "_")
            ), (target, word)
        assert seen(answer.text, target) == [], target


def test_no_cache_between_keeps_what_a_user_sees_and_no_header_changes_it(night: Night) -> None:
    browser = night.whole()
    poisons = {
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "http",
        "x-forwarded-prefix": "/evil",
        "x-original-url": "/hesap",
        "x-rewrite-url": "/hesap",
        "x-http-method-override": "POST",
    }
    for path in addresses():
        if "{" in path:
            continue
        plain, poisoned = browser.get(path), browser.get(path, headers=poisons)

        assert "evil" not in poisoned.text and "evil" not in str(poisoned.headers), path
        assert poisoned.status_code == plain.status_code
        assert plain.headers["cache-control"] == "no-store", path
    kept = browser.get(f"/tutanak/ozgun/{night.sheet}").headers["cache-control"]
    assert kept.startswith("private")
