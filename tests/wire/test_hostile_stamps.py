"""Stamps that someone has changed: records and answers have the digest of the bytes."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from wire.server import RunningServer, StartServer, until

from keys import digest
from keys.server_keys import stamp_key

CONTENT, CHANGED = b"oku beni " * 1000, b"oku seni " * 1000
FOLDER = "trees/parti-a/2023-05-14-cb-mv"
NO_ATTRIBUTES = """
import errno, os
def refuse(*_):
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
os.getxattr = refuse
"""


def publish(site: Path, name: str, content: bytes = CONTENT) -> Path:
    """Put a file into the tree as the publisher does."""
    path = site / FOLDER / name
    path.write_bytes(content)
    os.utime(path, (1684080000, 1684080000))
    path.chmod(0o644)
    with path.open("rb") as file:
        found = digest.digests_of(content)
        if not digest.stamp(file.fileno(), found, stamp_key.load_or_create(site)):
            pytest.skip("this file system has no extended attributes")
    path.chmod(0o444)
    return path


def change(path: Path, edit: Callable[[Path], object]) -> None:
    """Change a file, and leave it with the mode and the mtime that it had."""
    before = path.stat()
    path.chmod(0o644)
    edit(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(0o444)


def zero(path: Path) -> None:
    os.setxattr(path, "user.ssps.sha256", b"0" * 64)
    for name, size in (("sha1", 40), ("md5", 32)):
        os.setxattr(path, f"user.ssps.{name}", b"0" * size)


def zero_seal_too(path: Path) -> None:
    zero(path)
    parts = os.getxattr(path, "user.ssps.seal").split(b" ")
    parts[2:5] = b"0" * 64, b"0" * 40, b"0" * 32
    os.setxattr(path, "user.ssps.seal", b" ".join(parts))


def stamp_without_the_key(path: Path) -> None:
    with path.open("rb") as file:
        digest.stamp(file.fileno(), digest.digests_of(b"other"), bytes(32))


def write(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(CHANGED)


def copy_stamp(path: Path) -> None:
    write(path)
    other = path.with_name("whole")
    for name in os.listxattr(other):
        os.setxattr(path, name, os.getxattr(other, name))


def remove(path: Path) -> None:
    for name in os.listxattr(path):
        os.removexattr(path, name)


def another_file(path: Path) -> None:
    """Put another file in its place, with a copy of its stamp."""
    fresh = path.with_name(".fresh")
    fresh.write_bytes(CHANGED)
    fresh.chmod(0o644)
    for name in os.listxattr(path):
        os.setxattr(fresh, name, os.getxattr(path, name))
    fresh.replace(path)


# What is done, the bytes that are then served, and the mark on record.
CASES: dict[str, tuple[Callable[[Path], object], bytes, str | None]] = {
    "whole": (lambda path: None, CONTENT, None),
    "zeroed": (zero, CONTENT, None),  # the seal still has the digests
    "zeroed-seal": (zero_seal_too, CONTENT, "stamp-wrong"),
    "replaced": (stamp_without_the_key, CONTENT, "stamp-wrong"),
    "changed": (write, CHANGED, "stamp-wrong"),
    "copied": (copy_stamp, CHANGED, "stamp-wrong"),
    "another-file": (another_file, CHANGED, "stamp-wrong"),
    "unstamped": (remove, CONTENT, "unstamped"),
}


@pytest.fixture
def server(serve: StartServer) -> RunningServer:
    """A server with a sealed file for each case, changed before the server starts."""

    def add_files(site: Path) -> None:
        for name in CASES:
            publish(site, name)
        time.sleep(2 * digest.SETTLE_NS / 1e9)
        for name, (edit, _, _) in CASES.items():
            if name != "whole":
                change(site / FOLDER / name, edit)

    return serve(before=add_files)


def get_all(server: RunningServer, target: Path) -> None:
    target.mkdir()
    got = server.sftp("parti-a", f"get -r 2023-05-14-cb-mv {target}\n")
    assert got.returncode == 0, got.stderr


def closes(server: RunningServer) -> dict[str, tuple[object, object]]:
    """Return digest and mark of each file that was sent."""
    return {
        record.event.what.rpartition("/")[2]: (
            record.event.detail["sha256"],
            record.event.detail.get("stamp"),
        )
        for record in server.records("close")
    }


def test_the_digest_on_record_is_that_of_the_bytes_that_were_sent(
    server: RunningServer, tmp_path: Path
) -> None:
    get_all(server, tmp_path / "got")

    until(lambda: len(server.records("close")) == len(CASES))
    assert closes(server) == {
        name: (hashlib.sha256(content).hexdigest(), mark)
        for name, (_, content, mark) in CASES.items()
    }
    for name, (_, content, _) in CASES.items():
        assert (tmp_path / "got/2023-05-14-cb-mv" / name).read_bytes() == content
    assert '"event": "stamp-wrong"' in server.log.read_text()


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5"])
def test_no_digest_that_is_not_proven_is_given_out(server: RunningServer, algorithm: str) -> None:
    with server.connect("parti-a") as client:
        sftp = client.open_sftp()
        for name, (_, content, _) in CASES.items():
            path = f"2023-05-14-cb-mv/{name}"
            expected = hashlib.new(algorithm, content)
            _, out, _ = client.exec_command(f"{algorithm}sum {path}")
            assert out.read() == f"{expected.hexdigest()}  {path}\n".encode()
            with sftp.open(path) as file:
                assert file.check(algorithm) == expected.digest()

    until(lambda: len(server.records("session-end")) == 1)
    marks = {(r.event.what[1:], r.event.detail.get("stamp")) for r in server.records("hash")}
    # A file whose seal is right, but which changed after it was sealed, is hashed without a mark.
    unmarked = {"whole", "zeroed", "changed"}
    assert marks == {
        (f"2023-05-14-cb-mv/{name}", None if name in unmarked else mark)
        for name, (_, _, mark) in CASES.items()
    }


def test_a_file_that_is_changed_while_it_is_sent_has_no_digest_on_record(
    serve: StartServer,
) -> None:
    server = serve(before=lambda site: publish(site, "page"))
    with server.connect("parti-a") as client:
        with client.open_sftp().open("2023-05-14-cb-mv/page") as file:
            file.read(100)
            change(server.site / FOLDER / "page", write)
            file.read()
        until(lambda: server.records("close"))

    assert closes(server) == {"page": (None, "changed")}


def test_a_file_that_is_linked_into_another_tree_keeps_its_digest(serve: StartServer) -> None:
    server = serve(before=lambda site: publish(site, "page"))
    os.link(server.site / FOLDER / "page", server.site / "linked")

    with server.connect("parti-a") as client, client.open_sftp() as sftp:
        assert sftp.open("2023-05-14-cb-mv/page").read() == CONTENT
    until(lambda: server.records("close"))

    assert closes(server) == {"page": (hashlib.sha256(CONTENT).hexdigest(), None)}


def test_on_a_file_system_without_attributes_every_file_is_hashed_and_marked(
    serve: StartServer, tmp_path: Path
) -> None:
    server = serve(before=lambda site: publish(site, "page"), patch=NO_ATTRIBUTES)
    get_all(server, tmp_path / "got")
    until(lambda: server.records("close"))

    summed = subprocess.run(
        ["ssh", *server.ssh("parti-a"), "127.0.0.1", "sha256sum 2023-05-14-cb-mv/page"],
        capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip

    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert closes(server) == {"page": (sha256, "unstamped")}
    assert summed.stdout.decode().split()[0] == sha256
    assert server.details("hash")[0]["stamp"] == "unstamped"


def test_a_site_without_a_stamp_key_gets_one(serve: StartServer) -> None:
    server = serve()
    key = server.site / "keys/stamps/stamp_key"
    assert key.stat().st_mode & 0o777 == 0o600
