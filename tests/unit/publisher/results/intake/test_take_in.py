import hashlib
import json
from collections.abc import Callable

import pytest
from unit.publisher.results.results_site import Killed, ResultsSite, row

from config.site import LEDGERS, RESULTS, RESULTS_LEDGER, RESULTS_SPOOL, original_file
from publisher.results.intake import take_in

pytestmark = pytest.mark.slow

STEPS = ("received", "claimed", "kept", "decided", "recorded", "noted", "finished")
BATCH = [
    row(1),
    row(2),
    row(2),
    row(77),
    "rubbish",
    row(2, surum=2, neden="itiraz kabul", gecersiz=6, oy_kullanan=251),
]


def test_each_row_of_a_batch_is_accepted_a_duplicate_or_in_quarantine(site: ResultsSite) -> None:
    site.take_in(site.deliver(*BATCH))

    assert site.accepted() == [("1", 1, True), ("2", 1, False), ("2", 2, True)]
    assert site.quarantined() == [(4, "unknown-place"), (5, "unreadable")]
    place = "34-istanbul-1/kadikoy-2/sandik-"
    assert site.events() == [
        ("result", f"{place}1"),
        ("result", f"{place}2"),
        ("result-duplicate", f"{place}2"),
        ("result-rejected", f"{place}77"),
        ("result-rejected", ""),
        ("result", f"{place}2"),
    ]


def test_the_bytes_of_a_batch_are_kept_and_its_file_leaves_results(site: ResultsSite) -> None:
    delivered = site.deliver(row(1))
    content = (site.path / RESULTS / "parti-1.ndjson").read_bytes()

    site.take_in(delivered)

    sha256 = hashlib.sha256(content).hexdigest()
    assert (site.path / original_file(sha256)).read_bytes() == content
    assert list((site.path / RESULTS).iterdir()) == []
    assert list((site.path / RESULTS_SPOOL).iterdir()) == []
    with site.store() as store:
        (batch,) = store.batches()
    assert (batch.sha256, batch.accepted, batch.finished) == (sha256, 1, True)


@pytest.mark.parametrize("rows_a_chunk", [2, 100])
@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_each_row_is_recorded_exactly_once(
    site: ResultsSite, step: str, rows_a_chunk: int, small_chunks: Callable[[int], None]
) -> None:
    small_chunks(rows_a_chunk)
    site.take_in(site.deliver(*BATCH))
    events, accepted, quarantined = site.events(), site.accepted(), site.quarantined()
    killed = ResultsSite(site.path.with_name("killed"))
    killed.kill_at = step

    with pytest.raises(Killed):
        killed.take_in(killed.deliver(*BATCH))
    killed.take_in(*killed.waiting())

    assert killed.events() == events
    assert killed.accepted() == accepted
    assert killed.quarantined() == quarantined
    assert killed.waiting() == []


@pytest.mark.parametrize("first", STEPS)
@pytest.mark.parametrize("second", ["decided", "recorded", "noted"])
def test_killed_twice_each_row_is_recorded_exactly_once(
    site: ResultsSite, first: str, second: str, small_chunks: Callable[[int], None]
) -> None:
    small_chunks(2)
    site.kill_at = first
    with pytest.raises(Killed):
        site.take_in(site.deliver(*BATCH))
    site.kill_at = second
    try:
        site.take_in(*site.waiting())
    except Killed:
        site.take_in(*site.waiting())

    assert len(site.events()) == len(BATCH)
    assert site.accepted() == [("1", 1, True), ("2", 1, False), ("2", 2, True)]


SMALL: list[list[object]] = [
    [row(1), row(2)],
    [row(2), "rubbish", row(3)],
    [],
    [row(4)],
    [row(4)],
    [row(3, gecersiz=9), row(3, surum=2, neden="itiraz kabul", gecersiz=6, oy_kullanan=251)],
]


@pytest.mark.parametrize("rows_a_chunk", [2, 100])
@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_batches_that_share_a_chunk_are_recorded_exactly_once(
    site: ResultsSite, step: str, rows_a_chunk: int, small_chunks: Callable[[int], None]
) -> None:
    for batch in SMALL:
        site.take_in(site.deliver(*batch))
    small_chunks(rows_a_chunk)
    killed = ResultsSite(site.path.with_name("killed"))
    killed.kill_at = step

    with pytest.raises(Killed):
        killed.take_in(*(killed.deliver(*batch) for batch in SMALL))
    killed.take_in(*killed.waiting())

    assert sorted(killed.events()) == sorted(site.events())
    assert sorted(killed.accepted()) == sorted(site.accepted())
    assert counted(killed) == counted(site)


def counted(site: ResultsSite) -> list[tuple[str, int, int, int, bool]]:
    """Return what became of the rows of each batch."""
    with site.store() as store:
        found = [
            (b.name, b.accepted, b.duplicates, b.rejected, b.finished) for b in store.batches()
        ]
    return sorted(found)


def test_small_batches_that_wait_together_need_one_sync_of_the_ledger(site: ResultsSite) -> None:
    with site.opened() as (intake, context):
        synced: list[int] = []
        context.ledger.sync = lambda: synced.append(1)  # type: ignore[method-assign]
        claimed = intake.claim([site.deliver(row(box)) for box in range(1, 9)])
        changed = list(intake.take_in(*claimed))

    assert len(synced) == len(changed) == 1
    assert [box for box, _, _ in site.accepted()] == list("12345678")
    assert counted(site) == [(f"parti-{n}.ndjson", 1, 0, 0, True) for n in range(1, 9)]


