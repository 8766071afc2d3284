import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs
from unit.publisher.results.results_site import Killed, ResultsSite, row

from config.site import RESULTS
from publisher.intake import spool
from publisher.intake.lease import Writers
from publisher.intake.watch import Candidate
from publisher.page import Stamp
from publisher.source import Source

pytestmark = pytest.mark.both_databases


def settled(site: ResultsSite, name: str, unchanged: float = 3.0) -> Candidate:
    """Return a file in results/ that was not renamed into place, as the watch offers it."""
    path = site.path / RESULTS / name
    return Candidate(path.parent, str(path), Stamp.of(path.stat()), unchanged)


@contextmanager
def writers(monkeypatch: pytest.MonkeyPatch, answer: Writers) -> Iterator[None]:
    """Let the kernel give that answer to the question who has a file open."""

    @contextmanager
    def blocking(descriptor: int) -> Iterator[Writers]:
        yield answer

    with monkeypatch.context() as patched:
        patched.setattr(spool, "blocking_writers", blocking)
        yield


def claimed(site: ResultsSite, *candidates: Candidate) -> tuple[int, list[str]]:
    """Claim and take in; return how many batches that were, and why the others wait."""
    with site.opened() as (intake, _):
        batches = intake.claim(candidates)
        for batch in batches:
            list(intake.take_in(batch))
        return len(batches), [str(reason) for _, reason in intake.claims.take_postponed()]


def test_a_file_that_a_process_still_writes_waits(site: ResultsSite) -> None:
    site.deliver(row(1), name="a.ndjson")

    with (site.path / RESULTS / "a.ndjson").open("a"):
        assert claimed(site, settled(site, "a.ndjson")) == (
            0,
            ["a process has it open for writing"],
        )

    assert claimed(site, settled(site, "a.ndjson")) == (1, [])


@pytest.mark.parametrize(
    ("name", "content", "answer", "waits"),
    [
        ("a.ndjson", '{"secim": "mv"}\n', Writers.NONE, False),
        ("a.ndjson", '{"secim": "mv"}\n', Writers.UNKNOWN, False),
        ("a.ndjson", '{"secim": "mv"}', Writers.NONE, False),
        ("a.ndjson", '{"secim": "mv"}', Writers.UNKNOWN, True),
        ("a.ndjson", '{"secim": "mv"}\n{"sec', Writers.NONE, True),
        ("a.csv", "secim;surum;zaman\n", Writers.UNKNOWN, False),
        ("a.csv", "secim;surum;zaman", Writers.NONE, False),
        ("a.csv", "secim;surum;zaman", Writers.UNKNOWN, True),
        ("a.ndjson", "", Writers.UNKNOWN, True),
    ],
)
def test_a_file_that_looks_cut_waits(
    site: ResultsSite,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str,
    answer: Writers,
    waits: bool,
) -> None:
    (site.path / RESULTS / name).write_text(content)

    with writers(monkeypatch, answer):
        batches, reasons = claimed(site, settled(site, name))
        assert (batches, len(reasons)) == ((0, 1) if waits else (1, 0))
        if waits:
            assert claimed(site, settled(site, name, unchanged=700.0)) == (1, [])


