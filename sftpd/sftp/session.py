"""Serves the SFTP verbs of one channel, read only: one table of verbs, and one gate.

The protocol is version 3 (sftpd/sftp/protocol) with these extensions, all of which only read:

- of OpenSSH (PROTOCOL, section 4): `limits`, `statvfs`, `fstatvfs`, `expand-path`;
- of draft-ietf-secsh-filexfer-extensions-00: `home-directory`, `check-file-name`,
  `check-file-handle` (sftpd/sftp/check_file);
- for lftp alone, of version 6: the last part of a listing is marked (see Session).

Rule 1: every request passes the gate (`_gate`), which looks up its verb in the table and checks
whether it writes. The gate refuses a verb that writes; no code for such a verb exists. The only
shortcut is for READ in its usual form, and READ cannot write.

Rule 2: an open, a listing or a digest is recorded before it is answered. If it cannot be recorded,
it is refused.

Rule 3: a CLOSE is recorded with the bytes that were sent, so replies that are still unsent are sent
before it is answered.

Rule 4: this module does no input or output on the connection. `feed` takes what was received and
yields what has to be sent. It knows no path policy either: files and folders come from a View,
and records go to a Recorder.

Rule 5: what a session keeps in memory is limited: its handles, and the ranges of files that were
sent. A request beyond a limit fails, and that is recorded. A folder that is being listed keeps
nothing in memory.

Table, gate and verbs are in one long module, so that a reader can see in one place that nothing
writes. A file's bytes are read from the disk into the buffer from which they are sent.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from struct import Struct
from time import perf_counter
from typing import Protocol

import structlog

from keys.digest import Claim
from sftpd.ipc.messages import Miss, Recorded
from sftpd.sftp import check_file, protocol
from sftpd.sftp.budget import Budget
from sftpd.sftp.byte_ranges import ByteRanges
from sftpd.sftp.check_file import DigestRequest
from sftpd.sftp.protocol import Arguments, Reply, Request, Status, Truncated
from sftpd.sftp.running_digest import RunningDigest
from sftpd.sftp.view import (
    MAX_PATH,
    Attributes,
    FileSystemSize,
    Folder,
    IsFile,
    IsFolder,
    NotFound,
    OpenFile,
    View,
    canonical,
)

MAX_PACKET = 256 * 1024
MAX_READ = 255 * 1024  # the limit that OpenSSH advertises; some clients fail with a larger one
MAX_HANDLES = 1000  # of a session; OpenSSH's server allows about as many
# Unused bytes before and after the replies in `stream`. The packetizer puts the header of an SSH
# packet and its padding there, so that no reply is copied.
HEADROOM, TAILROOM = 16, 32
_MAX_DIGESTS = 1000
_SLACK = 1024
_MAX_BATCH = 264 * 1024  # bytes of replies that are sent together, unless a single reply is longer
_MAX_OTHER_REPLY = 80 * 1024  # upper bound of any reply except the one to a READ
_HEADER = 9  # bytes of length, type and request id
_MARKED = 6  # the first version in which a listing's last part is marked as the last
_READ_ONLY = 1 | 2  # SSH_FXE_STATVFS_ST_RDONLY | SSH_FXE_STATVFS_ST_NOSUID
_MAX_NAME = 255
_NOT_RECORDED = b"The server cannot record this now; try again later"
_OFFERED = (
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"limits@openssh.com", b"1"),
    (b"expand-path@openssh.com", b"1"),
    (b"home-directory", b"1"),
    (b"check-file", ",".join(check_file.ALGORITHMS).encode()),
)
_u32 = Struct(">I")
_read_request = Struct(">IB4sI4sQI")  # a READ with a handle of 4 bytes, as ours are
_data_reply = Struct(">IB4sI")

_log = structlog.get_logger()


class ProtocolError(Exception):
    """The client does not speak SFTP; the session cannot go on."""


class _Refused(Exception):
    """A request fails with this status; `text` replaces its usual text."""

    def __init__(self, code: Status, text: bytes = b"") -> None:
        super().__init__(code)
        self.code = code
        self.text = text


class Recorder(Protocol):
    """Writes records of what the session serves and refuses; paths are canonical."""

    def record_open(self, handle: int, path: bytes, size: int, claim: bytes) -> Recorded:
        """Record an open; return whether it is, and what the file's seal proves."""

    def record_list(self, handle: int, path: bytes) -> bool:
        """Record a listing; return False if it cannot be recorded."""

    def record_hash(self, algorithm: str, path: bytes, claim: bytes) -> Recorded:
        """Record a request for a digest; returns the same as `record_open`."""

    def record_missing(self, verb: str, path: bytes, reason: Miss) -> None:
        """Record that a request to open, list or hash failed, and why."""

    def record_close(
        self,
        handle: int,
        sent: int,
        complete: bool,
        ranges: bytes,
        reason: str,
        sha256: bytes = b"",
    ) -> None:
        """Record the end of a file's handle; `reason` is empty if the client closed it.

        `ranges` are the parts that were sent, for a file that was not sent completely. `sha256` is
        the file's digest, if it had to be computed.
        """

    def record_denied(self, verb: str, path: bytes) -> None:
        """Record a verb that this server never grants."""


