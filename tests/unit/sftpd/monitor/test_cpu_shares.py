import os
import subprocess

from sftpd.monitor import cpu_shares


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


def test_the_sessions_of_the_party_with_the_most_do_not_preempt_others() -> None:
    assert cpu_shares.preempting({"a": 16, "b": 1, "c": 2}) == {"b", "c"}
    assert cpu_shares.preempting({"a": 7, "b": 7}) == set()
    assert cpu_shares.preempting({}) == set()


def test_a_share_is_a_nice_value_and_a_scheduling_policy() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        before = os.getpriority(os.PRIO_PROCESS, process.pid)
        found = []
        for nice, preempts in ((before, False), (before, True), (min(before + 3, 19), False)):
            cpu_shares.set_share(process.pid, nice, preempts=preempts)
            policy = os.sched_getscheduler(process.pid)
            found.append((os.getpriority(os.PRIO_PROCESS, process.pid), policy))
        process.kill()

    assert found == [
        (before, os.SCHED_BATCH),
        (before, os.SCHED_OTHER),
        (min(before + 3, 19), os.SCHED_BATCH),
    ]


def test_a_process_that_has_ended_is_ignored() -> None:
    cpu_shares.set_share(2**22 + 1, 5, preempts=True)
