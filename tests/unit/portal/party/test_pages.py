"""The pages about results, as a browser sees them; the numbers are those of portal_site."""

import asyncio
import hashlib
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import office
import pytest
from PIL import Image
from unit.portal.party.conftest import Night

from config.sheet import Secim
from config.site import original_file
from keys.operations import announcements
from portal.access.limits import MAX_FILES
from portal.party.pages import missing
from portal.pictures.pictures import Pictures
from publisher.results.checks.finding import Check, Finding

ATOM = {"a": "http://www.w3.org/2005/Atom"}


def test_the_overview_counts_boxes_by_district(night: Night) -> None:
    shown = night.whole().get("/?secim=mv").text

    assert "21 / 21" in shown
    assert "İstanbul 1" in shown and "Adana" in shown
    assert 'data-snapshot="2"' in shown and "geçici sonuç" in shown
    assert "<title>İstanbul: 10 / 10 (%100,00)</title>" in shown
    assert shown.index("Adana") < shown.index(">İstanbul 1<") < shown.index(">İzmir 2<")
    assert re.search(r'<a href="/arama\?secim=mv&amp;cevre=[^"&]+" aria-label', shown)  # the map


def test_the_first_page_with_all_its_files_has_at_most_100_kilobytes(night: Night) -> None:
    browser = night.whole()
    shown = browser.get("/?secim=mv")
    files = re.findall(r'(?:href|src)="(/dosya/[^"]+)"', shown.text)
    sizes = [len(browser.get(path).content) for path in files]

    assert len(files) == 3  # style sheet, script, icon
    assert len(shown.content) + sum(sizes) < 100_000


def test_a_search_shows_sums_boxes_and_what_can_be_chosen_next(night: Night) -> None:
    browser = night.whole()
    shown = browser.get("/arama?secim=mv&cevre=34-istanbul-1&kurul=kadikoy-1&mahalle=Moda").text

    assert '<option value="Moda" selected>Moda</option>' in shown
    assert '<option value="Caferağa">' in shown and "Şıhlı" not in shown
    assert "3 / 3" in shown
    total = shown.split("<tfoot>")[1]
    assert "1.200" in total  # 3 boxes of 400 voters
    assert "/sandik/34-istanbul-1/kadikoy-1/1004?" in shown
    assert "Ali Bağımsız" in shown and "Veli Bağımsız" not in shown
    query, *_ = night.portal.records()[-1:]
    assert (query[0], query[4]["rows"], query[4]["snapshot"]) == ("query", 3, 2)


def test_numbers_are_written_as_in_turkish_and_can_be_sorted(night: Night) -> None:
    browser = night.whole()
    shown = browser.get("/arama?secim=mv&sirala=gecersiz&yon=azalan").text

    assert shown.split("<tbody>")[-1].index("1.234") < 1500
    assert 'aria-sort="descending"' in shown
    assert browser.get("/arama?secim=mv&sirala=x").status_code == 422
    assert browser.get("/arama?secim=xx").status_code == 422
    assert "Bu ölçütlere uyan sandık yok" in browser.get("/arama?secim=mv&cevre=99-yok").text


def test_the_summary_is_of_the_boxes_that_are_shown(night: Night) -> None:
    browser = night.whole()
    shown = browser.get("/arama?secim=mv&cevre=34-istanbul-1&durum=acilmayan").text

    assert "Bu ölçütlere uyan sandık yok" in shown and "0 / 0" in shown
    votes = shown.split('class="rivals"')[1].split("</section>")[0]
    assert set(re.findall(r'<td class="num">([0-9.]+)</td>', votes)) == {"0"}


def test_a_box_is_shown_with_its_sheets_and_its_time_line(night: Night) -> None:
    browser = night.whole()
    shown = browser.get("/sandik/34-istanbul-1/kadikoy-2/1001?secim=mv").text

    assert "2. sürüm" in shown and "neden: itiraz" in shown
    assert f'src="/tutanak/resim/{night.tiff}"' in shown  # the newest scan
    assert f'href="/tutanak/ozgun/{night.tiff}"' in shown
    assert "kanit/results/" in shown
    assert 'id="sonraki" href="/sandik/34-istanbul-1/kadikoy-2/1002?secim=mv"' in shown
    older = browser.get(f"/sandik/34-istanbul-1/kadikoy-2/1001?secim=mv&tutanak={night.sheet}")
    assert f'src="/tutanak/resim/{night.sheet}"' in older.text


