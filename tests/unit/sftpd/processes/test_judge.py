"""The judge, and the processes that answer the monitor: real processes, in their sandbox."""

import os
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from paramiko.ed25519key import Ed25519Key
from structlog.testing import capture_logs

from keys.credentials import ring
from keys.kernel import process
from keys.server_keys import host
from sftpd.monitor.loop import Loop
from sftpd.processes import restarts
from sftpd.processes.judge import Judge, signature_is_valid
from sftpd.sandbox import sandbox
from sftpd.sandbox.sandbox import SandboxPolicy

POLICY = SandboxPolicy(sandbox.kernel())


@pytest.fixture(autouse=True)
def cheap_passwords() -> None:
    """Hash at the real cost."""


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    assert len(loop) == 0
    loop.close()


@pytest.fixture
def judge(loop: Loop) -> Iterator[Judge]:
    judge = Judge(loop, lambda: sandbox.restrict_responder(POLICY))
    judge.start()
    yield judge
    judge.stop()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Ed25519Key:
    path: Path = tmp_path_factory.mktemp("keys") / "key"
    host.create_key(path, "")
    return Ed25519Key(filename=str(path))


def answers(loop: Loop, count: int, ask: Callable[[Callable[..., object]], object]) -> list[object]:
    """Return what `ask` is answered, after that many answers."""
    found: list[object] = []
    ask(lambda *answer: found.append(answer[0] if len(answer) == 1 else answer))
    while len(found) < count:
        loop.run_once()
    return found


def test_the_judge_takes_less_of_the_processor_than_the_sessions(loop: Loop, judge: Judge) -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    answers(loop, 1, lambda answer: judge.verify("ssh-ed25519", b"", b"", b"", answer))

    assert os.getpriority(os.PRIO_PROCESS, judge._responder._pid) == min(mine + 10, 19)


@pytest.mark.slow
def test_a_password_is_compared_with_each_hash(loop: Loop, judge: Judge) -> None:
    hashes = [ring.hash_password(text) for text in ("bir", "iki")]

    def ask(answer: Callable[..., object]) -> None:
        for text, known in (("iki", hashes), ("uc", hashes), ("uc", [])):
            judge.check_password(known, text, answer)

    found = answers(loop, 3, ask)

    assert sorted(found, key=str) == [(True, 1), (True, None), (True, None)]


@pytest.mark.slow
def test_a_new_password_is_hashed(loop: Loop, judge: Judge) -> None:
    [secret] = answers(loop, 1, lambda answer: judge.hash_password("yeni", answer))

    assert ring.matching_hash([str(secret)], "yeni") == 0


def test_a_signature_is_verified(loop: Loop, judge: Judge, key: Ed25519Key) -> None:
    signature = key.sign_ssh_data(b"text").asbytes()

    def ask(answer: Callable[..., object]) -> None:
        for text in (b"text", b"other"):
            judge.verify("ssh-ed25519", key.asbytes(), text, signature, answer)

    assert answers(loop, 2, ask) == [True, False]


def test_a_wrong_signature_is_not_valid(key: Ed25519Key) -> None:
    right = key.sign_ssh_data(b"text").asbytes()
    changed = right[:-1] + bytes([right[-1] ^ 1])
    other = right.replace(b"ed25519", b"ed25518")
    for signature in (changed, other, b"", right[:20]):
        assert not signature_is_valid("ssh-ed25519", key.asbytes(), b"text", signature)
    for blob in (b"", b"rubbish", key.asbytes()[:-1]):
        assert not signature_is_valid("ssh-ed25519", blob, b"text", right)
    assert signature_is_valid("ssh-ed25519", key.asbytes(), b"text", right)


@pytest.mark.slow
def test_a_judge_that_dies_is_replaced_and_its_questions_are_answered(
    loop: Loop, judge: Judge, key: Ed25519Key
) -> None:
    signature = key.sign_ssh_data(b"text").asbytes()
    dead = judge._responder._pid
    os.kill(dead, signal.SIGSTOP)  # so that it cannot answer before it dies

    def ask(answer: Callable[..., object]) -> None:
        judge.verify("ssh-ed25519", key.asbytes(), b"text", signature, answer)
        os.kill(dead, signal.SIGKILL)

    with capture_logs() as logs:
        assert answers(loop, 1, ask) == [None]
        while judge._responder._pid == dead:
            loop.run_once()

    assert [(log["event"], log["name"], log["status"]) for log in logs] == [
        ("process-died", "judge", -signal.SIGKILL)
    ]
    again = answers(
        loop, 1, lambda to: judge.verify("ssh-ed25519", key.asbytes(), b"text", signature, to)
    )
    assert again == [True]


def test_a_judge_that_hangs_is_replaced_and_its_question_answered_with_none(
    loop: Loop, judge: Judge, key: Ed25519Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = key.sign_ssh_data(b"text").asbytes()
    question = ("ssh-ed25519", key.asbytes(), b"text", signature)
    hangs, found = judge._responder._pid, list[object]()
    assert answers(loop, 1, lambda answer: judge.verify(*question, answer)) == [True]
    os.kill(hangs, signal.SIGSTOP)
    monkeypatch.setattr(restarts, "_STUCK_AFTER", 0.0)
    judge.replace_if_stuck()
    assert judge._responder._pid == hangs  # it owes no answer

    with capture_logs() as logs:
        judge.verify(*question, found.append)
        judge.replace_if_stuck()
        while judge._responder._pid == hangs or not found:
            loop.run_once()

    assert found == [None]
    assert [log["event"] for log in logs] == ["process-stuck", "process-died"]
    assert answers(loop, 1, lambda answer: judge.verify(*question, answer)) == [True]


def test_a_judge_that_is_slow_on_a_busy_machine_is_not_replaced(
    loop: Loop, judge: Judge, key: Ed25519Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = key.sign_ssh_data(b"text").asbytes()
    question = ("ssh-ed25519", key.asbytes(), b"text", signature)
    assert answers(loop, 1, lambda answer: judge.verify(*question, answer)) == [True]
    slow, used = judge._responder._pid, count(1)
    os.kill(slow, signal.SIGSTOP)
    monkeypatch.setattr(restarts, "_STUCK_AFTER", 0.0)
    monkeypatch.setattr(process, "cpu_seconds", lambda _: float(next(used)))
    judge.verify(*question, lambda _: None)

    for _ in range(5):
        judge.replace_if_stuck()

    assert judge._responder._pid == slow


def test_a_fault_in_what_follows_an_answer_ends_nothing(
    loop: Loop, judge: Judge, key: Ed25519Key
) -> None:
    signature = key.sign_ssh_data(b"text").asbytes()
    question = ("ssh-ed25519", key.asbytes(), b"text", signature)

    def fail(_: object) -> None:
        raise TypeError("a fault of ours")

    with capture_logs() as logs:
        judge.verify(*question, fail)
        assert answers(loop, 1, lambda answer: judge.verify(*question, answer)) == [True]

    assert [log["event"] for log in logs] == ["message-failed"]


def test_a_responder_is_confined(judge: Judge, loop: Loop, key: Ed25519Key) -> None:
    signature = key.sign_ssh_data(b"text").asbytes()
    question = ("ssh-ed25519", key.asbytes(), b"text", signature)
    assert answers(loop, 1, lambda answer: judge.verify(*question, answer)) == [True]
    status = Path(f"/proc/{judge._responder._pid}/status").read_text()
    if POLICY.kernel.seccomp:
        assert "Seccomp:\t2\n" in status
    assert "NoNewPrivs:\t1\n" in status
    assert "CapEff:\t0000000000000000\n" in status
