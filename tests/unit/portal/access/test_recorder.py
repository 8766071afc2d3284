"""The writer of the access ledger, with and without a sync before each answer."""

import asyncio
from pathlib import Path

import pytest

from config.event import Event
from keys.ledger import segments
from keys.ledger.writer import Ledger, Unwritable, WritePolicy
from portal.access.recorder import Recorder


def event(number: int) -> Event:
    return Event("page", "parti-a", "127.0.0.1", f"/{number}")


def test_records_of_waiting_requests_are_written_together_with_one_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    with Ledger(tmp_path / "access", policy=WritePolicy(sync_always=True)) as ledger:
        append = ledger.append

        def counting(*events: Event) -> int:
            batches.append(len(events))
            return append(*events)

        monkeypatch.setattr(ledger, "append", counting)
        recorder = Recorder(ledger)

        async def many() -> None:
            await asyncio.gather(*(recorder.record(event(n)) for n in range(50)))

        asyncio.run(many())

    assert sum(batches) == 50 and len(batches) < 10
    written = [r.event.what for r in segments.read_records(tmp_path / "access")]
    assert sorted(written) == sorted(f"/{n}" for n in range(50))


@pytest.mark.parametrize("always", [True, False])
def test_a_record_that_cannot_be_written_is_an_error_for_its_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    with Ledger(tmp_path / "access", policy=WritePolicy(sync_always=always)) as ledger:

        def full(*_: Event) -> int:
            raise Unwritable("no room")

        monkeypatch.setattr(ledger, "append", full)
        recorder = Recorder(ledger)
        with pytest.raises(Unwritable):
            asyncio.run(recorder.record(event(1)))


def test_sync_is_only_done_for_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[str] = []
    with Ledger(tmp_path / "access") as ledger:
        monkeypatch.setattr(ledger, "sync", lambda: syncs.append("sync"))
        recorder = Recorder(ledger)

        async def work() -> None:
            await recorder.sync()
            await recorder.record(event(1))
            await recorder.sync()
            await recorder.sync()

        asyncio.run(work())

    assert syncs == ["sync"]
