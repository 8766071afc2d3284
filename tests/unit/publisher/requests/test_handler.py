import shutil
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from office import listing
from structlog.testing import capture_logs
from unit.publisher.filing.test_filer import CB, MV, Crash, Step, drop, open_context, run

from config.settings import DeskSettings, Settings
from config.site import FILING, LEDGERS
from keys.ledger.segments import read_records
from keys.ledger.writer import utc_now
from publisher.catalog.decisions import absences
from publisher.catalog.queries import counts as catalog_counts
from publisher.catalog.queries import coverage
from publisher.catalog.queries.coverage import CoverageLine
from publisher.filing.filer import Filer
from publisher.filing.recovery import Recovery
from publisher.requests import queue
from publisher.requests.handler import RequestHandler
from publisher.requests.queue import Answer, Request

pytestmark = pytest.mark.both_databases

BOX = "34-istanbul-1/kadikoy-2/1234"
NUMBERS = count()


def submit(settings: Settings, kind: str, who: str = "ayse", **detail: str) -> str:
    identity = f"20230514T180000000000-{next(NUMBERS):08x}"
    queue.submit(settings.site, Request(identity, kind, (who,), "ysk-1", "by eye", detail))
    return identity


def handle_pending(settings: Settings, step: Step = lambda step: None) -> None:
    with open_context(settings, step) as context:
        filer = Filer(context)
        Recovery(context, filer).recover()
        RequestHandler(context, filer).handle_pending()


def answer_to(settings: Settings, kind: str, who: str = "ayse", **detail: str) -> Answer:
    identity = submit(settings, kind, who, **detail)
    handle_pending(settings)
    answer = queue.take_answer(settings.site, identity)
    assert answer is not None
    return answer


def quarantined(settings: Settings, content: str = "%PDF-1; nothing to see") -> str:
    drop(settings, {"a.png": content})
    run(settings)
    (note,) = (settings.site / "quarantine").glob("*.json")
    return note.name.removesuffix(".json")


def records(settings: Settings, event: str) -> list[dict[str, object]]:
    found = read_records(settings.site / LEDGERS / FILING)
    return [dict(r.event.detail) for r in found if r.event.event == event]


def total(settings: Settings) -> CoverageLine:
    with coverage.open_coverage(settings.site) as opened:
        (line,) = opened.lines()
    return line


def test_an_absent_box_counts_as_absent_and_not_as_missing(settings: Settings) -> None:
    run(settings)
    assert total(settings) == CoverageLine("all", 6, 0, 0)

    answer = answer_to(settings, "absent", place=BOX, reason="burnt")

    assert answer == Answer(True, f"{BOX} is absent: burnt")
    assert total(settings) == CoverageLine("all", 6, 0, 2)
    (record,) = records(settings, "absent")
    assert (record["reason"], record["why"], record["karekod"]) == ("burnt", "by eye", "")
    with coverage.open_coverage(settings.site) as opened:
        assert [m.karekod for m in opened.missing("34-istanbul-1")] == []
        assert len(list(opened.missing())) == total(settings).missing == 4


def test_the_catalog_has_the_time_of_an_absence_that_is_on_record(settings: Settings) -> None:
    submit(settings, "absent", place=BOX, reason="burnt")
    with open_context(settings, lambda step: None) as context:
        filer = Filer(context)
        Recovery(context, filer).recover()
        late = replace(context, clock=lambda: utc_now() + timedelta(seconds=1))
        RequestHandler(late, filer).handle_pending()
        (absence,) = absences.current_absences(context.catalog.connection)

    (record,) = (r for r in read_records(settings.site / LEDGERS / FILING) if r.event.who == "ayse")
    assert absence.recorded_at == record.time.isoformat(timespec="seconds")


def test_an_absence_is_recorded_once_and_can_be_withdrawn(settings: Settings) -> None:
    answer_to(settings, "absent", place=CB, reason="joined")
    again = answer_to(settings, "absent", "veli", place=CB, reason="burnt")
    assert again == Answer(False, f"{CB} is absent: joined, already recorded by ayse")
    assert total(settings) == CoverageLine("all", 6, 0, 1)

    assert answer_to(settings, "expected", place=CB) == Answer(True, f"{CB} is expected again")
    assert not answer_to(settings, "expected", place=CB).done

    assert total(settings) == CoverageLine("all", 6, 0, 0)
    assert len(records(settings, "absent")) == len(records(settings, "expected")) == 1


@pytest.mark.parametrize(
    ("place", "reason"),
    [("34-istanbul-1/kadikoy-2/9", "burnt"), ("9999999999", "burnt"), ("34", "burnt"), (BOX, "x")],
)
def test_a_place_that_the_registry_lacks_cannot_be_absent(
    settings: Settings, place: str, reason: str
) -> None:
    assert not answer_to(settings, "absent", place=place, reason=reason).done
    assert records(settings, "absent") == []


def test_an_absent_sheet_that_arrives_is_filed_with_a_warning(settings: Settings) -> None:
    answer_to(settings, "absent", place=BOX, reason="not-opened")
    drop(settings, {"cb.png": CB})

    with capture_logs() as logs:
        run(settings)

    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [
        "absent-sheet-arrived"
    ]
    assert records(settings, "filed")[0]["absent"] == "not-opened"
    assert total(settings) == CoverageLine("all", 6, 1, 1)


