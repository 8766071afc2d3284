"""The signer process: one on each host of a site, which signs the ledgers of its daemons.

It keeps the private key away from the server, which talks to the network. A daemon that writes a
ledger connects to `state/signer.sock` (SOCK_SEQPACKET, mode 0600) and sends one message:

    daemon                       signer
    "sign transfer compress"
                                 "ready"     the ledger matches its newest checkpoint
                                 or why not, such as "has 0 records, but 1 were signed"
                                 … signs once a second, compresses sealed segments …
                                 "ready"     once a second: it is alive
    shutdown(SHUT_WR)
                                 "signed"    every record is signed

"compress" is left out if the settings say so. The signer closes the connection after "signed",
after an error, and after "ended", which it sends if it ends before the daemon does.

Each connection has a thread of its own, so a disk that hangs or is full stops the signing of its
own ledger and of no other. One more thread signs the operations ledger: commands sign what they
record, but a party that changes its password, or a command that is killed, does not. That thread
also looks for files under keys/ that are not those on record, and logs them.

The process is started by the first daemon that finds none (scripts/shared/signer_client) and ends
with that daemon, when its standard input is closed; the other daemon then starts the next one.
`state/signer.lock` ensures that there is only one. A named host (config/site) has socket and lock
in its own folder, and the process there signs the ledgers of that host.
"""

import contextvars
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from config import load
from config.fault import Faults
from config.site import LEDGERS, OPERATIONS, SIGNER_SOCKET, host_state, is_ledger
from keys.kernel import process
from keys.ledger import note, segments
from keys.ledger.signer import LedgerMismatch, Signer
from keys.operations import server_state, site_keys
from scripts.shared import signing
from scripts.shared.json_log import configure_logging

PART = signing.SIGNER
READY, SIGNED, ENDED = b"ready", b"signed", b"ended"
MAX_MESSAGE = 4096
_OPERATIONS_INTERVAL = 5.0  # seconds between two looks at the operations ledger
_LAST_OPERATIONS = (
    5.0  # seconds to sign it at the end; a command that still writes to it signs it itself
)
_BACKLOG = 8
_log = structlog.get_logger()


@contextmanager
def socket_address(site: Path, host: str = "") -> Iterator[str]:
    """Yield a short path of a host's socket: the kernel allows at most 107 bytes (unix(7))."""
    place = (site / host_state(SIGNER_SOCKET, host)).parent
    folder = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SIGNER_SOCKET.name}"
    finally:
        os.close(folder)


class SignerServer:
    """Signs each ledger in a thread, from the daemon's connection until it is closed.

    `beat` is called at least every `server_state.BEAT` seconds.
    """

    def __init__(
        self, site: Path, host: str = "", beat: Callable[[], object] = lambda: None
    ) -> None:
        self._site, self._host, self._beat = site, host, beat
        self._ending = threading.Event()
        self._connections: dict[threading.Thread, socket.socket] = {}

    def run(self, stdin: int) -> None:
        """Accept connections until the descriptor `stdin` is at its end; sign the rest then."""
        operations = _thread(self._sign_operations)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            path = self._site / host_state(SIGNER_SOCKET, self._host)
            path.unlink(missing_ok=True)  # left if one was killed
            with socket_address(self._site, self._host) as address:
                umask = os.umask(0o177)
                listener.bind(address)
                os.umask(umask)
            listener.listen(_BACKLOG)
            ended = False
            while not ended:
                pause = server_state.BEAT if self._host else None
                readable, _, _ = select.select([listener.fileno(), stdin], [], [], pause)
                self._beat()
                if listener.fileno() in readable:
                    self._accept(listener)
                ended = stdin in readable and not os.read(stdin, MAX_MESSAGE)
            path.unlink(missing_ok=True)
        self._ending.set()
        for connection in self._connections.values():
            with suppress(OSError):  # the daemon may have closed it
                connection.shutdown(socket.SHUT_RD)  # its thread signs the rest and ends
        for thread in self._connections:
            thread.join()
        operations.join(_LAST_OPERATIONS)

    def _accept(self, listener: socket.socket) -> None:
        self._connections = {t: c for t, c in self._connections.items() if t.is_alive()}
        connection, _ = listener.accept()
        self._connections[_thread(self._serve, connection)] = connection

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the daemon may die at any time
            if not (message := connection.recv(MAX_MESSAGE)):
                return
            _, ledger, *options = message.decode().split()
            try:
                if not is_ledger(ledger):
                    raise ValueError(f"{ledger!r} is not a ledger of a site")
                with self._open(ledger) as signer:
                    signer.sign()
                    connection.send(READY)
                    signing.sign_until_closed(
                        signer,
                        connection.fileno(),
                        ledger,
                        compress="compress" in options,
                        alive=lambda: _send_alive(connection),
                    )
            except (Faults, LedgerMismatch, OSError, ValueError) as error:
                connection.send(str(error).encode()[:MAX_MESSAGE])
            except Exception as error:
                _log.exception("signer-crashed", ledger=ledger)
                connection.send(repr(error).encode()[:MAX_MESSAGE])
            else:
                connection.send(ENDED if self._ending.is_set() else SIGNED)

    def _open(self, ledger: str) -> Signer:
        return signing.open_signer(self._site, ledger, report=signing.log_hashing)

    def _sign_operations(self) -> None:
        folder = self._site / LEDGERS / OPERATIONS
        keys = site_keys.KeyWatch(self._site)
        ending = False
        while not ending:
            ending = self._ending.wait(_OPERATIONS_INTERVAL)
            _report_key_files(keys)
            try:
                if has_unsigned_records(folder):
                    with self._open(OPERATIONS) as signer:
                        signer.sign(last=True)
            except (Faults, LedgerMismatch, OSError, ValueError) as error:
                _log.error("signing-failed", ledger=OPERATIONS, cause=str(error))


def _report_key_files(keys: site_keys.KeyWatch) -> None:
    try:
        for fault in keys.look():
            _log.error("key-file-unrecorded", file=fault.file, cause=str(fault))
    except (Faults, OSError, ValueError) as error:
        _log.error("key-files-unreadable", cause=str(error))


def has_unsigned_records(folder: Path) -> bool:
    """Return whether a ledger has more records than its newest checkpoint."""
    if not folder.exists():
        return False
    message = segments.read_checkpoint(folder)
    signed = 0 if message is None else note.unverified_checkpoint(message).size
    return segments.next_seq(folder) > signed


def _send_alive(connection: socket.socket) -> None:
    with suppress(OSError):  # the daemon has not read the last ones, or has just died
        connection.send(READY, socket.MSG_DONTWAIT)


def _thread(work: Callable[..., None], *arguments: object) -> threading.Thread:
    # In a copy of the context, so that log lines of the thread name the part.
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(work, *arguments), daemon=True)
    thread.start()
    return thread


def main(site: Path) -> int:
    """Be the signer of a site until standard input is closed; return at once if it has one."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the daemon, after the last record
    configure_logging(PART)
    process.forbid_inspection()
    host = load.this_host()
    with suppress(server_state.AlreadyRunning), server_state.claim(site, PART, host) as beat:
        SignerServer(site, host, beat).run(sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
