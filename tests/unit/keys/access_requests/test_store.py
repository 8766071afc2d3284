"""The files of request forms: one is submitted at a time, and no work is overwritten."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.fault import Faults
from keys.access_requests import store
from keys.access_requests.store import Conflict, State

NOW = datetime(2023, 5, 2, 11, tzinfo=UTC)


def submit(site: Path, form: bytes = b"a = 1\n", version: int = 0) -> store.AccessRequest:
    return store.submit(site, "parti-a", form, version, {}, "parti-a.temsilci", NOW)


def decide(site: Path, old: store.AccessRequest, state: State) -> store.AccessRequest:
    with store.locked(site, "parti-a"):
        return store.decide(site, old, state, "ayse", NOW, "because")


def test_a_form_is_read_back_with_its_state(tmp_path: Path) -> None:
    sent = submit(tmp_path)
    decided = decide(tmp_path, sent, State.RETURNED)

    assert store.requests_of(tmp_path, "parti-a") == (decided,)
    assert (decided.state, decided.reason, decided.decided_by) == ("returned", "because", "ayse")
    assert store.all_requests(tmp_path) == ((decided,), ())
    assert store.request(tmp_path, "parti-a", 2) is None
    assert (tmp_path / "state/requests/parti-a/1.toml").read_bytes() == b"a = 1\n"
    assert (tmp_path / "state/requests/parti-a/1.toml").stat().st_mode & 0o077 == 0


def test_while_one_is_submitted_there_is_no_second(tmp_path: Path) -> None:
    first = submit(tmp_path)
    with pytest.raises(Conflict, match="submitted already"):
        submit(tmp_path, version=1)
    decide(tmp_path, first, State.WITHDRAWN)
    assert submit(tmp_path, version=1).number == 2


def test_of_many_at_the_same_time_one_is_kept(tmp_path: Path) -> None:
    def attempt(number: int) -> bool:
        try:
            submit(tmp_path, b"n = %d\n" % number)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(attempt, range(8)))

    assert kept.count(True) == 1
    assert len(store.requests_of(tmp_path, "parti-a")) == 1


def test_a_draft_of_an_older_version_is_not_saved(tmp_path: Path) -> None:
    first = store.save_draft(tmp_path, "parti-a", 0, {"approver": "ç"}, NOW)
    with pytest.raises(Conflict):
        store.save_draft(tmp_path, "parti-a", 0, {}, NOW)

    assert first.version == 1
    assert store.draft(tmp_path, "parti-a") == first


def test_a_decided_request_is_not_decided_again(tmp_path: Path) -> None:
    sent = submit(tmp_path)
    decide(tmp_path, sent, State.ACCEPTED)
    with pytest.raises(Conflict):
        decide(tmp_path, sent, State.RETURNED)
    assert store.draft(tmp_path, "parti-a") is None  # the next one begins with what is in force


def test_too_many_requests_of_a_party_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_REQUESTS", 1)
    decide(tmp_path, submit(tmp_path), State.RETURNED)
    with pytest.raises(ValueError, match="at most 1 are kept"):
        submit(tmp_path, version=1)


def test_one_damaged_file_hides_no_other(tmp_path: Path) -> None:
    decide(tmp_path, submit(tmp_path), State.RETURNED)
    good = submit(tmp_path, version=1)
    (tmp_path / "state/requests/parti-a/1.json").write_text("")

    for found, (fault,) in (store.readable(tmp_path, "parti-a"), store.all_requests(tmp_path)):
        assert found == (good,)
        assert fault.file == "state/requests/parti-a/1.json"


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"state": "x"}', "[" * 5000])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    submit(tmp_path)
    (tmp_path / "state/requests/parti-a/1.json").write_text(content)
    (tmp_path / "state/requests/parti-a/draft.json").write_text(content)

    with pytest.raises(Faults, match=r"state/requests/parti-a/1\.json: is damaged"):
        store.requests_of(tmp_path, "parti-a")
    with pytest.raises(Faults, match=r"draft\.json: is damaged"):
        store.draft(tmp_path, "parti-a")
