import json
from pathlib import Path

import pytest
from office import Ssps
from unit.publisher.results.results_site import BALLOT, ResultsSite, row

from config.sheet import Secim
from publisher.results.checks.finding import Check, Finding

pytestmark = pytest.mark.both_databases


@pytest.fixture
def site(tmp_path: Path) -> ResultsSite:
    found = ResultsSite(tmp_path / "site")
    (found.path / "site.toml").touch()
    return found


@pytest.fixture
def taken_in(site: ResultsSite) -> ResultsSite:
    later = row(2, surum=2, neden="itiraz kabul", gecersiz=6, oy_kullanan=251)
    site.take_in(site.deliver(row(1), row(2), later, row(77), name="parti.ndjson"))
    with site.store() as store:
        finding = Finding(
            Check.BALLOTS_NOT_VOTED,
            Secim.MV,
            ("34-istanbul-1/kadikoy-2/sandik-1",),
            {"gecerli": 245, "gecersiz": 5, "oy_kullanan": 251},
        )
        store.replace_findings({"box mv x": [finding]})
        store.commit()
    return site


def test_findings_are_listed_as_json(taken_in: ResultsSite, ssps: Ssps) -> None:
    listed = json.loads(ssps("results", "check", "--json", "--site", taken_in.path).stdout)

    assert listed == [
        {
            "check": "ballots-not-voted",
            "kind": "error",
            "secim": "mv",
            "places": ["34-istanbul-1/kadikoy-2/sandik-1"],
            "numbers": {"gecerli": 245, "gecersiz": 5, "oy_kullanan": 251},
            "sheets": [],
        }
    ]


@pytest.mark.parametrize(
    ("place", "count"),
    [("34-istanbul-1", 1), ("34-istanbul-1/kadikoy-2/1", 1), ("34-istanbul-1/kadikoy-2/12", 0)],
)
def test_findings_are_limited_to_a_place(
    taken_in: ResultsSite, ssps: Ssps, place: str, count: int
) -> None:
    command = ("results", "check", "--place", place, "--json", "--site", taken_in.path)

    assert len(json.loads(ssps(*command).stdout)) == count


def test_a_box_shows_every_version_with_its_reason_and_batch(
    taken_in: ResultsSite, ssps: Ssps
) -> None:
    box = "34-istanbul-1/kadikoy-2/2"

    shown = json.loads(ssps("results", "show", box, "--json", "--site", taken_in.path).stdout)

    assert [(v["surum"], v["neden"], v["gecersiz"], v["newest"]) for v in shown["versions"]] == [
        (1, "", 5, False),
        (2, "itiraz kabul", 6, True),
    ]
    assert [(v["batch"], v["line"]) for v in shown["versions"]] == [
        ("parti.ndjson", 2),
        ("parti.ndjson", 3),
    ]


def test_a_hostile_row_cannot_control_the_terminal_or_a_spreadsheet(
    taken_in: ResultsSite, ssps: Ssps
) -> None:
    taken_in.take_in(taken_in.deliver("=1+1\x1b]0;x\x07\x9b31m", name="kotu.ndjson"))

    shown = ssps("results", "quarantine", "--site", taken_in.path).stdout
    table = ssps("results", "quarantine", "--csv", "--site", taken_in.path).stdout

    assert "=1+1\\x1b]0;x\\x07\\x9b31m" in shown
    assert ";\"'=1+1\\x1b]0;x" in table
    assert not any(c in shown + table for c in "\x1b\x07\x9b")


def test_the_quarantine_names_batch_line_and_reason(taken_in: ResultsSite, ssps: Ssps) -> None:
    command = ("results", "quarantine", "--json", "--site", taken_in.path)

    (rejected,) = json.loads(ssps(*command).stdout)

    assert (rejected["batch"], rejected["line"]) == ("parti.ndjson", 4)
    assert rejected["reason"] == "unknown-place"
    assert json.loads(rejected["row"])["sandik"] == "77"


def test_the_history_lists_corrections(taken_in: ResultsSite, ssps: Ssps) -> None:
    (change,) = json.loads(ssps("results", "history", "--json", "--site", taken_in.path).stdout)

    assert (change["place"], change["version"], change["reason"]) == (
        "34-istanbul-1/kadikoy-2/sandik-2",
        2,
        "itiraz kabul",
    )
    assert change["changed"] == "oy_kullanan 250 -> 251, gecersiz 5 -> 6"


