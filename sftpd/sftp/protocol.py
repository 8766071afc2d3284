"""Parses SFTP requests and builds replies; holds all numbers of the protocol.

SFTP version 3, draft-ietf-secsh-filexfer-02. A packet is

    uint32 length, byte type, uint32 request-id, arguments

in network byte order; a string is a uint32 length and the bytes. Example: a READ of 32,768 bytes
from the start of the file with handle `00000004`, as request 7:

    00000019 05 00000007 00000004 00000004 0000000000000000 00008000

A request id is kept as the four bytes that arrived.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import IntEnum
from struct import Struct

from sftpd.sftp.view import Attributes

VERSION = 3
WRITING_FLAGS = 0x02 | 0x04 | 0x08 | 0x10 | 0x20  # WRITE, APPEND, CREAT, TRUNC, EXCL
_ATTRIBUTE_FLAGS = 0x01 | 0x02 | 0x04 | 0x08  # SIZE, UIDGID, PERMISSIONS, ACMODTIME
# Clients give their copies these modes (OpenSSH `get -r`, psftp, sshfs), and an ordinary user must
# be able to update a copy. The gate (sftpd/sftp/session) and the kernel deny writing, not the mode.
_FILE_MODE, _FOLDER_MODE = 0o100644, 0o040755
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_RECENT = timedelta(days=183)

_u32 = Struct(">I")
_u64 = Struct(">Q")
_attributes = Struct(">IQIIIII")


class Request(IntEnum):
    """SSH_FXP_* of requests, section 3."""

    INIT = 1
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    LINK = 21  # of version 6, but some clients try it
    EXTENDED = 200


class Reply(IntEnum):
    """SSH_FXP_* of replies."""

    VERSION = 2
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 201


class Status(IntEnum):
    """SSH_FX_*, section 7, as far as they are used."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    OP_UNSUPPORTED = 8


_STATUS_TEXT = {
    Status.OK: b"Success",
    Status.EOF: b"End of file",
    Status.NO_SUCH_FILE: b"No such file",
    Status.PERMISSION_DENIED: b"Permission denied",
    Status.FAILURE: b"Failure",
    Status.BAD_MESSAGE: b"Bad message",
    Status.OP_UNSUPPORTED: b"Operation unsupported",
}


class Truncated(Exception):
    """A packet is shorter than its arguments."""


class Arguments:
    """The arguments of a request, which follow its id.

    `parse` takes their types, one letter for each: `s` a path or another string, `h` a handle,
    `u` a uint32, `U` a uint64, `a` attributes, which are kept as bytes because nothing uses them.
    """

    def __init__(self, packet: bytes, at: int) -> None:
        self._packet = packet
        self._at = at

    def parse(self, types: str) -> list[bytes | int]:
        """Return the arguments; raise Truncated if the packet is too short."""
        return [_READERS[letter](self) for letter in types]

    def string(self) -> bytes:
        """Return the next argument, a string."""
        size = self.number(_u32)
        found = self._packet[self._at : self._at + size]
        if len(found) != size:
            raise Truncated
        self._at += size
        return found

    def number(self, form: Struct) -> int:
        """Return the next argument, a number."""
        if len(self._packet) < self._at + form.size:
            raise Truncated
        (found,) = form.unpack_from(self._packet, self._at)
        self._at += form.size
        return int(found)

    def rest(self) -> bytes:
        """Return all remaining bytes."""
        at, self._at = self._at, len(self._packet)
        return self._packet[at:]


_READERS: dict[str, Callable[[Arguments], bytes | int]] = {
    "s": Arguments.string,
    "h": Arguments.string,
    "u": lambda arguments: arguments.number(_u32),
    "U": lambda arguments: arguments.number(_u64),
    "a": Arguments.rest,
}


def version(*extensions: tuple[bytes, bytes]) -> bytes:
    """Return the VERSION packet, with the extensions that are offered."""
    body = _u32.pack(VERSION) + b"".join(string(n) + string(v) for n, v in extensions)
    return _u32.pack(1 + len(body)) + bytes([Reply.VERSION]) + body


def packet(kind: Reply, request_id: bytes, body: bytes) -> bytes:
    """Return a reply."""
    return _u32.pack(5 + len(body)) + bytes([kind]) + request_id + body


def status(request_id: bytes, code: Status, text: bytes = b"") -> bytes:
    """Return a STATUS reply; `text` replaces the usual text of that code."""
    text = text or _STATUS_TEXT[code]
    return packet(Reply.STATUS, request_id, _u32.pack(code) + string(text) + string(b""))


def names(request_id: bytes, entries: list[bytes], *, end: bool = False) -> bytes:
    """Return a NAME reply with entries made by `entry` or `bare_entry`.

    `end` adds the mark of version 6 that the listing has no more entries.
    """
    mark = b"\1" if end else b""
    return packet(Reply.NAME, request_id, _u32.pack(len(entries)) + b"".join(entries) + mark)


def entry(name: bytes, shown: Attributes, now: datetime) -> bytes:
    """Return one entry of a listing, with its line as `ls -l` prints it."""
    return string(name) + string(long_name(name, shown, now)) + attributes(shown)


def bare_entry(name: bytes) -> bytes:
    """Return an entry without attributes, as in the reply to REALPATH."""
    return string(name) + string(name) + _u32.pack(0)


def attributes(shown: Attributes) -> bytes:
    """Return the attributes on the wire: owner and group 0, the mtime also as atime."""
    mode = _FOLDER_MODE if shown.folder else _FILE_MODE
    mtime = min(max(shown.mtime, 0), 0xFFFFFFFF)
    return _attributes.pack(_ATTRIBUTE_FLAGS, shown.size, 0, 0, mode, mtime, mtime)


def numbers(*values: int) -> bytes:
    """Return uint64s on the wire."""
    return b"".join(map(_u64.pack, values))


def string(text: bytes) -> bytes:
    """Return a string on the wire."""
    return _u32.pack(len(text)) + text


def long_name(name: bytes, shown: Attributes, now: datetime) -> bytes:
    """Return a line as `ls -l` prints it, in the zone of `now`.

    It shows the time of day, or the year if the file is half a year away from `now`.
    """
    mode = "drwxr-xr-x" if shown.folder else "-rw-r--r--"
    when = datetime.fromtimestamp(shown.mtime, now.tzinfo)
    recent = -_RECENT < now - when < _RECENT
    time = f"{when.hour:02}:{when.minute:02}" if recent else f" {when.year}"
    date = f"{_MONTHS[when.month - 1]} {when.day:2} {time}"
    return f"{mode}    1 0        0        {shown.size:8} {date} ".encode() + name
