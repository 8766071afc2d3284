from collections import Counter

import pytest

from keys.operations.publisher_state import PublisherState
from keys.prometheus import MAX_REQUEST, respond
from sftpd.ipc.messages import READ_TIME_BOUNDS
from sftpd.monitor.metrics import Counters, Gauges, MetricsPage, ReadLatencies

GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


def page(counters: Counters) -> list[str]:
    now = Gauges(Counter({"parti-a": 2}), 3, 0.25, 4, 1684072800.0)
    return MetricsPage(counters, lambda: now)().decode().splitlines()


def test_the_page_shows_every_counter_and_gauge() -> None:
    counters = Counters(forks=9)
    counters.logins["parti-a"] = 5
    counters.bytes_sent["parti-a"] = 200_000
    counters.files["parti-a"] = 1
    counters.count_refusal("connection-refused", "address")
    counters.count_refusal("connection-refused", "address")
    counters.count_refusal("login-refused", "wrong credential")
    lines = [line for line in page(counters) if not line.startswith(("#", "ssps_read"))]
    assert lines == [
        'ssps_sessions{party="parti-a"} 2.0',
        "ssps_connections 3.0",
        'ssps_logins_total{party="parti-a"} 5.0',
        'ssps_refusals_total{event="connection-refused",reason="address"} 2.0',
        'ssps_refusals_total{event="login-refused",reason="wrong credential"} 1.0',
        'ssps_sent_bytes_total{party="parti-a"} 200000.0',
        'ssps_files_total{party="parti-a"} 1.0',
        "ssps_ledger_lag_seconds 0.25",
        "ssps_ledger_unsynced_records 4.0",
        "ssps_forks_total 9.0",
        "ssps_start_time_seconds 1.6840728e+09",
        "ssps_key_files_damaged 0.0",
    ]


def test_latencies_are_a_cumulative_histogram() -> None:
    counters = Counters()
    counters.reads.add([3, 0, 1, *[0] * (len(READ_TIME_BOUNDS) - 3), 2], 1_500_000)
    lines = [line for line in page(counters) if line.startswith("ssps_read")]
    assert lines[0] == 'ssps_read_seconds_bucket{le="0.0001"} 3.0'
    assert lines[2] == 'ssps_read_seconds_bucket{le="0.0005"} 4.0'
    assert lines[-4:] == [
        'ssps_read_seconds_bucket{le="1.0"} 4.0',
        'ssps_read_seconds_bucket{le="+Inf"} 6.0',
        "ssps_read_seconds_count 6.0",
        "ssps_read_seconds_sum 1.5",
    ]


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [1],
        [0] * len(READ_TIME_BOUNDS),
        [0] * len(READ_TIME_BOUNDS) + [-1],
        [1 << 53] * (len(READ_TIME_BOUNDS) + 1),
    ],
)
def test_counts_that_are_not_a_histogram_are_rejected(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="histogram"):
        ReadLatencies().add(counts, 0)


def test_the_number_of_different_reasons_is_limited() -> None:
    counters = Counters()
    for number in range(1000):
        counters.count_refusal("login-refused", str(number))
    assert len(counters.refusals) == 101
    assert counters.refusals["login-refused", "other"] == 900


def test_the_page_shows_when_each_partys_last_credential_expires() -> None:
    now = Gauges(Counter(), 0, 0.0, 0, 0.0, {"parti-a": float("inf"), "parti-b": 1800.0}, 1)
    found = MetricsPage(Counters(), lambda: now)().decode()
    assert 'ssps_credential_seconds{party="parti-a"} +Inf' in found
    assert 'ssps_credential_seconds{party="parti-b"} 1800.0' in found
    assert "ssps_key_files_damaged 1.0" in found


def test_two_pages_are_independent() -> None:
    first, second = Counters(forks=1), Counters(forks=2)
    assert "ssps_forks_total 1.0" in page(first)
    assert "ssps_forks_total 2.0" in page(second)


def test_a_get_is_answered_with_the_page() -> None:
    found = respond(GET, lambda: b"page\n")
    assert found is not None
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/plain; version=0.0.4; charset=utf-8",
        b"Content-Length: 5",
        b"Connection: close",
    ]
    assert body == b"page\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET.replace(b"GET", b"POST"), b"405"),
        (GET.replace(b"GET", b"HEAD"), b"405"),
        (GET.replace(b"/metrics", b"/"), b"404"),
        (GET.replace(b"/metrics", b"/../etc/passwd"), b"404"),
        (GET.replace(b"HTTP/1.1", b"SSH-2.0"), b"400"),
        (b"\r\n\r\n", b"400"),
        (b"\xff\0" * 20 + b"\r\n\r\n", b"400"),
        (b"x" * MAX_REQUEST, b"431"),
    ],
)
def test_any_other_request_is_refused(request_: bytes, status: bytes) -> None:
    found = respond(request_, lambda: pytest.fail("the page was rendered"))
    assert found is not None
    assert found.split(b" ")[1] == status


def test_an_incomplete_request_is_not_answered_yet() -> None:
    assert [respond(GET[:size], bytes) for size in range(len(GET))] == [None] * len(GET)


def test_the_page_says_what_keeps_the_running_publisher_from_filing() -> None:
    halted = PublisherState(1, ("disk full", "2023-05-14T14:00:00Z"), trouble_count=3)

    def shown(state: PublisherState | None) -> bytes:
        return MetricsPage(Counters(), lambda: Gauges(Counter(), 0, 0.0, 0, 0.0, publisher=state))()

    without, with_one = shown(None), shown(halted)

    assert b"ssps_intake_troubles" not in without
    assert b"ssps_intake_troubles 3.0" in with_one
    assert b"ssps_publisher_halted 1.0" in with_one
