import os
import resource
import subprocess

import pytest

from keys.kernel import capabilities
from sftpd.monitor import cpu_shares
from sftpd.monitor.cpu_shares import CpuShares, Rank

FIRST, SECOND, LOGIN = Rank


def test_a_party_that_is_alone_gets_nice_zero() -> None:
    assert cpu_shares.niceness({"a": 32}) == {"a": 0}
    assert cpu_shares.niceness({}) == {}


def test_parties_with_equally_many_sessions_get_nice_zero() -> None:
    assert cpu_shares.niceness({"a": 7, "b": 7}) == {"a": 0, "b": 0}


def test_sixteen_sessions_together_weigh_as_much_as_one() -> None:
    found = cpu_shares.niceness({"a": 16, "b": 1, "c": 2})
    assert found == {"a": 12, "b": 0, "c": 3}
    assert 0.8 < 16 / 1.25 ** found["a"] < 1.25


def test_nice_is_at_most_19() -> None:
    assert cpu_shares.niceness({"a": 512, "b": 1}) == {"a": 19, "b": 0}


def shares(*, may_lower: bool = True, **busy: int) -> CpuShares:
    made = CpuShares(may_lower=may_lower)
    made.set_busy(busy)
    return made


def of_sessions(shares: CpuShares, parties: str) -> list[tuple[int, Rank]]:
    return [shares.share(party, logged_in=True) for party in parties]


def test_the_sessions_of_the_party_with_the_fewest_come_first() -> None:
    assert of_sessions(shares(a=16, b=1, c=2), "abc") == [(15, SECOND), (0, FIRST), (6, SECOND)]
    assert of_sessions(shares(a=7, b=7), "ab") == [(0, SECOND)] * 2
    assert of_sessions(shares(a=7), "a") == [(0, SECOND)]
    assert of_sessions(shares(), "a") == [(0, SECOND)]


def test_of_parties_with_equally_many_sessions_those_that_use_less_come_first() -> None:
    shares = CpuShares()
    shares.add_session_work("a", 0.3)
    shares.add_session_work("b", 0.29)
    shares.add_session_work("c", 0.1)
    shares.set_busy({"a": 1, "b": 1, "c": 1, "d": 1})

    assert of_sessions(shares, "abcd") == [(3, SECOND), (3, SECOND), (0, FIRST), (0, FIRST)]


def test_the_second_rank_never_exceeds_the_highest_nice_value() -> None:
    assert of_sessions(shares(a=64, b=1), "ab") == [(19, SECOND), (0, FIRST)]


def test_a_party_whose_sessions_are_idle_counts_as_one_with_one_session() -> None:
    assert of_sessions(shares(a=16, b=0), "ab") == [(15, SECOND), (0, FIRST)]


def test_what_other_processes_do_for_a_party_counts_for_it() -> None:
    shares = CpuShares()
    for _ in range(3):
        shares.add_session_work("a", 0.1)
        shares.add_other_work("a", 0.1)
        shares.add_session_work("b", 0.2)
        shares.end_interval()
    shares.set_busy({"a": 4, "b": 4})
    assert of_sessions(shares, "ab") == [(6, SECOND), (0, FIRST)]  # 1.25 to the third is 2

    for _ in range(20):  # `a` has ended meanwhile
        shares.add_session_work("b", 0.2)
        shares.end_interval()
    shares.set_busy({"a": 4, "b": 4})
    assert of_sessions(shares, "ab") == [(0, FIRST), (3, SECOND)]


def test_work_for_a_party_without_a_session_changes_no_share() -> None:
    shares = CpuShares()
    shares.add_other_work("a", 5.0)
    shares.set_busy({"a": 1, "b": 1})

    assert of_sessions(shares, "ab") == [(0, SECOND)] * 2


def test_a_connection_before_its_login_has_the_nice_value_of_its_party() -> None:
    assert shares(a=16, b=1).share("a", logged_in=False) == (12, LOGIN)


def test_without_a_way_back_a_connection_keeps_nice_zero_until_its_login() -> None:
    assert shares(a=16, b=1, may_lower=False).share("a", logged_in=False) == (0, LOGIN)


@pytest.mark.parametrize(
    ("limit", "capabilities_", "expected"),
    [(0, (), False), (19, (), False), (20, (), True), (0, (23,), True), (-1, (), True)],
)
def test_a_nice_value_can_be_lowered_with_a_limit_or_a_capability(
    limit: int,
    capabilities_: tuple[int, ...],
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(capabilities, "has", capabilities_.__contains__)

    assert cpu_shares.may_lower(0) is expected


def test_a_share_is_a_nice_value_and_a_scheduling_policy() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        before = os.getpriority(os.PRIO_PROCESS, process.pid)
        found = []
        for nice, rank in ((before, SECOND), (before, FIRST), (min(before + 3, 19), SECOND)):
            cpu_shares.set_share(process.pid, nice, rank)
            policy = os.sched_getscheduler(process.pid)
            found.append((os.getpriority(os.PRIO_PROCESS, process.pid), policy))
        process.kill()

    assert found == [
        (before, os.SCHED_BATCH),
        (before, os.SCHED_OTHER),
        (min(before + 3, 19), os.SCHED_BATCH),
    ]


def test_a_process_that_has_ended_is_ignored() -> None:
    cpu_shares.set_share(2**22 + 1, 5, FIRST)
