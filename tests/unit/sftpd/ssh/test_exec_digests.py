from pathlib import Path

import pytest
from published import stamp
from unit.sftpd.sftp_client import MemoryRecorder

from keys import digest
from keys.digest import Digests
from sftpd.ipc.messages import Recorded
from sftpd.sftp.view import View
from sftpd.ssh.exec_digests import Output, run

EMPTY_MD5 = b"d41d8cd98f00b204e9800998ecf8427e"


def test_rclone_s_question_for_the_shell_is_answered_as_a_posix_shell_does(
    view: View, recorder: MemoryRecorder
) -> None:
    assert run(b"echo ${ShellId}%ComSpec%", view, recorder) == Output(b"%ComSpec%\n")


@pytest.mark.parametrize(
    ("command", "digest"),
    [
        (b"md5sum", EMPTY_MD5),
        (b"md5 -r", EMPTY_MD5),
        (b"rclone md5sum", EMPTY_MD5),
        (b"sha1sum", b"da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (b"sha1 -r", b"da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (b"sha256sum", b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ],
)
def test_a_command_without_a_path_prints_the_digest_of_empty_input(
    view: View, recorder: MemoryRecorder, command: bytes, digest: bytes
) -> None:
    assert run(command, view, recorder) == Output(digest + b"  -\n")
    assert recorder.records == []


@pytest.mark.parametrize(
    "path",
    [b"BENIOKU.txt", b"/BENIOKU.txt", b"'/BENIOKU.txt'", rb"/BENIOKU\.txt", b'"BENIOKU.txt"'],
)
def test_a_path_may_be_quoted_or_escaped(
    tree: Path, view: View, recorder: MemoryRecorder, path: bytes
) -> None:
    stamp(tree / "BENIOKU.txt", Digests("a" * 64, "b" * 40, "c" * 32), bytes(32))

    output = run(b"md5sum " + path, view, recorder)

    named = b"BENIOKU.txt" if b"/" not in path else b"/BENIOKU.txt"
    assert output == Output(b"c" * 32 + b"  " + named + b"\n")
    assert recorder.records == [("hash", "md5", b"/BENIOKU.txt")]


@pytest.mark.parametrize("name", ["sha256", "sha1", "md5"])
def test_a_digest_that_the_seal_does_not_prove_is_computed(
    tree: Path, view: View, recorder: MemoryRecorder, name: str
) -> None:
    stamp(tree / "BENIOKU.txt", Digests("a" * 64, "b" * 40, "c" * 32), bytes(32))
    recorder.proof = Recorded.UNPROVEN

    output = run(f"{name}sum BENIOKU.txt".encode(), view, recorder)

    found = getattr(digest.digests_of(b"oku beni\n"), name)
    assert output == Output(f"{found}  BENIOKU.txt\n".encode())


def test_a_name_with_spaces_and_quotes_is_one_path(
    tree: Path, view: View, recorder: MemoryRecorder
) -> None:
    (tree / "it's here").write_bytes(b"")

    output = run(b"md5sum 'it'\"'\"'s here'", view, recorder)

    assert output == Output(EMPTY_MD5 + b"  it's here\n")
    assert run(rb"md5sum it\'s\ here", view, recorder) == output


@pytest.mark.parametrize("path", [b"/none", b"/../parti-b/gizli.txt", b"x" * 5000])
def test_a_missing_file_gets_the_error_of_md5sum(
    view: View, recorder: MemoryRecorder, path: bytes
) -> None:
    output = run(b"md5sum " + path, view, recorder)

    assert output == Output(b"", b"md5sum: " + path + b": No such file or directory\n", 1)
    assert [record[:2] for record in recorder.records] == [("missed", "hash")]


def test_a_folder_gets_the_error_of_md5sum(view: View, recorder: MemoryRecorder) -> None:
    output = run(b"md5sum /akis", view, recorder)

    assert output == Output(b"", b"md5sum: /akis: Is a directory\n", 1)
    assert recorder.records == [("missed", "hash", b"/akis", "is a folder")]


def test_a_digest_that_cannot_be_recorded_is_refused(view: View, recorder: MemoryRecorder) -> None:
    recorder.can_record = False

    output = run(b"sha256sum BENIOKU.txt", view, recorder)

    assert output is not None
    assert (output.out, output.status) == (b"", 1)


@pytest.mark.parametrize(
    "command",
    [
        b"",
        b"id",
        b"sh -c id",
        b"md5sum; id",
        b"md5sum a b",
        b"md5sum -c SHA256SUMS",
        b"md5sum --help",
        b"md5sum ''",
        b"md5sum 'open",
        b"md5sum a\0b",
        b"echo ${ShellId}",
        b"echo ${ShellId}%ComSpec%; id",
        b"rclone sync",
        b"rclone",
        b"md5",
        b"b3sum",
        b"scp -f /",
        b"/usr/bin/md5sum",
        b"md5sum " + b"a" * 20_000,
        b"\xff\xfe",
    ],
)
def test_any_other_command_is_refused(view: View, recorder: MemoryRecorder, command: bytes) -> None:
    assert run(command, view, recorder) is None
    assert recorder.records == []
