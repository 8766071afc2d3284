from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from unit.config.test_result import RESULT

from config.result import Result
from config.sheet import SandikTuru, Secim
from publisher.results.checks.box import BoxState, SheetVersion, check_box, check_contests
from publisher.results.checks.finding import Check, FindingKind

SOUND = replace(
    RESULT, registered=300, voted=252, envelopes=252, listed_voted=250, valid_disputed=0, valid=240
)
SOUND = replace(SOUND, valid=245, valid_undisputed=245, invalid=7)
FILED = SheetVersion("e/34-istanbul-1/kadikoy-2/sandik-1234/mv-sandik-sonuc-s1.jpg", 1, SOUND.time)


def checks(*versions: Result, sheets: tuple[SheetVersion, ...] = (FILED,)) -> list[Check]:
    return [finding.check for finding in check_box(state(*versions, sheets=sheets))]


def state(*versions: Result, sheets: tuple[SheetVersion, ...] = (FILED,)) -> BoxState:
    return BoxState(versions, SandikTuru.NORMAL, sheets)


def test_a_sound_result_has_no_finding() -> None:
    assert checks(SOUND) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"listed_voted": 251}, [Check.VOTED_PARTS]),
        ({"unlisted_voted": None}, []),
        ({"valid_undisputed": 244}, [Check.VALID_PARTS]),
        ({"votes": {"parti-a": 100, "parti-b": 144}}, [Check.VOTES_NOT_VALID]),
        ({"invalid": 8}, [Check.BALLOTS_NOT_VOTED]),
        ({"envelopes": 251}, [Check.ENVELOPES_NOT_VOTED]),
        ({"envelopes": None}, []),
        ({"registered": 249}, [Check.MORE_VOTED_THAN_REGISTERED]),
        ({"registered": 250}, []),
        ({"registered": 252}, [Check.FULL_TURNOUT]),
        ({"valid_undisputed": 240, "valid_disputed": 5}, [Check.VALID_UPON_OBJECTION]),
        ({"sandik_turu": SandikTuru.CEZAEVI}, [Check.BOX_KIND_DIFFERS]),
        (
            {"valid": 0, "valid_undisputed": 0, "votes": {}, "invalid": 252},
            [Check.NO_VALID_VOTE],
        ),
        (
            {
                "voted": 0,
                "listed_voted": 0,
                "unlisted_voted": 0,
                "envelopes": 0,
                "valid": 0,
                "valid_undisputed": 0,
                "invalid": 0,
                "votes": {},
            },
            [Check.NOBODY_VOTED],
        ),
    ],
)
def test_each_number_that_does_not_agree_is_a_finding(
    change: dict[str, Any], expected: list[Check]
) -> None:
    assert checks(replace(SOUND, **change)) == expected


def test_a_finding_names_the_box_the_numbers_and_the_sheet() -> None:
    (finding,) = check_box(state(replace(SOUND, invalid=8)))

    assert finding.as_json() == {
        "check": "ballots-not-voted",
        "kind": "error",
        "secim": "mv",
        "places": ["34-istanbul-1/kadikoy-2/sandik-1234"],
        "numbers": {"gecerli": 245, "gecersiz": 8, "oy_kullanan": 252},
        "sheets": [FILED.path],
    }


HOUR = timedelta(hours=1)
SECOND = replace(
    SOUND, version=2, reason="itiraz kabul", time=SOUND.time + 2 * HOUR, invalid=6, valid=246
)
SECOND = replace(SECOND, valid_undisputed=246, votes={"parti-a": 101, "parti-b": 145})
RESCAN = SheetVersion(FILED.path.replace(".jpg", ".v2.jpg"), 2, SOUND.time + HOUR)


@pytest.mark.parametrize(
    ("versions", "sheets", "expected"),
    [
        ((SOUND,), (), [Check.RESULT_WITHOUT_SHEET]),
        ((SOUND, SECOND), (FILED, RESCAN), []),
        ((SOUND, SECOND), (FILED,), [Check.CHANGED_WITHOUT_SCAN]),
        (
            (SOUND, replace(SECOND, reason="")),
            (FILED, RESCAN),
            [Check.CHANGED_WITHOUT_REASON],
        ),
        (
            (SOUND, replace(SECOND, reason=" ")),
            (),
            [Check.RESULT_WITHOUT_SHEET, Check.CHANGED_WITHOUT_REASON],
        ),
        ((SOUND,), (FILED, RESCAN), [Check.OLDER_THAN_SCAN]),
        ((SOUND, replace(SOUND, version=2, reason="yeniden")), (FILED,), []),
    ],
)
def test_results_are_compared_with_the_sheets_that_were_scanned(
    versions: tuple[Result, ...], sheets: tuple[SheetVersion, ...], expected: list[Check]
) -> None:
    assert checks(*versions, sheets=sheets) == expected


def other_contest(secim: Secim, voted: int) -> Result:
    return replace(SOUND, key=SOUND.key._replace(secim=secim), voted=voted)


def test_contests_of_one_envelope_have_the_same_number_of_voters() -> None:
    results = {Secim.MV: SOUND, Secim.CB: other_contest(Secim.CB, 251)}

    (finding,) = check_contests(results)

    assert (finding.check, dict(finding.numbers)) == (Check.CONTESTS_DIFFER, {"cb": 251, "mv": 252})
    assert list(check_contests({Secim.MV: SOUND, Secim.CB: other_contest(Secim.CB, 252)})) == []


def test_the_muhtar_may_have_an_envelope_of_its_own() -> None:
    assert list(check_contests({Secim.B: SOUND, Secim.MH: other_contest(Secim.MH, 9)})) == []


@pytest.mark.parametrize("check", Check)
def test_every_check_says_what_it_looks_for(check: Check) -> None:
    assert check.says.endswith(".")
    assert check.kind in FindingKind
