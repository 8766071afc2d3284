import hashlib
import os
import resource
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from struct import pack, unpack, unpack_from

import pytest
from published import MODE, stamp
from unit.sftpd.sftp_client import NOW, Client, MemoryRecorder, entries, string

from keys import digest
from keys.digest import Digests
from sftpd.ipc.messages import Recorded
from sftpd.sftp.budget import Budget
from sftpd.sftp.session import ProtocolError, Session
from sftpd.sftp.view import View

OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = 3, 4, 5, 6, 7, 8, 9, 10
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT = 11, 12, 13, 14, 15, 16, 17
RENAME, READLINK, SYMLINK, LINK, EXTENDED = 18, 19, 20, 21, 200
OK, EOF, NO_SUCH_FILE, DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
NO_ATTRIBUTES = pack(">I", 0)


def read_request(handle: bytes, offset: int, length: int) -> bytes:
    return handle + pack(">QI", offset, length)


def test_the_version_packet_byte_by_byte(new_client: Client) -> None:
    greeting = b"".join(new_client.session.feed(bytes.fromhex("00000005 01 00000003")))
    assert greeting == bytes.fromhex("000000b1 02 00000003") + b"".join(
        string(name) + string(value)
        for name, value in (
            (b"statvfs@openssh.com", b"2"),
            (b"fstatvfs@openssh.com", b"2"),
            (b"limits@openssh.com", b"1"),
            (b"expand-path@openssh.com", b"1"),
            (b"home-directory", b"1"),
            (b"check-file", b"sha256,sha1,md5"),
        )
    )


def test_opening_and_reading_a_small_file_byte_by_byte(client: Client) -> None:
    request = bytes.fromhex("0000001d 03 00000007 0000000c") + b"/BENIOKU.txt" + pack(">II", 1, 0)
    opened = b"".join(client.session.feed(request))
    assert opened == bytes.fromhex("0000000d 66 00000007 00000004 00000001")

    data = bytes.fromhex("00000019 05 00000008 00000004 00000001 0000000000000005 00008000")
    assert b"".join(client.session.feed(data)) == (
        bytes.fromhex("0000000d 67 00000008 00000004") + b"eni\n"
    )


def test_packets_may_arrive_in_any_pieces(client: Client) -> None:
    packet = client.packet(STAT, pack(">I", 1) + string(b"/BENIOKU.txt"))
    answers = [b"".join(client.session.feed(packet[i : i + 1])) for i in range(len(packet))]
    assert answers[:-1] == [b""] * (len(packet) - 1)
    assert answers[-1][4] == ATTRS


def test_attributes_show_modes_that_a_client_can_give_its_copy_and_owner_0(client: Client) -> None:
    for kind in (STAT, LSTAT):
        answer, rest = client.ask(kind, string(b"BENIOKU.txt"))
        assert answer == ATTRS
        assert unpack(">IQIIIII", rest) == (15, 9, 0, 0, 0o100644, 1684072800, 1684072800)
    _, rest = client.ask(STAT, string(b"/akis"))
    assert unpack_from(">IQIII", rest)[4] == 0o040755
    _, rest = client.ask(FSTAT, client.open(b"BENIOKU.txt"))
    assert unpack_from(">IQ", rest) == (15, 9)


def test_a_listing_has_lines_like_ls(client: Client) -> None:
    handle = client.opendir(b"/")
    _, rest = client.ask(READDIR, handle)
    (here, _, _), (above, _, _), (first, long_form, _), (second, folder, _) = entries(rest)
    assert (here, above) == (b".", b"..")
    assert first == b"BENIOKU.txt"
    assert long_form == b"-rw-r--r--    1 0        0               9 May 14 17:00 BENIOKU.txt"
    assert second == b"akis"
    assert folder.startswith(b"drwxr-xr-x    1 0        0        ")
    assert client.names(handle) == []


