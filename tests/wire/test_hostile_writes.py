"""Write verbs of every kind: each works against OpenSSH's server, and changes nothing on ours.

In the manner of OpenSSH's regress/sftp-perm.sh: a denial proves something only if the very same
packets do their work where they are allowed to, and if the disk is looked at afterwards.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from struct import pack

import pytest
from wire.attacker import CLOSE, DENIED, FSETSTAT, HANDLE, OK, OPEN, WRITE, Raw, logged_in, string
from wire.served import Serve, until

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

# What is sent, given how to open a file that would be written to.
Attempt = Callable[[Raw, int], int]


def verb(kind: int, body: bytes) -> Attempt:
    return lambda raw, _: raw.code(kind, body)


def extension(name: bytes, body: bytes) -> Attempt:
    return verb(EXTENDED, string(name) + body)


def on_handle(kind: int, before: bytes, after: bytes) -> Attempt:
    """One that needs a file open, for writing where the server lets it."""

    def attempt(raw: Raw, flags: int) -> int:
        handle = raw.open(b"dosya", flags)
        code = raw.code(kind, before + handle + after)
        raw.close(handle)
        return code

    return attempt


def opens(flags: int) -> Attempt:
    """OPEN, and a WRITE if it is granted."""
    name = b"yeni" if flags & CREAT else b"dosya"

    def attempt(raw: Raw, _: int) -> int:
        answer, rest = raw.ask(OPEN, string(name) + pack(">II", flags, 0))
        if answer != HANDLE:
            return int.from_bytes(rest[:4], "big")
        written = raw.code(WRITE, rest + pack(">Q", 0) + string(b"YAZILDI"))
        assert written == OK or not flags & WRITE_FLAG
        raw.close(rest)
        return OK

    return attempt


def copies(raw: Raw, flags: int) -> int:
    source, target = raw.open(b"diger"), raw.open(b"dosya", flags)
    body = string(b"copy-data") + source + pack(">QQ", 0, 0) + target + pack(">Q", 0)
    code = raw.code(EXTENDED, body)
    raw.close(source)
    raw.close(target)
    return code


# Each with whether the disk shows it afterwards.
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
    "copy-data": (copies, True),
    **{
        f"OPEN with flags {flags:#04x}": (opens(flags), bool(flags & (WRITE_FLAG | CREAT | TRUNC)))
        for flags in range(1, 64)
        if flags & ~READING
    },
}


def furnish(folder: Path) -> None:
    (folder / "dosya").write_bytes(b"tutanak\n")
    (folder / "diger").write_bytes(b"oteki tutanak\n")
    (folder / "bos").mkdir(exist_ok=True)


def disk(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that a verb could have changed below a folder."""
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
def test_it_works_where_it_is_allowed(tmp_path: Path, name: str) -> None:
    attempt, shows = ATTEMPTS[name]
    furnish(tmp_path)
    before = disk(tmp_path)
    with subprocess.Popen(
        [OPENSSH, "-d", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as server:
        code = attempt(Raw.to(server), WRITING)
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(10) == 0

    assert code == OK
    if shows:
        assert disk(tmp_path) != before


def test_it_is_denied_here_and_the_disk_stays_as_it_was(serve: Serve) -> None:
    served = serve()
    tree = served.site / "trees" / "parti-a"
    shutil.rmtree(tree)
    tree.mkdir()
    furnish(tree)
    outside = served.site / "trees" / "store"
    outside.mkdir()
    furnish(outside)
    before, before_outside = disk(tree), disk(outside)

    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        codes = {name: attempt(raw, READING) for name, (attempt, _) in ATTEMPTS.items()}
        changed = disk(tree) != before

    assert codes == dict.fromkeys(ATTEMPTS, DENIED)
    assert not changed
    assert disk(outside) == before_outside
    until(lambda: served.records("session-end"))
    denied = served.records("denied")
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


def test_no_path_makes_a_write_verb_say_anything_but_denied(serve: Serve) -> None:
    served = serve()
    tree = served.site / "trees" / "parti-a"
    furnish(tree)
    store = served.site / "trees" / "store"
    store.mkdir()
    furnish(store)
    (tree / "yol").symlink_to("../store")
    before, before_outside = disk(tree), disk(store)

    codes = {}
    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        for path in PATHS:
            name = string(path)
            codes[path] = {
                *(raw.code(kind, name) for kind in (REMOVE, RMDIR)),
                *(raw.code(kind, name + MODE) for kind in (SETSTAT, MKDIR)),
                *(raw.code(kind, name + NEW) for kind in (RENAME, SYMLINK)),
                *(raw.code(kind, FILE + name) for kind in (RENAME, SYMLINK)),
                raw.code(OPEN, name + pack(">II", 0x1A, 0)),
                raw.code(WRITE, name + pack(">Q", 0) + string(b"x")),
                raw.code(FSETSTAT, name + MODE),
            }
        assert raw.code(CLOSE, raw.open(b"dosya")) == OK

    assert codes == {path: {DENIED} for path in PATHS}
    assert (disk(tree), disk(store)) == (before, before_outside)
