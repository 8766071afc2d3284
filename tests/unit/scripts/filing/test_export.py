import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from office import SITE_TOML, Ssps
from unit.publisher.filed_site import PageFiler
from wire.server import until

from config import load, times
from config.sheet import Belge, Secim, Sheet
from keys.ledger import segments
from keys.server_keys import sshsig
from publisher.feed import bagit as bag

KADIKOY, KONAK = (
    Sheet(Secim.CB, Belge.SANDIK_SONUC, cevre, kurul, "7", 1)
    for cevre, kurul in (("34-istanbul-1", "kadikoy-2"), ("35-izmir-2", "konak-1"))
)
CB = "2023-05-14-cb-mv/34-istanbul-1/kadikoy-2/sandik-7/cb-sandik-sonuc-s1"


@pytest.fixture
def filer(site: Path) -> PageFiler:
    filer = PageFiler(load.load(site))
    filer.file(KADIKOY, "kadikoy")
    filer.file(KONAK, "konak")
    return filer


def lift(site: Path, when: datetime) -> None:
    opens = "opens = 2023-05-14T17:00:00+03:00\n"
    text = SITE_TOML.replace(opens, f"{opens}ban_lifts = {when.isoformat()}\n")
    (site / "site.toml").write_text(text, encoding="utf-8")


def test_an_independent_gets_its_district_only_after_the_ban_is_lifted(
    site: Path, ssps: Ssps, filer: PageFiler, tmp_path: Path
) -> None:
    words = (
        "export",
        "bagimsiz-c",
        "--to",
        tmp_path / "usb",
        "--why",
        "usb",
        "--site",
        site,
        "--json",
    )
    now = datetime.now(UTC).replace(microsecond=0)

    unset = ssps(*words)
    lift(site, now + timedelta(hours=1))
    early = ssps(*words)
    assert (unset.exit_code, early.exit_code) == (1, 1)
    assert "election.ban_lifts: is not set" in unset.stderr
    assert f"is {times.format_time(now + timedelta(hours=1))}: try again then" in early.stderr
    assert not (tmp_path / "usb").exists()
    events = [record.event for record in segments.read_records(site / "ledgers/operations")]
    assert [(e.event, e.what, e.outcome) for e in events] == [
        ("export", "bagimsiz-c", "refused")
    ] * 2
    assert "gets no export before (Genelge md. 3/c)" in str(events[0].detail["reason"])

    lift(site, now - timedelta(hours=1))
    done = ssps(*words)

    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    made = Path(said.pop("bag"))
    assert made == tmp_path / "usb" / "2023-05-14-cb-mv-bagimsiz-c-0-1"
    assert said == {"files": 1, "first": 0, "last": 1}
    assert (made / "data" / f"{CB}.jpg").read_text() == "kadikoy"
    assert len([p for p in (made / "data").rglob("*") if p.is_file()]) == 1
    *_, record = segments.read_records(site / "ledgers/operations")
    assert str(record.event.detail["after"]).startswith("2023-05-14-cb-mv-bagimsiz-c-0-1, sha256 ")
    assert (record.event.event, record.event.what) == ("export", "bagimsiz-c")
    assert record.event.detail["bytes"] == len("kadikoy")


