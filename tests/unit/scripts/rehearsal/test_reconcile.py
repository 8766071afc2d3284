from datetime import UTC, datetime, timedelta
from pathlib import Path

from config.event import Event, ResultsEvent
from config.site import LEDGERS, RESULTS_LEDGER
from keys.ledger.writer import Ledger
from scripts.rehearsal.reconcile import lags_of_results

NOON = datetime(2023, 5, 14, 12, 0, tzinfo=UTC)


def test_the_lag_of_results_ends_with_their_record_and_with_the_snapshot_after_it(
    tmp_path: Path,
) -> None:
    times = iter(NOON + timedelta(seconds=at) for at in (3, 10, 12, 20))
    with Ledger(tmp_path / LEDGERS / RESULTS_LEDGER, lambda: next(times)) as ledger:
        for event, batch in (
            (ResultsEvent.ACCEPTED, "1.ndjson"),
            (ResultsEvent.SNAPSHOT, ""),
            (ResultsEvent.ACCEPTED, "2.ndjson"),
            (ResultsEvent.SNAPSHOT, ""),
        ):
            ledger.append(Event(event, "publisher", batch, "34-istanbul-1"))

    lags = lags_of_results(
        tmp_path, {"1.ndjson": NOON + timedelta(seconds=1), "2.ndjson": NOON + timedelta(seconds=8)}
    )

    assert lags == {
        "results_recorded_p50": 4.0,
        "results_recorded_p99": 4.0,
        "results_recorded_max": 4.0,
        "results_published_p50": 12.0,
        "results_published_p99": 12.0,
        "results_published_max": 12.0,
    }


def test_without_results_there_is_no_lag(tmp_path: Path) -> None:
    assert set(lags_of_results(tmp_path, {}).values()) == {None}
