"""What `araclar/` shows in every tree, and that it follows the site's keys."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from unit.publisher.feed.test_feed import CB
from unit.publisher.filed_site import NOON, PageFiler

from config.settings import Settings
from config.site import HOST_KEYS, SIGNING_KEYS
from keys.operations import site_keys
from keys.server_keys import host, sshsig
from publisher.catalog import catalog
from publisher.catalog.queries.feed import FeedQueries
from publisher.feed import readme
from publisher.feed.feed import Feed
from scripts.daemons.run import mirror_script

# An ed25519 host key is enough: an RSA key takes a second to make.
NAMES = ["SHA256SUMS", "allowed_signers", "known_hosts", "mirror.py"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A site with a page and with keys."""
    site = settings.site
    PageFiler(settings).file(CB, "page")
    for folder in ("host", "signing"):
        (site / "keys" / folder).mkdir(parents=True, exist_ok=True)
    host.create_key(site / HOST_KEYS / host.HOST_KEY_NAMES[0], "ssps")
    host.create_key(site / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    return settings


@contextmanager
def open_feed(settings: Settings, client: bytes = b"") -> Iterator[Feed]:
    with FeedQueries(catalog.url(settings.site)) as filings:
        yield Feed(
            settings,
            filings,
            site_keys.signing_key(settings.site),
            lambda: datetime.fromtimestamp(NOON, UTC),
            lambda sha256: settings.site / "store" / sha256,
            client=client or mirror_script(),
        )


def shown(settings: Settings, party: str = "parti-a") -> Path:
    return settings.site / "trees" / party / "araclar"


def begin(settings: Settings, client: bytes = b"") -> None:
    with open_feed(settings, client) as feed:
        feed.begin()


def test_every_tree_shows_the_client_and_the_keys_signed(settings: Settings) -> None:
    begin(settings)

    for party in ("parti-a", "parti-b"):
        folder = shown(settings, party)
        names = sorted(path.name for path in folder.iterdir())
        assert names == sorted(NAMES + [f"{name}.sig" for name in NAMES])
        assert (folder / "mirror.py").read_bytes() == mirror_script()
        hosts = host.known_hosts(settings.site, "127.0.0.1", 2222)
        assert (folder / "known_hosts").read_text() == hosts
        assert (folder / "allowed_signers").read_text() == sshsig.site_allowed_signers(
            settings.site
        )
        assert (folder / "mirror.py").samefile(settings.site / "feed/araclar/mirror.py")


def test_openssh_and_the_commands_of_the_readme_verify_the_tools(
    settings: Settings, tmp_path: Path
) -> None:
    begin(settings)
    tree = shown(settings).parent
    (tree / "allowed_signers").write_text(sshsig.site_allowed_signers(settings.site))

    for command in readme.TOOL_COMMANDS:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tree, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done
    for name in NAMES:
        proved = subprocess.run(
            ["ssh-keygen", "-Y", "verify", "-f", "allowed_signers", "-I", "ysk", "-n", "ssps",
             "-s", f"araclar/{name}.sig"],
            cwd=tree, input=(shown(settings) / name).read_bytes(), capture_output=True, check=False,
        )  # fmt: skip
        assert proved.stdout.startswith(b'Good "ssps" signature for ysk'), proved


def test_other_signed_sums_in_the_place_of_those_of_the_tools_do_not_prove_another_program(
    settings: Settings, tmp_path: Path
) -> None:
    with open_feed(settings) as feed:
        feed.begin()
        feed.tick(0)
    copy = tmp_path / "copy"
    shutil.copytree(shown(settings).parent, copy)
    (copy / "allowed_signers").write_text(sshsig.site_allowed_signers(settings.site))
    [board] = [path.parent for path in copy.glob("*/*/*/SHA256SUMS")]
    for name in ("SHA256SUMS", "SHA256SUMS.sig", "mirror.py"):
        (copy / "araclar" / name).unlink()
    for path in board.iterdir():
        copied = shutil.copytree if path.is_dir() else shutil.copy2
        copied(path, copy / "araclar" / path.name)
    (copy / "araclar/mirror.py").write_text("print('another program')")

    passed = [
        subprocess.run(["bash", "-c", command], cwd=copy, capture_output=True, check=False)
        for command in readme.TOOL_COMMANDS
    ]

    assert [done.returncode == 0 for done in passed] == [True, True, False]


def test_the_server_of_known_hosts_is_the_public_address(settings: Settings) -> None:
    begin(replace(settings, sftp=replace(settings.sftp, address=("sonuc.example", 22))))

    assert (shown(settings) / "known_hosts").read_text().startswith("sonuc.example ssh-ed25519 ")


def test_without_a_name_for_the_server_there_is_no_known_hosts(settings: Settings) -> None:
    begin(replace(settings, sftp=replace(settings.sftp, host="0.0.0.0")))  # noqa: S104

    assert not (shown(settings) / "known_hosts").exists()
    assert "known_hosts" not in (shown(settings) / "SHA256SUMS").read_text()


def test_the_next_host_key_is_shown_within_a_minute(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_RSA_BITS", 2048)
    with open_feed(settings) as feed:
        feed.begin()
        feed.tick(0)
        before = (shown(settings) / "known_hosts").stat()
        host.prepare_next(settings.site / "keys/host")

        feed.tick(60)

        lines = (shown(settings) / "known_hosts").read_text()
        assert host.known_hosts(settings.site, "127.0.0.1", 2222, next_keys=True) in lines
        assert (shown(settings) / "known_hosts").stat().st_mtime > before.st_mtime


def test_unchanged_tools_are_not_written_again(settings: Settings) -> None:
    begin(settings)
    before = {path.name: path.stat().st_ino for path in shown(settings).iterdir()}

    begin(settings)

    assert {path.name: path.stat().st_ino for path in shown(settings).iterdir()} == before


def test_a_new_client_replaces_the_one_in_the_trees(settings: Settings) -> None:
    begin(settings)

    begin(settings, b"#!/usr/bin/env python3\n")

    assert (shown(settings) / "mirror.py").read_bytes() == b"#!/usr/bin/env python3\n"


def test_a_host_key_that_cannot_be_read_does_not_stop_the_feed(settings: Settings) -> None:
    for key in (settings.site / "keys/host").iterdir():
        key.write_text("damaged")

    with capture_logs() as logs:
        begin(settings)

    assert [entry["event"] for entry in logs] == ["tools-not-shown"]
    assert (settings.site / "trees/parti-a/BENIOKU.txt").exists()