def test_an_original_is_sent_unchanged_with_its_digest_and_recorded(night: Night) -> None:
    answer = night.whole().get(f"/tutanak/ozgun/{night.sheet}")

    digest = hashlib.sha256(answer.content).hexdigest()
    event, who, what, _, detail = night.portal.records()[-1]
    assert (event, who, what) == ("sheet", "parti-a", f"/{night.sheet}")
    assert (detail["sha256"], detail["form"]) == (digest, "original")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["repr-digest"].startswith("sha-256=:")


@pytest.mark.parametrize("form", ["ozgun", "resim"])
def test_a_sheet_whose_bytes_were_changed_is_not_shown_and_recorded(
    night: Night, form: str
) -> None:
    site = night.results.path
    content = night.whole().get(f"/tutanak/ozgun/{night.sheet}").content
    path = site / original_file(hashlib.sha256(content).hexdigest())
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        answer = night.whole().get(f"/tutanak/{form}/{night.sheet}")
    finally:
        path.write_bytes(content)

    assert answer.status_code == 500
    assert "kayda geçen tutanağın dosyası değil" in answer.text
    event, _, what, outcome, detail = night.portal.records()[-1]
    assert (event, outcome, detail["status"]) == ("denied", "refused", 500)
    assert what.endswith(night.sheet)


@pytest.mark.slow
def test_a_tiff_is_shown_as_a_picture_that_a_sandboxed_process_makes(night: Night) -> None:
    answer = night.whole().get(f"/tutanak/resim/{night.tiff}")

    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (600, 800)
    assert night.portal.records()[-1][4]["form"] == "picture"


@pytest.mark.slow
def test_a_file_that_is_no_picture_has_none(tmp_path: Path) -> None:
    content = b"%PDF-1.4 nonsense %%EOF"
    digest = hashlib.sha256(content).hexdigest()
    path = tmp_path / original_file(digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)

    assert Pictures().picture(tmp_path, digest, 1) is None
    assert Pictures().picture(tmp_path, "0" * 64, 1) is None


def test_a_change_is_shown_from_old_to_new_and_as_atom(night: Night) -> None:
    browser = night.whole()
    shown = browser.get("/degisiklikler?secim=mv").text
    feed = ElementTree.fromstring(browser.get("/degisiklikler.atom?secim=mv").text)  # noqa: S314

    assert "<del>5</del> → <ins>1.234</ins>" in shown and "itiraz" in shown
    assert "Yeni tarama" in shown
    [entry] = feed.findall("a:entry", ATOM)
    assert entry.findtext("a:title", "", ATOM) == "İstanbul 1 / Kadıköy 2 / Sandık 1001"
    assert "Geçersiz: 5 → 1234" in entry.findtext("a:summary", "", ATOM)
    assert "Değişiklik yok" in browser.get("/degisiklikler?secim=mv&itibaren=2").text
    assert browser.get("/degisiklikler?itibaren=x").status_code == 422


@pytest.mark.parametrize(
    ("time", "count"),
    [("2023-05-14T17:00", 1), ("2023-05-14T20:59:59%2B03:00", 1), ("2099-01-01T00:00", 0)],
)
def test_changes_since_a_time_are_shown_and_saved(night: Night, time: str, count: int) -> None:
    browser = night.whole()
    shown = browser.get(f"/degisiklikler?secim=mv&zaman={time}").text
    saved = browser.get(f"/kaydet/degisiklikler.csv?secim=mv&zaman={time}").text

    assert f"<strong>{count}</strong> değişiklik" in shown
    assert f"zaman={time.replace(':', '%3A')}" in shown  # in the addresses of the files
    assert ("itiraz" in saved) is bool(count)
    assert browser.get("/degisiklikler?zaman=dün").status_code == 422


def test_the_time_line_says_what_each_version_changed(night: Night) -> None:
    shown = night.whole().get("/sandik/34-istanbul-1/kadikoy-2/1001?secim=mv").text

    line = shown.split("Sonuç, 2. sürüm</strong>")[1].split("</ul>")[0]
    assert "Geçersiz: <del>5</del> → <ins>1.234</ins>" in line
    assert line.count("<li>") == 2  # gecersiz and oy_kullanan


def test_own_votes_joint_votes_and_shares_are_told_apart(night: Night) -> None:
    browser = night.whole()
    whole = browser.get("/arama?secim=mv&cevre=34-istanbul-1").text
    part = browser.get("/arama?secim=mv&cevre=34-istanbul-1&mahalle=Moda").text

    assert "Kendi oyu" in whole and "Toplam</th>" in whole and "ortak oy</small>" in whole
    assert "Kendi oyu" not in part and "paylar bu yüzden gösterilmez" in part


