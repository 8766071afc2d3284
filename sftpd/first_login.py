"""Runs one login in the forker, so that every session starts with that work already done.

Python and the libraries make much ready when code runs for the first time: specialized bytecode,
caches of attributes and of algorithms, tables of OpenSSL. A session that did so itself would need
time and memory of its own for it. So before the forker (sftpd/sessions) starts sessions, it serves
one connection itself. It is over a loopback address, with keys that are made for it, and shows a
tree with one file. The kernel's restrictions, which the forker could not lift again, are left out.

The client and the monitor of this connection are a child process. It ends with it, and so do the
keys.
"""

import os
import signal
import socket
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from struct import Struct

from paramiko.ecdsakey import ECDSAKey
from paramiko.transport import Transport

from config.scope import ALL
from sftpd.connection import Connection
from sftpd.ipc.messages import MAX_DATAGRAM, YES, Grant, LoginAnswer, MessageKind, unpack
from sftpd.ipc.monitor_client import MonitorClient
from sftpd.ipc.pending_closes import PendingCloses
from sftpd.ipc.session_messages import SessionSettings
from sftpd.sandbox.sandbox import KernelFeatures, SandboxPolicy
from sftpd.ssh import algorithms

DEADLINE = 15.0  # seconds for the whole login: the server waits for it
_GRACE = 10.0  # seconds
_LOOPBACK = "127.0.0.1"
_USER = "first-login"
_FILE, _SIZE = "page", 200_000
_length = Struct(">I")


def serve() -> None:
    """Serve the login; raise OSError or RuntimeError if it fails or is not over at the deadline."""
    handler = signal.signal(signal.SIGALRM, _end_at_deadline)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        _serve()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)


def _end_at_deadline(*_: object) -> None:
    raise RuntimeError(f"not over after {DEADLINE:.0f} s")  # paramiko takes an OSError for its own


def _serve() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    host_key = ECDSAKey.generate()
    settings = SessionSettings(
        (host_key.asbytes(),),
        (host_key.asbytes(),),
        algorithms.KEX,
        algorithms.MACS,
        (host_key.get_name(),),
        algorithms.PUBLIC_KEYS,
        _GRACE,
        _GRACE,
        _GRACE,
        interactive=False,
        policy=SandboxPolicy(KernelFeatures(0, seccomp=False, openat2=True)),
    )
    asked, asking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (
        tempfile.TemporaryDirectory(prefix="ssps-") as tree,
        asked,
        asking,
        socket.create_server((_LOOPBACK, 0)) as listening,
    ):
        (Path(tree) / _FILE).write_bytes(bytes(_SIZE))
        (Path(tree) / _FILE).chmod(0o444)
        listening.settimeout(_GRACE)
        other = os.fork()
        if other == 0:
            _be_the_others(asked, listening, host_key, tree)
        try:
            _serve_one(settings, listening.accept()[0], asking)
        finally:
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)
            signal.signal(signal.SIGTERM, handler)


def _serve_one(settings: SessionSettings, peer: socket.socket, asking: socket.socket) -> None:
    restricted = []
    page = PendingCloses()
    page.close_descriptor()
    with peer:
        client = MonitorClient(asking, page)
        connection = Connection(settings, restrict=lambda *_: restricted.append(True))
        connection.take(peer, _LOOPBACK, client)
        reason = connection.serve()
        connection.close()
        client.end(reason)
    page.close()
    if not restricted or reason != "closed":
        raise RuntimeError(f"the client did not log in: {reason}")


def _be_the_others(
    asked: socket.socket, listening: socket.socket, host_key: ECDSAKey, tree: str
) -> None:
    """Be the monitor and the client, and end this process; never returns."""
    try:
        threading.Thread(target=_answer, args=(asked, host_key, tree), daemon=True).start()
        with socket.create_connection(listening.getsockname()) as sock:
            _log_in(sock)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
    finally:
        os._exit(0)


def _log_in(sock: socket.socket) -> None:
    transport = Transport(sock)
    transport.connect(username=_USER, pkey=ECDSAKey.generate())
    sftp = transport.open_sftp_client()
    if sftp is not None:
        sftp.normalize(".")
        for name in sftp.listdir("/"):
            sftp.stat(name)
            with sftp.open(name) as file:
                file.read()
    transport.close()


def _answer(asked: socket.socket, host_key: ECDSAKey, tree: str) -> None:
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    while data := asked.recv(MAX_DATAGRAM):
        message = unpack(data)[-1]
        match message.kind:
            case MessageKind.SIGN:
                signature = host_key.sign_ssh_data(bytes.fromhex(message.text(1))).asbytes()
                asked.send(YES + _length.pack(len(signature)) + signature)
            case MessageKind.KEY if not message.flag:
                asked.send(LoginAnswer.ACCEPTABLE.value)
            case MessageKind.KEY:
                grant = Grant(datetime.now(UTC), ALL, paced=False, tree=True)
                socket.send_fds(asked, [YES + grant.pack()], [root])
            case kind if kind.needs_answer:
                asked.send(YES)
