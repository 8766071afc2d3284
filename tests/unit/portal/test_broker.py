"""What a confined daemon, which may have been taken over, gets from its broker."""

import os
import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import web_site

from config import load
from config.site import ACCESS
from keys.credentials.users import OPERATORS
from keys.operations import server_state, user_files
from portal import broker_client, programs
from portal.broker import Broker

Question = Callable[[], object]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = web_site.make(tmp_path_factory.mktemp("broker") / "site")
    (made / "ballot.csv").write_text("not a ballot")
    (made / "snapshots" / "00000001").mkdir(parents=True)
    return made


@pytest.fixture
def asked(site: Path) -> Iterator[Callable[..., list[Any]]]:
    """Ask in a child, and return the answers; of an exception, its type and text."""
    made = Broker(load.load(site), server_state.PORTAL, ACCESS, lambda: None, lambda settings: None)

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
    users, operators, unknown, verb = asked(
        lambda: broker_client.ask("users", "parti-a"),
        lambda: broker_client.ask("users", OPERATORS),
        lambda: broker_client.ask("users", "../signing/x"),
        lambda: broker_client.ask("run", "/bin/sh"),
    )

    assert [user.name for user in users.users] == ["ayse", "temsilci", "servis"]
    assert operators == ("ValueError", "'' has no users here")
    assert unknown == ("ValueError", "'../signing/x' has no users here")
    assert verb == ("KeyError", "'run'")


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