def test_gaps_findings_and_aggregates_are_shown(night: Night) -> None:
    browser = night.whole()

    missing = browser.get("/eksikler?secim=mv&ne=tutanak").text
    assert "<strong>19</strong> sandık" in missing
    assert "Eksik yok" in browser.get("/eksikler?secim=mv").text
    findings = browser.get("/uyarilar?secim=mv").text
    elsewhere = browser.get("/uyarilar?secim=mv&cevre=01-adana").text
    assert "kontrol=more-voted-than-registered" in findings
    assert "kontrol=more-voted-than-registered" not in elsewhere
    assert "Oy kullanan, kayıtlı seçmen ve liste dışı oy kullananlardan fazla." in findings
    aggregates = browser.get("/birlestirme?secim=mv&cevre=34-istanbul-1").text
    assert '<a href="/kaydet/birlestirme.xlsx?secim=mv&amp;cevre=34-istanbul-1"' in aggregates
    assert "İlçe Birleştirme Tutanağı" in aggregates and "tutanak sonucu yok" in aggregates


def test_each_place_of_a_finding_has_a_page() -> None:
    box, board = "34-istanbul-1/kadikoy-2/sandik-1001", "34-istanbul-1/kadikoy-2"
    found = Finding(Check.BOARD_NOT_SUM, Secim.MV, (box, board, "34-istanbul-1", "-"), {})

    assert list(missing._places(found, "secim=mv")) == [
        (
            "İstanbul 1 / Kadıköy 2 / Sandık 1001",
            "/sandik/34-istanbul-1/kadikoy-2/1001?secim=mv",
        ),
        (
            "İstanbul 1 / Kadıköy 2",
            "/birlestirme?secim=mv&cevre=34-istanbul-1&kurul=kadikoy-2",
        ),
        ("İstanbul 1", "/birlestirme?secim=mv&cevre=34-istanbul-1"),
        ("Ülke geneli", "/birlestirme?secim=mv"),
    ]


def test_tables_are_saved_under_a_name_with_snapshot_and_user(night: Night) -> None:
    browser = night.whole()
    for what, form in (
        ("sandiklar", "csv"),
        ("sandiklar", "xlsx"),
        ("degisiklikler", "csv"),
        ("eksikler", "csv"),
        ("uyarilar", "csv"),
        ("birlestirme", "csv"),
        ("birlestirme", "xlsx"),
    ):
        answer = browser.get(f"/kaydet/{what}.{form}?secim=mv")

        assert answer.status_code == 200
        name = answer.headers["content-disposition"]
        assert "anlik-goruntu-2" in name and "parti-a.ayse" in name and name.endswith(f'.{form}"')
        records = night.portal.records()
        assert records[-1][0] == "download"
        assert f"_kayit-{len(records) - 1}." in name  # records are numbered from 0
    table = browser.get("/kaydet/sandiklar.csv?secim=mv").content
    assert table.startswith(b"\xef\xbb\xbf") and table.count(b"\r\n") == 23
    packed = browser.get("/kaydet/tutanaklar.zip?secim=mv&cevre=34-istanbul-1").content
    assert packed.startswith(b"PK") and b"SHA256SUMS" in packed
    assert browser.get("/kaydet/sandiklar.exe?secim=mv").status_code == 404
    assert browser.get("/kaydet/sandiklar.csv?secim=mv&sirala=x").status_code == 422


@pytest.mark.parametrize("file", ["sandiklar.csv", "sandiklar.xlsx", "tutanaklar.zip"])
def test_a_slow_client_of_a_saved_file_holds_no_view(night: Night, file: str) -> None:
    browser = night.whole()
    cookies = "; ".join(f"{each.name}={each.value}" for each in browser.http.cookies.jar)

    path, headers = f"/kaydet/{file}?secim=mv", {"cookie": cookies}
    assert night.portal.while_read(path, headers, night.portal.forgets_a_view)


def test_a_user_saves_only_some_files_at_a_time(night: Night) -> None:
    browser, files = night.whole(), night.portal.entrance.limits.files
    with ExitStack() as stack:
        for _ in range(MAX_FILES):
            stack.enter_context(files.counted("parti-a.ayse"))
        many = browser.get("/kaydet/sandiklar.csv?secim=mv")

    assert (many.status_code, many.headers["retry-after"]) == (429, "10")
    assert browser.get("/kaydet/sandiklar.csv?secim=mv").status_code == 200


