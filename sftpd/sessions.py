"""The forker: forks a process for each connection, from a memory that never held a secret.

    python -m sftpd.sessions SOCKET MONITOR      started by sftpd/processes/forker

SOCKET is the number of the socket to the monitor, MONITOR its process id. The forker loads the code
that a session needs, prepares a connection without a client, and then does what the monitor tells
it (sftpd/ipc/session_messages). It has no settings file, no ring and no key, and reads none. So a
session, which has a copy of this memory, can give away nothing but its own connection.

The parent of a session is the monitor, not the forker (CLONE_PARENT in clone(2)): a session ends
with the monitor, and goes on if the forker dies.

Sessions change their root directory (sftpd/sandbox). If the server may not, the forker enters a
user namespace in which they may.
"""

from sftpd import optional_modules

if __name__ == "__main__":
    optional_modules.leave_out()

import gc
import json
import os
import resource
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from keys.kernel import capabilities, process, scheduler, user_namespace
from sftpd import first_login
from sftpd.connection import Connection, serve_in_child
from sftpd.ipc import session_messages
from sftpd.ipc.session_messages import MAX_MESSAGE, SessionSettings
from sftpd.monitor import memory
from sftpd.sandbox import sandbox
from sftpd.sandbox.sandbox import SandboxPolicy

_log = structlog.get_logger()

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class Forker:
    """The process, and what its sessions share.

    `empty` is a folder with nothing in it. `namespace` says that sessions may change their root
    directory because this process is in a user namespace of its own.
    """

    control: socket.socket
    monitor: int
    empty: int
    namespace: bool = False
    policy: SandboxPolicy | None = None
    connection: Connection | None = None  # what each session has a copy of

    def run(self) -> None:
        """Do what the monitor says until it is gone."""
        self._send({"ready": True})
        while True:
            data, descriptors, _, _ = socket.recv_fds(self.control, MAX_MESSAGE, 3)
            if not data:
                return
            found = json.loads(data)
            if "settings" in found:
                self._configure(session_messages.parse_settings(found["settings"]))
                gc.collect()
                gc.freeze()
                continue
            try:
                self._start(found, descriptors)
            except OSError as error:
                self._send({"failed": found["start"], "errno": error.errno})
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _configure(self, settings: SessionSettings) -> None:
        policy = settings.policy
        policy = replace(policy, chroot=policy.chroot or self.namespace, inherited=True)
        if self.policy is None:
            sandbox.restrict_forker(policy)
        self.policy = policy
        self.connection = Connection(replace(settings, policy=policy))

    def _start(self, request: dict[str, Any], descriptors: list[int]) -> None:
        pid = process.fork_sibling()
        if pid == 0:
            self._run_session(request, descriptors)
        self._send({"started": request["start"], "pid": pid})

    def _run_session(self, request: dict[str, Any], descriptors: list[int]) -> None:
        try:
            process.end_with_parent(self.monitor)
            process.set_name("ssps-session")
            first = 3
            for kept in sorted([*descriptors, self.empty]):
                os.closerange(first, kept)
                first = kept + 1
            os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            if self.connection is None or self.policy is None:
                raise AssertionError("a session before the settings")
            address, trees = request["address"], request["trees"]
            serve_in_child(self.connection, self.policy, descriptors, address, trees, self.empty)
        finally:
            os._exit(1)

    def _send(self, values: dict[str, Any]) -> None:
        self.control.send(json.dumps(values).encode())


def empty_folder() -> int:
    """Return the descriptor of a folder that is empty for ever: it has been removed."""
    path = tempfile.mkdtemp(prefix="ssps-")
    folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    Path(path).rmdir()
    return folder


def enter_namespace() -> bool:
    """Let sessions change their root directory although the server may not; say whether they may.

    Without it a session can open the trees of its address before its login.
    """
    if os.geteuid() == 0 or capabilities.has(capabilities.SYS_CHROOT):
        return False  # they may already
    if not user_namespace.lets_change_root():
        _log.warning("root-directory-kept")
        return False
    user_namespace.enter()
    return True


def main(control: int, monitor: int) -> int:
    """Be the forker."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # it ends with the monitor
    namespace = enter_namespace()
    process.end_with_parent(monitor)
    memory.prefer_to_end()  # for the sessions, which inherit it and may not write to /proc
    process.forbid_inspection()
    process.set_name("ssps-forker")
    with suppress(OSError):
        scheduler.set_policy(0, os.SCHED_OTHER)  # without the monitor's short slice
    try:
        first_login.serve()
    except Exception as error:
        # Each session then makes ready by itself what it needs.
        _log.warning("first-login-failed", cause=repr(error))
    with socket.socket(fileno=control) as connection:
        Forker(connection, monitor, empty_folder(), namespace).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
