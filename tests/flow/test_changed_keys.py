"""Files under keys/ that are replaced by hand under running daemons are logged and not used."""

import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
from running_site import RunningSite, free_port, running_rehearsal, until

from config.site import KEYS
from keys.ledger import note, segments
from keys.operations import server_state
from keys.server_keys import host, sshsig

pytestmark = pytest.mark.slow


def names(site: Path) -> set[str]:
    """Return every file under keys/: host keys, signing key, stamps, rings, users, certificates."""
    return {str(path.relative_to(site)) for path in (site / KEYS).rglob("*") if path.is_file()}


def logged(served: RunningSite) -> set[str]:
    lines = served.log.read_text().splitlines()
    return {name for line in lines if "key-file-unrecorded" in line for name in names(served.site)
            if f'"{name}"' in line}  # fmt: skip


def runs(site: Path, part: str) -> bool:
    return server_state.read(site, part) is not None


def host_key_process(site: Path) -> int:
    server = str(server_state.holder(site, server_state.SERVE))
    command = ["pgrep", "-P", server, "ssps-hostkeys"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def signed_by(site: Path, key: str) -> bool:
    message = segments.read_checkpoint(site / "ledgers/operations")
    assert message is not None
    try:
        note.open_checkpoint(message, [sshsig.public_key(key)])
    except (note.UnknownSigner, note.WrongSignature):
        return False
    return True


def test_no_file_that_is_replaced_under_a_running_site_is_used_until_it_is_adopted(
    tmp_path: Path,
) -> None:
    with running_rehearsal(tmp_path, boxes=2, web_port=free_port(), staff_port=free_port()) as run:
        site = run.site
        assert run.sftp("parti-a", "ls /").returncode == 0
        for part in (server_state.PORTAL, server_state.STAFF):
            until(partial(runs, site, part), f"{part} runs")
        kinds = names(site)
        assert {name.split("/")[1] for name in kinds} == {
            "host", "signing", "stamps", "parties", "users", "operators.toml", "tls"
        }  # fmt: skip
        shutil.copytree(site / KEYS, tmp_path / "kept")
        before = (site / "keys/signing/signing_key.pub").read_text()

        for name in sorted(kinds):
            path = site / name
            if path.suffix != ".pub":
                host.create_key(path, "by hand", bits=2048 if "rsa" in name else 0)
        (site / "keys/stamps/stamp_key").write_text("11" * 32 + "\n")
        after = (site / "keys/signing/signing_key.pub").read_text()

        until(lambda: logged(run) >= kinds, "all are logged", 30)
        assert run.sftp("parti-a", "ls /").returncode == 0  # the host key that it knows
        run.ssps("portal", "announce", "add", "Deneme.", "--why", "x")
        os.kill(host_key_process(site), signal.SIGKILL)
        until(lambda: "was changed since the server loaded it" in run.log.read_text(), "refusal")
        assert run.sftp("parti-a", "ls /").returncode != 0
        assert not signed_by(site, after)

        refused = run.ssps("key", "adopt", "--site-keys", "--yes", "--why", "x", code=1)
        assert "keys/signing/signing_key.pub: this public key must be kept" in refused
        for name in sorted(kinds):
            if name.split("/")[1] != "host":
                shutil.copy2(tmp_path / "kept" / Path(name).relative_to(KEYS), site / name)
        run.ssps("key", "adopt", "--site-keys", "--yes", "--why", "x")

        run.known_hosts.write_text(host.known_hosts(site, "127.0.0.1", run.port))
        until(lambda: run.sftp("parti-a", "ls /").returncode == 0, "the adopted host key is used")
        until(lambda: signed_by(site, before), "the restored key signs")
        [*_, adopted] = [r for r in run.records("operations") if r.event.event == "key adopt"]
        stated = str(adopted.event.detail["key_files"])
        assert "keys/host/ssh_host_ed25519_key " in stated
        assert "keys/signing/signing_key " not in stated
