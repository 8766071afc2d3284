"""`ssps registry import` compares a new registry with the one in force and with what is filed."""

import json
from pathlib import Path

import office
import postgres
import pytest
import sqlalchemy as sa
from click.testing import Result
from office import Ssps
from unit.publisher.filed_site import PageFiler

from config import load
from config.registry import Registry
from config.sheet import Belge, Secim, Sheet
from config.site import REGISTRY_INDEX
from keys.ledger import segments
from publisher.catalog import catalog
from publisher.catalog import tables as t

FILED = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1)
KAREKOD = "1093717526"
MOVED = office.ROWS[0].replace("1234", "1235")


@pytest.fixture
def filed(site: Path, ssps: Ssps) -> Path:
    """A site with an imported registry, of which one sheet is filed."""
    assert imported(site, ssps, *office.ROWS).exit_code == 0
    PageFiler(load.load(site)).file(FILED, "a page")
    with postgres.changing(catalog.url(site)) as opened:
        opened.execute(sa.update(t.filing).values(karekod=KAREKOD))
        place = ("34-istanbul-1", "kadikoy-2", "cb", "sandik-sonuc")
        opened.execute(sa.insert(t.tally).values((*place, 1)))
        opened.execute(sa.update(t.arrival).values(decided_at="2023-05-14T14:00:00+00:00"))
    return site


def imported(site: Path, ssps: Ssps, *words: str) -> Result:
    rows = [word for word in words if not word.startswith("--")]
    source = site.parent / "kayit.csv"
    source.write_text(office.registry_csv(*rows), encoding="utf-8")
    options = [word for word in words if word.startswith("--")]
    return ssps("registry", "import", source, "--why", "x", "--site", site, *options)


def rows(site: Path) -> int:
    opened = Registry(site / REGISTRY_INDEX)
    try:
        return opened.source().rows
    finally:
        opened.close()


def test_an_import_prints_what_it_changes(filed: Path, ssps: Ssps) -> None:
    new = "2000000009,cb,sandik-sonuc,35-izmir-2,konak-1,seyyar,8,,1"
    other = office.ROWS[2].replace("seyyar", "normal")

    done = imported(filed, ssps, *office.ROWS[:2], other, *office.ROWS[4:], new)

    assert done.exit_code == 0
    assert done.stdout.splitlines()[:3] == [
        "added    35-izmir-2/konak-1/8 cb-sandik-sonuc-s1 (2000000009)",
        "removed  06-ankara-1/cankaya-1 cb-ilce-birlestirme-s1 (3000000001)",
        "changed  35-izmir-2/konak-1/7 cb-sandik-sonuc-s1 (2000000001)",
    ]
    *_, record = segments.read_records(filed / "ledgers/operations")
    counted = {key: record.event.detail[key] for key in ("added", "removed", "changed")}
    assert counted == {"added": 1, "removed": 1, "changed": 1}


@pytest.mark.parametrize(
    "kept",
    [office.ROWS[1:], (MOVED, *office.ROWS[1:]), (office.ROWS[0].replace(KAREKOD, "1" * 10),)],
    ids=["removed", "moved", "another karekod"],
)
def test_a_registry_that_lacks_or_moves_a_filed_sheet_is_refused(
    filed: Path, ssps: Ssps, kept: tuple[str, ...]
) -> None:
    refused = imported(filed, ssps, *kept)

    assert refused.exit_code == 1
    assert f"FILED    34-istanbul-1/kadikoy-2/1234 cb-sandik-sonuc-s1 ({KAREKOD})" in refused.stdout
    assert "lacks or moves 1 sheets that are filed" in refused.stderr
    assert rows(filed) == len(office.ROWS), "nothing was imported"


def test_with_force_a_filed_sheet_is_listed_as_no_longer_expected(filed: Path, ssps: Ssps) -> None:
    first = ssps("status", "--json", "--site", filed)
    assert first.exit_code == 0, first.stderr
    before = json.loads(first.stdout)

    forced = imported(filed, ssps, *office.ROWS[1:], "--force")

    assert forced.exit_code == 0
    status = json.loads(ssps("status", "--json", "--site", filed).stdout)
    assert (before["unexpected"], status["unexpected"]) == (0, 1)
    assert (status["filed"], status["missing"]) == (before["filed"], len(office.ROWS) - 1)
    shown = " ".join(ssps("status", "--site", filed).stdout.split())
    assert "filed and no longer expected: " in shown
    assert f"cb-sandik-sonuc-s1.jpg ({KAREKOD})" in shown
    again = imported(filed, ssps, *office.ROWS[2:])
    assert again.exit_code == 0, "a sheet that is not expected any more is not asked for again"


def test_a_dry_run_shows_the_changes_and_changes_nothing(filed: Path, ssps: Ssps) -> None:
    records = len(list(segments.read_records(filed / "ledgers/operations")))

    shown = imported(filed, ssps, *office.ROWS[:-1], "--dry-run")
    refused = imported(filed, ssps, *office.ROWS[1:], "--dry-run")

    assert (shown.exit_code, refused.exit_code) == (0, 1)
    assert "removed  (the election)" in shown.stdout
    assert "dry run: nothing has changed" in shown.stderr
    assert rows(filed) == len(office.ROWS)
    assert len(list(segments.read_records(filed / "ledgers/operations"))) == records
    assert not list((filed / "state").glob(".registry*"))


def test_the_same_registry_again_is_no_change(filed: Path, ssps: Ssps) -> None:
    assert "no change: the registry is the same" in imported(filed, ssps, *office.ROWS).stdout


@pytest.mark.parametrize(
    ("wanted", "count"),
    [(KAREKOD, 1), ("34-istanbul-1/kadikoy-2/1234", None), ("34-istanbul-1", None)],
)
def test_find_names_the_sheets_of_a_karekod_or_a_place(
    filed: Path, ssps: Ssps, wanted: str, count: int | None
) -> None:
    lines = ssps("registry", "find", wanted, "--site", filed).stdout.splitlines()
    rows = json.loads(ssps("registry", "find", wanted, "--json", "--site", filed).stdout)

    assert KAREKOD in {row["karekod"] for row in rows}
    assert len(lines) == len(rows) >= (count or 1)
    assert {row["cevre"] for row in rows} == {"34-istanbul-1"}
    assert any(line.startswith(f"{KAREKOD}  cb  sandik-sonuc  34-istanbul-1") for line in lines)


def test_find_says_what_is_not_in_the_registry(filed: Path, ssps: Ssps) -> None:
    for wanted, code in (("9999999999", 1), ("34-istanbul-1/x-1", 1), ("a/b/c/d", 2)):
        done = ssps("registry", "find", wanted, "--site", filed)

        assert (done.exit_code, done.stdout) == (code, ""), done.output