class Meter(Protocol):
    """Collects measurements."""

    def record_read_time(self, seconds: float) -> None:
        """Count a READ and the time it took."""


@dataclass(slots=True)
class _File:
    number: int
    path: bytes
    descriptor: int
    attributes: Attributes
    ranges_sent: ByteRanges
    claim: Claim  # of the file when it was opened
    digest: RunningDigest | None  # None if the seal proves the digest


@dataclass(slots=True)
class _Listing:
    number: int
    path: bytes
    folder: Folder

    @property
    def attributes(self) -> Attributes:
        return self.folder.attributes


class Session:
    """The SFTP session of one channel.

    `clock` returns the time; listings show their times in the same zone. `numbers` yields the
    numbers of handles, which records contain too. The channels of a connection share it, and the
    `budget`. The replies are in `stream`, from HEADROOM on.

    `marks_end` is for a client that runs the program `ssh`. If it asks for version 6, it is lftp:
    OpenSSH's own clients ask for version 3. lftp looks in every version for the mark by which
    version 6 ends a listing, and so saves a round trip for each folder.
    """

    def __init__(
        self,
        view: View,
        recorder: Recorder,
        clock: Callable[[], datetime],
        numbers: Iterator[int] | None = None,
        meter: Meter | None = None,
        budget: Budget | None = None,
        *,
        marks_end: bool = False,
    ) -> None:
        self._marks_end = marks_end
        self._view = view
        self._recorder = recorder
        self._clock = clock
        self._numbers = numbers if numbers is not None else count(1)
        self._handles: dict[bytes, _File | _Listing] = {}
        self._budget = budget if budget is not None else Budget()
        self._received = bytearray()
        self._initialized = False
        self._digests: dict[tuple[int, int], bytes] = {}  # computed ones, by inode and ctime
        self._computed = False  # a digest that was not stored
        self._unconfirmed: list[tuple[ByteRanges, int, int]] = []
        self._meter = meter
        self.stream = memoryview(bytearray(4096))
        self._end = HEADROOM

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Process what the client sent, and yield replies; each must be sent before the next.

        Each yielded part of `stream` is overwritten by the next replies. A file's bytes count as
        sent when the caller asks for the next replies. Raises ProtocolError if the client has
        to be disconnected.
        """
        self._received += data
        self._end = HEADROOM
        try:
            for packet in self._packets():
                # A CLOSE is recorded with the bytes that were sent, so send them first (rule 3).
                if self._end > HEADROOM and (
                    self._end - HEADROOM + self._max_reply(packet) > _MAX_BATCH
                    or (self._unconfirmed and packet[4] == Request.CLOSE)
                ):
                    yield self.stream[HEADROOM : self._end]
                    self._confirm_sent()
                reply = self._answer(packet)
                if reply:
                    self._append(reply)
                if self._computed:
                    # This took long: let the caller send, and notice if the client is gone.
                    self._computed = False
                    yield self.stream[HEADROOM : self._end]
                    self._confirm_sent()
            if self._end > HEADROOM:
                yield self.stream[HEADROOM : self._end]
                self._confirm_sent()
        finally:
            self._unconfirmed.clear()

    def _max_reply(self, packet: bytes) -> int:
        if packet[4] != Request.READ or len(packet) != _read_request.size:
            return _MAX_OTHER_REPLY
        length = int.from_bytes(packet[-_u32.size :], "big")
        return min(length, MAX_READ) + _data_reply.size

    def _append(self, reply: bytes) -> None:
        end = self._end + len(reply)
        self._make_room(end)
        self.stream[self._end : end] = reply
        self._end = end

    def _make_room(self, end: int) -> None:
        if end + TAILROOM > len(self.stream):
            wider = memoryview(bytearray(max(end, HEADROOM + _MAX_BATCH) + TAILROOM))
            wider[: self._end] = self.stream[: self._end]
            self.stream = wider

    def end(self) -> None:
        """Close all handles that are still open, and record that."""
        for held in self._handles.values():
            self._close_handle(held, "session ended")
        self._handles.clear()

    def _confirm_sent(self) -> None:
        for ranges, start, end in self._unconfirmed:
            ranges.add(start, end)
        self._unconfirmed.clear()
        self._end = HEADROOM

    def _packets(self) -> Iterator[bytes]:
        received, at = self._received, 0
        try:
            while len(received) - at >= _u32.size:
                (length,) = _u32.unpack_from(received, at)
                if not 1 <= length <= MAX_PACKET + _SLACK:
                    raise ProtocolError(f"packet of {length} bytes")
                end = at + _u32.size + length
                if len(received) < end:
                    return
                packet = bytes(received[at:end])
                at = end
                yield packet
        finally:
            del received[:at]

    def _answer(self, packet: bytes) -> bytes:
        kind = packet[4]
        if len(packet) < _HEADER or (kind == Request.INIT) is self._initialized:
            raise ProtocolError(f"unexpected packet of type {kind}")
        if not self._initialized:
            self._initialized = True
            self._marks_end &= int.from_bytes(packet[5:_HEADER], "big") >= _MARKED
            return protocol.version(*_OFFERED)
        request_id = packet[5:_HEADER]
        try:
            if kind == Request.READ and len(packet) == _read_request.size:
                # Most requests are READs in this form. They need not pass the gate (rule 1).
                _, _, _, size, handle, offset, length = _read_request.unpack(packet)
                if size == len(handle):
                    return self._read(request_id, handle, offset, length)
            return self._gate(kind, request_id, Arguments(packet, _HEADER))
        except Truncated:
            return protocol.status(request_id, Status.BAD_MESSAGE)
        except _Refused as refused:
            return protocol.status(request_id, refused.code, refused.text)
        except Exception:
            _log.exception("request-failed", kind=kind)
            return protocol.status(request_id, Status.FAILURE)

    def _gate(self, kind: int, request_id: bytes, rest: Arguments) -> bytes:
        extended = kind == Request.EXTENDED
        verb = _EXTENSIONS.get(rest.string()) if extended else _VERBS.get(kind)
        if verb is None:
            return protocol.status(request_id, Status.OP_UNSUPPORTED)
        arguments = rest.parse(verb.argument_types)
        if verb.writes(arguments):
            self._recorder.record_denied(verb.name, self._path_of(verb, arguments))
            return protocol.status(request_id, Status.PERMISSION_DENIED)
        return verb.answer(self, request_id, *arguments)

    def _path_of(self, verb: "_Verb", arguments: list[bytes | int]) -> bytes:
        first = arguments[0]
        if not isinstance(first, bytes):
            return b""
        if verb.argument_types[0] == "h":
            held = self._handles.get(first)
            return held.path if held else b""
        return canonical(first[:MAX_PATH])

    # The verbs. Each takes the request id and the arguments of the request, and returns the reply.

    def _open(self, request_id: bytes, path: bytes, _flags: int, _attributes: bytes) -> bytes:
        path = canonical(path)
        if self._handles_are_used_up():
            raise self._too_many("open", path)
        return self._recorded_open(request_id, path, self._find_file("open", path))

    def _find_file(self, verb: str, path: bytes) -> OpenFile:
        """Open the file at `path`; record and raise that there is none."""
        try:
            found = self._view.open_file(path)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise self._too_many(verb, path) from error
            raise
        if isinstance(found, IsFolder):
            # OpenSSH's server too answers with Failure; version 3 has no code for it.
            self._recorder.record_missing(verb, path[:MAX_PATH], Miss.FOLDER)
            raise _Refused(Status.FAILURE, b"Is a directory")
        if isinstance(found, NotFound):
            self._recorder.record_missing(verb, path[:MAX_PATH], Miss.ABSENT)
            raise _Refused(Status.NO_SUCH_FILE)
        return found

    def _handles_are_used_up(self) -> bool:
        return len(self._handles) >= MAX_HANDLES or self._budget.handles <= 0

    def _too_many(self, verb: str, path: bytes) -> "_Refused":
        self._recorder.record_missing(verb, path[:MAX_PATH], Miss.HANDLES)
        return _Refused(Status.FAILURE, b"Too many open files and folders; close some first")

    def _recorded_open(self, request_id: bytes, path: bytes, found: OpenFile) -> bytes:
        recorded = Recorded.NO
        number = next(self._numbers)
        try:
            size, claim = found.attributes.size, found.claim.pack()
            recorded = self._recorder.record_open(number, path, size, claim)
        finally:
            if not recorded:
                os.close(found.descriptor)
        if not recorded:
            raise _Refused(Status.FAILURE, _NOT_RECORDED)
        opened = _File(
            number,
            path,
            found.descriptor,
            found.attributes,
            ByteRanges(self._budget),
            found.claim,
            RunningDigest() if recorded is Recorded.UNPROVEN else None,
        )
        return self._new_handle(request_id, opened)

    def _opendir(self, request_id: bytes, path: bytes) -> bytes:
        path = canonical(path)
        if self._handles_are_used_up():
            raise self._too_many("list", path)
        try:
            found = self._view.open_folder(path)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise self._too_many("list", path) from error
            raise
        if isinstance(found, NotFound):
            is_file = isinstance(found, IsFile)
            reason = Miss.FILE if is_file else Miss.ABSENT
            self._recorder.record_missing("list", path[:MAX_PATH], reason)
            raise _Refused(Status.NO_SUCH_FILE, b"Not a directory" if is_file else b"")
        recorded = False
        number = next(self._numbers)
        try:
            recorded = self._recorder.record_list(number, path)
        finally:
            if not recorded:
                found.close()
        if not recorded:
            raise _Refused(Status.FAILURE, _NOT_RECORDED)
        return self._new_handle(request_id, _Listing(number, path, found))

    def _new_handle(self, request_id: bytes, held: _File | _Listing) -> bytes:
        name = _u32.pack(held.number)
        self._handles[name] = held
        self._budget.handles -= 1
        return protocol.packet(Reply.HANDLE, request_id, protocol.string(name))

    def _close(self, request_id: bytes, handle: bytes) -> bytes:
        held = self._handles.pop(handle, None)
        if held is None:
            return protocol.status(request_id, Status.FAILURE)
        self._close_handle(held, "")
        return protocol.status(request_id, Status.OK)

    def _close_handle(self, held: _File | _Listing, reason: str) -> None:
        self._budget.handles += 1
        if isinstance(held, _Listing):
            held.folder.close()
            return
        sha256 = b""
        with suppress(OSError):
            sha256 = self._computed_digest(held)
        with suppress(OSError):
            os.close(held.descriptor)
        complete = held.ranges_sent.complete(held.attributes.size)
        ranges = b"" if complete else held.ranges_sent.ranges().encode()
        held.ranges_sent.release()
        sent = held.ranges_sent.sent
        self._recorder.record_close(held.number, sent, complete, ranges, reason, sha256)

    def _computed_digest(self, held: _File) -> bytes:
        """Return the digest of a file of which something was sent, if its seal proves none.

        That includes a file that has changed since it was opened.
        """
        if not held.ranges_sent.sent:
            return b""
        changed_ns = os.fstat(held.descriptor).st_ctime_ns
        if held.digest is None:
            if changed_ns == held.claim.changed_ns:
                return b""
            held.digest = RunningDigest()
        now = held.claim.inode, changed_ns
        if not held.digest.covers(held.attributes.size) and now in self._digests:
            return self._digests[now]  # it has not changed since this session computed it
        if len(self._digests) >= _MAX_DIGESTS:
            self._digests.clear()
        return self._digests.setdefault(now, held.digest.finish(held.descriptor))

    def _read(self, request_id: bytes, handle: bytes, offset: int, length: int) -> bytes:
        held = self._handles.get(handle)
        if not isinstance(held, _File):
            return protocol.status(request_id, Status.FAILURE)
        if offset >= held.attributes.size:
            return protocol.status(request_id, Status.EOF)
        size = min(length, MAX_READ, held.attributes.size - offset)
        at = self._end + _data_reply.size
        self._make_room(at + size)
        began = perf_counter()
        # Read into the stream behind the replies. If this fails, `_end` has not moved yet.
        size = os.preadv(held.descriptor, [self.stream[at : at + size]], offset)
        if self._meter is not None:
            self._meter.record_read_time(perf_counter() - began)
        if not size:
            return protocol.status(request_id, Status.EOF)
        _data_reply.pack_into(self.stream, self._end, 9 + size, Reply.DATA, request_id, size)
        if held.digest is not None:
            held.digest.add(offset, self.stream[at : at + size])
        self._end = at + size
        self._unconfirmed.append((held.ranges_sent, offset, offset + size))
        return b""

    def _stat(self, request_id: bytes, path: bytes) -> bytes:
        found = self._view.stat(path)
        if isinstance(found, NotFound):
            return protocol.status(request_id, Status.NO_SUCH_FILE)
        return protocol.packet(Reply.ATTRS, request_id, protocol.attributes(found))

    def _fstat(self, request_id: bytes, handle: bytes) -> bytes:
        held = self._handles.get(handle)
        if held is None:
            return protocol.status(request_id, Status.FAILURE)
        return protocol.packet(Reply.ATTRS, request_id, protocol.attributes(held.attributes))

    def _readdir(self, request_id: bytes, handle: bytes) -> bytes:
        held = self._handles.get(handle)
        if not isinstance(held, _Listing):
            return protocol.status(request_id, Status.FAILURE)
        now = self._clock()
        entries = [protocol.entry(name, shown, now) for name, shown in held.folder.read()]
        if not entries:
            return protocol.status(request_id, Status.EOF)
        end = self._marks_end and held.folder.at_end()
        return protocol.names(request_id, entries, end=end)

    def _realpath(self, request_id: bytes, path: bytes) -> bytes:
        resolved = canonical(path)
        # As in OpenSSH: the last part of the path need not exist, but its folder must.
        if isinstance(self._view.stat(resolved), NotFound):
            parent = self._view.stat(resolved.rpartition(b"/")[0])
            missing = isinstance(parent, NotFound) or not parent.folder
            if missing or len(path) > MAX_PATH or b"\0" in resolved:
                return protocol.status(request_id, Status.NO_SUCH_FILE)
        return protocol.names(request_id, [protocol.bare_entry(resolved)])

    def _readlink(self, request_id: bytes, _path: bytes) -> bytes:
        return protocol.status(request_id, Status.NO_SUCH_FILE)

    def _limits(self, request_id: bytes) -> bytes:
        limits = protocol.numbers(MAX_PACKET, MAX_READ, 0, MAX_HANDLES)
        return protocol.packet(Reply.EXTENDED, request_id, limits)

    def _statvfs(self, request_id: bytes, path: bytes) -> bytes:
        found = self._view.statvfs(path)
        if isinstance(found, NotFound):
            return protocol.status(request_id, Status.NO_SUCH_FILE)
        return self._statvfs_reply(request_id, found)

    def _fstatvfs(self, request_id: bytes, handle: bytes) -> bytes:
        held = self._handles.get(handle)
        if held is None:
            return protocol.status(request_id, Status.FAILURE)
        found = self._view.statvfs(held.path)
        if isinstance(found, NotFound):
            return protocol.status(request_id, Status.FAILURE)
        return self._statvfs_reply(request_id, found)

    def _statvfs_reply(self, request_id: bytes, found: FileSystemSize) -> bytes:
        # The whole file system is shown as free, so that no client warns of a full disk: how much
        # other parties have is not shown, and the flag says that nothing can be written. The
        # numbers of files are given as 0, which means that they are not known.
        block, blocks = found
        room = protocol.numbers(
            block, block, blocks, blocks, blocks, 0, 0, 0, 0, _READ_ONLY, _MAX_NAME
        )
        return protocol.packet(Reply.EXTENDED, request_id, room)

    def _home(self, request_id: bytes, _user: bytes) -> bytes:
        return protocol.names(request_id, [protocol.bare_entry(b"/")])

    def _expand(self, request_id: bytes, path: bytes) -> bytes:
        head, _, rest = path.partition(b"/")
        if head.startswith(b"~") and head != b"~":
            return protocol.status(request_id, Status.NO_SUCH_FILE)
        return self._realpath(request_id, rest if head == b"~" else path)

    def _check_name(self, request_id: bytes, path: bytes, *wanted: bytes | int) -> bytes:
        path = canonical(path)
        found = self._find_file("hash", path)
        try:
            return self._check_file_reply(request_id, b"", path, found, DigestRequest(*wanted))  # type: ignore[arg-type]
        finally:
            os.close(found.descriptor)

    def _check_handle(self, request_id: bytes, handle: bytes, *wanted: bytes | int) -> bytes:
        return self._check(request_id, b"", handle, wanted)

    def _check_for_paramiko(self, request_id: bytes, handle: bytes, *wanted: bytes | int) -> bytes:
        # paramiko's client uses this name, and expects it at the beginning of the reply.
        return self._check(request_id, protocol.string(b"check-file"), handle, wanted)

    def _check(
        self, request_id: bytes, prefix: bytes, handle: bytes, wanted: tuple[bytes | int, ...]
    ) -> bytes:
        held = self._handles.get(handle)
        if not isinstance(held, _File):
            return protocol.status(request_id, Status.FAILURE)
        return self._check_file_reply(request_id, prefix, held.path, held, DigestRequest(*wanted))  # type: ignore[arg-type]

    def _check_file_reply(
        self,
        request_id: bytes,
        prefix: bytes,
        path: bytes,
        opened: OpenFile | _File,
        wanted: DigestRequest,
    ) -> bytes:
        name = check_file.algorithm(wanted.algorithms)
        if name is None:
            return protocol.status(request_id, Status.OP_UNSUPPORTED)
        claim = Claim.of(opened.descriptor)
        recorded = self._recorder.record_hash(name, path, claim.pack())
        if not recorded:
            raise _Refused(Status.FAILURE, _NOT_RECORDED)
        self._computed = True
        proven = claim.digests if recorded is Recorded.PROVEN else None
        found = check_file.digests(opened.descriptor, opened.attributes.size, wanted, proven)
        if found is None:
            return protocol.status(request_id, Status.FAILURE)
        return protocol.packet(
            Reply.EXTENDED, request_id, prefix + protocol.string(name.encode()) + found
        )

    def _unreachable(self, _request: bytes, *_: object) -> bytes:
        raise AssertionError("the gate passed a verb that writes")


@dataclass(frozen=True, slots=True)
class _Verb:
    name: str
    argument_types: str  # see protocol.Arguments
    writes: Callable[[list[bytes | int]], bool]
    answer: Callable[..., bytes]


def _reads(_: list[bytes | int]) -> bool:
    return False


def _writes(_: list[bytes | int]) -> bool:
    return True


def _opens_for_writing(arguments: list[bytes | int]) -> bool:
    flags = arguments[1]
    return not isinstance(flags, int) or flags & protocol.WRITING_FLAGS != 0


_VERBS: dict[int, _Verb] = {
    Request.OPEN: _Verb("open", "sua", _opens_for_writing, Session._open),
    Request.CLOSE: _Verb("close", "h", _reads, Session._close),
    Request.READ: _Verb("read", "hUu", _reads, Session._read),
    Request.WRITE: _Verb("write", "hUs", _writes, Session._unreachable),
    Request.LSTAT: _Verb("lstat", "s", _reads, Session._stat),
    Request.FSTAT: _Verb("fstat", "h", _reads, Session._fstat),
    Request.SETSTAT: _Verb("setstat", "sa", _writes, Session._unreachable),
    Request.FSETSTAT: _Verb("fsetstat", "ha", _writes, Session._unreachable),
    Request.OPENDIR: _Verb("opendir", "s", _reads, Session._opendir),
    Request.READDIR: _Verb("readdir", "h", _reads, Session._readdir),
    Request.REMOVE: _Verb("remove", "s", _writes, Session._unreachable),
    Request.MKDIR: _Verb("mkdir", "sa", _writes, Session._unreachable),
    Request.RMDIR: _Verb("rmdir", "s", _writes, Session._unreachable),
    Request.REALPATH: _Verb("realpath", "s", _reads, Session._realpath),
    Request.STAT: _Verb("stat", "s", _reads, Session._stat),
    Request.RENAME: _Verb("rename", "ss", _writes, Session._unreachable),
    Request.READLINK: _Verb("readlink", "s", _reads, Session._readlink),
    Request.SYMLINK: _Verb("symlink", "ss", _writes, Session._unreachable),
    Request.LINK: _Verb("link", "ssa", _writes, Session._unreachable),
}
_EXTENSIONS = {
    b"limits@openssh.com": _Verb("limits", "", _reads, Session._limits),
    b"statvfs@openssh.com": _Verb("statvfs", "s", _reads, Session._statvfs),
    b"fstatvfs@openssh.com": _Verb("fstatvfs", "h", _reads, Session._fstatvfs),
    b"expand-path@openssh.com": _Verb("expand-path", "s", _reads, Session._expand),
    b"home-directory": _Verb("home-directory", "s", _reads, Session._home),
    b"check-file-name": _Verb("check-file", "ssUUu", _reads, Session._check_name),
    b"check-file-handle": _Verb("check-file", "hsUUu", _reads, Session._check_handle),
    b"check-file": _Verb("check-file", "hsUUu", _reads, Session._check_for_paramiko),
    b"posix-rename@openssh.com": _Verb("posix-rename", "ss", _writes, Session._unreachable),
    b"hardlink@openssh.com": _Verb("hardlink", "ss", _writes, Session._unreachable),
    b"fsync@openssh.com": _Verb("fsync", "h", _writes, Session._unreachable),
    b"lsetstat@openssh.com": _Verb("lsetstat", "sa", _writes, Session._unreachable),
    b"copy-data": _Verb("copy-data", "hUUhU", _writes, Session._unreachable),
    b"copy-file": _Verb("copy-file", "ss", _writes, Session._unreachable),
}