def test_a_large_listing_is_split_into_replies_of_about_64_kib(tree: Path, client: Client) -> None:
    for number in range(2000):
        (tree / "akis" / f"{number:08}.csv").write_bytes(b"")
    handle = client.opendir(b"/akis")

    sizes, found = [], 0
    while (reply := client.ask(READDIR, handle))[0] == NAME:
        sizes.append(len(reply[1]))
        found += len(list(entries(reply[1])))

    assert found == 2003  # son.txt, `.` and `..` too
    assert max(sizes) < 70 * 1024
    assert len(sizes) == 4


@pytest.mark.parametrize(
    ("asked", "runs_ssh", "mark"),
    [(6, True, b"\1"), (3, True, b""), (6, False, b"")],
    ids=["lftp", "sftp of OpenSSH", "another client"],
)
def test_the_last_part_of_a_listing_is_marked_for_lftp_alone(
    tree: Path, view: View, recorder: MemoryRecorder, asked: int, runs_ssh: bool, mark: bytes
) -> None:
    for number in range(2000):
        (tree / "akis" / f"{number:08}.csv").write_bytes(b"")
    client = Client(Session(view, recorder, lambda: NOW, marks_end=runs_ssh))
    client.send(client.packet(1, pack(">I", asked)))
    handle = client.opendir(b"/akis")

    replies = []
    while (reply := client.ask(READDIR, handle))[0] == NAME:
        replies.append(reply[1])

    assert replies[-1].endswith(mark)
    replies[-1] = replies[-1][: len(replies[-1]) - len(mark)]
    found = [name for reply in replies for name, _, _ in entries(reply)]  # nothing else is there
    assert len(set(found)) == len(found) == 2003


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (b".", b"/"),
        (b"", b"/"),
        (b"akis/..", b"/"),
        (b"akis/../akis/son.txt", b"/akis/son.txt"),
        (b"akis/new", b"/akis/new"),
        (b"../../etc", b"/etc"),
    ],
)
def test_realpath_answers_like_openssh(client: Client, path: bytes, answer: bytes) -> None:
    kind, rest = client.ask(REALPATH, string(path))
    assert kind == NAME
    assert rest == pack(">I", 1) + string(answer) * 2 + pack(">I", 0)


@pytest.mark.parametrize("path", [b"/none/new", b"/BENIOKU.txt/new", b"a\0b", b"x/" * 3000])
def test_realpath_of_an_impossible_path_fails(client: Client, path: bytes) -> None:
    assert client.status(REALPATH, string(path)) == NO_SUCH_FILE


def test_limits_are_the_same_as_openssh_s(client: Client) -> None:
    kind, rest = client.ask(EXTENDED, string(b"limits@openssh.com"))
    assert kind == 201
    assert unpack(">QQQQ", rest) == (262144, 261120, 0, 1000)


@pytest.mark.parametrize(("path", "answer"), [
    (b"~", b"/"), (b"~/akis", b"/akis"), (b"~/akis/../akis", b"/akis"), (b"akis", b"/akis"),
    (b"/akis/~", b"/akis/~"),
])  # fmt: skip
def test_a_tilde_is_the_root(client: Client, path: bytes, answer: bytes) -> None:
    kind, rest = client.ask(EXTENDED, string(b"expand-path@openssh.com") + string(path))
    assert kind == NAME
    assert rest == pack(">I", 1) + string(answer) * 2 + pack(">I", 0)


def test_the_tilde_of_another_user_is_not_found(client: Client) -> None:
    request = string(b"expand-path@openssh.com") + string(b"~parti-b/gizli.txt")
    assert client.status(EXTENDED, request) == NO_SUCH_FILE


def test_the_home_of_every_user_is_the_root(client: Client) -> None:
    for user in (b"", b"parti-a", b"root"):
        kind, rest = client.ask(EXTENDED, string(b"home-directory") + string(user))
        assert (kind, rest) == (NAME, pack(">I", 1) + string(b"/") * 2 + pack(">I", 0))