def test_a_file_whose_writers_are_not_known_is_copied_and_stays_until_it_was_quiet(
    site: ResultsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.deliver(row(1), name="a.ndjson")
    with writers(monkeypatch, Writers.UNKNOWN):
        assert claimed(site, settled(site, "a.ndjson")) == (1, [])
    assert (site.path / RESULTS / "a.ndjson").exists()

    with site.opened() as (intake, _):
        assert list(intake.recover()) == []
        ((source, stamp),) = intake.claims.take_held()
        assert intake.claims.is_left_behind(source, stamp)
        assert intake.claim([settled(site, "a.ndjson")]) == []
        spool.remove(source, stamp)
        intake.claims.forget([source])

    assert site.accepted() == [("1", 1, True)]
    assert len(site.events()) == 1
    with site.opened() as (intake, context):
        assert context.store.left_behind() == []


def test_what_is_added_to_such_a_file_is_taken_in_as_well(
    site: ResultsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.deliver(row(1), name="a.ndjson")
    with writers(monkeypatch, Writers.UNKNOWN):
        claimed(site, settled(site, "a.ndjson"))
        with (site.path / RESULTS / "a.ndjson").open("a") as more:
            more.write(json.dumps(row(2)) + "\n")
        claimed(site, settled(site, "a.ndjson"))

    assert site.accepted() == [("1", 1, True), ("2", 1, True)]
    assert [event for event, _ in site.events()] == ["result", "result-duplicate", "result"]


@pytest.mark.parametrize("step", ["received", "claimed", "kept", "finished"])
def test_killed_at_any_step_a_file_that_stays_is_not_taken_in_twice(
    site: ResultsSite, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    site.deliver(row(1), name="a.ndjson")
    site.kill_at = step
    with writers(monkeypatch, Writers.UNKNOWN):
        with pytest.raises(Killed):
            claimed(site, settled(site, "a.ndjson"))
        with site.opened() as (intake, _):
            list(intake.recover())
            for batch in intake.claim([settled(site, "a.ndjson")]):
                list(intake.take_in(batch))

    assert site.accepted() == [("1", 1, True)]
    assert site.events() == [("result", "34-istanbul-1/kadikoy-2/sandik-1")]


def test_a_pipe_or_a_link_in_results_is_left_alone(site: ResultsSite) -> None:
    folder = site.path / RESULTS
    os.mkfifo(folder / "boru.ndjson")
    secret = site.path / "gizli.ndjson"
    secret.write_text(json.dumps(row(3)) + "\n")
    (folder / "bag.ndjson").symlink_to(secret)
    (folder / "notlar.txt").write_text("x")
    site.deliver(row(1), name="iyi.ndjson")
    found = [
        Candidate(folder, str(path), Stamp.of(path.lstat())) for path in sorted(folder.iterdir())
    ]

    with capture_logs() as logs, site.opened() as (intake, _):
        for _ in range(2):
            for batch in intake.claim(found):
                list(intake.take_in(batch))

    assert site.accepted() == [("1", 1, True)]
    ignored = [entry["file"] for entry in logs if entry["event"] == "results-file-ignored"]
    assert sorted(ignored) == ["bag.ndjson", "boru.ndjson", "notlar.txt"]


def test_a_file_of_the_spool_that_the_database_does_not_know_is_taken_in(
    site: ResultsSite,
) -> None:
    delivered = site.deliver(row(1), name="a.ndjson")
    with site.opened() as (intake, _):
        intake.claim([delivered])
    for path in (site.path / "state").glob("results.sqlite*"):
        path.unlink()

    site.take_in()

    assert site.accepted() == [("1", 1, True)]


@pytest.mark.parametrize("name", ["kotu.ndjson", "kotu.csv"])
def test_a_line_with_nul_is_quarantined_in_each_database(site: ResultsSite, name: str) -> None:
    header = "secim;surum;zaman\n" if name.endswith("csv") else "{}\n"

    site.take_in(site.deliver(f"{header}mv\0;x", name=name), site.deliver(row(1)))

    assert (2, "unreadable") in site.quarantined()
    assert site.accepted() == [("1", 1, True)]


def test_a_batch_that_is_replaced_while_it_is_read_is_taken_in_too(site: ResultsSite) -> None:
    with site.opened() as (intake, _):
        (first,) = intake.claim([site.deliver(row(1), row(2), name="a.ndjson")])
        reading = intake.take_in(first)
        again = site.deliver(row(3), name="a.ndjson")
        list(reading)
        (second,) = intake.claim([again])
        list(intake.take_in(second))

    assert [box for box, _, _ in site.accepted()] == ["1", "2", "3"]


def test_a_source_is_found_by_folder_and_path(site: ResultsSite) -> None:
    site.deliver(row(1), name="a.ndjson")
    source = Source(str(site.path / RESULTS), "a.ndjson")
    with site.opened() as (_, context):
        stamp = settled(site, "a.ndjson").stamp
        context.store.note_left_behind([(source, stamp, "batch")])
        context.store.note_left_behind([(source, stamp, "other")])

        assert context.store.left_behind() == [(source, stamp, "other")]
