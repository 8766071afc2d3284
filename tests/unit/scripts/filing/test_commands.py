import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import office
import pytest
from office import OPENS, Ssps

from config import registry, times
from config.site import REGISTRY_INDEX
from keys.credentials import ring
from keys.credentials.ring import Ring
from keys.operations import ring_files, server_state
from publisher.store.quarantine import QuarantineNote, format_note
from scripts.shared import console

BOX = "34-istanbul-1/kadikoy-2/1234"
CB = "1093717526"


@pytest.fixture
def counted(site: Path) -> Path:
    """A site with an imported registry and no running publisher."""
    (site / "registry.csv").write_text(office.registry_csv(), encoding="utf-8")
    registry.import_csv(site / "registry.csv", site / REGISTRY_INDEX)
    return site


def test_status_prints_csv_json_and_a_table(counted: Path, ssps: Ssps) -> None:
    table = ssps("status", "--by", "secim", "--csv", "--site", counted)
    assert table.stdout == "secim,expected,filed,absent,missing\ncb,5,0,0,5\nmv,1,0,0,1\n"
    found = json.loads(ssps("status", "--json", "--by", "cevre", "--site", counted).stdout)
    assert (found["expected"], found["missing"], found["oldest_seconds"]) == (6, 6, None)
    assert found["by"]["35-izmir-2"] == {
        "expected": 1,
        "filed": 0,
        "absent": 0,
        "missing": 1,
        "quarantined": 0,
        "results_expected": 1,
        "results_here": 0,
        "results_missing": 1,
        "results_rejected": 0,
    }
    assert "35-izmir-2" in ssps("status", "--by", "cevre", "--site", counted).stdout


def test_status_warns_of_a_party_whose_last_credential_ends(counted: Path, ssps: Ssps) -> None:
    hour = datetime.now(UTC) + timedelta(hours=1)
    ends = ring.password_credential(
        "Yedi-Kule-17", label="", not_before=OPENS, not_after=hour, added_by=""
    )
    ring_files.apply(counted, Ring("parti-a", (ends,)))

    warned = json.loads(ssps("status", "--json", "--site", counted).stdout)["warnings"]

    assert warned == [
        "parti-b: no credential is valid now: `ssps key add parti-b`",
        f"parti-a: its last credential ends {times.format_time(hour)}: `ssps key rotate parti-a`",
    ]
    assert "parti-b: no credential is valid now" in ssps("status", "--site", counted).stdout


