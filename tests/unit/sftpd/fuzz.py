"""Generates hostile SFTP packets, and checks the replies to them.

Attacker makes packets that are correct enough to pass the first checks. It is seeded, so the seed
is all that is needed to repeat a failure. ReplyChecker checks every reply against its request and
against VisibleTree, which is read from the disk without any of the code under test.
"""

import os
import posixpath
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack, unpack_from

from unit.sftpd.sftp_client import entries, string

from sftpd.sftp.session import MAX_HANDLES

SECRET = b"YALNIZ-KASADA-DURUR"
OPEN, CLOSE, READ, LSTAT, FSTAT, OPENDIR, READDIR, REALPATH, STAT = 3, 4, 5, 7, 8, 11, 12, 16, 17
EXTEND = 200
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED = 101, 102, 103, 104, 105, 201
KINDS = [*range(3, 21), 21, 200]
# The only reply to each request besides STATUS.
ANSWERS = {
    OPEN: HANDLE,
    OPENDIR: HANDLE,
    READ: DATA,
    READDIR: NAME,
    REALPATH: NAME,
    LSTAT: ATTRS,
    FSTAT: ATTRS,
    STAT: ATTRS,
    EXTEND: EXTENDED,
}
EXTENSIONS = [
    *(b"limits@openssh.com", b"posix-rename@openssh.com", b"hardlink@openssh.com"),
    *(b"fsync@openssh.com", b"lsetstat@openssh.com", b"copy-data", b"copy-file", b"check-file"),
    *(b"statvfs@openssh.com", b"expand-path@openssh.com", b"home-directory", b"", b"\xff" * 300),
    *(b"fstatvfs@openssh.com", b"check-file-name", b"check-file-handle"),
]
STATUSES = {0, 1, 2, 3, 4, 5, 8}
PERMISSION_DENIED, BAD_MESSAGE = 3, 5
WRITES = {6, 9, 10, 13, 14, 15, 18, 20, 21}
WRITING = 0x02 | 0x04 | 0x08 | 0x10 | 0x20
MAX_REPLY = 256 * 1024
EDGES = [0, 1, 2, 127, 255, 32768, 261_120, 2**31 - 1, 2**31, 2**32 - 1]
WIDE_EDGES = [*EDGES, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def seeded(seed: int | str) -> random.Random:
    """Return a generator that gives the same numbers each time."""
    return random.Random(seed)  # noqa: S311 - not for keys


def make_hostile_tree(tree: Path) -> None:
    """Add symbolic links, a FIFO and odd names to a tree, and secrets where the links lead.

    The tree is one of several in the site's folder `trees`.
    """
    trees, site = tree.parent, tree.parent.parent
    (trees / "parti-b").mkdir(exist_ok=True)
    (site / "store").mkdir(exist_ok=True)
    for outside in ("trees/parti-b/gizli.txt", "store/gizli.txt", "trees/gizli.txt", "gizli.txt"):
        (site / outside).write_bytes(SECRET * 100)
    (site / "store" / SECRET.decode()).write_bytes(SECRET)
    (site / "trees" / SECRET.decode()).mkdir()
    (tree / "kurul" / "sandik-1").mkdir(parents=True)
    (tree / "akis").mkdir(exist_ok=True)
    for name, size in (("kurul/bos", 0), ("kurul/sandik-1/s1.jpg", 400_000), ("tek", 1)):
        (tree / name).write_bytes(seeded(name).randbytes(size))
    for number in range(400):
        (tree / "akis" / f"{number:08}.csv").write_bytes(b"%d\n" % number)
    for number, target in enumerate(
        (
            *("../parti-b/gizli.txt", "../parti-b", "../../store", "/", "..", ".", "loop"),
            *(str(site / "store/gizli.txt"), "/proc/self/root", "/etc/passwd", "BENIOKU.txt"),
        )
    ):
        (tree / f"yol{number}").symlink_to(target)
    (tree / "loop").symlink_to("loop")
    (tree / "kurul/disari").symlink_to("../../parti-b")
    os.mkfifo(tree / "boru")
    (tree / "yeni\nsatir").write_bytes(SECRET)


@dataclass(frozen=True)
class VisibleTree:
    """What a client may see of a tree: its regular files with their content, and its folders."""

    files: dict[bytes, bytes]
    folders: dict[bytes, set[bytes]]

    @classmethod
    def of(cls, tree: Path) -> "VisibleTree":
        files: dict[bytes, bytes] = {}
        folders: dict[bytes, set[bytes]] = {}
        for folder, names, others in os.walk(os.fsencode(tree)):
            inside = b"/" + os.path.relpath(folder, os.fsencode(tree)).removeprefix(b".")
            folders[inside] = set()
            for name in names + others:
                path = Path(os.fsdecode(os.path.join(folder, name)))  # noqa: PTH118 - bytes
                if path.is_symlink() or not (path.is_file() or path.is_dir()) or b"\n" in name:
                    continue
                folders[inside].add(name)
                if path.is_file():
                    files[inside.rstrip(b"/") + b"/" + name] = path.read_bytes()
        return cls(files, folders)


class Attacker:
    """Makes SFTP packets that are nearly correct."""

    def __init__(self, rng: random.Random, visible: VisibleTree, tree: Path) -> None:
        self.rng = rng
        self.handles: list[bytes] = []
        self.paths = [
            *visible.files,
            *visible.folders,
            *(f"/yol{n}".encode() for n in range(11)),
            *(b"../parti-b/gizli.txt", b"/../parti-b", b"yol0/gizli.txt", b"loop/loop", b"boru"),
            *(b"kurul/disari/gizli.txt", b"yeni\nsatir", b"..", b"../../store/gizli.txt", b""),
            *(
                os.fsencode(tree.parent / "parti-b/gizli.txt"),
                b"/proc/self/environ",
                b"/etc/passwd",
            ),
            *(b"BENIOKU.txt\0", b"BENIOKU.txt/", b"BENIOKU.txt/..", b"//BENIOKU.txt", b"x" * 4097),
            *(b"a/" * 2100, b"x" * 256, b"\xff\xfe", b"~", b"kurul/./sandik-1//s1.jpg", b"\0"),
        ]

    def packet(self, request: bytes) -> bytes:
        rng = self.rng
        chance = rng.random()
        if chance < 0.55:
            kind = rng.choice((OPEN, OPEN, READ, READ, *ANSWERS, CLOSE))
        elif chance < 0.95:
            kind = rng.choice(KINDS)
        else:
            kind = rng.choice([k for k in range(256) if k != 1])
        body = self._body(kind)
        if rng.random() < 0.05:
            body = body[: rng.randrange(len(body) + 1)]
        if rng.random() < 0.05:
            body += rng.randbytes(rng.randrange(64))
        if body and rng.random() < 0.05:
            at = rng.randrange(len(body))
            body = body[:at] + rng.randbytes(1) + body[at + 1 :]
        return pack(">IB", 5 + len(body), kind) + request + body

    def _body(self, kind: int) -> bytes:
        match kind:
            case 3:
                # Mostly for reading: all other opens are refused.
                flags = 1 if self.rng.random() < 0.7 else self.rng.choice((*range(64), 2**32 - 1))
                return self._path() + pack(">I", flags) + self._attributes()
            case 4 | 8 | 12:
                return self._handle()
            case 5:
                return self._handle() + self._wide() + pack(">I", self.rng.choice(EDGES))
            case 6:
                return self._handle() + self._wide() + self._junk(5000)
            case 10:
                return self._handle() + self._attributes()
            case 9 | 14:
                return self._path() + self._attributes()
            case 18 | 20:
                return self._path() + self._path()
            case 21:
                return self._path() + self._path() + b"\1"
            case 200:
                name = string(self.rng.choice(EXTENSIONS))
                request = string(b"md5,sha1") + self._wide() + self._wide()
                request += pack(">I", self.rng.choice(EDGES))
                forms = (self._path() + request, self._handle() + request, self._path() * 2)
                return name + self.rng.choice((*forms, self._handle(), self._junk(300)))
            case 7 | 11 | 13 | 15 | 16 | 17 | 19:
                return self._path()
            case _:
                return self.rng.randbytes(self.rng.randrange(40))

    def _path(self) -> bytes:
        rng = self.rng
        path = rng.choice(self.paths)
        chance = rng.random()
        if chance < 0.1:
            path = b"/".join((path, rng.choice((b"..", b".", b"", rng.choice(self.paths)))))
        elif chance < 0.15:
            path = b"../" * rng.randrange(9) + path
        elif chance < 0.2:
            path = rng.randbytes(rng.randrange(40))
        if chance > 0.98:
            return pack(">I", rng.choice(EDGES)) + path
        return string(path)

    def _handle(self) -> bytes:
        chance = self.rng.random()
        if self.handles and chance < 0.8:
            return string(self.rng.choice(self.handles))
        if chance < 0.9:
            return string(pack(">I", self.rng.randrange(300)))
        return string(self.rng.randbytes(self.rng.choice((0, 1, 4, 8, 256, 300))))

    def _attributes(self) -> bytes:
        flags = self.rng.choice((0, 0, 1, 4, 8, 13, 0x80000000, 2**32 - 1))
        return pack(">I", flags) + self.rng.randbytes(self.rng.choice((0, 0, 4, 8, 28)))

    def _wide(self) -> bytes:
        rng = self.rng
        return pack(">Q", rng.choice(WIDE_EDGES) if rng.random() < 0.3 else rng.randrange(500))

    def _junk(self, most: int) -> bytes:
        return string(self.rng.randbytes(self.rng.randrange(most)))


@dataclass
class ReplyChecker:
    """Checks each reply against its request and the tree; keeps the handles that are open."""

    visible: VisibleTree
    held: dict[bytes, bytes] = field(default_factory=dict)
    answers: set[tuple[int, int]] = field(default_factory=set)

    def check(self, request: bytes, reply: bytes) -> None:
        kind, arguments = request[4], request[9:]
        answer, rest = reply[4], reply[9:]
        assert reply[5:9] == request[5:9]
        assert len(reply) - 4 <= MAX_REPLY
        assert answer in (STATUS, ANSWERS.get(kind)) or (kind, answer) == (EXTEND, NAME)
        self.answers.add((kind, answer))
        if answer == STATUS:
            (code,) = unpack_from(">I", rest)
            assert code in STATUSES
            assert kind not in WRITES or code in (PERMISSION_DENIED, BAD_MESSAGE)
            if code == 0:
                assert kind == CLOSE
                del self.held[_first(arguments)]
        elif answer == HANDLE:
            handle, path = _first(rest), _first(arguments)
            path_in_tree = posixpath.normpath(b"//" + path).replace(b"//", b"/")
            assert handle not in self.held
            assert path_in_tree in (self.visible.files if kind == OPEN else self.visible.folders)
            assert kind == OPENDIR or arguments[4 + len(path) :][:4][-1] & WRITING == 0
            self.held[handle] = path_in_tree
            assert len(self.held) <= MAX_HANDLES
        elif answer == DATA:
            at, length = unpack_from(">QI", arguments, 4 + len(_first(arguments)))
            whole = self.visible.files[self.held[_first(arguments)]]
            content = _first(rest)
            assert content == whole[at : at + min(length, 255 * 1024)]
            assert content or length == 0
        elif kind == READDIR:
            names = {name for name, _, _ in entries(rest)} - {b".", b".."}
            assert names <= self.visible.folders[self.held[_first(arguments)]]


def _first(arguments: bytes) -> bytes:
    (size,) = unpack_from(">I", arguments)
    return arguments[4 : 4 + size]


def split(stream: bytes) -> list[bytes]:
    """Split a stream of whole packets."""
    found, at = [], 0
    while at < len(stream):
        (length,) = unpack_from(">I", stream, at)
        found.append(stream[at : at + 4 + length])
        at += 4 + length
    assert at == len(stream)
    return found


def in_pieces(rng: random.Random, stream: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(stream):
        step = rng.choice((1, 3, 7, 40, 500, 4000, 1 << 18))
        yield stream[at : at + step]
        at += step