def test_files_that_a_user_asks_for_at_one_moment_are_counted_before_they_are_sent(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, browser = night.portal.noted_cuts(monkeypatch), night.whole()
    full = iter((False, True))  # the others begin after this one was let in
    monkeypatch.setattr(night.portal.entrance.limits.files, "is_full", lambda login: next(full))

    answer = browser.get("/kaydet/sandiklar.csv?secim=mv")

    assert (answer.content, cut) == (b"", [True])


def test_a_file_that_is_being_saved_is_cut_off_when_its_session_ends(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = night.portal.noted_cuts(monkeypatch)
    browser = night.whole()
    whole = browser.get("/kaydet/tutanaklar.zip?secim=mv").content
    going_on = iter((True, False))
    monkeypatch.setattr(night.portal.entrance.sessions, "is_live", lambda token: next(going_on))

    begun = browser.get("/kaydet/tutanaklar.zip?secim=mv").content

    assert whole.startswith(begun) and 0 < len(begun) < len(whole)
    assert cut == [True]


def test_a_party_of_one_board_sees_nothing_of_any_other_place(night: Night) -> None:
    browser = night.board()
    for path in (
        "/?secim=mv",
        "/arama?secim=mv",
        "/arama?secim=mv&cevre=35-izmir-2",
        "/arama?secim=mv&kurul=konak",
        "/arama?secim=mv&mahalle=%C3%87ankaya",
        "/degisiklikler?secim=mv&cevre=35-izmir-2",
        "/eksikler?secim=mv&ne=tutanak",
        "/uyarilar?secim=mv",
        "/birlestirme?secim=mv&cevre=35-izmir-2",
        "/kaydet/sandiklar.csv?secim=mv",
        "/kaydet/sandiklar.csv?secim=mv&cevre=35-izmir-2",
    ):
        answer = browser.get(path)
        assert answer.status_code == 200, path
        text = answer.text.replace("cevre=35-izmir-2", "").replace("İzmir: kapsam", "")
        for hidden in ("Konak", "Çankaya", "zmir 2", "Aladağ", "Almanya", "Veli", "35-izmir-2"):
            assert hidden not in text, (path, hidden)
    for path in (
        "/sandik/35-izmir-2/konak/1001",
        "/sandik/34-istanbul-1/kadikoy-1/1001",
        f"/tutanak/resim/{night.other}",
        f"/tutanak/ozgun/{night.other}",
        f"/tutanak/ozgun/{night.sheet.replace('kadikoy-2', 'kadikoy-2/../../35-izmir-2/konak')}",
        "/tutanak/ozgun/../../../keys/users/parti-a.toml",
        "/tutanak/ozgun/%2e%2e/%2e%2e/site.toml",
        "/kanit/results/0",
        "/kanit/operations/0",
        "/kanit/results/99999999",
    ):
        answer = browser.get(path)
        assert answer.status_code == 404, path
        assert night.portal.records()[-1][0] == "denied" or "keys" in path
    own = browser.get("/arama?secim=mv").text
    assert own.count("/sandik/34-istanbul-1/kadikoy-2/") >= 4
    packed = browser.get("/kaydet/tutanaklar.zip?secim=mv").content
    assert night.sheet.encode() in packed and night.other.encode() not in packed


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "{{7*7}}", "' OR 1=1 --", "${7*7}"])
def test_what_a_client_writes_into_an_address_is_shown_as_text(night: Night, text: str) -> None:
    browser = night.whole()
    for name in ("cevre", "kurul", "mahalle", "ilk", "son"):
        answer = browser.send("GET", "/arama", params={"secim": "mv", name: text})

        assert answer.status_code in (200, 422)
        assert "<script>alert" not in answer.text and ">49<" not in answer.text


@pytest.mark.slow
def test_a_stream_tells_of_a_newer_snapshot_and_ends_with_the_users_access(night: Night) -> None:
    browser = night.whole()
    entrance = night.portal.entrance
    settings = entrance.settings
    parties = tuple(replace(p, suspended=p.id == "parti-a") for p in settings.parties)
    begun = browser.get("/")
    assert begun.status_code == 200

    async def suspended_meanwhile() -> str:
        waiting = asyncio.create_task(
            browser.http.request("GET", "/canli", headers={"last-event-id": "1"})
        )
        await asyncio.sleep(0.05)
        announcements.write(entrance.settings.site, announcements.added((), "x", office.OPENS))
        await asyncio.sleep(1.2)  # the stream looks once a second
        entrance.settings = replace(settings, parties=parties)
        return (await waiting).text

    try:
        text = night.portal.runner.run(suspended_meanwhile())
    finally:
        entrance.settings = settings

    sent = [line for line in text.splitlines() if line.startswith("data: ")]
    assert json.loads(sent[0].removeprefix("data: "))["number"] == 2
    assert "event: snapshot" in text
    assert "event: announcements" in text
    assert "stream" in night.portal.events()
