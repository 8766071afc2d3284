from collections.abc import Collection
from dataclasses import dataclass, field, replace

import pytest
from unit.config.test_result import RESULT

from config.result import Result, ResultKey
from config.result_batch import RowFault
from config.sheet import Secim
from publisher.results.intake.accept import Accepted, DuplicateRow, RejectedRow, decide


@dataclass
class Site:
    known: list[Result] = field(default_factory=list)

    def is_expected(self, key: ResultKey) -> bool:
        return key == RESULT.key

    def has_place(self, key: ResultKey) -> bool:
        return key.place == RESULT.key.place

    def options(self, key: ResultKey) -> Collection[str]:
        return ("parti-a", "parti-b", "parti-c")

    def version(self, key: ResultKey, version: int) -> Result | None:
        return next((r for r in self.known if (r.key, r.version) == (key, version)), None)


SECOND = replace(RESULT, version=2, reason="itiraz kabul", invalid=9)


@pytest.mark.parametrize("known", [[], [SECOND]])
def test_a_new_version_is_accepted_whatever_arrived_before(known: list[Result]) -> None:
    assert decide(RESULT, Site(known)) == Accepted(RESULT)


def test_the_same_version_with_the_same_numbers_is_a_duplicate() -> None:
    again = replace(RESULT, time=RESULT.time.replace(minute=59))

    assert decide(again, Site([RESULT])) == DuplicateRow(RESULT)


@pytest.mark.parametrize(
    ("result", "fault", "message"),
    [
        (
            replace(RESULT, invalid=8),
            RowFault.VERSION_CONFLICT,
            "version 1 was accepted with other numbers, send them as a new version",
        ),
        (
            replace(SECOND, reason=" "),
            RowFault.NO_REASON,
            "version 2 has no neden, say why the numbers changed",
        ),
        (
            replace(RESULT, votes={"parti-z": 1, "parti-a": 2}),
            RowFault.UNKNOWN_OPTION,
            "the ballot of mv in 34-istanbul-1 has no parti-z",
        ),
        (
            replace(RESULT, key=RESULT.key._replace(sandik="9999")),
            RowFault.UNKNOWN_PLACE,
            "the registry has no 34-istanbul-1/kadikoy-2/sandik-9999",
        ),
        (
            replace(RESULT, key=RESULT.key._replace(secim=Secim.CB)),
            RowFault.WRONG_CONTEST,
            "the registry expects no cb sandik-sonuc for 34-istanbul-1/kadikoy-2/sandik-1234",
        ),
    ],
)
def test_a_row_that_cannot_be_is_rejected_with_its_reason(
    result: Result, fault: RowFault, message: str
) -> None:
    assert decide(result, Site([RESULT])) == RejectedRow(fault, message)
