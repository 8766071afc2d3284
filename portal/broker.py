"""The broker of a web daemon: the process that does what the daemon itself may not do.

    broker ── forks ──> the daemon (portal/daemon), which serves strangers and is confined
       ▲ └── starts ──> the signer; programs that make pictures, read snapshots, run commands
       └── questions ── over one socket (portal/broker_client)

The broker is the process that was started: signals go to it, and it holds the daemon's place in the
site. It forks the daemon before it reads any key, and lets it begin when signer and records are
ready. It never sees a byte of a request. It takes these questions, each in a thread of its own, and
no other ones:

    start              a program; its descriptors come with the question
    make_connections   to PostgreSQL and nothing else, for the confined daemon
    and those of portal/broker_answers

A daemon that was taken over can ask all this too. So what it states is checked, and what a program
does with its words is limited there.
"""

import base64
import json
import os
import pickle
import select
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from config.settings import Settings
from keys.kernel import connections, process
from keys.operations import server_state
from portal import broker_client, programs
from portal.broker_answers import Answers
from portal.programs import StaffCommand

_SECOND = 1.0
_MAX_QUESTION = 32 << 20  # bytes; the longest has all sessions
_MAX_AT_A_TIME = 128  # questions, among them the programs that run
_ASKING_SECONDS = 10.0  # for a question to arrive
_STOPS, _PASSED_ON = (signal.SIGTERM, signal.SIGINT), (signal.SIGHUP, signal.SIGUSR1)
_log = structlog.get_logger()


class Child:
    """The daemon's process, forked and waiting for `begin`; it is killed at the end of a `with`."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid, self.control = pid, control
        self.status: int | None = None

    def begin(self, folder: str) -> None:
        """Let it begin; `folder` is for its temporary files."""
        self.control.send(os.fsencode(folder))

    def poll(self) -> int | None:
        """Return its exit status, None while it runs; that of a signal is negative."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.control.close()
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def fork(*, connects: bool = False) -> Child | None:
    """Fork the daemon's process, before this one reads a key; None in that process, when it begins.

    It ends when this process does, and does not begin if this process ends before `begin`. If it
    `connects`, the broker can make its connections to PostgreSQL.
    """
    parent = os.getpid()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return Child(pid, ours)
    ours.close()
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)  # until the daemon has its own handlers
    with suppress(ProcessLookupError, OSError):
        process.end_with_parent(parent)
        if connects:
            broker_client.keep_memory(connections.open_memory())
        if folder := theirs.recv(4096):
            tempfile.tempdir = os.environ["SQLITE_TMPDIR"] = os.fsdecode(folder)
            broker_client.use(theirs)
            return None
    os._exit(1)


