"""Masa in a browser: what two operators, a supervisor and an auditor see and do."""

import re
from collections.abc import Iterator
from pathlib import Path

import desk_site
import pytest
from desk_site import SERIALS, DeskSite, act
from unit.portal.staff.test_access import change

from keys.credentials.users import State
from keys.ledger.record import Record

WANTED = SERIALS["102", "cb"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[DeskSite]:
    with desk_site.running(tmp_path / "site") as found:
        yield found


def test_the_queue_lists_what_waits_and_filters_are_in_the_address(desk: DeskSite) -> None:
    browser = desk.staff.signed_in()

    whole = browser.get("/masa").text
    assert entries(whole) == ["kadikoy/003.png", "kadikoy/005.png", "konak/&lt;b&gt;007.png"]
    assert "<b>007" not in whole
    assert "İstanbul 1 · Kadıköy 2" in whole
    by_reason = browser.get("/masa?neden=unknown-karekod").text
    assert entries(by_reason) == ["kadikoy/005.png"]
    assert entries(browser.get("/masa?klasor=konak").text) == ["konak/&lt;b&gt;007.png"]
    by_board = browser.get("/masa?kurul=34-istanbul-1/kadikoy-2").text
    assert entries(by_board) == ["kadikoy/003.png", "kadikoy/005.png"]
    assert entries(browser.get("/masa?yas=300").text) == []
    assert len(entries(browser.get("/masa?yas=60").text)) == 3


def operators(record: Record) -> list[str]:
    """Return who identified a page; within one second their order says nothing."""
    found = record.event.detail["identified_by"]
    assert isinstance(found, list)
    return sorted(found)


def entries(text: str) -> list[str]:
    return re.findall(r'class="entry" href="[^"]*">([^<]*)</a>', text)


def test_suggestions_come_with_reasons(desk: DeskSite) -> None:
    browser = desk.staff.signed_in()
    page = browser.get(f"/masa/sayfa/{desk.file('003.png')}").text

    first = re.search(r'data-key="1".*?</small>', page, re.DOTALL)
    assert first is not None
    assert f"secim=1%3A{WANTED}" in page.partition('data-key="1"')[0][-300:]
    assert "Sonraki sayfa aynı sandıktan" in first[0]
    misread = browser.get(f"/masa/sayfa/{desk.file('005.png')}").text
    assert "ile tek fark var" in misread and SERIALS["103", "cb"] in misread


def test_two_accounts_identify_a_page_and_neither_sees_the_others_choice(desk: DeskSite) -> None:
    ayse, mehmet = desk.staff.signed_in("ayse"), desk.staff.signed_in("mehmet")
    file = desk.file("003.png")

    answer = act(ayse, file, "tanimla", secim=f"1:{WANTED}", kuyruk="neden=no-karekod")
    assert answer.headers["location"].startswith("/masa/sayfa/")
    assert answer.headers["location"].endswith("?neden=no-karekod")
    assert desk.filed() == []
    desk.handle()
    assert "ikinci kişi bekleniyor" in mehmet.get("/masa?durum=ikinci").text
    seen = mehmet.get(f"/masa/sayfa/{file}").text
    assert "ayse" not in seen and "Kim ne dedi" not in seen and "gözle okundu" not in seen
    assert "Benim seçimim" in ayse.get(f"/masa/sayfa/{file}").text
    act(mehmet, file, "tanimla", secim=f"1:{WANTED}")
    desk.handle()

    (record,) = desk.filed()
    assert operators(record) == ["staff:ayse", "staff:mehmet"]
    assert record.event.detail["karekod"] == WANTED
    assert "dosyalandı" in mehmet.get("/masa").text
    events = [
        (event, who, what, detail.get("sheets"), detail.get("why"))
        for event, who, what, _, detail in desk.staff.records()
        if event == "identify"
    ]
    assert events == [
        ("identify", who, f"quarantine/{file}", f"1:{WANTED}", "gözle okundu")
        for who in ("ayse", "mehmet")
    ]


def test_two_accounts_that_differ_are_a_dispute_that_only_a_supervisor_sees_and_ends(
    desk: DeskSite,
) -> None:
    ayse, mehmet = desk.staff.signed_in("ayse"), desk.staff.signed_in("mehmet")
    amir, denetci = desk.staff.signed_in("amir"), desk.staff.signed_in("denetci")
    file, other = desk.file("003.png"), SERIALS["103", "mv"]
    act(ayse, file, "tanimla", secim=f"1:{WANTED}")
    desk.handle()
    act(mehmet, file, "tanimla", secim=f"1:{other}")
    desk.handle()

    assert desk.filed() == []
    assert "anlaşmazlık: amir karar verecek" in mehmet.get("/masa").text
    again = act(ayse, file, "tanimla", secim=f"1:{other}")
    assert again.status_code == 409
    for browser in (ayse, mehmet):
        seen = browser.get(f"/masa/sayfa/{file}").text
        assert "Kim ne dedi" in seen and seen.count("<strong>ayse</strong>") <= 1
    assert "<strong>mehmet</strong>" not in ayse.get(f"/masa/sayfa/{file}").text
    for browser in (amir, denetci):
        seen = browser.get(f"/masa/sayfa/{file}").text
        assert "<strong>ayse</strong>" in seen and "<strong>mehmet</strong>" in seen
    assert act(ayse, file, "karar", secim=f"1:{WANTED}").status_code == 404
    assert act(amir, file, "karar", secim=f"1:{WANTED}").status_code == 303
    desk.handle()

    (record,) = desk.filed()
    assert operators(record) == ["staff:amir", "staff:ayse"]
    assert [event for event, *_ in desk.staff.records() if event == "rule"] == ["rule"]


def test_a_supervisor_who_identified_the_page_may_not_decide_about_it(desk: DeskSite) -> None:
    amir, mehmet = desk.staff.signed_in("amir"), desk.staff.signed_in("mehmet")
    file, other = desk.file("003.png"), SERIALS["103", "mv"]
    act(amir, file, "tanimla", secim=f"1:{WANTED}")
    desk.handle()
    act(mehmet, file, "tanimla", secim=f"1:{other}")
    desk.handle()

    answer = act(amir, file, "karar", secim=f"1:{WANTED}")

    assert answer.status_code == 409
    assert "başka bir amir" in answer.text
    desk.handle()
    assert desk.filed() == []


def test_the_same_step_can_be_taken_once_and_a_second_click_does_nothing(desk: DeskSite) -> None:
    ayse, mehmet = desk.staff.signed_in("ayse"), desk.staff.signed_in("mehmet")
    file = desk.file("003.png")
    stale = desk_site.step(mehmet, file)
    assert act(ayse, file, "tanimla", secim=f"1:{WANTED}").status_code == 303
    assert act(ayse, file, "tanimla", secim=f"1:{WANTED}").status_code == 303
    requests = list((desk.settings.site / "state" / "errands").glob("*.json"))
    assert len(requests) == 1
    at_once = act(mehmet, file, "tanimla", adim=stale, secim=f"1:{WANTED}")
    assert at_once.status_code == 409 and "yanıtı bekleniyor" in at_once.text
    desk.handle()

    late = act(mehmet, file, "tanimla", adim=stale, secim=f"1:{WANTED}")

    assert late.status_code == 409
    assert "siz bakarken başka biri işlem yaptı" in late.text
    assert desk.staff.records()[-1][0] == "denied"
    desk.handle()
    assert desk.filed() == []


def test_a_page_that_was_filed_at_the_console_meanwhile_is_a_conflict(desk: DeskSite) -> None:
    ayse = desk.staff.signed_in("ayse")
    file = desk.file("003.png")
    stale = desk_site.step(ayse, file)
    desk.console("op-1", file, WANTED)
    desk.console("op-2", file, WANTED)

    answer = act(ayse, file, "tanimla", adim=stale, secim=f"1:{WANTED}")

    assert answer.status_code == 409
    assert "dosyalandı" in answer.text


def test_a_login_of_the_console_and_an_account_never_complete_each_other(desk: DeskSite) -> None:
    ayse, mehmet = desk.staff.signed_in("ayse"), desk.staff.signed_in("mehmet")
    file = desk.file("003.png")
    desk.console("ayse", file, WANTED)
    act(ayse, file, "tanimla", secim=f"1:{WANTED}")
    desk.handle()
    assert desk.filed() == []

    act(mehmet, file, "tanimla", secim=f"1:{WANTED}")
    desk.handle()

    (record,) = desk.filed()
    assert operators(record) == ["staff:ayse", "staff:mehmet"]


def test_a_suspended_operator_sends_nothing_more(desk: DeskSite) -> None:
    ayse = desk.staff.signed_in("ayse")
    file = desk.file("003.png")
    step = desk_site.step(ayse, file)
    form = re.search(r'name="form" value="([0-9a-f]+)"', ayse.get(f"/masa/sayfa/{file}").text)
    assert form is not None
    change(desk.staff, "ayse", state=State.SUSPENDED)

    fields = {"form": form[1], "adim": step, "secim": f"1:{WANTED}", "gerekce": "x"}
    answer = ayse.send("POST", f"/masa/sayfa/{file}/tanimla", data=fields)

    assert answer.headers["location"].startswith("/giris")
    assert not list((desk.settings.site / "state" / "errands").glob("*"))


def test_a_form_without_its_token_sends_nothing(desk: DeskSite) -> None:
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    fields = {"adim": desk_site.step(ayse, file), "secim": f"1:{WANTED}", "gerekce": "x"}
    for what in ("tanimla", "reddet", "yeniden-tarama", "yeniden-oku"):
        answer = ayse.send("POST", f"/masa/sayfa/{file}/{what}", data=fields)
        assert answer.status_code == 403
    assert not list((desk.settings.site / "state" / "errands").glob("*"))


def test_an_auditor_looks_only(desk: DeskSite) -> None:
    denetci, file = desk.staff.signed_in("denetci"), desk.file("003.png")
    page = denetci.get(f"/masa/sayfa/{file}?secim=1:{WANTED}").text
    assert "Evet, bu tutanak" not in page and "/reddet" not in page
    for what in ("tanimla", "reddet", "yeniden-tarama", "yeniden-oku", "karar"):
        assert act(denetci, file, what, secim=f"1:{WANTED}").status_code == 404
    assert not list((desk.settings.site / "state" / "errands").glob("*"))


@pytest.mark.parametrize(
    "path",
    [
        "/masa/sayfa/..%2f..%2fsite.toml",
        "/masa/sayfa/.hidden",
        "/masa/sayfa/nothing",
        "/masa/resim/..%2f..%2fsite.toml/1",
        "/masa/resim/%2e%2e/1",
        "/masa/resim/nothing/1",
        "/masa/resim/{file}/0",
        "/masa/resim/{file}/2",
        "/masa/resim/{file}.json/1",
        "/masa/form/1234567890",
        "/masa/form/x",
    ],
)
def test_an_address_of_another_file_does_not_exist(desk: DeskSite, path: str) -> None:
    answer = desk.staff.signed_in().get(path.replace("{file}", desk.file("003.png")))
    assert answer.status_code == 404
    assert "sftp" not in answer.text


def test_a_link_in_quarantine_is_not_followed(desk: DeskSite) -> None:
    file = desk.file("003.png")
    path = desk.settings.site / "quarantine" / file
    path.unlink()
    path.symlink_to(desk.settings.site / "site.toml")
    browser = desk.staff.signed_in()
    assert browser.get(f"/masa/resim/{file}/1").status_code == 404
    assert browser.get(f"/masa/sayfa/{file}").status_code == 200


def test_without_a_publisher_requests_wait_and_the_page_says_so(desk: DeskSite) -> None:
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    act(ayse, file, "tanimla", secim=f"1:{WANTED}")

    assert "gönderdikleriniz bekliyor" in ayse.get("/masa").text
    assert "003.png" not in "".join(entries(ayse.get("/masa").text))


def test_a_rejected_page_has_its_reason_and_a_contradicted_one_is_a_dispute(
    desk: DeskSite,
) -> None:
    ayse, mehmet = desk.staff.signed_in("ayse"), desk.staff.signed_in("mehmet")
    menu, page = desk.file("007.png"), desk.file("003.png")
    assert act(ayse, menu, "reddet", gerekce="").status_code == 422
    act(ayse, menu, "reddet", gerekce="Tutanak değil")
    act(ayse, page, "tanimla", secim=f"1:{WANTED}")
    desk.handle()
    assert "Tutanak değil" in ayse.get(f"/masa/sayfa/{menu}").text

    act(mehmet, page, "reddet", gerekce="Tutanak değil")
    desk.handle()

    assert entries(mehmet.get("/masa?durum=anlasmazlik").text) == ["kadikoy/003.png"]
    seen = desk.staff.signed_in("amir").get(f"/masa/sayfa/{page}").text
    assert "tutanak değil" in seen


def test_a_sheet_that_is_here_already_would_become_a_version(desk: DeskSite) -> None:
    file = desk.file("003.png")
    chosen = desk.staff.signed_in().get(f"/masa/sayfa/{file}?secim=1:{SERIALS['101', 'cb']}").text
    assert "2. sürüm olur" in chosen
    assert "İstanbul 1" in chosen and "Kadıköy 2" in chosen and "Caferağa" in chosen


def test_sheets_are_found_by_board_box_type_and_serial(desk: DeskSite) -> None:
    browser, file = desk.staff.signed_in(), desk.file("003.png")

    def found(text: str) -> list[str]:
        page = browser.get(f"/masa/sayfa/{file}", params={"ara": text}).text
        part = page.partition('id="bulunan"')[2].partition("</section>")[0]
        return re.findall(r"secim=1%3A(\d{10})", part)

    assert found("Kadıköy 103 cb") == [SERIALS["103", "cb"]]
    assert found("104") == [SERIALS["104", "cb"], SERIALS["104", "mv"]]
    assert found("KADIKÖY milletvekili 101") == [SERIALS["101", "mv"]]
    assert found(WANTED) == [WANTED]
    assert found("cankaya birlestirme") == ["3000000001"]
    assert found("yok böyle yer") == []
