"""Confines a web daemon's process, which parses what strangers send, by means of the kernel.

`confine` is called when ledger, sockets and certificate are open and everything is imported, before
the first connection is accepted and while there is one thread. It cannot be undone. From then on:

- no_new_privs, and no capability (root keeps the one to read files of other users).
- Landlock (keys/kernel/landlock): only the folders that are named are read, and fewer are written:
  those and the one for temporary files.
  No TCP port is bound or connected to (ABI 4), no abstract socket and no process outside is reached
  (ABI 6). Descriptors that are open remain usable: the listening socket, the ledger, the sessions.
- seccomp (keys/kernel/seccomp): no new socket, no program, no other process, no ptrace, no mount,
  no change of a file's mode, owner or times. Threads, and connections that come in, are allowed.

If the catalog is in PostgreSQL, the broker makes the process's sockets and connects them, to the
database and nothing else (keys/kernel/connections). The files that this needs, such as that of the
password, can be read too. If the kernel has no such listener, the process is not confined at all,
and a warning says so.

What needs more, the broker does (portal/broker). The process that reads a snapshot's Parquet file
(portal/data/numbers/parquet) is confined in the same way, to the folder of that file.
"""

import os
import sysconfig
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import structlog

import config
import keys
import publisher
from keys.kernel import bpf, capabilities, connections, landlock, process, seccomp

_DAC_OVERRIDE = 1
# XlsxWriter sets the time of its temporary files, and gives up if that fails.
_IGNORED = "utimensat 280 88"
_MACHINE = ("/usr/lib", "/lib", "/lib64", "/usr/share/zoneinfo")  # libraries and time zones

_log = structlog.get_logger()


def confine(
    readable: Iterable[Path],
    writable: Iterable[Path] = (),
    files: Iterable[Path] = (),
    connect: Callable[[int], object] | None = None,
    listed: Iterable[Path] = (),
) -> None:
    """Let this process only read or write below these folders, and read `files`, for good.

    `connect` gets the descriptor through which another process answers this one's calls for new
    connections; without it there are none. Below the folders that are `listed` it sees the names
    of the files.

    A folder that is missing is left out. If the kernel lacks a part of the sandbox, the process
    goes on without it, and a warning says so. Raises OSError if the kernel refuses one that it has.
    """
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - threads, not a folder
        raise AssertionError("a thread that runs already would not be confined")
    time.localtime()  # reads the file of the time zone
    abi, filters = landlock.abi(), bpf.supported()
    if connect and not filters:
        _log.warning("portal-not-confined", cause="no seccomp, with which it reaches PostgreSQL")
        return
    process.forbid_new_privileges()
    capabilities.limit_to(*([_DAC_OVERRIDE] if os.geteuid() == 0 else []))
    if filters:
        denied = seccomp.NEVER + seccomp.SETUP
        asked = connections.CALLS if connect else ""
        filtered = seccomp.program(denied, os.getpid(), threads=True, ignored=_IGNORED, asked=asked)
        if connect is None:
            bpf.install(filtered)
        else:
            try:
                listener = bpf.install_with_listener(filtered)
            except OSError as error:
                _log.warning("portal-not-confined", cause=f"seccomp has no listener: {error}")
                return
            connect(listener)
            os.close(listener)
    if abi:
        _allow_files([*_code(), *readable], writable, files, listed, abi)
    if not (abi and filters):
        lacks = ", ".join(n for n, has in (("Landlock", abi), ("seccomp", filters)) if not has)
        _log.warning("sandbox-incomplete", kernel=f"no {lacks}")


def _allow_files(
    readable: Iterable[Path],
    writable: Iterable[Path],
    files: Iterable[Path],
    listed: Iterable[Path],
    abi: int,
) -> None:
    rights = [*((path, landlock.READ) for path in readable)]
    rights += [(path, landlock.READ_DIR) for path in listed]
    rights += [(path, landlock.WRITE) for path in writable]
    opened: list[tuple[int, int]] = []
    try:
        for path, allowed in rights:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            opened.append((descriptor, allowed))
        for path in files:
            with suppress(OSError):
                opened.append((os.open(path, os.O_PATH | os.O_CLOEXEC), landlock.READ_FILE))
        landlock.deny_all_but(opened, abi)
    finally:
        for descriptor, _ in opened:
            os.close(descriptor)


def _code() -> list[Path]:
    """Return the folders of the code and its libraries: modules and templates are read later."""
    paths = sysconfig.get_paths()
    named = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    ours = [Path(each.__path__[0]) for each in (config, keys, publisher)]
    return [Path(__file__).parent, *ours, *map(Path, sorted(named)), *map(Path, _MACHINE)]
