"""A party's mirror cosigns the checkpoints of the ledgers, and finds out a site that went back."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow.test_old_site import ROOT, ssps, unpack
from running_site import ADDRESS, RunningSite, running, until

from keys.ledger import segments
from keys.server_keys import sshsig

LEDGERS = ("filing", "operations", "transfer")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    yield unpack(tmp_path_factory.mktemp("old"))


def mirror(site: RunningSite, party: str, folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """Run the party's mirror once with a witness in `folder`; return its exit code and output."""
    signers = folder.parent / "allowed_signers"
    signers.write_text(sshsig.site_allowed_signers(site.site))
    command = [
        sys.executable, str(ROOT / "scripts/mirror"), "--host", ADDRESS, "--port", str(site.port),
        "--user", party, "--key", str(site.key(party)), "--known-hosts", str(site.known_hosts),
        "--signers", str(signers), "--to", str(folder.parent / f"copy-{party}"), "--json",
        "--witness", str(folder), "--max-age", "0",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def cosigned(site: RunningSite) -> set[str]:
    folder = site.site / "state/cosigned"
    return {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}


def feed_names_ledgers(site: RunningSite) -> bool:
    """Say whether the newest segment was closed after the daemons had signed their ledgers."""
    newest = (site.site / "trees/parti-a/akis/son.txt").read_text().strip()
    text = (site.site / "trees/parti-a/akis" / newest).read_text()
    return all(f"# defter {name}: " in text for name in LEDGERS)


def test_a_witness_proves_that_a_site_went_back(old: RunningSite, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with running(old.site, old.port, old.log):
        until(lambda: feed_names_ledgers(old), "the feed names the ledgers")
        code, said = mirror(old, "parti-a", witness)
        assert (code, [line["error"] for line in said if "error" in line]) == (0, [])

    names = {f"parti-a/{name}" for name in LEDGERS}
    assert names < cosigned(old)
    assert said[0]["witness"] == (old.site / "state/cosigned/parti-a/key").read_text().strip()
    kept = [r.event for r in old.records() if r.event.event == "witness"]
    assert [event.detail.get("registered") for event in kept] == [True] + [None] * (len(kept) - 1)
    assert {event.what for event in kept} >= set(LEDGERS)
    audited = ssps(old.site, "audit", "verify")
    assert audited.returncode == 0, audited.stdout
    assert audited.stdout.count("were cosigned by the witness of parti-a at ") >= len(LEDGERS)

    # A backup, then more records that the witness sees, then the backup is restored as a whole.
    backup = tmp_path / "backup"
    subprocess.run(["cp", "-a", str(old.site), str(backup)], check=True)
    with running(old.site, old.port, old.log):
        assert old.sftp("parti-a", "ls /").returncode == 0
        newest, before = (folder / "ledgers/transfer/checkpoint" for folder in (old.site, backup))
        until(lambda: newest.read_bytes() != before.read_bytes(), "the ledger is signed again")
        code, _ = mirror(old, "parti-a", witness)
        assert code == 0
    # An auditor with the party's folder sees it without the site's help.
    copies = tmp_path / "copies"
    shutil.copytree(backup / "ledgers", copies)
    key = old.site / "keys/signing/signing_key.pub"
    audited = ssps(old.site, "audit", "verify", copies, "--key", key, "--checkpoint", witness)
    assert audited.returncode == 1
    assert "ledgers/transfer" not in audited.stdout
    assert "transfer: rewritten: does not extend" in audited.stdout
    shutil.rmtree(old.site)
    subprocess.run(["cp", "-a", str(backup), str(old.site)], check=True)

    (tmp_path / "copy-parti-a").rename(tmp_path / "away")  # the mirror itself would see it too
    with running(old.site, old.port, old.log):
        code, said = mirror(old, "parti-a", witness)
        assert code == 1
        assert "VERIFICATION FAILED: the ledger " in said[-1]["error"]
        assert " went back: it had " in said[-1]["error"]
        status = ssps(old.site, "status", "--check")
        assert "(checkpoint cosigned by parti-a): it was rolled back" in status.stdout
    assert '"event": "ledger-behind-witness"' in old.log.read_text()
    against = [name for name in cosigned(old) if name.endswith(".against")]
    assert against
    failed = [r.event for r in old.records() if r.event.event == "witness"][-1]
    assert (failed.outcome, failed.detail["reason"]) == ("failed", "the ledger does not extend it")

    refused = ssps(old.site, "run")
    assert refused.returncode == 1
    assert "(checkpoint cosigned by parti-a): it lacks its newest records" in refused.stderr
    assert ssps(old.site, "recover", "--yes", "--why", "restored").returncode == 0
    (tmp_path / "copy-parti-a").exists() and shutil.rmtree(tmp_path / "copy-parti-a")
    with running(old.site, old.port, old.log):
        code, said = mirror(old, "parti-a", witness)
        assert code == 1, "the party decides when it trusts the server again"
        for name in LEDGERS:
            (witness / name).unlink(missing_ok=True)
        code, said = mirror(old, "parti-a", witness)
        assert code == 0, said
    assert ssps(old.site, "audit", "verify").returncode == 0
    last = list(segments.read_records(old.site / "ledgers/operations"))
    assert any(record.event.event == "recover" for record in last)
