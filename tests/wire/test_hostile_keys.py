"""Key files that no command wrote give no access, even to someone who may write to keys/."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from wire.server import OPENS, RunningServer, StartServer, until

from keys.credentials import ring
from keys.ledger import segments
from scripts.ssps import main


def ssps(server: RunningServer, *words: str) -> None:
    done = CliRunner().invoke(main, [*words, "--why", "x", "--site", str(server.site)])
    assert done.exit_code == 0, done.output


def paste_key(site: Path, party: str, name: str) -> None:
    """Add a public key to the party's ring as with a text editor, without a new signature."""
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


def rejections(server: RunningServer) -> int:
    return server.log.read_text().count("keys-unreadable")


@pytest.mark.parametrize("restart", [False, True], ids=["running", "after a restart"])
def test_a_key_pasted_into_a_ring_gives_no_access_until_it_is_adopted(
    serve: StartServer, restart: bool
) -> None:
    server = serve()
    paste_key(server.site, "parti-a", "stranger")
    if restart:
        server.stop()
        server = serve(again=True)

    until(lambda: rejections(server) > 0)
    assert server.sftp("parti-a", "ls\n", key="stranger").returncode == 255

    assert [r for r in server.records() if r.event.event == "login"] == []
    assert "ssps key adopt parti-a" in server.log.read_text()
    # The last good ring stays in use until a restart. Adopting the file makes it the good one.
    assert server.sftp("parti-a", "ls\n").returncode == (255 if restart else 0)
    ssps(server, "key", "adopt", "parti-a", "--yes")
    assert server.sftp("parti-a", "ls\n", key="stranger").returncode == 0
    *_, record = segments.read_records(server.site / "ledgers/operations")
    assert record.event.event == "key adopt"
    stranger = ring.load(server.site, "parti-a").credentials[-1].fingerprint
    assert stranger in str(record.event.detail["after"])
    assert stranger not in str(record.event.detail["before"])


def test_restoring_an_old_copy_of_a_ring_does_not_restore_a_revoked_key(serve: StartServer) -> None:
    server = serve()
    path = ring.ring_path(server.site, "parti-a")
    copy = path.read_bytes()
    ssps(
        server,
        "key",
        "revoke",
        "parti-a",
        ring.load(server.site, "parti-a").credentials[0].fingerprint,
    )
    assert server.sftp("parti-a", "ls\n").returncode == 255

    path.write_bytes(copy)
    until(lambda: rejections(server) > 0)

    assert server.sftp("parti-a", "ls\n").returncode == 255
    server.stop()
    assert serve(again=True).sftp("parti-a", "ls\n").returncode == 255
