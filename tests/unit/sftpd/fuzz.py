"""An attacker who knows SFTP well enough to get past the first checks, and a witness.

The attacker is a seeded generator of packets; a seed that finds something is all that is needed
to see it again. What it may see stands in `Seen`, which is made from the tree alone, without
any of the code under test.
"""

import os
import posixpath
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack, unpack_from

from unit.sftpd.sftp_client import entries, string

SECRET = b"YALNIZ-KASADA-DURUR"
OPEN, CLOSE, READ, LSTAT, FSTAT, OPENDIR, READDIR, REALPATH, STAT = 3, 4, 5, 7, 8, 11, 12, 16, 17
EXTEND = 200
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED = 101, 102, 103, 104, 105, 201
KINDS = [*range(3, 21), 21, 200]
# What else than a status each request may be answered with.
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
    """Dice that fall the same way each time."""
    return random.Random(seed)  # noqa: S311 - not for keys


def set_trap(tree: Path) -> None:
    """Furnish a tree with all that should lead out of it, and put secrets where that would lead.

    The tree stands beside others, in a folder of its own below a site's.
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
class Seen:
    """All that a client of the tree may ever see: its regular files and its folders."""

    files: dict[bytes, bytes]
    folders: dict[bytes, set[bytes]]

    @classmethod
    def of(cls, tree: Path) -> "Seen":
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
    """Makes packets, as bytes, that are nearly right."""

    def __init__(self, dice: random.Random, seen: Seen, tree: Path) -> None:
        self.dice = dice
        self.handles: list[bytes] = []
        self.paths = [
            *seen.files,
            *seen.folders,
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
        dice = self.dice
        chance = dice.random()
        if chance < 0.55:
            kind = dice.choice((OPEN, OPEN, READ, READ, *ANSWERS, CLOSE))
        elif chance < 0.95:
            kind = dice.choice(KINDS)
        else:
            kind = dice.choice([k for k in range(256) if k != 1])
        body = self._body(kind)
        if dice.random() < 0.05:
            body = body[: dice.randrange(len(body) + 1)]
        if dice.random() < 0.05:
            body += dice.randbytes(dice.randrange(64))
        if body and dice.random() < 0.05:
            at = dice.randrange(len(body))
            body = body[:at] + dice.randbytes(1) + body[at + 1 :]
        return pack(">IB", 5 + len(body), kind) + request + body

    def _body(self, kind: int) -> bytes:
        match kind:
            case 3:
                # Mostly a mere read, or all that there are to see would be refusals.
                flags = 1 if self.dice.random() < 0.7 else self.dice.choice((*range(64), 2**32 - 1))
                return self._path() + pack(">I", flags) + self._attributes()
            case 4 | 8 | 12:
                return self._handle()
            case 5:
                return self._handle() + self._wide() + pack(">I", self.dice.choice(EDGES))
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
                name = string(self.dice.choice(EXTENSIONS))
                asked = string(b"md5,sha1") + self._wide() + self._wide()
                asked += pack(">I", self.dice.choice(EDGES))
                forms = (self._path() + asked, self._handle() + asked, self._path() * 2)
                return name + self.dice.choice((*forms, self._handle(), self._junk(300)))
            case 7 | 11 | 13 | 15 | 16 | 17 | 19:
                return self._path()
            case _:
                return self.dice.randbytes(self.dice.randrange(40))

    def _path(self) -> bytes:
        dice = self.dice
        path = dice.choice(self.paths)
        chance = dice.random()
        if chance < 0.1:
            path = b"/".join((path, dice.choice((b"..", b".", b"", dice.choice(self.paths)))))
        elif chance < 0.15:
            path = b"../" * dice.randrange(9) + path
        elif chance < 0.2:
            path = dice.randbytes(dice.randrange(40))
        if chance > 0.98:
            return pack(">I", dice.choice(EDGES)) + path
        return string(path)

    def _handle(self) -> bytes:
        chance = self.dice.random()
        if self.handles and chance < 0.8:
            return string(self.dice.choice(self.handles))
        if chance < 0.9:
            return string(pack(">I", self.dice.randrange(300)))
        return string(self.dice.randbytes(self.dice.choice((0, 1, 4, 8, 256, 300))))

    def _attributes(self) -> bytes:
        flags = self.dice.choice((0, 0, 1, 4, 8, 13, 0x80000000, 2**32 - 1))
        return pack(">I", flags) + self.dice.randbytes(self.dice.choice((0, 0, 4, 8, 28)))

    def _wide(self) -> bytes:
        dice = self.dice
        return pack(">Q", dice.choice(WIDE_EDGES) if dice.random() < 0.3 else dice.randrange(500))

    def _junk(self, most: int) -> bytes:
        return string(self.dice.randbytes(self.dice.randrange(most)))


@dataclass
class Witness:
    """Holds each reply against its request, and against what may be seen."""

    seen: Seen
    held: dict[bytes, bytes] = field(default_factory=dict)
    answers: set[tuple[int, int]] = field(default_factory=set)

    def judge(self, asked: bytes, reply: bytes) -> None:
        kind, arguments = asked[4], asked[9:]
        answer, rest = reply[4], reply[9:]
        assert reply[5:9] == asked[5:9]
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
            meant = posixpath.normpath(b"//" + path).replace(b"//", b"/")
            assert handle not in self.held
            assert meant in (self.seen.files if kind == OPEN else self.seen.folders)
            assert kind == OPENDIR or arguments[4 + len(path) :][:4][-1] & WRITING == 0
            self.held[handle] = meant
            assert len(self.held) <= 128
        elif answer == DATA:
            at, length = unpack_from(">QI", arguments, 4 + len(_first(arguments)))
            whole = self.seen.files[self.held[_first(arguments)]]
            content = _first(rest)
            assert content == whole[at : at + min(length, 255 * 1024)]
            assert content or length == 0
        elif kind == READDIR:
            names = {name for name, _, _ in entries(rest)}
            assert names <= self.seen.folders[self.held[_first(arguments)]]


def _first(arguments: bytes) -> bytes:
    (size,) = unpack_from(">I", arguments)
    return arguments[4 : 4 + size]


def split(stream: bytes) -> list[bytes]:
    """The packets that a stream of whole packets consists of."""
    found, at = [], 0
    while at < len(stream):
        (length,) = unpack_from(">I", stream, at)
        found.append(stream[at : at + 4 + length])
        at += 4 + length
    assert at == len(stream)
    return found


def in_pieces(dice: random.Random, stream: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(stream):
        step = dice.choice((1, 3, 7, 40, 500, 4000, 1 << 18))
        yield stream[at : at + step]
        at += step