def test_a_file_system_is_read_only_and_shown_as_free(client: Client) -> None:
    by_name = client.ask(EXTENDED, string(b"statvfs@openssh.com") + string(b"/akis"))
    handle = client.open(b"/BENIOKU.txt")
    by_handle = client.ask(EXTENDED, string(b"fstatvfs@openssh.com") + handle)

    assert by_name == by_handle
    kind, rest = by_name
    size, _, blocks, *rest_of_it = unpack(">11Q", rest)
    assert kind == 201
    assert (size % 512, blocks > 0) == (0, True)
    assert rest_of_it == [blocks, blocks, 0, 0, 0, 0, 3, 255]
    missing = string(b"statvfs@openssh.com") + string(b"/../parti-b")
    assert client.status(EXTENDED, missing) == NO_SUCH_FILE


def check(
    by: bytes, what: bytes, names: bytes, start: int = 0, size: int = 0, block: int = 0
) -> bytes:
    return string(by) + string(what) + string(names) + pack(">QQI", start, size, block)


@pytest.mark.parametrize("name", ["sha256", "sha1", "md5"])
def test_a_file_is_hashed_by_name_as_winscp_asks(
    client: Client, recorder: MemoryRecorder, name: str
) -> None:
    kind, rest = client.ask(EXTENDED, check(b"check-file-name", b"BENIOKU.txt", name.encode()))

    assert kind == 201
    assert rest == string(name.encode()) + hashlib.new(name, b"oku beni\n").digest()
    assert recorder.records == [("hash", name, b"/BENIOKU.txt")]


def test_a_file_is_hashed_by_handle_with_the_first_algorithm_that_is_known(client: Client) -> None:
    handle = client.open(b"/BENIOKU.txt")[4:]

    _, rest = client.ask(EXTENDED, check(b"check-file-handle", handle, b"blake3,sha1,md5"))
    _, paramikos = client.ask(EXTENDED, check(b"check-file", handle, b"sha1"))

    assert rest == string(b"sha1") + hashlib.sha1(b"oku beni\n").digest()  # noqa: S324
    assert paramikos == string(b"check-file") + rest


def test_a_stored_digest_is_used_for_the_whole_file_and_not_for_a_part(
    tree: Path, client: Client
) -> None:
    stamp(tree / "BENIOKU.txt", Digests("a" * 64, "b" * 40, "c" * 32), bytes(32))
    stamped = string(b"md5") + bytes.fromhex("c" * 32)

    for size in (0, 9, 100, 2**64 - 1):
        request = check(b"check-file-name", b"/BENIOKU.txt", b"md5", 0, size)
        assert client.ask(EXTENDED, request)[1] == stamped
    _, part = client.ask(EXTENDED, check(b"check-file-name", b"/BENIOKU.txt", b"md5", 4))
    assert part == string(b"md5") + hashlib.md5(b"beni\n").digest()  # noqa: S324


def test_a_stored_digest_that_the_seal_does_not_prove_is_not_used(
    tree: Path, client: Client, recorder: MemoryRecorder
) -> None:
    stamp(tree / "BENIOKU.txt", Digests("a" * 64, "b" * 40, "c" * 32), bytes(32))
    recorder.proof = Recorded.UNPROVEN
    handle = client.open(b"/BENIOKU.txt")[4:]

    for request in (
        check(b"check-file-name", b"/BENIOKU.txt", b"sha256"),
        check(b"check-file-handle", handle, b"sha256"),
    ):
        _, rest = client.ask(EXTENDED, request)
        assert rest == string(b"sha256") + hashlib.sha256(b"oku beni\n").digest()


def test_each_block_has_its_own_digest(tree: Path, client: Client) -> None:
    content = bytes(range(250)) * 4
    (tree / "blocks").write_bytes(content)

    _, rest = client.ask(EXTENDED, check(b"check-file-name", b"/blocks", b"md5", 100, 800, 300))

    parts = (content[100:400], content[400:700], content[700:900])
    assert rest == string(b"md5") + b"".join(hashlib.md5(part).digest() for part in parts)  # noqa: S324