def test_a_page_is_filed_when_two_operators_identify_it_alike(settings: Settings) -> None:
    file = quarantined(settings)

    first = answer_to(settings, "identify", file=file, sheets=f"1:{CB}")
    assert first == Answer(True, f"{file}: named 1:{CB}, 1 more operator must name the same")
    assert answer_to(settings, "identify", file=file, sheets=f"1:{CB}").message == first.message
    other = answer_to(settings, "identify", "veli", file=file, sheets=f"1:{MV}")
    assert other.message.endswith(f"1 more operator must name the same; ayse names 1:{CB}")
    assert total(settings).filed == 0
    last = answer_to(settings, "identify", "veli", file=file, sheets=f"1:{CB}")

    assert last.done
    assert last.message.endswith("cb-sandik-sonuc-s1.pdf, identified by ayse and veli")
    (record,) = records(settings, "filed")
    assert record["identified_by"] == ["ayse", "veli"]
    assert (record["identifies"], record["confirmations"]) == (file, 2)
    assert (record["karekod"], record["version"], record["witnesses"]) == (CB, 1, 0)
    assert total(settings).filed == 1
    assert not answer_to(settings, "identify", "can", file=file, sheets=f"1:{MV}").done
    assert (settings.site / "quarantine" / file).exists(), "the evidence stays"
    assert listing(settings.site / "trees" / "parti-a") == {
        f"2023-05-14-cb-mv/{BOX.rpartition('/')[0]}/sandik-1234/cb-sandik-sonuc-s1.pdf": (
            b"%PDF-1; nothing to see"
        )
    }
    assert listing(settings.site / "trees" / "parti-b") == {}


def test_one_operator_is_enough_if_the_site_says_so(settings: Settings) -> None:
    alone = replace(settings, desk=DeskSettings(confirmations=1))
    file = quarantined(alone)

    assert answer_to(alone, "identify", file=file, sheets=f"1:{CB}").done

    (record,) = records(alone, "filed")
    assert (record["identified_by"], record["confirmations"]) == (["ayse"], 1)


def test_a_rejected_page_keeps_its_bytes_and_can_still_be_identified(
    settings: Settings,
) -> None:
    alone = replace(settings, desk=DeskSettings(confirmations=1))
    file = quarantined(alone)

    assert answer_to(alone, "reject", file=file) == Answer(True, f"{file}: rejected, by eye")
    assert not answer_to(alone, "reject", "veli", file=file).done

    counts = catalog_counts.counts(alone.site)
    assert (counts.quarantined, counts.reviewed, counts.filed) == (1, 1, 0)
    assert len(records(alone, "rejected")) == 1
    assert (alone.site / "quarantine" / file).read_text() == "%PDF-1; nothing to see"
    assert answer_to(alone, "identify", file=file, sheets=f"1:{CB}").done
    assert catalog_counts.counts(alone.site).filed == 1


def test_an_identification_that_cannot_be_filed_is_refused_with_the_cause(
    settings: Settings,
) -> None:
    alone = replace(settings, desk=DeskSettings(confirmations=1))
    file = quarantined(alone, "; no image at all")

    for sheets, name, cause in (
        (f"1:{CB}", "../x", "is not in quarantine"),
        ("1:9999999999", file, "not in the registry"),
        (f"2:{CB}", file, "page 2: the file has only 1"),
        (f"1:{CB}", file, "is neither JPEG, PNG, TIFF nor PDF"),
    ):
        answer = answer_to(alone, "identify", file=name, sheets=sheets)
        assert not answer.done
        assert cause in answer.message
    changed = alone.site / "quarantine" / file
    changed.chmod(0o644)
    changed.write_text("%PDF- other bytes")
    answer = answer_to(alone, "identify", file=file, sheets=f"1:{CB}")
    assert "its bytes have changed in quarantine" in answer.message
    assert records(alone, "filed") == []


REQUESTS = (
    ("absent", {"place": BOX, "reason": "burnt"}),
    ("expected", {"place": BOX}),
    ("identify", {"file": "", "sheets": f"1:{CB}"}),
    ("reject", {"file": ""}),
)


@pytest.mark.slow
@pytest.mark.no_cover
def test_a_request_is_done_exactly_once_after_a_crash_at_any_step(
    settings: Settings, tmp_path: Path
) -> None:
    alone = replace(settings, desk=DeskSettings(confirmations=1))
    file = quarantined(alone)
    for kind, detail in REQUESTS:
        for point in count():
            site = tmp_path / f"{kind}-{point}"
            shutil.copytree(alone.site, site)
            here = replace(alone, site=site)
            if kind == "expected":
                answer_to(here, "absent", place=BOX, reason="burnt")
            identity = submit(
                here, kind, **{**detail, **({"file": file} if "file" in detail else {})}
            )
            if not crashed(here, point):
                break
            handle_pending(here)
            answer = queue.take_answer(site, identity)
            assert answer is not None, (kind, point)
            assert answer.done, (kind, point, answer)
            names = {"identify": "filed", "reject": "rejected"}
            assert len(records(here, names.get(kind, kind))) == 1, (kind, point)
        assert point > 1, "each request has steps"


def crashed(settings: Settings, point: int) -> bool:
    steps = count()

    def step(name: str) -> None:
        if next(steps) == point:
            raise Crash(name)

    try:
        handle_pending(settings, step)
    except Crash:
        return True
    return False
