"""Lets a confined process connect to a few addresses, through a process that is not confined.

The confined process installs a seccomp filter with a listener (seccomp_unotify(2)), which answers
two calls, and gives the listener and its own memory, open to be read, to the other process:

    call      what the other process does
    socket    makes a TCP or UNIX stream socket itself, and puts it among the caller's descriptors
    connect   reads the address in the caller's memory, checks it, and connects that socket itself

The kernel does neither call for the confined process. So it does not matter that another thread of
it may change the memory afterwards: what was checked is what is connected to. A socket can also be
connected by sending on it (MSG_FASTOPEN, tcp(7)), which the filter denies.

It needs Linux 5.14, and that no other filter of the process has a listener.
"""

import errno
import fcntl
import os
import select
import socket
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from ipaddress import ip_address
from struct import Struct
from typing import NamedTuple

from keys.kernel import bpf, process

_NOTIF, _RESPONSE, _ADD_FD = Struct("=QIIiIQ6Q"), Struct("=QqiI"), Struct("=QIIII")
_RECEIVE, _SEND, _ADD = 0xC0502100, 0xC0182101, 0x40182103
_ADD_AND_SEND = 1 << 1
_FLAGS = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
_FAMILIES = frozenset({socket.AF_UNIX, socket.AF_INET, socket.AF_INET6})
_PROTOCOLS = frozenset({0, socket.IPPROTO_TCP})
_MAX_ADDRESS = 128  # bytes of a sockaddr
_MAX_OPEN = 64  # sockets that were made and not connected
CALLS = "socket 41 198 connect 42 203"


class Target(NamedTuple):
    """An address: of TCP, or the path of a UNIX socket with port 0."""

    host: str
    port: int


def open_memory() -> int:
    """Open this process's own memory to be read; call it before the process has a secret.

    A process that forbids its inspection may not open it, so it allows that for this moment.
    """
    with process.inspection_allowed():
        return os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)


class Connector:
    """Answers the calls of one confined process, in a thread, until that process ends."""

    def __init__(
        self, listener: int, memory: int, allowed: Callable[[], Collection[Target]]
    ) -> None:
        """`listener` is what `bpf.install_with_listener` returned there; both are closed here."""
        self._listener, self._memory, self._allowed = listener, memory, allowed
        self._made: dict[int, socket.socket] = {}  # by the descriptor in the confined process
        self._number = bpf.call_numbers(CALLS, bpf.machine())

    def start(self) -> None:
        """Answer the calls in a thread, until the process that makes them ends."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        try:
            while waiting.poll()[0][1] & select.POLLIN:
                with suppress(OSError):  # the call was interrupted, or its process has ended
                    self._answer()
        finally:
            for each in self._made.values():
                each.close()
            os.close(self._listener)
            os.close(self._memory)

    def _answer(self) -> None:
        received = bytearray(_NOTIF.size)
        fcntl.ioctl(self._listener, _RECEIVE, received, True)
        call, _, _, number, _, _, *arguments = _NOTIF.unpack(received)
        try:
            if number == self._number["socket"]:
                self._make(call, *arguments[:3])
                return
            error = self._connect(*arguments[:3])
        except OSError as failed:
            error = failed.errno or errno.EPERM
        answer = bytearray(_RESPONSE.pack(call, 0, -error, 0))
        fcntl.ioctl(self._listener, _SEND, answer, True)

    def _make(self, call: int, family: int, kind: int, protocol: int) -> None:
        """Make a socket and put it among the caller's descriptors, which answers the call."""
        stream = kind & ~_FLAGS == socket.SOCK_STREAM
        if family not in _FAMILIES or not stream or protocol not in _PROTOCOLS:
            raise PermissionError(errno.EPERM, "not a stream socket")
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            os.set_blocking(made.fileno(), not kind & socket.SOCK_NONBLOCK)
            added = _ADD_FD.pack(call, _ADD_AND_SEND, made.fileno(), 0, os.O_CLOEXEC)
            descriptor = fcntl.ioctl(self._listener, _ADD, bytearray(added), True)
        except BaseException:
            made.close()
            raise
        self._drop(descriptor)
        self._made[descriptor] = made
        while len(self._made) > _MAX_OPEN:
            self._drop(next(iter(self._made)))

    def _connect(self, descriptor: int, pointer: int, length: int) -> int:
        """Connect a socket; return 0, or the errno of connect(2)."""
        made = self._made.get(descriptor)
        if made is None or length > _MAX_ADDRESS:
            return errno.EPERM
        target = parse(os.pread(self._memory, length, pointer))
        if target is None or target not in self._allowed():
            return errno.EPERM
        os.set_blocking(made.fileno(), False)  # this thread never waits for a server
        found = made.connect_ex(target.host if target.port == 0 else (target.host, target.port))
        if found in (0, errno.EINPROGRESS):
            self._drop(descriptor)
        return found

    def _drop(self, descriptor: int) -> None:
        if (before := self._made.pop(descriptor, None)) is not None:
            before.close()


def parse(address: bytes) -> Target | None:
    """Return what a sockaddr in memory names: TCP or a UNIX socket's path, None for others."""
    family = int.from_bytes(address[:2], "little")
    if family == socket.AF_UNIX and address[2:3] not in (b"", b"\0"):
        return Target(os.fsdecode(address[2:].partition(b"\0")[0]), 0)
    port = int.from_bytes(address[2:4], "big")
    if family == socket.AF_INET and len(address) >= 8 and port:
        return Target(str(ip_address(address[4:8])), port)
    if family == socket.AF_INET6 and len(address) >= 24 and port:
        return Target(str(ip_address(address[8:24])), port)
    return None
