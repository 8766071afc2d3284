"""Write verbs of every kind: each works on OpenSSH's server, and changes nothing on ours.

Like OpenSSH's regress/sftp-perm.sh: a denial proves something only if the same packets have an
effect where they are allowed, and if the disk is compared afterwards.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from struct import pack

import pytest
from wire.attacker import (
    CLOSE,
    DENIED,
    FSETSTAT,
    HANDLE,
    OK,
    OPEN,
    WRITE,
    RawSftp,
    logged_in,
    string,
)
from wire.server import StartServer, until

OPENSSH = "/usr/lib/openssh/sftp-server"
SETSTAT, REMOVE, MKDIR, RMDIR, RENAME, SYMLINK, EXTENDED = 9, 13, 14, 15, 18, 20, 200
READING, WRITE_FLAG, CREAT, TRUNC = 0x01, 0x02, 0x08, 0x10
WRITING = READING | WRITE_FLAG
FILE, OTHER, NEW = string(b"dosya"), string(b"diger"), string(b"yeni")
NOTHING = pack(">I", 0)
SIZE, OWNERS, MODE, TIMES = (
    pack(">IQ", 1, 3),
    pack(">III", 2, os.getuid(), os.getgid()),
    pack(">II", 4, 0o600),
    pack(">III", 8, 1, 2),
)

# Sends one verb; its argument is the flags to open a file with. Returns the status code.
Attempt = Callable[[RawSftp, int], int]


def verb(kind: int, body: bytes) -> Attempt:
    return lambda sftp, _: sftp.status(kind, body)


def extension(name: bytes, body: bytes) -> Attempt:
    return verb(EXTENDED, string(name) + body)


def on_handle(kind: int, before: bytes, after: bytes) -> Attempt:
    """A verb that needs an open file, opened for writing if the server allows it."""

    def attempt(sftp: RawSftp, flags: int) -> int:
        handle = sftp.open(b"dosya", flags)
        code = sftp.status(kind, before + handle + after)
        sftp.close(handle)
        return code

    return attempt


def open_and_write(flags: int) -> Attempt:
    """OPEN with these flags, and WRITE if it is granted."""
    name = b"yeni" if flags & CREAT else b"dosya"

    def attempt(sftp: RawSftp, _: int) -> int:
        answer, rest = sftp.request(OPEN, string(name) + pack(">II", flags, 0))
        if answer != HANDLE:
            return int.from_bytes(rest[:4], "big")
        written = sftp.status(WRITE, rest + pack(">Q", 0) + string(b"YAZILDI"))
        assert written == OK or not flags & WRITE_FLAG
        sftp.close(rest)
        return OK

    return attempt


def copy_data(sftp: RawSftp, flags: int) -> int:
    source, target = sftp.open(b"diger"), sftp.open(b"dosya", flags)
    body = string(b"copy-data") + source + pack(">QQ", 0, 0) + target + pack(">Q", 0)
    code = sftp.status(EXTENDED, body)
    sftp.close(source)
    sftp.close(target)
    return code


# Each with whether it changes the disk where it is allowed.
ATTEMPTS: dict[str, tuple[Attempt, bool]] = {
    "WRITE": (on_handle(WRITE, b"", pack(">Q", 2) + string(b"YAZILDI")), True),
    "WRITE far beyond the end": (on_handle(WRITE, b"", pack(">Q", 2**20) + string(b"x")), True),
    "SETSTAT size": (verb(SETSTAT, FILE + SIZE), True),
    "SETSTAT owners": (verb(SETSTAT, FILE + OWNERS), False),
    "SETSTAT mode": (verb(SETSTAT, FILE + MODE), True),
    "SETSTAT times": (verb(SETSTAT, FILE + TIMES), True),
    "SETSTAT mode of a folder": (verb(SETSTAT, string(b"bos") + MODE), True),
    "FSETSTAT size": (on_handle(FSETSTAT, b"", SIZE), True),
    "FSETSTAT owners": (on_handle(FSETSTAT, b"", OWNERS), False),
    "FSETSTAT mode": (on_handle(FSETSTAT, b"", MODE), True),
    "FSETSTAT times": (on_handle(FSETSTAT, b"", TIMES), True),
    "REMOVE": (verb(REMOVE, FILE), True),
    "MKDIR": (verb(MKDIR, NEW + NOTHING), True),
    "MKDIR with a mode": (verb(MKDIR, NEW + MODE), True),
    "RMDIR": (verb(RMDIR, string(b"bos")), True),
    "RENAME": (verb(RENAME, FILE + NEW), True),
    "RENAME of a folder": (verb(RENAME, string(b"bos") + NEW), True),
    "SYMLINK": (verb(SYMLINK, FILE + NEW), True),
    "posix-rename over another": (extension(b"posix-rename@openssh.com", FILE + OTHER), True),
    "hardlink": (extension(b"hardlink@openssh.com", FILE + NEW), True),
    "fsync": (on_handle(EXTENDED, string(b"fsync@openssh.com"), b""), False),
    "lsetstat mode": (extension(b"lsetstat@openssh.com", string(b"bos") + MODE), True),
    "lsetstat times": (extension(b"lsetstat@openssh.com", FILE + TIMES), True),
    "copy-data": (copy_data, True),
    **{
        f"OPEN with flags {flags:#04x}": (
            open_and_write(flags),
            bool(flags & (WRITE_FLAG | CREAT | TRUNC)),
        )
        for flags in range(1, 64)
        if flags & ~READING
    },
}


def add_files(folder: Path) -> None:
    (folder / "dosya").write_bytes(b"tutanak\n")
    (folder / "diger").write_bytes(b"oteki tutanak\n")
    (folder / "bos").mkdir(exist_ok=True)


def state_of(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return everything below a folder that a verb could change."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (
            *(status.st_ino, status.st_mode, status.st_nlink, status.st_uid, status.st_gid),
            *(status.st_size, status.st_mtime_ns),
            path.read_bytes() if path.is_file() else None,
        )
    return found


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_write_verb_works_on_opensshs_server(tmp_path: Path, name: str) -> None:
    attempt, changes_disk = ATTEMPTS[name]
    add_files(tmp_path)
    before = state_of(tmp_path)
    with subprocess.Popen(
        [OPENSSH, "-d", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as server:
        code = attempt(RawSftp.of_process(server), WRITING)
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(10) == 0

    assert code == OK
    if changes_disk:
        assert state_of(tmp_path) != before


def test_every_write_verb_is_denied_and_changes_nothing(serve: StartServer) -> None:
    server = serve()
    tree = server.site / "trees" / "parti-a"
    shutil.rmtree(tree)
    tree.mkdir()
    add_files(tree)
    outside = server.site / "trees" / "store"
    outside.mkdir()
    add_files(outside)
    before, before_outside = state_of(tree), state_of(outside)

    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        codes = {name: attempt(sftp, READING) for name, (attempt, _) in ATTEMPTS.items()}
        changed = state_of(tree) != before

    assert codes == dict.fromkeys(ATTEMPTS, DENIED)
    assert not changed
    assert state_of(outside) == before_outside
    until(lambda: server.records("session-end"))
    denied = server.records("denied")
    assert len(denied) == len(ATTEMPTS)
    assert {record.event.who for record in denied} == {"parti-a"}
    assert {str(record.event.detail["verb"]) for record in denied} == {
        *("open", "write", "setstat", "fsetstat", "remove", "mkdir", "rmdir", "rename", "symlink"),
        *("posix-rename", "hardlink", "fsync", "lsetstat", "copy-data"),
    }


PATHS = (
    *(b"../store/dosya", b"/../store/dosya", b"bos/../../store/dosya", b"yol/dosya", b"yol"),
    *(b"", b"/", b".", b"yok/dosya", b"dosya\0", b"x" * 5000, b"\xff"),
)


def test_write_verbs_are_denied_for_every_path(serve: StartServer) -> None:
    server = serve()
    tree = server.site / "trees" / "parti-a"
    add_files(tree)
    store = server.site / "trees" / "store"
    store.mkdir()
    add_files(store)
    (tree / "yol").symlink_to("../store")
    before, before_outside = state_of(tree), state_of(store)

    codes = {}
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        for path in PATHS:
            name = string(path)
            codes[path] = {
                *(sftp.status(kind, name) for kind in (REMOVE, RMDIR)),
                *(sftp.status(kind, name + MODE) for kind in (SETSTAT, MKDIR)),
                *(sftp.status(kind, name + NEW) for kind in (RENAME, SYMLINK)),
                *(sftp.status(kind, FILE + name) for kind in (RENAME, SYMLINK)),
                sftp.status(OPEN, name + pack(">II", 0x1A, 0)),
                sftp.status(WRITE, name + pack(">Q", 0) + string(b"x")),
                sftp.status(FSETSTAT, name + MODE),
            }
        assert sftp.status(CLOSE, sftp.open(b"dosya")) == OK

    assert codes == {path: {DENIED} for path in PATHS}
    assert (state_of(tree), state_of(store)) == (before, before_outside)
