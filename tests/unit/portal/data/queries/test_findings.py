"""Findings are found by ranges of an index: what comes back is what a look at each one gives."""

import itertools
import json

import postgres
import pytest
import sqlalchemy as sa
from unit.portal.portal_site import PortalSite, result

from config.scope import ALL, Scope
from config.sheet import Secim
from portal.data.queries.findings import FindingQueries
from publisher.results import store
from publisher.results import tables as t
from publisher.results.checks.finding import Check

KADIKOY = "34-istanbul-1/kadikoy-1"
PLACES = (
    ["-"],
    ["34-istanbul-1"],
    [KADIKOY],
    [f"{KADIKOY}/sandik-1001"],
    [f"{KADIKOY}/sandik-1001", f"{KADIKOY}/sandik-1002"],
    [f"{KADIKOY}/sandik-1002", "34-istanbul-1/kadikoy-10/sandik-1"],
    ["34-istanbul-1/kadikoy-10/sandik-1"],
    ["34-istanbul-10/x/sandik-1"],
    ["35-izmir-2/konak/sandik-1001", f"{KADIKOY}/sandik-1001"],
    ["35-izmir-2/konak/sandik-1001"],
)
CHECKS = (Check.SAME_VECTOR, Check.NOBODY_VOTED, Check.DISTRICT_NOT_SUM)
SCOPES = (
    ALL,
    Scope(frozenset({("34-istanbul-1", None), ("34-istanbul-1", "kadikoy-1")})),
    Scope(frozenset({("34-istanbul-1", "kadikoy-1"), ("35-izmir-2", None)})),
    Scope(frozenset({("34-istanbul-1", "kadikoy-10")})),
)
ASKED = (
    (None, None),
    ("34-istanbul-1", None),
    ("34-istanbul-1", "kadikoy-1"),
    ("35-izmir-2", None),
    ("x", "y"),
)


Rows = list[tuple[str, str, list[str]]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[PortalSite, Rows]:
    """A site with findings, and these; tests must only read from it."""
    site = PortalSite(tmp_path_factory.mktemp("findings") / "site")
    return site, put_findings(site)


def put_findings(site: PortalSite) -> Rows:
    """Put findings of each check, contest and place into the database; return them."""
    site.publish(result(("01-adana", "aladag", "1")))
    made = [
        (check.value, secim, places)
        for check, secim, places in itertools.product(CHECKS, ("cb", "mv"), PLACES)
    ]
    nothing = {"subject": "x", "kind": "note", "numbers": "{}", "sheets": "[]"}
    with postgres.changing(store.url(site.path)) as database:
        database.execute(sa.delete(t.finding))
        database.execute(
            sa.insert(t.finding),
            [
                {**nothing, "check_name": check, "secim": secim, "places": json.dumps(places)}
                for check, secim, places in made
            ],
        )
    return made


def is_in(place: str, district: str, board: str | None) -> bool:
    name = "/".join(filter(None, (district, board)))
    return place == name or place.startswith(f"{name}/")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("secim", [None, Secim.MV])
def test_a_finding_is_found_if_all_its_places_are_wanted_and_in_scope(
    shared: tuple[PortalSite, Rows],
    scope: Scope,
    asked: tuple[str | None, str | None],
    secim: Secim | None,
) -> None:
    site, rows = shared
    expected = sorted(
        (check, json.dumps(places), contest)
        for check, contest, places in rows
        if secim in (None, contest)
        and all(scope.places is None or any(is_in(p, *s) for s in scope.places) for p in places)
        and (asked[0] is None or all(is_in(p, asked[0], asked[1]) for p in places))
    )
    queries = FindingQueries(site.path, lambda: 0.0)

    everything = queries.find(scope, secim, asked, 1, None, 0, 1000)
    pages = [queries.find(scope, secim, asked, 1, None, n, 7) for n in range(0, 70, 7)]
    of_check = queries.find(scope, secim, asked, 1, Check.NOBODY_VOTED, 2, 3)

    found = [
        (f.check.value, json.dumps(list(f.places)), f.secim.value) for f in everything.findings
    ]
    assert found == expected
    assert everything.count == len(expected)
    assert [f for page in pages for f in page.findings] == list(everything.findings)
    nobody = [f for f in everything.findings if f.check is Check.NOBODY_VOTED]
    assert (list(of_check.findings), of_check.count) == (nobody[2:5], len(nobody))


def test_numbers_are_counted_again_after_a_moment(site: PortalSite) -> None:
    rows = put_findings(site)
    now = 0.0
    queries = FindingQueries(site.path, lambda: now)
    assert sum(queries.count(ALL, None, (None, None), 1).values()) == len(rows)
    with postgres.changing(store.url(site.path)) as database:
        database.execute(sa.delete(t.finding).where(t.finding.c.secim == "cb"))
    assert sum(queries.count(ALL, None, (None, None), 1).values()) == len(rows)

    now = 2.5

    assert sum(queries.count(ALL, None, (None, None), 1).values()) == len(rows) / 2
