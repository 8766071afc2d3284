"""Digests that clients ask for, over exec and over SFTP."""

import hashlib
import os
import subprocess
from pathlib import Path

import paramiko
import pytest
from published import stamp
from wire.server import RunningServer, StartServer, until

from keys import digest

PAGES = {
    "2023-05-14-cb-mv/34-istanbul-1/kadikoy-2/sandik-1/cb-sandik-sonuc-s1.jpg": b"one" * 1000,
    "2023-05-14-cb-mv/34-istanbul-1/kadikoy-2/sandik-1/mv-sandik-sonuc-s1.jpg": b"two" * 40000,
    '2023-05-14-cb-mv/it\'s a "name" $HOME\\x': b"three",
}


# Without the limits extension a client does not ask for limits, like OpenSSH before 8.5.
UNLIMITED = """
from sftpd.sftp import session
session._OFFERED = tuple(each for each in session._OFFERED if b"limits" not in each[0])
"""


@pytest.fixture
def server(serve: StartServer) -> RunningServer:
    """A server with three files; all but the last have their digests stored with the file."""

    def add_pages(site: Path) -> None:
        for number, (path, content) in enumerate(PAGES.items()):
            file = site / "trees/parti-a" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            os.utime(file, (1684080000, 1684080000))
            if number < 2:
                stamp(file, digest.digests_of(content))

    return serve(before=add_pages)


