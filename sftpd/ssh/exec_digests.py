"""The commands that are answered over exec: what rclone asks a server's shell for, and no other.

    echo ${ShellId}%ComSpec%     which shell is it; answered as a POSIX shell would
    md5sum                       the digest of no input, asked so as to learn if the command works
    md5sum PATH                  a file's digest, as `md5sum` prints it

and the same for `sha1sum` and `sha256sum`, and for the other spellings that rclone tries: `md5 -r`,
`rclone md5sum`. PATH is one word, quoted or escaped as a shell takes it. Nothing is executed: no
process is started, the answer comes from the party's tree (keys/digest), and anything else is
refused.

rclone 1.60 writes a refusal into the party's own configuration, for good, so what is answered here
must stay.
"""

import os
import shlex
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from keys import digest
from sftpd.sftp.view import MAX_PATH, NotFound, View, canonical

_MAX_COMMAND = 4 * MAX_PATH + 64  # every byte of a path may be escaped
_SHELL = b"echo ${ShellId}%ComSpec%"
_SHELL_ANSWER = b"%ComSpec%\n"
_PROGRAMS = {
    words: name
    for name in ("sha256", "sha1", "md5")
    for words in ((f"{name}sum",), (name, "-r"), ("rclone", f"{name}sum"))
}


class Answer(NamedTuple):
    """What a command prints, and its exit status."""

    out: bytes
    error: bytes = b""
    status: int = 0


class Recorder(Protocol):
    """Who is told what is asked for."""

    def record_hash(self, algorithm: str, path: bytes) -> bool:
        """Say whether it stands on record that a digest was asked for."""

    def record_missing(self, verb: str, path: bytes) -> None:
        """Note that there is no such file."""


@dataclass(frozen=True, slots=True)
class _DigestCommand:
    program: str
    algorithm: str
    path: str | None


def answer(command: bytes, view: View, recorder: Recorder) -> Answer | None:
    """Return what a command prints, None if it is not one of these."""
    if command.strip() == _SHELL:
        return Answer(_SHELL_ANSWER)
    parsed = _parse(command)
    if parsed is None:
        return None
    if parsed.path is None:
        empty = getattr(digest.digests_of(b""), parsed.algorithm)
        return Answer(f"{empty}  -\n".encode())
    path = os.fsencode(parsed.path)
    found = view.open_file(path)
    if isinstance(found, NotFound):
        recorder.record_missing("hash", canonical(path)[:MAX_PATH])
        said = f"{parsed.program}: {parsed.path}: No such file or directory\n"
        return Answer(b"", os.fsencode(said), 1)
    try:
        if not recorder.record_hash(parsed.algorithm, canonical(path)):
            return Answer(b"", os.fsencode(f"{parsed.program}: {parsed.path}: I/O error\n"), 1)
        known = getattr(digest.digests_of_file(found.descriptor), parsed.algorithm)
    finally:
        os.close(found.descriptor)
    return Answer(f"{known}  ".encode() + path + b"\n")


def _parse(command: bytes) -> _DigestCommand | None:
    if len(command) > _MAX_COMMAND or b"\0" in command:
        return None
    try:
        words = shlex.split(os.fsdecode(command))
    except ValueError:
        return None
    for program, algorithm in _PROGRAMS.items():
        given = words[len(program) :]
        if tuple(words[: len(program)]) == program and len(given) <= 1:
            if given and (not given[0] or given[0].startswith("-")):
                return None
            return _DigestCommand(program[-1], algorithm, given[0] if given else None)
    return None