def test_the_results_of_its_district_are_in_the_bag_of_an_independent(
    site: Path, ssps: Ssps, filer: PageFiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def results(*args: object) -> dict[str, bytes]:
        asked.append(args[2])
        return {"2023-05-14-cb-mv/sonuclar/00000001/mv.csv": b"Sandik\r\n7\r\n"}

    monkeypatch.setattr("scripts.filing.export.scoped_results", results)
    lift(site, datetime.now(UTC) - timedelta(hours=1))

    words = ("--to", tmp_path, "--why", "usb", "--site", site)
    assert ssps("export", "bagimsiz-c", *words).exit_code == 0

    (made,) = tmp_path.glob("2023-05-14-cb-mv-bagimsiz-c-*")
    name = "data/2023-05-14-cb-mv/sonuclar/00000001/mv.csv"
    assert (made / name).read_bytes() == b"Sandik\r\n7\r\n"
    assert f"  {name}\n" in (made / "manifest-sha256.txt").read_text()
    assert asked == [p.scope for p in load.load(site).parties if p.id == "bagimsiz-c"]


def test_a_bag_verifies_with_openssh_and_coreutils_alone(
    site: Path, ssps: Ssps, filer: PageFiler, tmp_path: Path
) -> None:
    assert ssps("export", "parti-a", "--to", tmp_path, "--why", "x", "--site", site).exit_code == 0
    (made,) = tmp_path.glob("2023-05-14-cb-mv-parti-a-*")
    (made / "allowed_signers").write_text(sshsig.site_allowed_signers(site))

    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        verify = f"ssh-keygen -Y verify -f allowed_signers -I ysk -n ssps -s {manifest}.sig"
        for command in (f"{verify} < {manifest}", f"sha256sum -c --strict {manifest}"):
            subprocess.run(["bash", "-c", command], cwd=made, check=True, capture_output=True)
    info = (made / "bag-info.txt").read_text(encoding="ascii")
    assert "Payload-Oxum: 12.2\n" in info
    assert "Ssps-Scope: all\n" in info
    assert (made / "bagit.txt").read_text().startswith("BagIt-Version: 1.0\n")


# The library calls re.sub in a way that Python 3.13 deprecates.
@pytest.mark.filterwarnings("ignore:'count' is passed as positional:DeprecationWarning")
def test_the_bagit_library_validates_a_bag(
    site: Path, ssps: Ssps, filer: PageFiler, tmp_path: Path
) -> None:
    bagit = pytest.importorskip("bagit")
    ssps("export", "parti-a", "--to", tmp_path, "--why", "x", "--site", site)
    (made,) = tmp_path.glob("2023-05-14-cb-mv-parti-a-*")

    opened = bagit.Bag(str(made))

    assert opened.validate()
    assert opened.info["External-Identifier"] == made.name


def test_the_next_bag_starts_where_the_last_one_ended(
    site: Path, ssps: Ssps, filer: PageFiler, tmp_path: Path
) -> None:
    ssps("export", "parti-a", "--to", tmp_path, "--why", "x", "--site", site)
    (first,) = tmp_path.glob("2023-05-14-cb-mv-parti-a-*")
    words = ("export", "parti-a", "--to", tmp_path, "--why", "x", "--site", site, "--since", first)

    nothing = ssps(*words)
    filer.file(KADIKOY, "kadikoy again", 2)
    done = ssps(*words, "--json")

    assert nothing.exit_code == 1
    assert "nothing was filed for parti-a from number 2 on" in nothing.stderr
    assert json.loads(done.stdout)["first"] == 2
    second = tmp_path / "2023-05-14-cb-mv-parti-a-2-2"
    assert (second / "data" / f"{CB}.v2.jpg").read_text() == "kadikoy again"
    assert (
        ssps(
            "export", "parti-a", "--to", tmp_path, "--why", "x", "--site", site, "--since", "x"
        ).exit_code
        == 2
    )


def test_since_rejects_a_bag_after_which_pages_would_be_left_out(
    site: Path, ssps: Ssps, filer: PageFiler, tmp_path: Path
) -> None:
    words = ("--to", tmp_path, "--why", "x", "--site", site)
    ssps("export", "parti-a", *words)
    ssps("export", "parti-b", *words)
    mine, other = (tmp_path / f"2023-05-14-cb-mv-{party}-0-1" for party in ("parti-a", "parti-b"))
    filer.file(KADIKOY, "kadikoy again", 2)

    others = ssps("export", "parti-a", *words, "--since", other)
    ssps("party", "set-scope", "parti-b", "34-istanbul-1", "--why", "x", "--site", site)
    widened = ssps("export", "parti-b", *words, "--since", other)
    parties = (site / "parties.toml").read_text(encoding="utf-8")
    (site / "parties.toml").write_text(parties.replace('"parti-a"', '"parti"'), encoding="utf-8")
    namesake = ssps("export", "parti", *words, "--since", mine)
    (site / "parties.toml").write_text(parties, encoding="utf-8")
    mine.rename(tmp_path / "copy")
    renamed = ssps("export", "parti-a", *words, "--since", tmp_path / "copy")

    assert (others.exit_code, widened.exit_code, renamed.exit_code) == (2, 2, 0)
    assert "is not a finished bag of 2023-05-14-cb-mv for parti-a" in others.stderr
    assert "is not a finished bag of 2023-05-14-cb-mv for parti: " in namesake.stderr
    assert "was made for the scope 06-ankara-1 35-izmir-2/konak-1" in widened.stderr
    assert (tmp_path / "2023-05-14-cb-mv-parti-a-2-2").is_dir()


def test_an_existing_bag_is_not_made_or_recorded_again(
    site: Path, ssps: Ssps, filer: PageFiler, tmp_path: Path
) -> None:
    words = ("export", "parti-a", "--to", tmp_path, "--why", "x", "--site", site)
    assert ssps(*words).exit_code == 0
    recorded = list(segments.read_records(site / "ledgers/operations"))

    again = ssps(*words)

    assert again.exit_code == 1
    assert "exists already, and nothing was filed since" in again.stderr
    assert [p.name for p in tmp_path.glob("*parti-a*")] == ["2023-05-14-cb-mv-parti-a-0-1"]
    assert list(segments.read_records(site / "ledgers/operations")) == recorded


@pytest.mark.slow
def test_an_export_that_is_killed_several_times_ends_with_a_complete_bag(
    site: Path, filer: PageFiler, tmp_path: Path
) -> None:
    for box in range(150):
        filer.file(replace(KADIKOY, sandik=f"1{box}"), f"box {box} " * 20_000)
    usb = tmp_path / "usb"
    words = ["export", "parti-a", "--to", str(usb), "--why", "x", "--site", str(site)]
    command = [sys.executable, "-m", "scripts.ssps", *words]
    for copied in (3, 30, 60):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda copied=copied: len(list(usb.rglob("*.jpg"))) >= copied)  # type: ignore[misc]
        process.kill()
        process.wait()
    assert [p.suffix for p in usb.iterdir()] == [".part"]

    subprocess.run(command, check=True, capture_output=True)

    (made,) = usb.iterdir()
    assert made.name == "2023-05-14-cb-mv-parti-a-0-151"
    bag.verify(made)
    assert len(list(made.rglob("*.jpg"))) == 152
    assert list(made.rglob("*.new")) == []


