"""What operators send, on its way to the publisher and back."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import desk_site
import pytest
from desk_site import SERIALS, DeskSite, act

from config.site import LEDGERS, OPERATIONS, REQUESTS, STAFF
from keys.ledger import writer
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger, Unwritable
from keys.operations import server_state
from portal import broker_client
from portal.broker_answers import Answers
from portal.staff.desk.desk import Desk
from portal.staff.desk.requests import Requests
from publisher.fsck.verify import verify

pytestmark = pytest.mark.both_databases

WANTED = SERIALS["102", "cb"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[DeskSite]:
    with desk_site.running(tmp_path / "site") as found:
        yield found


def operations(desk: DeskSite) -> list[tuple[str, str, str, str, dict[str, Any]]]:
    """Return event, who, from, outcome and detail of what was done at the desk."""
    found = read_records(desk.settings.site / LEDGERS / OPERATIONS)
    return [
        (r.event.event, r.event.who, r.event.origin, str(r.event.outcome), dict(r.event.detail))
        for r in found
        if r.event.who.startswith("staff:")
    ]


def test_a_decision_is_in_the_operations_ledger_with_account_address_and_why(
    desk: DeskSite,
) -> None:
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    act(ayse, file, "tanimla", secim=f"1:{WANTED}", gerekce="imzalar okundu")
    (asked,) = operations(desk)
    assert asked[:4] == ("asked", "staff:ayse", "127.0.0.1", "ok")
    assert asked[4]["command"] == "desk identify"
    assert (asked[4]["file"], asked[4]["sheets"]) == (file, f"1:{WANTED}")

    desk.handle()
    ayse.get("/masa")

    _, (event, who, origin, outcome, detail) = operations(desk)
    assert (event, who, origin, outcome) == ("desk identify", "staff:ayse", "127.0.0.1", "ok")
    assert (detail["why"], detail["cause"]) == ("imzalar okundu", "named")
    assert detail["errand"] == asked[4]["errand"]
    assert list((desk.settings.site / REQUESTS).iterdir()) == []


def test_what_a_killed_process_had_sent_is_followed_by_the_next(desk: DeskSite) -> None:
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    menu = desk.file("007.png")
    for name, what in ((file, "tanimla"), (menu, "reddet")):
        act(ayse, name, what, secim=f"1:{WANTED}")
        if name == file:
            desk.handle()  # the process was killed after the answer, and then before it
        next_process = Requests(desk.settings.site, lambda: desk.staff.now)
        next_process.adopt()
        assert [sent.file for sent in next_process.waiting()] == [name]
        desk.handle()
        assert next_process.poll() == 1

    done = [event for event, *_ in operations(desk)]
    assert done == ["asked", "desk identify", "asked", "desk reject"]
    assert list((desk.settings.site / REQUESTS).iterdir()) == []


def test_the_broker_of_a_confined_process_writes_records_and_requests(
    desk: DeskSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = desk.settings
    answers = Answers(settings, server_state.STAFF, STAFF, lambda new: None)

    def ask(verb: str, *words: object) -> object:
        return answers.by_question()[verb](*json.loads(json.dumps(words)))

    monkeypatch.setattr(broker_client, "in_use", lambda: True)
    monkeypatch.setattr(broker_client, "ask", ask)
    monkeypatch.setattr(writer, "utc_now", lambda: desk.staff.now)
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    with closing(answers):
        act(ayse, file, "tanimla", secim=f"1:{WANTED}", gerekce="imzalar okundu")
        desk.handle()
        ayse.get("/masa")

    asked, done = operations(desk)
    assert asked[:2] == ("asked", "staff:ayse")
    assert done[:4] == ("desk identify", "staff:ayse", "127.0.0.1", "ok")
    assert done[4]["errand"] == asked[4]["errand"]
    assert list((settings.site / REQUESTS).iterdir()) == []


@pytest.mark.parametrize(
    ("identity", "kind", "who", "origin"),
    [
        ("../../parties", "identify", "staff:ayse", "127.0.0.1"),
        ("20230514T140003000041-9f3c21ab", "rebuild", "staff:ayse", "127.0.0.1"),
        ("20230514T140003000041-9f3c21ab", "identify", "ayse", "127.0.0.1"),
        ("20230514T140003000041-9f3c21ab", "identify", "staff:nobody", "127.0.0.1"),
        ("20230514T140003000041-9f3c21ab", "identify", "staff:ayse", "console"),
    ],
)
def test_the_broker_writes_only_requests_of_the_desk(
    desk: DeskSite, identity: str, kind: str, who: str, origin: str
) -> None:
    answers = Answers(desk.settings, server_state.STAFF, STAFF, lambda new: None)

    with pytest.raises(ValueError, match=r"no request of the desk|no operator|appear to be"):
        answers.submit_errand(identity, kind, who, origin, "why", {}, None)
    with pytest.raises(ValueError, match=r"no request of the desk|no operator|appear to be"):
        answers.finish_errand(identity, kind, who, origin, "why", {})

    assert operations(desk) == []
    assert not list((desk.settings.site / REQUESTS).glob("*"))


def test_nothing_is_sent_while_another_command_holds_the_operations_ledger(
    desk: DeskSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.staff.desk.requests._LOCK_SECONDS", 0.0)
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    with Ledger(desk.settings.site / LEDGERS / OPERATIONS):
        answer = act(ayse, file, "tanimla", secim=f"1:{WANTED}")

    assert answer.status_code == 503
    assert "gönderilmedi" in answer.text
    assert not list((desk.settings.site / REQUESTS).glob("*"))


def test_an_answer_that_cannot_be_recorded_now_is_taken_up_later(
    desk: DeskSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.staff.desk.requests._LOCK_SECONDS", 0.0)
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    act(ayse, file, "tanimla", secim=f"1:{WANTED}")
    desk.handle()
    with Ledger(desk.settings.site / LEDGERS / OPERATIONS):
        assert "yanıt bekleniyor" in ayse.get("/masa").text
    assert "kaydedildi" in ayse.get("/masa").text


def test_ten_pages_are_rejected_at_once_and_one_that_was_acted_on_is_left(
    desk: DeskSite,
) -> None:
    ayse, mehmet = desk.staff.signed_in("ayse"), desk.staff.signed_in("mehmet")
    files = [desk.file(name) for name in ("003.png", "005.png", "007.png")]
    steps = [desk_site.step(ayse, file) for file in files]
    act(mehmet, files[0], "tanimla", secim=f"1:{WANTED}")
    desk.handle()
    chosen = {"sira": files, "adim": steps, "tutanak": ["", "", ""], "dosya": files}

    answer = ayse.post("/masa/toplu", islem="reddet", gerekce="Boş sayfa", **chosen)  # type: ignore[arg-type]

    assert answer.headers["location"] == "/masa/toplu?gonderildi=2&kaldi=1"
    desk.handle()
    assert "karara bağlandı" in ayse.get("/masa").text
    events = [(event, what) for event, _, what, *_ in desk.staff.records() if event == "reject"]
    assert events == [("reject", f"quarantine/{file}") for file in files[1:]]


def test_each_row_of_a_batch_is_on_record_although_a_later_one_is_refused(desk: DeskSite) -> None:
    ayse, files = desk.staff.signed_in("ayse"), [desk.file("003.png"), desk.file("005.png")]
    steps = [desk_site.step(ayse, file) for file in files]
    chosen = {"sira": files, "adim": steps, "tutanak": [f"1:{WANTED}", "1:1234567890"]}

    answer = ayse.post("/masa/toplu", islem="tanimla", **chosen)  # type: ignore[arg-type]

    assert answer.headers["location"] == "/masa/toplu?gonderildi=1&kaldi=1"
    assert [event for event, *_ in operations(desk)] == ["asked"]
    recorded = [(event, what) for event, _, what, *_ in desk.staff.records()][-2:]
    assert recorded == [("identify", f"quarantine/{files[0]}"), ("denied", "/masa/toplu")]


def test_nothing_is_sent_that_cannot_be_recorded(
    desk: DeskSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    step, form = desk_site.step(ayse, file), ayse.get(f"/masa/sayfa/{file}").text
    token = form.partition('name="form" value="')[2].partition('"')[0]

    async def full(*events: object) -> int:
        raise Unwritable("the disk is full")

    monkeypatch.setattr(desk.staff.entrance.recorder, "record", full)
    fields = {"form": token, "adim": step, "secim": f"1:{WANTED}", "gerekce": "x"}
    answer = ayse.send("POST", f"/masa/sayfa/{file}/tanimla", data=fields)

    assert answer.status_code == 503
    assert operations(desk) == []
    assert not list((desk.settings.site / REQUESTS).glob("*"))


def test_only_a_true_repeat_is_sent_once(desk: DeskSite) -> None:
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    for turn in ("90", "90", "180"):
        assert act(ayse, file, "yeniden-oku", yon=turn).status_code == 303
    for karekod in (WANTED, WANTED, SERIALS["103", "cb"]):
        act(ayse, file, "yeniden-tarama", kurul=desk_site.BOARD, karekod=karekod)

    sent = [detail.get("settings") or detail["karekod"] for *_, detail in operations(desk)]
    assert sent == ["1 90 -", "1 180 -", WANTED, SERIALS["103", "cb"]]


def test_a_damaged_answer_of_the_publisher_is_no_error_of_the_page(desk: DeskSite) -> None:
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    act(ayse, file, "tanimla", secim=f"1:{WANTED}")
    (sent,) = (desk.settings.site / REQUESTS).glob("*.json")
    sent.with_suffix(".done").write_bytes(b'{"done": tr')
    sent.unlink()

    answer = ayse.get("/masa")

    assert answer.status_code == 200
    assert "yayıncının yanıtı okunamadı" in answer.text
    _, (event, _, _, outcome, _) = operations(desk)
    assert (event, outcome) == ("desk identify", "failed")


def test_the_desk_goes_on_if_it_cannot_take_up_earlier_requests_at_once(
    desk: DeskSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Desk(desk.settings.site, lambda: desk.staff.now)
    adopt, failures = made.requests.adopt, [OSError("read error")]

    def failing() -> None:
        if failures:
            raise failures.pop()
        adopt()

    monkeypatch.setattr("portal.staff.desk.desk._LOOK_AGAIN", 0.0)
    monkeypatch.setattr(made.requests, "adopt", failing)
    act(desk.staff.signed_in("ayse"), desk.file("003.png"), "reddet", gerekce="x")

    async def follow() -> None:
        task = asyncio.create_task(made.follow())
        while not made.requests.waiting() and not task.done():
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(follow())

    assert [sent.name for sent in made.requests.waiting()] == ["003.png"]


def test_sheets_chosen_for_several_pages_are_sent_at_once(desk: DeskSite) -> None:
    ayse, files = desk.staff.signed_in("ayse"), [desk.file("003.png"), desk.file("005.png")]
    shown = ayse.get("/masa/toplu").text
    assert shown.count('name="sira"') == 3 and f"1:{WANTED}" in shown
    steps = [desk_site.step(ayse, file) for file in files]
    sheets = [f"1:{WANTED}", f"1:{SERIALS['103', 'cb']}"]
    chosen = {"sira": files, "adim": steps, "tutanak": sheets}

    ayse.post("/masa/toplu", islem="tanimla", **chosen)  # type: ignore[arg-type]

    sent = [detail["sheets"] for event, *_, detail in operations(desk) if event == "asked"]
    assert sent == sheets


def test_a_batch_with_nothing_chosen_or_an_unknown_action_is_refused(desk: DeskSite) -> None:
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    for fields in (
        {"islem": "reddet", "gerekce": "x", "sira": file, "adim": "0 -", "tutanak": ""},
        {"islem": "sil", "sira": file, "adim": "0 -", "tutanak": "", "dosya": file},
        {"islem": "reddet"},
    ):
        assert ayse.post("/masa/toplu", **fields).status_code == 422
    assert operations(desk) == []


def test_a_new_scan_is_on_the_list_of_its_board_until_the_page_is_decided(
    desk: DeskSite,
) -> None:
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    assert act(ayse, file, "yeniden-tarama", kurul="34-istanbul-1/yok").status_code == 422
    act(ayse, file, "yeniden-tarama", kurul=desk_site.BOARD, karekod=WANTED, gerekce="kırışık")
    desk.handle()

    page = desk.staff.signed_in("denetci").get("/masa/yeniden-tarama").text
    assert "İstanbul 1 · Kadıköy 2" in page and "Sandık 102" in page and "kırışık" in page
    assert "bekleniyor" in page
    assert "003.png" not in ayse.get("/masa").text.partition("Son işlemlerim")[0]
    act(ayse, file, "reddet", gerekce="yeniden tarandı")
    desk.handle()
    assert "Sandık 102" not in ayse.get("/masa/yeniden-tarama").text


def test_the_lease_of_a_page_is_a_notice_to_others_and_ends(desk: DeskSite) -> None:
    ayse, mehmet = desk.staff.signed_in("ayse"), desk.staff.signed_in("mehmet")
    file = desk.file("003.png")
    ayse.get(f"/masa/sayfa/{file}")

    assert "ayse bakıyor" in mehmet.get("/masa").text
    assert file not in mehmet.get("/masa/sonraki").headers["location"]
    assert "ayse bu sayfaya bakıyor" in mehmet.get(f"/masa/sayfa/{file}").text
    ayse.get("/masa")
    assert "ayse bakıyor" not in mehmet.get("/masa").text


def test_a_page_is_read_again_by_the_publisher(desk: DeskSite) -> None:
    ayse, file = desk.staff.signed_in("ayse"), desk.file("003.png")
    assert act(ayse, file, "yeniden-oku", parca="9, 9, 3, 3").status_code == 422
    assert act(ayse, file, "yeniden-oku", yon="45").status_code == 422
    answer = act(ayse, file, "yeniden-oku", parca="10, 20, 300, 400", yon="90")
    assert answer.headers["location"].endswith("#okuma")
    desk.handle()  # without a reader of pages it waits
    assert "sürüyor" in ayse.get(f"/masa/sayfa/{file}").text

    desk.answer_reread(WANTED)

    shown = ayse.get(f"/masa/sayfa/{file}").text
    assert "yeniden okumada" in shown
    assert f"Karekod {WANTED} okundu (zxing-cpp, crop), ama tek okuma yetmez" in shown
    assert '<polygon points="10,20 30,20 30,40 10,40">' in shown
    _, (event, _, _, _, detail) = operations(desk)
    assert (event, detail["after"]) == ("desk reread", [WANTED])


def test_the_desk_adopts_and_polls_by_itself(desk: DeskSite) -> None:
    made = Desk(desk.settings.site, lambda: desk.staff.now)
    made._work()
    assert made.board_of(made.held.cases()[0]) == ("34-istanbul-1", "kadikoy-2")


def test_what_was_done_at_the_desk_agrees_with_the_ledgers(desk: DeskSite) -> None:
    ayse, mehmet = desk.staff.signed_in("ayse"), desk.staff.signed_in("mehmet")
    filed, disputed, menu = (desk.file(name) for name in ("003.png", "005.png", "007.png"))
    for browser in (ayse, mehmet):
        act(browser, filed, "tanimla", secim=f"1:{WANTED}")
        desk.handle()
    act(ayse, disputed, "tanimla", secim=f"1:{SERIALS['103', 'cb']}")
    desk.handle()
    act(mehmet, disputed, "reddet", gerekce="Tutanak değil")
    act(ayse, menu, "reddet", gerekce="Tutanak değil")
    desk.handle()
    ayse.get("/masa")

    found = [str(each) for each in verify(desk.settings)]

    assert [each for each in found if "naming" in each or "ruling" in each] == []