def test_status_watch_refreshes_until_interrupted(
    counted: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def slept(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("scripts.filing.status.time.sleep", slept)

    shown = ssps("status", "--watch", "--every", "7", "--site", counted)

    assert (shown.exit_code, looks) == (0, [7.0, 7.0, 7.0])
    assert "expected 6   filed 0 (0.0 %)" in shown.stdout
    assert "35-izmir-2" in shown.stdout


def test_status_watch_survives_a_broken_settings_file_and_names_it(
    counted: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (counted / "site.toml").read_text()

    def seen(*edits: str) -> str:
        """Return the screen after each of these edits of site.toml, with a refresh after each."""
        left = list(edits)

        def slept(_: float) -> None:
            if not left:
                raise KeyboardInterrupt
            (counted / "site.toml").write_text(left.pop(0))

        monkeypatch.setattr("scripts.filing.status.time.sleep", slept)
        shown = ssps("status", "--watch", "--site", counted)
        assert shown.exit_code == 0, shown.output
        return shown.stdout

    broken = seen(whole, "[election", "[election")
    assert "expected 6   filed 0 (0.0 %)" in broken
    assert "to update them, fix this:" in broken
    assert broken.count("site.toml: is not TOML") == 1

    (counted / "site.toml").write_text(whole)
    fixed = seen("[election", whole)
    assert "expected 6   filed 0 (0.0 %)" in fixed
    assert "site.toml" not in fixed


def test_status_warns_of_pages_that_wait_without_a_publisher(
    counted: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned() -> list[str]:
        told = json.loads(ssps("status", "--json", "--site", counted).stdout)["warnings"]
        return [line for line in told if "publisher" in line]

    (counted / "intake").mkdir(exist_ok=True)
    assert warned() == [], "nothing waits"
    (counted / "intake" / "a.jpg").touch()
    assert warned() == [
        "pages are waiting (1) but no publisher is running: start it, or check why with "
        "`systemctl status`"
    ]
    monkeypatch.setattr(
        server_state,
        "holder",
        lambda site, part, host="": 4711 if part == server_state.PUBLISH else None,
    )
    assert warned() == []


def test_status_warns_once_of_a_disk_that_is_nearly_full(
    counted: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    (counted / "store").mkdir(exist_ok=True)

    def usage(free: int) -> None:
        found = SimpleNamespace(total=1 << 40, free=free)
        monkeypatch.setattr("shutil.disk_usage", lambda folder: found)

    usage(2 << 30)
    assert "make room" not in ssps("status", "--site", counted).stdout
    usage(41_000_000)
    warned = json.loads(ssps("status", "--json", "--site", counted).stdout)["warnings"]

    said = "only 41 MB are free on its disk: make room, or the publisher stops claiming pages"
    assert [line for line in warned if "room" in line] == [f"{counted / 'store'}: {said}"]


def test_status_lists_missing_sheets_by_box(counted: Path, ssps: Ssps) -> None:
    here = ssps("status", "--missing", BOX, "--site", counted)
    assert here.stdout == (
        f"{BOX}: cb-sandik-sonuc-s1 (1093717526)  mv-sandik-sonuc-s1 (1093717527)\n"
    )
    first = ssps("status", "--missing", "--json", "--site", counted).stdout.splitlines()[0]
    assert json.loads(first)["place"] == "(the election)"
    table = ssps("status", "--missing", "35-izmir-2", "--csv", "--site", counted).stdout
    assert table.splitlines()[1] == "2000000001,cb,sandik-sonuc,35-izmir-2,konak-1,7,1"
    assert ssps("status", BOX, "--site", counted).exit_code == 2
    nowhere = ssps("status", "--missing", "35-izmir-2/no-such", "--site", counted)
    assert nowhere.exit_code == 2, "a mistyped place must not look as if nothing were missing"
    assert "35-izmir-2/no-such: no such place in the registry" in nowhere.stderr


def test_an_absence_is_recorded_with_its_operator_without_a_running_publisher(
    counted: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "operator", lambda: "ayse")

    added = ssps("absent", "add", BOX, "--reason", "burnt", "--why", "minutes", "--site", counted)

    assert added.output.splitlines()[-1] == f"{BOX} is absent: burnt"
    (row,) = json.loads(ssps("absent", "list", "--json", "--site", counted).stdout)
    assert (row["place"], row["reason"], row["why"], row["who"]) == (
        BOX,
        "burnt",
        "minutes",
        "ayse",
    )
    assert json.loads(ssps("status", "--json", "--site", counted).stdout)["absent"] == 2
    assert ssps("absent", "remove", BOX, "--why", "it came", "--site", counted).exit_code == 0
    assert json.loads(ssps("absent", "list", "--json", "--site", counted).stdout) == []
    assert ssps("absent", "remove", BOX, "--why", "again", "--site", counted).exit_code == 1
    assert ssps("absent", "remove", "x", "--why", "again", "--site", counted).exit_code == 2


def test_a_file_in_quarantine_is_listed_shown_and_rejected(counted: Path, ssps: Ssps) -> None:
    name = "20230514T140003000041-9f3c21ab-a.jpg"
    reading = f"page 1: {CB} by zxing-cpp, whole, 2 ms"
    note = QuarantineNote(
        *(name[:30], "a\x1b[2J.jpg", "no-karekod", "0" * 64, (CB, "\x1b"), 1, (reading,)),
        "2023-05-14T14:00:03Z",
    )
    (counted / "quarantine").mkdir()
    (counted / "quarantine" / name).write_bytes(b"%PDF-")
    (counted / "quarantine" / f"{name}.json").write_bytes(format_note(note))

    listed = ssps("desk", "list", "--site", counted).stdout
    assert listed == f"{name}  no-karekod  2023-05-14T14:00:03Z  {CB} ?  open\n"
    shown = ssps("desk", "show", name, "--site", counted).stdout
    assert "\x1b" not in shown
    assert str(counted / "quarantine" / name) in shown
    assert ssps("desk", "identify", name, "1", "--why", "x", "--site", counted).exit_code == 2
    rejected = ssps("desk", "reject", name, "--why", "a menu", "--site", counted)
    assert rejected.output.splitlines()[-1] == f"{name}: rejected, a menu"
    assert ssps("desk", "list", "--site", counted).stdout == ""
    (row,) = json.loads(ssps("desk", "list", "--all", "--json", "--site", counted).stdout)
    assert row["ruling"]["outcome"] == "rejected"
