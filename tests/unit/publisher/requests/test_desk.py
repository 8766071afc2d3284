"""What accounts of the staff site ask of the publisher."""

import pytest
from unit.publisher.filing.test_filer import CB, MV
from unit.publisher.requests.test_handler import (
    answer_to,
    handle_pending,
    quarantined,
    records,
    submit,
    total,
)

from config.settings import Settings
from publisher.catalog.decisions import rescans, review
from publisher.catalog.queries import counts as catalog_counts
from publisher.requests import queue

AYSE, VELI, AMIR, BASKAN = "staff:ayse", "staff:veli", "staff:amir", "staff:baskan"


def test_two_accounts_file_a_page_and_one_account_twice_does_not(settings: Settings) -> None:
    file = quarantined(settings)

    assert answer_to(settings, "identify", AYSE, file=file, sheets=f"1:{CB}").cause == "named"
    assert answer_to(settings, "identify", AYSE, file=file, sheets=f"1:{CB}").cause == "named"
    assert total(settings).filed == 0
    last = answer_to(settings, "identify", VELI, file=file, sheets=f"1:{CB}")

    assert (last.done, last.cause) == (True, "filed")
    assert records(settings, "filed")[0]["identified_by"] == [AYSE, VELI]


def test_an_account_and_a_login_of_the_same_person_are_not_two(settings: Settings) -> None:
    file = quarantined(settings)
    for who in (AYSE, "ayse", "root"):
        answer_to(settings, "identify", who, file=file, sheets=f"1:{CB}")
    assert records(settings, "filed")[0]["identified_by"] == ["ayse", "root"]


def test_a_login_and_an_account_never_complete_each_other(settings: Settings) -> None:
    file = quarantined(settings)
    for who in ("root", AYSE):
        answer = answer_to(settings, "identify", who, file=file, sheets=f"1:{CB}")
        assert answer.done and "1 more operator" in answer.message
    assert total(settings).filed == 0


def test_accounts_that_differ_leave_it_to_a_supervisor_who_has_not_named_it(
    settings: Settings,
) -> None:
    file = quarantined(settings)
    assert answer_to(settings, "rule", AMIR, file=file, sheets=f"1:{CB}").cause == "changed"
    answer_to(settings, "identify", AYSE, file=file, sheets=f"1:{CB}")
    assert answer_to(settings, "identify", VELI, file=file, sheets=f"1:{MV}").cause == (
        "contradicted"
    )
    for who, kind in ((AYSE, "identify"), ("staff:can", "identify"), (VELI, "reject")):
        refused = answer_to(settings, kind, who, file=file, sheets=f"1:{MV}")
        assert (refused.done, refused.cause) == (False, "disputed")
    assert answer_to(settings, "rule", AYSE, file=file, sheets=f"1:{MV}").cause == "disputed"
    assert total(settings).filed == 0

    ruled = answer_to(settings, "rule", AMIR, file=file, sheets=f"1:{MV}")

    assert (ruled.done, ruled.cause) == (True, "filed")
    assert records(settings, "filed")[0]["identified_by"] == [VELI, AMIR]


def test_a_supervisor_with_a_third_opinion_alone_files_nothing(settings: Settings) -> None:
    file = quarantined(settings)
    for who, karekod in ((AYSE, CB), (VELI, MV)):
        answer_to(settings, "identify", who, file=file, sheets=f"1:{karekod}")
    third = answer_to(settings, "rule", AMIR, file=file, sheets="1:2000000001")
    assert (third.done, third.cause, total(settings).filed) == (True, "contradicted", 0)

    assert answer_to(settings, "rule", BASKAN, file=file, sheets="1:2000000001").cause == "filed"


def test_a_supervisor_may_reject_what_accounts_differ_about(settings: Settings) -> None:
    file = quarantined(settings)
    for who, karekod in ((AYSE, CB), (VELI, MV)):
        answer_to(settings, "identify", who, file=file, sheets=f"1:{karekod}")

    assert answer_to(settings, "rule", AMIR, file=file, sheets="").cause == "decided"

    with catalog_counts.open_read_only(settings.site) as connection:
        assert connection is not None
        assert review.reviews(connection)[file].outcome == "rejected"
        assert review.identifications(connection) == {}


def test_rejecting_what_another_account_named_is_a_contradiction(settings: Settings) -> None:
    file = quarantined(settings)
    answer_to(settings, "identify", AYSE, file=file, sheets=f"1:{CB}")

    assert answer_to(settings, "reject", VELI, file=file).cause == "contradicted"

    assert records(settings, "rejected") == []
    with catalog_counts.open_read_only(settings.site) as connection:
        assert connection is not None
        named = review.identifications(connection)[file]
    assert [(each.who, each.sheets) for each in named] == [(AYSE, ((1, CB),)), (VELI, ())]
    assert review.in_dispute(named)


def test_an_account_may_reject_what_only_it_has_named(settings: Settings) -> None:
    file = quarantined(settings)
    answer_to(settings, "identify", AYSE, file=file, sheets=f"1:{CB}")
    assert answer_to(settings, "reject", AYSE, file=file).cause == "decided"
    assert len(records(settings, "rejected")) == 1


def test_a_step_that_has_passed_is_refused_also_if_nobody_checked_before(
    settings: Settings,
) -> None:
    file = quarantined(settings)
    seen = {"file": file, "sheets": f"1:{CB}", "step": review.step_of([], None)}
    assert answer_to(settings, "identify", AYSE, **seen).done

    late = answer_to(settings, "identify", VELI, **seen)

    assert (late.done, late.cause, total(settings).filed) == (False, "changed", 0)


def test_a_request_of_an_account_that_is_handled_again_is_done_once(settings: Settings) -> None:
    file = quarantined(settings)
    seen = {"file": file, "sheets": f"1:{CB}", "step": review.step_of([], None)}
    identity = submit(settings, "identify", AYSE, **seen)
    (request,) = queue.pending(settings.site)
    answers = []
    for _ in range(2):
        queue.submit(settings.site, request)
        handle_pending(settings)
        answers.append(queue.take_answer(settings.site, identity))

    assert [answer and answer.done for answer in answers] == [True, True]
    with catalog_counts.open_read_only(settings.site) as connection:
        assert connection is not None
        assert len(review.identifications(connection)[file]) == 1


def test_a_new_scan_is_asked_for_once_for_each_page(settings: Settings) -> None:
    file = quarantined(settings)
    asked = {"file": file, "cevre": "34-istanbul-1", "kurul": "kadikoy-2", "karekod": ""}
    assert answer_to(settings, "rescan", AYSE, **asked).done
    assert answer_to(settings, "rescan", VELI, **{**asked, "karekod": CB}).done
    assert not answer_to(settings, "rescan", VELI, **{**asked, "karekod": "9999999999"}).done

    with catalog_counts.open_read_only(settings.site) as connection:
        assert connection is not None
        (found,) = rescans.rescans(connection).values()
    assert (found.who, found.kurul, found.karekod) == (VELI, "kadikoy-2", CB)


@pytest.mark.parametrize("kind", ["identify", "reject", "rule", "rescan"])
def test_a_file_that_is_not_in_quarantine_is_refused(settings: Settings, kind: str) -> None:
    quarantined(settings)
    for file in ("../site.toml", ".hidden", "nothing"):
        refused = answer_to(
            settings, kind, AYSE, file=file, sheets=f"1:{CB}", cevre="x", kurul="y", karekod=""
        )
        assert not refused.done
