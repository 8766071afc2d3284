"""Records that nobody signed, and a signer that hangs, are named; nothing is signed as real."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow.test_old_site import ssps, unpack
from running_site import RunningSite, running, until

from config.event import Event
from keys.ledger import segments
from keys.ledger.record import Record, format_record
from keys.operations import server_state


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    old = unpack(tmp_path_factory.mktemp("old"))
    with running(old.site, old.port, old.log):
        assert old.sftp("parti-a", "ls /").returncode == 0
    yield old


def add_by_hand(site: Path, name: str) -> int:
    """Append a record that continues a ledger's numbers; return its number."""
    folder = site / "ledgers" / name
    last = list(segments.read_records(folder))[-1]
    invented = Event("open", "parti-b", "127.0.0.1", "/x")
    path = segments.list_segments(folder)[-1].path
    with path.open("ab") as file:
        file.write(format_record(Record(last.seq + 1, last.time, last.mono + 1, invented)))
    return last.seq + 1


def marks(site: Path, name: str) -> list[dict[str, object]]:
    return [
        dict(record.event.detail)
        for record in segments.read_records(site / "ledgers" / name)
        if record.event.event == "unconfirmed"
    ]


def test_a_record_that_was_added_while_no_daemon_ran_is_not_signed_as_real(
    old: RunningSite,
) -> None:
    assert not any(marks(old.site, name) for name in ("transfer", "filing", "operations"))
    seq = {name: add_by_hand(old.site, name) for name in ("transfer", "filing", "operations")}

    with running(old.site, old.port, old.log):
        assert old.sftp("parti-a", "ls /").returncode == 0
        status = ssps(old.site, "status", "--check")

    for name, number in seq.items():
        assert marks(old.site, name) == [{"first": number, "records": 1}]
        assert f"ledgers/{name}: record {number} was not signed when" in status.stdout
    audited = ssps(old.site, "audit", "verify")
    assert audited.returncode == 0, audited.stdout
    assert audited.stdout.count("unconfirmed: record ") == 3


def test_a_command_does_not_sign_what_was_added_by_hand(old: RunningSite) -> None:
    seq = add_by_hand(old.site, "operations")

    assert ssps(old.site, "party", "suspend", "parti-b", "--why", "x").returncode == 0
    assert ssps(old.site, "party", "resume", "parti-b", "--why", "x").returncode == 0

    assert marks(old.site, "operations")[-1] == {"first": seq, "records": 1}
    assert len(marks(old.site, "operations")) == 2


def test_a_hung_signer_is_named_by_status(old: RunningSite) -> None:
    with running(old.site, old.port, old.log):
        signer = server_state.holder(old.site, "signer")
        assert signer is not None
        os.kill(signer, signal.SIGSTOP)
        assert old.sftp("parti-a", "ls /").returncode == 0

        def warned() -> bool:
            said = ssps(old.site, "status", "--check").stdout
            stuck = "signer-stuck" in old.log.read_text()
            return "records have not been signed for" in said or stuck

        until(warned, "status or the log names the signer that hangs", seconds=60)
        until(lambda: "signer-stuck" in old.log.read_text(), "it is replaced", seconds=60)
    assert ssps(old.site, "audit", "verify").returncode == 0
