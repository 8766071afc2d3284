"""Answers the few exec commands that rclone uses to compare digests; everything else is refused.

    echo ${ShellId}%ComSpec%     asks which shell this is; the answer is that of a POSIX shell
    md5sum                       the digest of empty input; rclone uses it to test the command
    md5sum PATH                  a file's digest, as `md5sum` prints it

The same for `sha1sum` and `sha256sum`, and for the other spellings that rclone tries: `md5 -r`,
`rclone md5sum`. PATH is one word, quoted or escaped as for a shell. No process is started: the
answer comes from the party's tree: from the file's seal, if the monitor finds that it proves the
digest (keys/digest), or else from the file's bytes.

rclone 1.60 stores a refusal permanently in the party's own configuration. So a command that is
answered today must be answered in later versions too.
"""

import os
import shlex
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from keys import digest
from sftpd.ipc.messages import Miss, Recorded
from sftpd.sftp.view import MAX_PATH, IsFolder, NotFound, View, canonical

_MAX_COMMAND = 4 * MAX_PATH + 64  # every byte of a path may be escaped
_SHELL = b"echo ${ShellId}%ComSpec%"
_SHELL_ANSWER = b"%ComSpec%\n"
_PROGRAMS = {
    words: name
    for name in ("sha256", "sha1", "md5")
    for words in ((f"{name}sum",), (name, "-r"), ("rclone", f"{name}sum"))
}


class Output(NamedTuple):
    """What a command prints, and its exit status."""

    out: bytes
    error: bytes = b""
    status: int = 0


class Recorder(Protocol):
    """Writes records; see sftpd/ipc/monitor_client."""

    def record_hash(self, algorithm: str, path: bytes, claim: bytes) -> Recorded:
        """Record a request for a digest; return whether it is, and what the seal proves."""

    def record_missing(self, verb: str, path: bytes, reason: Miss) -> None:
        """Record that a request for a file failed, and why."""


@dataclass(frozen=True, slots=True)
class _DigestCommand:
    program: str
    algorithm: str
    path: str | None


def run(command: bytes, view: View, recorder: Recorder) -> Output | None:
    """Return what a command prints, None if it is not one of these commands."""
    if command.strip() == _SHELL:
        return Output(_SHELL_ANSWER)
    parsed = _parse(command)
    if parsed is None:
        return None
    if parsed.path is None:
        empty = getattr(digest.digests_of(b""), parsed.algorithm)
        return Output(f"{empty}  -\n".encode())
    path = os.fsencode(parsed.path)
    found = view.open_file(path)
    if isinstance(found, NotFound):
        is_folder = isinstance(found, IsFolder)
        reason = Miss.FOLDER if is_folder else Miss.ABSENT
        recorder.record_missing("hash", canonical(path)[:MAX_PATH], reason)
        cause = "Is a directory" if is_folder else "No such file or directory"
        error = f"{parsed.program}: {parsed.path}: {cause}\n"
        return Output(b"", os.fsencode(error), 1)
    try:
        claim = found.claim
        recorded = recorder.record_hash(parsed.algorithm, canonical(path), claim.pack())
        if not recorded:
            error = f"{parsed.program}: {parsed.path}: I/O error\n"
            return Output(b"", os.fsencode(error), 1)
        if recorded is Recorded.PROVEN and (proven := claim.digests) is not None:
            answer = getattr(proven, parsed.algorithm)
        else:
            answer = digest.compute_one(found.descriptor, parsed.algorithm)
    finally:
        os.close(found.descriptor)
    return Output(f"{answer}  ".encode() + path + b"\n")


def _parse(command: bytes) -> _DigestCommand | None:
    if len(command) > _MAX_COMMAND or b"\0" in command:
        return None
    try:
        words = shlex.split(os.fsdecode(command))
    except ValueError:
        return None
    for program, algorithm in _PROGRAMS.items():
        arguments = words[len(program) :]
        if tuple(words[: len(program)]) == program and len(arguments) <= 1:
            path = arguments[0] if arguments else None
            if path is not None and (not path or path.startswith("-")):
                return None
            return _DigestCommand(program[-1], algorithm, path)
    return None
