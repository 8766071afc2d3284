"""What a confined daemon, which may have been taken over, gets from its broker."""

import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import web_site

from config import load
from config.site import ACCESS
from keys.credentials.users import OPERATORS
from keys.operations import server_state, user_files
from portal import broker_client, programs
from portal.broker import Broker, Child

Question = Callable[[], object]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = web_site.make(tmp_path_factory.mktemp("broker") / "site")
    (made / "ballot.csv").write_text("not a ballot")
    (made / "snapshots" / "00000001").mkdir(parents=True)
    return made


@pytest.fixture
def made(site: Path) -> Iterator[Broker]:
    settings = load.load(site)
    made = Broker(settings, server_state.PORTAL, ACCESS, lambda: None, lambda settings: None)
    with closing(made):
        yield made


@pytest.fixture
def asked(made: Broker) -> Iterator[Callable[..., list[Any]]]:
    """Ask in a child, and return the answers; of an exception, its type and text."""

    def ask(*questions: Question) -> list[Any]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            broker_client.use(theirs)
            try:
                with os.fdopen(writing, "wb") as answer:
                    answer.write(pickle.dumps([outcome(question) for question in questions]))
            finally:
                os._exit(0)
        theirs.close()
        os.close(writing)
        with ours:
            while made._receive(ours):
                pass
        with os.fdopen(reading, "rb") as answer:
            found: list[Any] = pickle.loads(answer.read())  # noqa: S301 - from our own child
        os.waitpid(pid, 0)
        return found

    yield ask


def outcome(question: Question) -> object:
    try:
        return question()
    except Exception as error:
        return type(error).__name__, str(error)


def test_it_answers_for_parties_only(asked: Callable[..., list[Any]]) -> None:
    users, operators, unknown, verb, errand = asked(
        lambda: broker_client.ask("users", "parti-a"),
        lambda: broker_client.ask("users", OPERATORS),
        lambda: broker_client.ask("users", "../signing/x"),
        lambda: broker_client.ask("run", "/bin/sh"),
        lambda: broker_client.ask("submit_errand"),
    )

    assert [user.name for user in users.users] == ["ayse", "temsilci", "servis"]
    assert operators == ("ValueError", "'' has no users here")
    assert unknown == ("ValueError", "'../signing/x' has no users here")
    assert verb == ("KeyError", "'run'")
    assert errand == ("KeyError", "'submit_errand'")


def test_a_user_sets_its_own_password_on_record(
    site: Path, asked: Callable[..., list[Any]]
) -> None:
    before = web_site.password(False).fingerprint
    fresh, again, other = asked(
        lambda: broker_client.ask("set_password", "parti-b", "banu", before, "Uzun-Parola-1881"),
        lambda: broker_client.ask("set_password", "parti-b", "banu", before, "Uzun-Parola-1881"),
        lambda: broker_client.ask("set_totp", "parti-c", "banu", ""),
    )

    assert fresh != before
    in_force = user_files.load(site, "parti-b").named("banu")
    assert in_force is not None
    assert [each.fingerprint for each in in_force.credentials] == [fresh]
    assert again[0] == "ValueError"
    assert other[0] == "ValueError"


def test_it_reads_ballots_and_ledgers_of_its_sites_only(
    site: Path, tmp_path: Path, asked: Callable[..., list[Any]]
) -> None:
    ballot, elsewhere, ledger, unsigned = asked(
        lambda: broker_client.ask("ballot", str(site)),
        lambda: broker_client.ask("ballot", str(tmp_path)),
        lambda: broker_client.ask("receipt", str(site), "operations", 0),
        lambda: broker_client.ask("receipt", str(site), "filing", 0),
    )

    assert ballot[0] == "Faults"
    assert "ballot.csv" in ballot[1]
    assert elsewhere == ("ValueError", f"{str(tmp_path)!r} is not a site of the portal")
    assert ledger == ("ValueError", "'operations' is no ledger of the web site")
    assert unsigned[0] == "NotSignedYet"


def test_only_its_own_programs_run_and_only_on_snapshots(
    site: Path, asked: Callable[..., list[Any]]
) -> None:
    def run(kind: str, *words: str) -> int:
        return programs.start(kind, words, 0, 1).wait()

    key, above, command, shell = asked(
        lambda: run("parquet", "lines", str(site / "keys/signing/signing_key"), "true"),
        lambda: run("parquet", "lines", str(site / "snapshots/00000001/../../parties.toml"), "1"),
        lambda: run("command"),
        lambda: run("/bin/sh"),
    )

    assert key[1].endswith("signing_key is not in a snapshot")
    assert above[0] == "ValueError"
    assert command == ("KeyError", "'command'")
    assert shell == ("KeyError", "'/bin/sh'")


def test_a_program_ends_when_the_daemon_closes_its_socket(
    asked: Callable[..., list[Any]],
) -> None:
    def start() -> str:
        never, _ = os.pipe()
        reading, writing = os.pipe()
        process = programs.start(programs.PICTURE, ["0"], never, writing)
        os.close(writing)
        process.kill()
        return os.read(reading, 1).decode()  # returns when the program has ended

    assert asked(start) == [""]


def test_a_program_is_waited_for_no_longer_than_allowed(asked: Callable[..., list[Any]]) -> None:
    never, _ = os.pipe()

    def wait(seconds: float) -> int:
        process = programs.start(programs.PICTURE, ["0"], never, 1)
        try:
            return process.wait(seconds)
        finally:
            process.kill()

    found = asked(lambda: wait(0.01), lambda: wait(-1))
    assert [kind for kind, _ in found] == ["TimeoutError", "TimeoutError"]


def test_a_program_is_killed_also_while_a_thread_waits_for_it() -> None:
    channel, theirs = socket.socketpair()
    with theirs, channel.makefile("rb"):  # which a thread in `wait` has open
        broker_client.StartedProgram(channel).kill()
        theirs.settimeout(5)
        assert theirs.recv(1) == b""


def test_a_question_that_cannot_be_answered_is_refused_and_the_next_one_is_not(
    made: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def refused(*descriptors: int) -> bool:
        """Say whether the broker closes what it gets, and goes on."""
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as end:
            socket.send_fds(theirs, [b"?"], [*descriptors, writing])
            os.close(writing)
            return made._receive(ours) and end.read() == b""

    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    asking, theirs_too = socket.socketpair()
    with ours, theirs, asking, theirs_too:
        assert refused()  # a pipe is no socket
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            assert refused(theirs_too.fileno())
        with monkeypatch.context() as patch:
            patch.setattr(made, "_room", threading.BoundedSemaphore(1))
            socket.send_fds(theirs, [b"?"], [theirs_too.fileno()])
            assert made._receive(ours)  # it takes the only place, and asks nothing yet
            assert refused(theirs_too.fileno())
            asking.shutdown(socket.SHUT_WR)
            assert asking.recv(1)  # the answer, which frees the place


@pytest.mark.slow
def test_a_stop_that_arrives_during_a_reload_stops_the_daemon(
    made: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def kill(pid: int, number: int) -> None:
        sent.append(number)
        if number == signal.SIGHUP:
            signal.raise_signal(signal.SIGTERM)

    class Daemon(Child):
        polls = 0

        def begin(self, folder: str) -> None:
            signal.raise_signal(signal.SIGHUP)

        def poll(self) -> int | None:
            self.polls += 1
            return None if self.polls <= 2 else -signal.SIGTERM

    monkeypatch.setattr(os, "kill", kill)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with ours, theirs:
            assert made.run(Daemon(0, ours), lambda: None) == 0
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert sent == [signal.SIGHUP, signal.SIGTERM]