def test_coverage_counts_boxes_with_a_result_and_without(taken_in: ResultsSite, ssps: Ssps) -> None:
    command = ("results", "coverage", "--json", "--site", taken_in.path)

    assert json.loads(ssps(*command).stdout) == [
        {"cevre": "34-istanbul-1", "both": 0, "result_only": 2, "sheet_only": 0, "neither": 14}
    ]


def test_a_site_without_results_has_empty_lists(site: ResultsSite, ssps: Ssps) -> None:
    for command in ("check", "quarantine", "history"):
        assert json.loads(ssps("results", command, "--json", "--site", site.path).stdout) == []


def new_site(tmp_path: Path, ssps: Ssps) -> Path:
    site = tmp_path / "real"
    assert ssps("init", site, "--why", "test").exit_code == 0
    return site


@pytest.mark.slow
def test_a_ballot_is_imported_and_recorded(tmp_path: Path, ssps: Ssps) -> None:
    site, file = new_site(tmp_path, ssps), tmp_path / "oy-pusulasi.csv"
    file.write_bytes("\r\n".join(BALLOT.replace(",", ";").splitlines()).encode("utf-16"))

    imported = ssps("ballot", "import", file, "--why", "list 1", "--site", site)

    assert imported.exit_code == 0
    assert "added    mv every district: 3. ortak (ORTAK İTTİFAKI)" in imported.stdout
    assert (site / "ballot.csv").read_text(encoding="utf-8") == BALLOT
    assert "ballot import" in (site / "ledgers/operations/000000000000.jsonl").read_text()
    shown = ssps("ballot", "show", "--site", site).stdout
    assert "parti    A Partisi  [ortak]" in shown


@pytest.mark.slow
def test_a_dry_run_and_a_wrong_ballot_change_nothing(tmp_path: Path, ssps: Ssps) -> None:
    site, file = new_site(tmp_path, ssps), tmp_path / "oy-pusulasi.csv"
    file.write_text(BALLOT, encoding="utf-8")
    dry = ssps("ballot", "import", file, "--dry-run", "--why", "x", "--site", site)
    file.write_text(BALLOT + "mv,,9,parti-a,parti,A,\n", encoding="utf-8")
    wrong = ssps("ballot", "import", file, "--why", "x", "--site", site)

    assert (dry.exit_code, wrong.exit_code) == (0, 1)
    assert "line 7: secenek: 'parti-a' is also in line 2, keep one" in wrong.stderr
    assert not (site / "ballot.csv").exists()


def test_an_export_of_the_public_interface_becomes_a_batch(
    site: ResultsSite, ssps: Ssps, tmp_path: Path
) -> None:
    (site.path / "ballot.csv").write_text(BALLOT, encoding="utf-8")
    box = {
        "il_ID": 34,
        "il_ADI": "İSTANBUL-1",
        "ilce_ADI": "Kadıköy",
        "sandik_NO": 3,
        "secim_TURU": 8,
        "secmen_SAYISI": 300,
        "oy_KULLANAN_SECMEN_SAYISI": 250,
        "itirazsiz_GECERLI_OY_SAYISI": 245,
        "gecerli_OY_TOPLAMI": 245,
        "gecersiz_OY_TOPLAMI": 5,
        "parti1_ALDIGI_OY": 245,
        "son_ISLEM_TARIHI": "2023-05-14T18:30:00",
    }
    headings = [{"sira_NO": 1, "ad": "A Partisi", "column_NAME": "parti1_ALDIGI_OY"}]
    rows, meaning = tmp_path / "sandiklar.json", tmp_path / "basliklar.json"
    rows.write_text(json.dumps([box, box | {"sandik_NO": 99}]), encoding="utf-8")
    meaning.write_text(json.dumps(headings), encoding="utf-8")

    done = ssps("results", "import", rows, meaning, "--site", site.path)
    site.take_in(*site.waiting())

    assert done.exit_code == 1
    assert "row 2: unknown-place: sandik_NO 99" in done.stderr
    assert site.accepted() == [("3", 1, True)]
