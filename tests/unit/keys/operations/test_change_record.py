from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from config.event import Event
from config.fault import Fault, Faults
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger
from keys.operations.change_record import ChangeRecord, record_change


def tidying(ledger: Ledger) -> AbstractContextManager[ChangeRecord]:
    return record_change(ledger, "tidy", "ayse", "ysk-1", "desk", "dust")


def events(folder: Path) -> list[Event]:
    return [record.event for record in read_records(folder)]


def test_a_change_is_recorded_before_it_is_made(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger, tidying(ledger) as record:
        record.before = "dusty"
        record.done("clean", {"rags": 2})
        (event,) = events(tmp_path)

    assert (event.event, event.who, event.origin, event.what) == ("tidy", "ayse", "ysk-1", "desk")
    assert event.outcome == "ok"
    assert event.detail == {"why": "dust", "before": "dusty", "after": "clean", "rags": 2}


def test_a_refused_change_is_recorded_as_refused(tmp_path: Path) -> None:
    with pytest.raises(Faults), Ledger(tmp_path) as ledger, tidying(ledger) as record:
        record.before = "locked"
        raise Faults([Fault("desk", "", "is locked, fetch the key")])

    (event,) = events(tmp_path)
    assert event.outcome == "refused"
    assert event.detail == {
        "why": "dust",
        "before": "locked",
        "after": None,
        "reason": "desk: is locked, fetch the key",
    }


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Faults([])])
def test_a_change_that_fails_after_its_record_gets_a_second_record(
    tmp_path: Path, error: Exception
) -> None:
    with pytest.raises(type(error)), Ledger(tmp_path) as ledger, tidying(ledger) as record:
        record.done("clean")
        raise error

    first, second = events(tmp_path)
    assert (first.outcome, second.outcome) == ("ok", "failed")
    assert (second.detail["of"], second.detail["after"]) == (0, None)


def test_an_interrupted_change_is_recorded_as_failed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Ledger(tmp_path) as ledger, tidying(ledger):
        raise KeyboardInterrupt

    (event,) = events(tmp_path)
    assert (event.outcome, event.detail["reason"]) == ("failed", "KeyboardInterrupt")


def test_a_request_is_recorded_as_asked(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger, tidying(ledger) as record:
        record.requested({"errand": "7"})

    (event,) = events(tmp_path)
    assert event.event == "asked"
    assert event.detail == {"why": "dust", "before": None, "command": "tidy", "errand": "7"}


def test_a_body_that_does_nothing_leaves_no_record(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger, tidying(ledger):
        pass

    assert events(tmp_path) == []
