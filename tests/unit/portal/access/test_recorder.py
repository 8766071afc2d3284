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

        async def many() -> list[int]:
            asked = (recorder.record(*[event(n)] * (1 + n % 2)) for n in range(50))
            return await asyncio.gather(*asked)

        numbers = asyncio.run(many())

    assert sum(batches) == 75 and len(batches) < 10
    written = [r.event.what for r in segments.read_records(tmp_path / "access")]
    assert [written[number] for number in numbers] == [f"/{n}" for n in range(50)]
    assert len(set(numbers)) == 50


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