def test_an_interrupted_export_continues_with_the_same_pages(
    site: Path, ssps: Ssps, filer: PageFiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[Path] = []
    copy = bag._copy_original

    def failing(source: Path, target: Path, filed: object) -> None:
        if copied:
            raise OSError(28, "No space left on device", str(target))
        copied.append(target)
        copy(source, target, filed)  # type: ignore[arg-type]

    words = ("export", "parti-a", "--to", tmp_path, "--why", "x", "--site", site)
    with monkeypatch.context() as patch:
        patch.setattr(bag, "_copy_original", failing)
        full = ssps(*words)
    assert full.exit_code == 1
    assert "No space left" in full.stderr
    assert [p.name for p in tmp_path.glob("*parti-a*")] == ["2023-05-14-cb-mv-parti-a-0-1.part"]
    assert list(segments.read_records(site / "ledgers/operations")) == []
    before = copied[0].stat().st_ino
    filer.file(KADIKOY, "kadikoy again", 2)

    done = ssps(*words, "--json")

    assert json.loads(done.stdout)["last"] == 1
    (made,) = tmp_path.glob("*parti-a*")
    assert made.name == "2023-05-14-cb-mv-parti-a-0-1"
    assert (
        made / copied[0].relative_to(made.with_name(f"{made.name}.part"))
    ).stat().st_ino == before


def test_a_damaged_original_makes_no_bag(
    site: Path, ssps: Ssps, filer: PageFiler, tmp_path: Path
) -> None:
    original = next(p for p in (site / "store").rglob("*") if p.is_file())
    original.unlink()
    original.write_text("something else")

    done = ssps("export", "parti-a", "--to", tmp_path, "--why", "x", "--site", site)

    assert done.exit_code == 1
    assert "has other bytes than were filed, restore it from a backup" in done.stderr
    assert [p.suffix for p in tmp_path.glob("*parti-a*")] == [".part"]


def test_an_unknown_party_or_an_early_request_gets_no_export(
    site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    words = ("--to", tmp_path / "usb", "--why", "usb", "--site", site)
    assert "unknown party" in ssps("export", "parti-x", *words).stderr
    early = SITE_TOML.replace("2023-05-14T17", "2123-05-14T17")
    (site / "site.toml").write_text(early, encoding="utf-8")
    assert "no party gets an export before 2123" in ssps("export", "parti-a", *words).stderr
    assert not (tmp_path / "usb").exists()