@pytest.mark.parametrize(("wanted", "status"), [
    ((b"/BENIOKU.txt", b"blake3"), UNSUPPORTED),
    ((b"/BENIOKU.txt", b""), UNSUPPORTED),
    ((b"/BENIOKU.txt", b"md5", 10), FAILURE),
    ((b"/BENIOKU.txt", b"md5", 2**64 - 1, 2**64 - 1), FAILURE),
    ((b"/BENIOKU.txt", b"md5", 0, 0, 255), FAILURE),
    ((b"/sparse", b"md5", 0, 0, 256), FAILURE),
    ((b"/sparse", b"md5", 1, 0, 0), FAILURE),
    ((b"/akis", b"md5"), FAILURE),
    ((b"/../parti-b/gizli.txt", b"md5"), NO_SUCH_FILE),
])  # fmt: skip
def test_an_impossible_or_huge_digest_request_is_refused_without_work(
    tree: Path, client: Client, wanted: tuple[bytes, bytes], status: int
) -> None:
    with (tree / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (tree / "sparse").chmod(MODE)

    assert client.status(EXTENDED, check(b"check-file-name", *wanted)) == status


def test_a_digest_that_cannot_be_recorded_is_refused(
    client: Client, recorder: MemoryRecorder
) -> None:
    handle = client.open(b"/BENIOKU.txt")[4:]
    recorder.can_record = False

    for by, what in ((b"check-file-name", b"/BENIOKU.txt"), (b"check-file-handle", handle)):
        assert client.status(EXTENDED, check(by, what, b"md5")) == FAILURE


PATH, NEW = string(b"/BENIOKU.txt"), string(b"/new")
WRITES = {
    "open for writing": (OPEN, PATH + pack(">II", 0x02, 0), "open", b"/BENIOKU.txt"),
    "open for both": (OPEN, PATH + pack(">II", 0x03, 0), "open", b"/BENIOKU.txt"),
    "open to append": (OPEN, PATH + pack(">II", 0x04, 0), "open", b"/BENIOKU.txt"),
    "open to create": (OPEN, NEW + pack(">II", 0x09, 0), "open", b"/new"),
    "open to truncate": (OPEN, PATH + pack(">II", 0x11, 0), "open", b"/BENIOKU.txt"),
    "open exclusively": (OPEN, NEW + pack(">II", 0x21, 0), "open", b"/new"),
    "setstat": (SETSTAT, PATH + pack(">IQ", 1, 0), "setstat", b"/BENIOKU.txt"),
    "remove": (REMOVE, PATH, "remove", b"/BENIOKU.txt"),
    "mkdir": (MKDIR, NEW + NO_ATTRIBUTES, "mkdir", b"/new"),
    "rmdir": (RMDIR, string(b"akis/"), "rmdir", b"/akis"),
    "rename": (RENAME, PATH + NEW, "rename", b"/BENIOKU.txt"),
    "symlink": (SYMLINK, PATH + NEW, "symlink", b"/BENIOKU.txt"),
    "link": (LINK, NEW + PATH + b"\1", "link", b"/new"),
    "posix-rename": (
        EXTENDED,
        string(b"posix-rename@openssh.com") + PATH + NEW,
        "posix-rename",
        b"/BENIOKU.txt",
    ),
    "hardlink": (
        EXTENDED,
        string(b"hardlink@openssh.com") + PATH + NEW,
        "hardlink",
        b"/BENIOKU.txt",
    ),
    "lsetstat": (
        EXTENDED,
        string(b"lsetstat@openssh.com") + PATH + pack(">IQ", 1, 0),
        "lsetstat",
        b"/BENIOKU.txt",
    ),
    "copy-file": (
        EXTENDED,
        string(b"copy-file") + PATH + NEW + b"\1",
        "copy-file",
        b"/BENIOKU.txt",
    ),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_verb_that_writes_is_denied_and_recorded_and_changes_nothing(
    tree: Path, client: Client, recorder: MemoryRecorder, name: str
) -> None:
    kind, body, verb, path = WRITES[name]
    before = sorted((p, p.lstat()) for p in tree.rglob("*"))

    assert client.status(kind, body) == DENIED

    assert recorder.records == [("denied", verb, path)]
    assert [(p, s.st_mtime_ns) for p, s in before] == [
        (p, p.lstat().st_mtime_ns) for p in sorted(tree.rglob("*"))
    ]


@pytest.mark.parametrize(
    ("kind", "before", "after", "verb"),
    [
        (WRITE, b"", pack(">Q", 0) + string(b"bytes"), "write"),
        (FSETSTAT, b"", pack(">IQ", 1, 0), "fsetstat"),
        (EXTENDED, string(b"fsync@openssh.com"), b"", "fsync"),
        (
            EXTENDED,
            string(b"copy-data"),
            pack(">QQ", 0, 9) + string(b"\0\0\0\2") + pack(">Q", 0),
            "copy-data",
        ),
    ],
)
def test_a_write_through_a_handle_is_recorded_with_the_file_s_path(
    client: Client, recorder: MemoryRecorder, kind: int, before: bytes, after: bytes, verb: str
) -> None:
    handle = client.open(b"/BENIOKU.txt")
    assert client.status(kind, before + handle + after) == DENIED
    assert client.status(kind, before + string(b"no handle") + after) == DENIED
    assert recorder.records[1:] == [("denied", verb, b"/BENIOKU.txt"), ("denied", verb, b"")]


def test_no_link_is_found(client: Client) -> None:
    assert client.status(READLINK, PATH) == NO_SUCH_FILE


@pytest.mark.parametrize("kind", [0, 2, 22, 101, 199, 201, 255])
def test_an_unknown_verb_is_unsupported(client: Client, kind: int) -> None:
    assert client.status(kind, b"") == UNSUPPORTED


def test_an_unknown_extension_is_unsupported(client: Client) -> None:
    assert client.status(EXTENDED, string(b"md5-hash") + PATH) == UNSUPPORTED


def test_opens_and_closes_are_recorded_with_the_bytes_sent(
    client: Client, recorder: MemoryRecorder
) -> None:
    handle = client.open(b"akis/../BENIOKU.txt")
    client.ask(READ, read_request(handle, 0, 32768))
    client.ask(READ, read_request(handle, 9, 32768))
    client.status(CLOSE, handle)

    half = client.open(b"BENIOKU.txt")
    client.ask(READ, read_request(half, 0, 4))
    client.status(CLOSE, half)

    assert recorder.records == [
        ("open", 1, b"/BENIOKU.txt", 9),
        ("close", 1, 9, True, ""),
        ("open", 2, b"/BENIOKU.txt", 9),
        ("close", 2, 4, False, ""),
    ]


def read_all(client: Client, handle: bytes, *offsets: int) -> None:
    for offset in offsets:
        client.ask(READ, read_request(handle, offset, 4))


@pytest.mark.parametrize("offsets", [(0, 4, 8), (0, 0, 4, 4, 8), (8, 0, 4), (4,), (0,)])
def test_the_digest_of_a_file_without_a_proof_is_computed_from_what_is_sent(
    client: Client, recorder: MemoryRecorder, offsets: tuple[int, ...]
) -> None:
    recorder.proof = Recorded.UNPROVEN
    handle = client.open(b"BENIOKU.txt")
    read_all(client, handle, *offsets)
    client.status(CLOSE, handle)

    assert recorder.computed == [hashlib.sha256(b"oku beni\n").hexdigest().encode()]


def test_a_file_without_a_proof_of_which_nothing_is_sent_is_not_hashed(
    client: Client, recorder: MemoryRecorder
) -> None:
    recorder.proof = Recorded.UNPROVEN
    client.status(CLOSE, client.open(b"BENIOKU.txt"))

    assert recorder.computed == [b""]


def test_a_file_that_changes_while_it_is_open_is_hashed_at_the_end(
    tree: Path, client: Client, recorder: MemoryRecorder
) -> None:
    stamp(tree / "BENIOKU.txt", digest.digests_of(b"oku beni\n"), bytes(32))
    for content in (None, b"oku seni\n"):
        handle = client.open(b"BENIOKU.txt")
        read_all(client, handle, 0, 4, 8)
        if content:
            (tree / "BENIOKU.txt").write_bytes(content)
        client.status(CLOSE, handle)

    assert recorder.computed == [b"", hashlib.sha256(b"oku seni\n").hexdigest().encode()]


def test_a_part_that_is_read_again_and_again_is_hashed_once(
    tree: Path, client: Client, recorder: MemoryRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.proof = Recorded.UNPROVEN
    (tree / "buyuk").write_bytes(bytes(3_000_000))
    reads = 0
    pread = os.pread

    def counted(*words: int) -> bytes:
        nonlocal reads
        reads += 1
        return pread(*words)

    monkeypatch.setattr(os, "pread", counted)
    for _ in range(20):
        handle = client.open(b"buyuk")
        read_all(client, handle, 100)
        client.status(CLOSE, handle)

    assert len(set(recorder.computed)) == 1
    assert reads < 20


def test_an_open_that_cannot_be_recorded_is_refused(
    client: Client, recorder: MemoryRecorder
) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    recorder.can_record = False
    for verb, asked in ((OPEN, PATH + pack(">II", 1, 0)), (OPENDIR, string(b"/"))):
        _, refusal = client.ask(verb, asked)
        assert refusal[:4] == pack(">I", FAILURE)
        assert b"cannot record this now; try again later" in refusal
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208

    recorder.can_record = True
    assert client.open(b"/BENIOKU.txt") == string(b"\0\0\0\3")


def test_a_missing_file_looks_like_a_denied_one_and_is_recorded(
    tree: Path, client: Client, recorder: MemoryRecorder
) -> None:
    (tree / "link").symlink_to("BENIOKU.txt")
    for path in (b"none", b"link", b"../parti-b/gizli.txt", b"x" * 300, b"a\0b"):
        assert client.status(OPEN, string(path) + pack(">II", 1, 0)) == NO_SUCH_FILE
        assert client.status(OPENDIR, string(path)) == NO_SUCH_FILE
        assert client.status(STAT, string(path)) == NO_SUCH_FILE
    assert recorder.records[:2] == [
        ("missed", "open", b"/none", "no such file"),
        ("missed", "list", b"/none", "no such file"),
    ]
    assert len(recorder.records) == 10


def test_a_read_returns_at_most_255_kib(tree: Path, client: Client) -> None:
    (tree / "big").write_bytes(bytes(600_000))
    handle = client.open(b"big")
    for length in (261_121, 0x7FFFFFFF, 0xFFFFFFFF):
        kind, rest = client.ask(READ, read_request(handle, 0, length))
        assert kind == DATA
        assert unpack_from(">I", rest)[0] == 261_120 == len(rest) - 4


@pytest.mark.parametrize("offset", [9, 10, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_read_past_the_end_is_eof(client: Client, offset: int) -> None:
    handle = client.open(b"BENIOKU.txt")
    assert client.status(READ, read_request(handle, offset, 100)) == EOF


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Allow this process more than 1000 descriptors, as the server does for its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_at_most_1000_handles_are_open_and_more_are_refused_on_record(
    client: Client, recorder: MemoryRecorder
) -> None:
    handles = [client.open(b"BENIOKU.txt") for _ in range(999)]
    handles.append(client.opendir(b"/"))
    _, refusal = client.ask(OPEN, PATH + pack(">II", 1, 0))
    assert refusal[:4] == pack(">I", FAILURE)
    assert b"Too many open files" in refusal
    assert client.status(OPENDIR, string(b"/akis")) == FAILURE
    assert recorder.records[-2:] == [
        ("missed", "open", b"/BENIOKU.txt", "too many open handles"),
        ("missed", "list", b"/akis", "too many open handles"),
    ]

    assert client.status(CLOSE, handles[0]) == OK
    assert client.open(b"BENIOKU.txt") == string(pack(">I", 1001))


def test_the_sessions_of_a_connection_share_a_budget_of_handles(
    view: View, recorder: MemoryRecorder
) -> None:
    budget, clients = Budget(handles=3), []
    for _ in range(2):
        session = Session(view, recorder, lambda: NOW, budget=budget)
        clients.append(Client(session))
        clients[-1].send(clients[-1].packet(1, pack(">I", 3)))
    one, two = clients
    one.open(b"BENIOKU.txt")
    one.opendir(b"/")
    held = two.open(b"BENIOKU.txt")
    assert two.status(OPEN, PATH + pack(">II", 1, 0)) == FAILURE

    one.session.end()
    two.status(CLOSE, held)

    assert budget == Budget(handles=3)
    two.session.end()


def test_a_process_without_descriptors_refuses_on_record(
    client: Client, recorder: MemoryRecorder
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        statuses = [client.status(OPEN, PATH + pack(">II", 1, 0))]
        statuses.append(client.status(OPENDIR, string(b"/")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert statuses == [FAILURE, FAILURE]
    assert [record[::3] for record in recorder.records] == [("missed", "too many open handles")] * 2


@pytest.mark.slow
def test_folders_that_are_being_listed_take_no_memory(tree: Path, client: Client) -> None:
    names = [f"{number:040}" for number in range(2000)]
    for name in names:
        (tree / "akis" / name).write_bytes(b"")
    client.names(client.opendir(b"/akis"))
    tracemalloc.start()
    handles = [client.opendir(b"/akis") for _ in range(100)]
    begun = [client.names(handle) for handle in handles]
    assert min(map(len, begun)) > 100
    del begun
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert used < 100_000
    for handle in handles[:3]:  # each continues where it was
        found = []
        while more := client.names(handle):
            found += more
        assert len(found) < 2001
        assert found[-1] in {name.encode() for name in [*names, "son.txt"]}


def test_opening_a_folder_as_a_file_says_so(client: Client, recorder: MemoryRecorder) -> None:
    _, answer = client.ask(OPEN, string(b"/akis") + pack(">II", 1, 0))
    assert answer == pack(">I", FAILURE) + string(b"Is a directory") + string(b"")
    _, answer = client.ask(OPENDIR, PATH)
    assert answer == pack(">I", NO_SUCH_FILE) + string(b"Not a directory") + string(b"")
    assert recorder.records == [
        ("missed", "open", b"/akis", "is a folder"),
        ("missed", "list", b"/BENIOKU.txt", "is a file"),
    ]


def test_a_listing_begins_with_the_folder_and_its_parent(tree: Path, client: Client) -> None:
    os.utime(tree, (1684000000, 1684000000))
    os.utime(tree / "akis", (1684000001, 1684000001))
    for path, times in ((b"/akis", (1684000001, 1684000000)), (b"/", (1684000000, 1684000000))):
        _, rest = client.ask(READDIR, client.opendir(path))
        (here, _, mine), (above, _, parent), *_ = entries(rest)
        assert (here, above) == (b".", b"..")
        assert (unpack(">IQIIIII", mine)[-1], unpack(">IQIIIII", parent)[-1]) == times


def test_a_page_that_came_after_the_login_is_listed_with_its_time(
    tree: Path, view: View, recorder: MemoryRecorder
) -> None:
    now = [NOW]
    client = Client(Session(view, recorder, lambda: now[0]))
    client.send(client.packet(1, pack(">I", 3)))
    now[0] += timedelta(hours=3)
    later = now[0].timestamp() - 60
    os.utime(tree / "akis/son.txt", (later, later))

    _, rest = client.ask(READDIR, client.opendir(b"/akis"))

    assert list(entries(rest))[-1][1].endswith(b"May 14 20:59 son.txt")
    client.session.end()


def test_the_reply_to_a_digest_is_sent_before_the_next_is_computed(client: Client) -> None:
    wanted = check(b"check-file-handle", client.open(b"BENIOKU.txt")[4:], b"md5", 1)
    requests = [client.packet(EXTENDED, pack(">I", number) + wanted) for number in range(5)]

    assert len(list(client.session.feed(b"".join(requests)))) == 5


def test_a_handle_is_never_used_again(client: Client) -> None:
    first = client.open(b"BENIOKU.txt")
    client.status(CLOSE, first)
    assert client.open(b"BENIOKU.txt") != first
    assert client.status(READ, read_request(first, 0, 1)) == FAILURE
    assert client.status(CLOSE, first) == FAILURE
    assert client.status(FSTAT, first) == FAILURE


def test_a_handle_of_the_wrong_kind_fails(client: Client) -> None:
    file, folder = client.open(b"BENIOKU.txt"), client.opendir(b"/")
    assert client.status(READDIR, file) == FAILURE
    assert client.status(READ, read_request(folder, 0, 1)) == FAILURE


def test_replies_to_pipelined_requests_are_sent_together(client: Client) -> None:
    handle = client.open(b"BENIOKU.txt")
    reads = b"".join(
        client.packet(READ, pack(">I", n) + read_request(handle, n, 1)) for n in range(9)
    )
    assert len(list(client.session.feed(reads))) == 1


def test_the_replies_of_one_batch_are_limited(tree: Path, client: Client) -> None:
    (tree / "big").write_bytes(bytes(200_000))
    handle = client.open(b"big")
    read = client.packet(READ, pack(">I", 1) + read_request(handle, 0, 200_000))
    sizes = [len(replies) for replies in client.session.feed(read * 20)]
    assert sum(sizes) == 20 * 200_013
    assert max(sizes) < 512 * 1024


def test_bytes_count_as_sent_when_the_next_replies_are_asked_for(
    client: Client, recorder: MemoryRecorder
) -> None:
    handle = client.open(b"BENIOKU.txt")
    replies = client.session.feed(client.packet(READ, pack(">I", 1) + read_request(handle, 0, 9)))
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    client.session.end()
    assert recorder.records[-1] == ("close", 1, 0, False, "session ended")


def test_a_close_pipelined_after_reads_is_recorded_with_their_bytes(
    client: Client, recorder: MemoryRecorder
) -> None:
    handle = client.open(b"BENIOKU.txt")
    read = client.packet(READ, pack(">I", 1) + read_request(handle, 0, 9))
    client.send(read + client.packet(CLOSE, pack(">I", 2) + handle))
    assert recorder.records[-1] == ("close", 1, 9, True, "")


def test_the_end_of_the_session_closes_all_handles(
    client: Client, recorder: MemoryRecorder
) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    client.open(b"BENIOKU.txt")
    client.opendir(b"/")
    client.session.end()
    assert recorder.records[2:] == [("close", 1, 0, False, "session ended")]
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (OPEN, b""),
        (OPEN, pack(">I", 100) + b"short"),
        (OPEN, PATH),
        (OPEN, string(b"x")[:-1]),
        (READ, string(b"\0\0\0\1") + b"\0\0"),
        (CLOSE, b"\0\0\0"),
        (CLOSE, pack(">I", 0xFFFFFFFF)),
        (EXTENDED, b""),
        (WRITE, string(b"\0\0\0\1")),
    ],
)
def test_a_truncated_request_gets_bad_message(client: Client, kind: int, body: bytes) -> None:
    assert client.status(kind, body) == BAD_MESSAGE


@pytest.mark.parametrize(
    "data",
    [
        pack(">I", 0),
        pack(">I", 0xFFFFFFFF),
        pack(">I", 263_169),
        bytes.fromhex("00000001 05"),
        bytes.fromhex("00000004 05 000000"),
        bytes.fromhex("00000005 01 00000003"),
    ],
)
def test_a_malformed_packet_is_a_protocol_error(client: Client, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(client.session.feed(data))


def test_a_request_before_init_is_a_protocol_error(new_client: Client) -> None:
    with pytest.raises(ProtocolError):
        list(new_client.session.feed(new_client.packet(STAT, pack(">I", 1) + PATH)))


def test_a_packet_of_the_maximum_length_is_accepted(client: Client) -> None:
    assert list(client.session.feed(pack(">I", 263_168))) == []


class Failing(MemoryRecorder):
    def record_list(self, handle: int, path: bytes) -> bool:
        raise MemoryError


def test_an_exception_in_a_verb_fails_that_request_only(view: View) -> None:
    client = Client(Session(view, Failing(), lambda: NOW))
    client.send(client.packet(1, pack(">I", 3)))
    assert client.status(OPENDIR, string(b"/")) == FAILURE
    assert client.ask(STAT, string(b"/"))[0] == ATTRS