def ssh(server: RunningServer, command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh", *server.ssh("parti-a"), "127.0.0.1", command],
        capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def rclone(server: RunningServer, *words: str) -> subprocess.CompletedProcess[str]:
    config = server.site / "rclone.conf"
    if not config.exists():
        config.write_text(
            f"[ysk]\ntype = sftp\nhost = 127.0.0.1\nport = {server.port}\nuser = parti-a\n"
            f"key_file = {server.site / 'clients/parti-a'}\n"
            f"known_hosts_file = {server.site / 'known_hosts'}\n"
        )
    return subprocess.run(
        ["rclone", "--config", str(config), *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_rclone_detects_the_hash_commands_copies_and_checks(server: RunningServer) -> None:
    mirror = server.site / "mirror"
    copied = rclone(server, "copy", "ysk:/", str(mirror))
    assert copied.returncode == 0, copied.stderr

    checked = rclone(server, "check", "ysk:/", str(mirror))
    hashed = rclone(server, "hashsum", "md5", "ysk:/")
    sha1 = rclone(server, "sha1sum", "ysk:/")
    before = len(server.records("open"))
    again = rclone(server, "sync", "--checksum", "ysk:/", str(mirror))

    assert checked.returncode == 0, checked.stderr
    assert "0 differences found" in checked.stderr
    assert "hashes could not be checked" not in checked.stderr
    assert again.returncode == 0, again.stderr
    assert len(server.records("open")) == before
    for listed, name in ((hashed, "md5"), (sha1, "sha1")):
        lines = {
            path: digest
            for digest, path in (line.split("  ", 1) for line in listed.stdout.splitlines())
        }
        for path, content in PAGES.items():
            assert lines[path] == hashlib.new(name, content).hexdigest()
    config = (server.site / "rclone.conf").read_text()
    assert "md5sum_command = md5sum\n" in config
    assert "sha1sum_command = sha1sum\n" in config
    assert "shell_type = unix\n" in config
    assert "none" not in config

    asked = {(r.event.what, r.event.detail["algorithm"]) for r in server.records("hash")}
    assert asked >= {(f"/{path}", "md5") for path in PAGES}


def test_rclone_without_hashes_compares_size_and_time(server: RunningServer) -> None:
    mirror = server.site / "mirror"
    plain = ("--sftp-disable-hashcheck", "ysk:/", str(mirror))
    synced = rclone(server, "sync", *plain)
    before = len(server.records("open"))

    again = rclone(server, "sync", *plain)

    assert (synced.returncode, again.returncode) == (0, 0), synced.stderr
    assert len(server.records("open")) == before
    assert server.records("hash") == []
    checked = rclone(server, "check", "--download", *plain)
    assert (checked.returncode, "0 differences found" in checked.stderr) == (0, True)


def test_rclone_finds_a_changed_copy_by_its_digest(server: RunningServer) -> None:
    mirror = server.site / "mirror"
    rclone(server, "copy", "ysk:/", str(mirror))
    changed = mirror / next(iter(PAGES))
    changed.write_bytes(b"eno" * 1000)
    os.utime(changed, (1684080000, 1684080000))

    checked = rclone(server, "check", "ysk:/", str(mirror))

    assert checked.returncode == 1
    assert "1 differences found" in checked.stderr


def test_ssh_prints_a_digest_and_no_command_is_executed(server: RunningServer) -> None:
    page = next(iter(PAGES))

    good = ssh(server, f"sha256sum '{page}'")
    missing = ssh(server, "sha256sum /none")
    refused = ssh(server, f"sha256sum '{page}'; id")

    assert good.returncode == 0, good.stderr
    expected = hashlib.sha256(PAGES[page]).hexdigest()
    assert good.stdout == f"{expected}  {page}\n".encode()
    assert (missing.returncode, missing.stdout) == (1, b"")
    assert missing.stderr.endswith(b"sha256sum: /none: No such file or directory\n")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"This server offers SFTP only" in refused.stderr
    until(lambda: server.records("denied"))
    assert [r.event.detail["verb"] for r in server.records("denied")] == ["exec"]
    outcomes = [(r.event.what, r.event.outcome) for r in server.records("hash")]
    assert outcomes == [(f"/{page}", "ok"), ("/none", "refused")]


def test_paramiko_hashes_and_lists_on_one_connection(server: RunningServer) -> None:
    page = next(iter(PAGES))
    client = paramiko.SSHClient()
    client.load_host_keys(str(server.site / "known_hosts"))
    client.connect(
        "127.0.0.1", server.port, "parti-a", key_filename=str(server.site / "clients/parti-a"),
        allow_agent=False, look_for_keys=False,
    )  # fmt: skip
    try:
        sftp = client.open_sftp()
        with sftp.open(page) as file:
            assert file.check("sha256") == hashlib.sha256(PAGES[page]).digest()
            assert file.read() == PAGES[page]
        _, out, _ = client.exec_command("md5sum")
        assert out.read() == b"d41d8cd98f00b204e9800998ecf8427e  -\n"
        assert out.channel.recv_exit_status() == 0
        assert sftp.listdir("2023-05-14-cb-mv/34-istanbul-1") == ["kadikoy-2"]
    finally:
        client.close()


def test_openssh_8_without_the_limits_extension_gets_a_large_file(
    serve: StartServer, tmp_path: Path
) -> None:
    server = serve(patch=UNLIMITED)
    content = os.urandom(20_000_003)
    (server.site / "trees/parti-a/buyuk").write_bytes(content)

    got = server.sftp("parti-a", f"get buyuk {tmp_path}/got\n", "-vv", "-B", "32768", "-R", "64")

    assert got.returncode == 0, got.stderr
    assert "statvfs@openssh.com" in got.stderr
    assert "limits@openssh.com" not in got.stderr
    assert (tmp_path / "got").read_bytes() == content


def test_scp_expands_a_tilde_and_sftp_answers_df(server: RunningServer, tmp_path: Path) -> None:
    page = next(iter(PAGES))
    copied = subprocess.run(
        ["scp", *server.ssh("parti-a"), f"127.0.0.1:~/{page}", str(tmp_path / "got")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    room = server.sftp("parti-a", "df\n")

    assert copied.returncode == 0, copied.stderr
    assert (tmp_path / "got").read_bytes() == PAGES[page]
    assert room.returncode == 0, room.stderr
    assert room.stdout.split()[-1] == "0%"