class Broker:
    """The broker of one daemon; `part` is its name, of its table in site.toml and of its lock."""

    def __init__(
        self,
        settings: Settings,
        part: str,
        ledger: str,
        poll_signer: Callable[[], object],
        record_new_settings: Callable[[Settings], object],
        command: StaffCommand | None = None,
    ) -> None:
        """`command` is the program that runs the commands of the staff site."""
        self._settings, self._part = settings, part
        self._poll_signer = poll_signer
        self._command = command
        self._answers = Answers(settings, part, ledger, record_new_settings)
        self._by_question = self._answers.by_question()
        self._room = threading.BoundedSemaphore(_MAX_AT_A_TIME)
        self._folder = ""  # of the daemon's temporary files

    def run(self, child: Child, beat: Callable[[], object]) -> int:
        """Let the daemon serve until it ends; return the exit status of this process.

        `beat` is that of the caller's claim on this part of the site (server_state), for a sign of
        life every second.

        SIGTERM and SIGINT stop the daemon, SIGHUP has it reload, SIGUSR1 drain.
        """
        wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        received: set[int] = set()
        for number in (*_STOPS, *_PASSED_ON, signal.SIGCHLD):
            signal.signal(number, lambda got, _: received.add(got))
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        process.release_signals()
        stopping, asking = False, True
        reload = server_state.ReloadRequests(self._settings.site, self._part, self._settings.host)
        due = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="ssps-web-") as folder, closing(self):
            self._answers.keep_databases_open()
            child.begin(folder)
            self._folder = folder
            while (status := child.poll()) is None:
                now = frozenset(received)
                received.difference_update(now)  # keep one that arrives in the meantime
                if now.intersection(_STOPS):
                    stopping = True
                    os.kill(child.pid, signal.SIGTERM)
                else:
                    for passed_on in now.intersection(_PASSED_ON):
                        os.kill(child.pid, passed_on)
                control = child.control.fileno()
                wanted = [wake_reader, control] if asking else [wake_reader]
                ready, _, _ = select.select(wanted, [], [], max(0, due - time.monotonic()))
                if wake_reader in ready:
                    with suppress(BlockingIOError):
                        os.read(wake_reader, 4096)
                if control in ready:
                    asking = self._receive(child.control)
                if time.monotonic() >= due:
                    due = time.monotonic() + _SECOND
                    beat()
                    self._look_after()
                    if reload.is_asked():
                        received.add(signal.SIGHUP)
        if status == 0 or (stopping and -status in _STOPS):
            return 0
        _log.error("web-process-died", daemon=self._part, exit_status=status)
        return status if status > 0 else 1

    def close(self) -> None:
        """Close the databases that are kept open."""
        self._answers.close()

    def _look_after(self) -> None:
        self._poll_signer()
        try:
            self._answers.keep_databases_open()
        except (OSError, sqlite3.Error) as error:
            _log.error("database-not-kept-open", cause=str(error))

    # Questions.

    def _receive(self, control: socket.socket) -> bool:
        """Take a question, and answer it in a thread; False if there will be none any more."""
        try:
            message, files, _, _ = socket.recv_fds(control, 16, 4)
        except OSError:
            return False
        if not message:
            return False
        if files:
            try:
                self._begin_to_answer(files[0], files[1:])
            except (OSError, RuntimeError) as error:
                _log.error("question-refused", daemon=self._part, cause=str(error))
        return True

    def _begin_to_answer(self, asking: int, files: Sequence[int]) -> None:
        """Answer in a thread; close the descriptors and raise if there can be none."""
        with ExitStack() as received:
            for file in files:
                received.callback(os.close, file)
            try:
                channel = received.enter_context(socket.socket(fileno=asking))
            except OSError:
                os.close(asking)
                raise
            if not self._room.acquire(blocking=False):
                raise RuntimeError(f"{_MAX_AT_A_TIME} others are not answered yet")
            thread = threading.Thread(target=self._answer, args=(channel, files), daemon=True)
            try:
                thread.start()
            except RuntimeError:
                self._room.release()
                raise
            received.pop_all()  # the thread closes them

    def _answer(self, channel: socket.socket, files: Sequence[int]) -> None:
        with ExitStack() as opened:
            opened.callback(self._room.release)
            opened.enter_context(channel)
            for file in files:
                opened.callback(os.close, file)
            answer: tuple[bool, object]
            try:
                channel.settimeout(_ASKING_SECONDS)
                with channel.makefile("rb") as lines:
                    question = json.loads(lines.readline(_MAX_QUESTION), object_hook=_decode)
                channel.settimeout(None)
                verb, words = question["verb"], question["words"]
                if verb == "start":
                    answer = True, self._run(channel, files, *words)
                elif verb == "make_connections":
                    self._make_connections(*map(os.dup, files))
                    answer = True, None
                else:
                    answer = True, self._by_question[verb](*words)
            except Exception as error:
                answer = False, error
            with suppress(OSError):
                channel.sendall(pickle.dumps(answer))

    def _run(self, channel: socket.socket, files: Sequence[int], kind: str, *words: str) -> int:
        """Run a program until it ends; kill it if the daemon closes its socket before."""
        if kind == programs.COMMAND and self._command is not None:
            program = self._command.run(files, self._folder)
        else:
            if kind == programs.PARQUET:
                self._answers.check_snapshot_file(Path(words[1]))
            program = programs.run(kind, words, files)
        watched = os.pidfd_open(program.pid)
        try:
            ready = select.poll()
            ready.register(watched, select.POLLIN)
            ready.register(channel, select.POLLIN)
            ready.poll()
            if program.poll() is None:
                program.kill()
            return program.wait()
        finally:
            os.close(watched)

    def _make_connections(self, listener: int, memory: int) -> None:
        """Answer the calls of the confined daemon for sockets, as long as it lives."""
        connections.Connector(listener, memory, self._answers.database_servers).start()


def _decode(found: dict[str, Any]) -> object:
    if found.keys() == {broker_client.BYTES}:
        return base64.b64decode(found[broker_client.BYTES])
    return found