def test_a_batch_that_cannot_be_copied_does_not_hold_up_those_before_it(site: ResultsSite) -> None:
    with site.opened() as (intake, _):
        claimed = intake.claim([site.deliver(row(box)) for box in (1, 2, 3)])
        spooled = site.path / RESULTS_SPOOL / claimed[1]
        content = spooled.read_bytes()
        spooled.unlink()
        spooled.mkdir()  # stands for a page of the disk that cannot be read
        with pytest.raises(OSError, match="Is a directory"):
            list(intake.take_in(*claimed))

    assert [box for box, _, _ in site.accepted()] == ["1"]

    spooled.rmdir()
    spooled.write_bytes(content)
    site.take_in()
    assert [box for box, _, _ in site.accepted()] == list("123")


def test_records_of_a_chunk_that_are_on_disk_only_in_part_are_completed(site: ResultsSite) -> None:
    site.kill_at = "recorded"
    with pytest.raises(Killed):
        site.take_in(*(site.deliver(row(box)) for box in (1, 2, 3)))
    (segment,) = (site.path / LEDGERS / RESULTS_LEDGER).glob("*.jsonl")
    first, *_ = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(first)

    site.take_in()

    place = "34-istanbul-1/kadikoy-2/sandik-"
    assert site.events() == [("result", f"{place}{box}") for box in (1, 2, 3)]
    with site.store() as store:
        assert [found.seq for found in store.since(0, 3)] == [0, 1, 2]


def test_the_same_batch_again_is_all_duplicates(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1), row(2)))

    site.take_in(site.deliver(row(1), row(2)))

    with site.store() as store:
        counts = {(b.accepted, b.duplicates, b.rejected) for b in store.batches()}
    assert counts == {(2, 0, 0), (0, 2, 0)}


def test_two_batches_that_contradict_each_other_keep_the_first_numbers(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1)), site.deliver(row(1, gecersiz=9)))

    assert site.accepted() == [("1", 1, True)]
    assert site.quarantined() == [(1, "version-conflict")]


def test_a_late_older_version_is_kept_and_does_not_count(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1, surum=2, neden="sayım yenilendi", gecersiz=6)))

    site.take_in(site.deliver(row(1)))

    assert site.accepted() == [("1", 2, True), ("1", 1, False)]


def test_a_batch_of_another_election_is_rejected_row_by_row(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1, election="2018-06-24-cb-mv"), row(2)))

    assert site.quarantined() == [(1, "wrong-election")]
    assert site.accepted() == [("2", 1, True)]


def test_a_file_with_another_name_stays_in_results(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1), name="notlar.txt"), site.deliver(row(2)))

    assert [candidate.path.rpartition("/")[2] for candidate in site.waiting()] == ["notlar.txt"]
    assert site.accepted() == [("2", 1, True)]


def test_a_batch_that_is_written_to_while_it_is_taken_in_is_taken_in_again(
    site: ResultsSite,
) -> None:
    """A process can open a file a moment before it is renamed into the spool."""
    delivered = site.deliver(row(1))
    with site.opened() as (intake, _):
        (claimed,) = intake.claim([delivered])
        batches = intake.take_in(claimed)
        next(batches)
        with (intake.claims.spool / claimed).open("a", encoding="utf-8") as writer:
            writer.write(json.dumps(row(2)) + "\n")
        assert list(batches) == []
        (again,) = intake.take_grown()
        list(intake.take_in(again))

    assert site.accepted() == [("1", 1, True), ("2", 1, True)]


def test_a_very_long_line_is_rejected_and_the_next_row_is_taken(site: ResultsSite) -> None:
    site.take_in(site.deliver('{"a": "' + "x" * (3 << 20), row(2)))

    assert site.quarantined() == [(1, "unreadable")]
    assert site.accepted() == [("2", 1, True)]


def test_very_long_lines_are_not_all_in_memory_at_once(site: ResultsSite) -> None:
    long = ['{"a": "' + f"{number}" * (1 << 20) for number in range(9)] * 3

    changed = site.take_in(site.deliver(*long, row(1)))

    assert len(changed) > 3
    assert len(site.quarantined()) == len(long)
    assert site.accepted() == [("1", 1, True)]


def test_batches_of_one_long_row_share_a_chunk_only_as_far_as_memory_allows(
    site: ResultsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take_in, "CHUNK_BYTES", 20_000)
    batches = [site.deliver(row(box, bos="x" * 9_000)) for box in range(1, 7)]

    changed = site.take_in(*batches)

    assert [len(chunk.results) for chunk in changed] == [2, 2, 2]


def test_a_batch_that_was_claimed_later_stays_later_if_the_clock_is_set_back(
    site: ResultsSite,
) -> None:
    claimed: list[str] = []
    for _ in range(2):
        with site.opened() as (intake, _):
            intake.claims.recover()
            for _ in range(2):
                claimed += intake.claim([site.deliver(row(1, gecersiz=len(claimed)))])
                site.set_clock_back()
    site.kill_at = "decided"
    with pytest.raises(Killed):
        site.take_in()

    site.take_in()

    assert claimed == sorted(claimed)
    assert [event for event, _ in site.events()] == ["result", *["result-rejected"] * 3]


def test_without_a_ballot_every_option_is_unknown(site: ResultsSite) -> None:
    site.ballot = site.ballot.__class__((), "")

    site.take_in(site.deliver(row(1)))

    assert site.quarantined() == [(1, "unknown-option")]
