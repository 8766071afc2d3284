"""Whoever may write to keys/ but gives no command gets no access that is not on record."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from wire.served import OPENS, Serve, Served, until

from keys.credentials import ring
from keys.ledger import segments
from scripts.ssps import main


def ssps(served: Served, *words: str) -> None:
    done = CliRunner().invoke(main, [*words, "--why", "x", "--site", str(served.site)])
    assert done.exit_code == 0, done.output


def paste_key(site: Path, party: str, name: str) -> None:
    """Add the public key of a file to the party's ring with an editor."""
    path = ring.ring_path(site, party)
    held = ring.load(site, party)
    line = (site / "clients" / f"{name}.pub").read_text()
    fresh = ring.key_credential(
        line,
        label="",
        not_before=OPENS - timedelta(days=1),
        not_after=None,
        added_by="operator",
    )
    edited = dataclasses.replace(held, credentials=(*held.credentials, fresh))
    signature = path.read_bytes().splitlines(keepends=True)[-1]
    path.write_bytes(ring.format_ring(edited) + signature)


def refused(served: Served) -> int:
    return served.log.read_text().count("keys-unreadable")


@pytest.mark.parametrize("restart", [False, True], ids=["running", "after a restart"])
def test_a_key_that_was_pasted_into_a_ring_lets_nobody_in(serve: Serve, restart: bool) -> None:
    served = serve()
    paste_key(served.site, "parti-a", "stranger")
    if restart:
        served.stop()
        served = serve(again=True)

    until(lambda: refused(served) > 0)
    assert served.sftp("parti-a", "ls\n", key="stranger").returncode == 255

    assert [r for r in served.records() if r.event.event == "login"] == []
    assert "ssps key adopt parti-a" in served.log.read_text()
    # The keys that were good stay good until a restart, and count again once the file is adopted.
    assert served.sftp("parti-a", "ls\n").returncode == (255 if restart else 0)
    ssps(served, "key", "adopt", "parti-a", "--yes")
    assert served.sftp("parti-a", "ls\n", key="stranger").returncode == 0
    *_, record = segments.read_records(served.site / "ledgers/operations")
    assert record.event.event == "key adopt"
    stranger = ring.load(served.site, "parti-a").credentials[-1].fingerprint
    assert stranger in str(record.event.detail["after"])
    assert stranger not in str(record.event.detail["before"])


def test_a_revoked_key_does_not_return_with_an_old_copy_of_the_ring(serve: Serve) -> None:
    served = serve()
    path = ring.ring_path(served.site, "parti-a")
    copy = path.read_bytes()
    ssps(
        served,
        "key",
        "revoke",
        "parti-a",
        ring.load(served.site, "parti-a").credentials[0].fingerprint,
    )
    assert served.sftp("parti-a", "ls\n").returncode == 255

    path.write_bytes(copy)
    until(lambda: refused(served) > 0)

    assert served.sftp("parti-a", "ls\n").returncode == 255
    served.stop()
    assert serve(again=True).sftp("parti-a", "ls\n").returncode == 255
