"""Tries on a site's folders what the daemons need of a file system that several hosts mount.

`ssps check` does this for a site that names its host (SSPS_HOST), has its catalog in PostgreSQL,
or is on a file system that is not a disk of this machine. docs/deploy/shared-files.md says why each
is needed. A lack that can lose or mix up files is a fault, and one that only costs time is a note.
What can be seen only from two hosts is derived from the mount's options and its type.
"""

import errno
import fcntl
import os
import secrets
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from config.fault import Fault
from config.settings import Settings
from config.site import STATE, STORE, TREES
from keys import digest, files
from keys.kernel import file_system

_PREFIX = ".probe-"
_MOUNTS = Path("/proc/self/mountinfo")
_CLOCK_SECONDS = 1.0  # from the clock of the file system's server to that of this host
_CACHE_SECONDS = 1.0  # for which a mount may show the old state of a file
_MTIME_NS = 1684080000_123456789
_WHOLE_FILE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # flock of fcntl(2)
_MEMORY = {"tmpfs", "ramfs"}
# FUSE file systems whose locks reach other hosts, and those whose locks and caches do not.
_MANY_HOSTS = {"glusterfs", "ceph", "ceph-fuse", "juicefs", "mfs"}
_ONE_HOST = {"sshfs", "bindfs", "s3fs", "rclone", "encfs", "gcsfuse", "mergerfs"}


class Lack(NamedTuple):
    """What a folder's file system lacks; `serious` if files may be lost or mixed up without it."""

    folder: str
    what: str
    advice: str
    serious: bool = True

    def fault(self) -> Fault:
        """Return it as a line of `ssps check`."""
        return Fault(self.folder, "", f"{self.what}: {self.advice}")


def concerned(settings: Settings) -> bool:
    """Say whether more than one host may work on a site, as far as this host can tell."""
    if settings.host or settings.catalog.url:
        return True
    return not file_system.is_local_folder(settings.site)


def probe(site: Path, links: int, host: str = "") -> Iterator[Lack]:
    """Yield what the file systems of a site lack; `links` is how many trees may share one page.

    `host` is the name of this host, if it has one.
    """
    folders = [folder for folder in (STATE, STORE, TREES) if (site / folder).is_dir()]
    for folder in _one_of_each_disk(site, folders):
        try:
            with _scratch(site / folder) as scratch:
                for check in _CHECKS:
                    yield from _tried(folder, scratch, check)
        except OSError as error:
            yield Lack(str(folder), f"cannot be written to ({error.strerror})", "run as its owner")
    if STORE in folders and TREES in folders:
        with suppress(OSError):  # reported above
            yield from _links(site, links)
    seen = set()
    for folder in folders:
        mount = mount_of((site / folder).resolve(), _MOUNTS.read_text())
        if mount is not None and mount.point not in seen:
            seen.add(mount.point)
            yield from mount_lacks(str(folder), mount)
            if host and file_system.is_local_folder(site / folder):
                what = f"{mount.point} is {mount.kind}, which only this machine has"
                if mount.kind in _MEMORY:
                    what += ", and loses with its power"
                advice = f"{host} is one of several hosts: mount there what they share"
                yield Lack(str(folder), what, advice, serious=False)


def _one_of_each_disk(site: Path, folders: list[Path]) -> list[Path]:
    return list({(site / folder).stat().st_dev: folder for folder in reversed(folders)}.values())


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


Found = Iterator[tuple[str, str, bool]]  # what is lacking, what to do, whether it is serious


def _tried(folder: Path, scratch: Path, check: Callable[[Path], Found]) -> Iterator[Lack]:
    try:
        for what, advice, serious in check(scratch):
            yield Lack(str(folder), what, advice, serious)
    except OSError as error:
        what = f"{check.__name__.removeprefix('_').replace('_', ' ')} fails ({error.strerror})"
        yield Lack(str(folder), what, "use a file system that has it")


def _rename(scratch: Path) -> Found:
    old, new = scratch / "old", scratch / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    with old.open("rb") as opened:
        new.rename(old)
        if opened.read() != b"old":
            yield "a file that is replaced changes for those who have it open", _OTHER, True
    if old.read_bytes() != b"new" or new.exists():
        yield "rename does not replace a file", _OTHER, True
    (scratch / "from").mkdir()
    (scratch / "from" / "file").write_bytes(b"moved")
    (scratch / "to").mkdir()
    (scratch / "from").rename(scratch / "to" / "moved")
    if (scratch / "to" / "moved" / "file").read_bytes() != b"moved":
        yield "rename does not move a folder", _OTHER, True


def _exclusive_create(scratch: Path) -> Found:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    os.close(os.open(scratch / "once", flags, 0o600))
    with suppress(FileExistsError):
        os.close(os.open(scratch / "once", flags, 0o600))
        yield "O_EXCL creates a file that exists already", _OTHER, True


def _modification_times(scratch: Path) -> Found:
    path = scratch / "dated"
    path.write_bytes(b"x")
    off = path.stat().st_mtime - time.time()
    if abs(off) > _CLOCK_SECONDS:
        advice = "synchronize the clocks of all hosts and of the file server (chrony)"
        yield f"the file server's clock differs from this host's by {off:.1f} s", advice, True
    os.utime(path, ns=(_MTIME_NS, _MTIME_NS))
    os.link(path, scratch / "dated too")
    path.rename(scratch / "renamed")
    kept = (scratch / "renamed").stat().st_mtime_ns
    if kept // 10**9 != _MTIME_NS // 10**9:
        yield "a file's modification time cannot be set and kept", _OTHER, True
    elif kept // 10**6 != _MTIME_NS // 10**6:
        yield (
            "modification times have no milliseconds",
            "a file that changes twice in a second may be seen once: use another file system",
            False,
        )
    if (scratch / "dated too").stat().st_mtime_ns != kept:
        yield "two links of one file have different modification times", _OTHER, True


def _seals(scratch: Path) -> Found:
    path, key = scratch / "sealed", secrets.token_bytes(32)
    path.write_bytes(b"page")
    with path.open("rb") as file:
        if not digest.stamp(file.fileno(), digest.digests_of(b"page"), key):
            return  # `ssps check` has a note on that for every site
    with path.open("rb") as again:
        proof = digest.check(digest.Claim.of(again.fileno()), key)
        if proof is not digest.Proof.PROVEN:
            yield "a change takes more than 10 ms, or does not set the ctime", _HASHED, False


def _locks(scratch: Path) -> Found:
    path = scratch / "lock"
    path.touch()
    with path.open("rb+") as one, path.open("rb+") as other:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield "flock(2) gives one lock to two", _OTHER, True
    with path.open("rb+") as one, path.open("rb+") as other:
        fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(BlockingIOError):
            # An open file description's own lock conflicts even with a lock of its own process.
            fcntl.fcntl(other, fcntl.F_OFD_SETLK, _WHOLE_FILE)
            yield "fcntl(2) gives one lock to two", _OTHER, True


def _fsync(scratch: Path) -> Found:
    path = scratch / "synced"
    path.write_bytes(b"x")
    files.sync(path)
    files.sync(scratch)
    files.sync_file_system(scratch)
    return
    yield


def _sockets(scratch: Path) -> Found:
    # The address of a socket has at most 107 bytes, so it is named through the open folder.
    descriptor = os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(f"/proc/self/fd/{descriptor}/socket")
    finally:
        os.close(descriptor)
    return
    yield


def _exchange(scratch: Path) -> Found:
    for name in ("one", "other"):
        (scratch / name).mkdir()
    try:
        files.exchange(scratch / "one", scratch / "other")
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
            raise
        yield (
            "two folders cannot be exchanged in one step (renameat2)",
            "`ssps rebuild PARTY` needs that, and nothing else does",
            False,
        )


_OTHER = "use another file system"
_HASHED = (
    "every file that a client opens is hashed and marked `unstamped` in the record: "
    "look at the delays of the network"
)
_CHECKS: tuple[Callable[[Path], Found], ...] = (
    _rename,
    _exclusive_create,
    _modification_times,
    _seals,
    _locks,
    _fsync,
    _sockets,
    _exchange,
)


def _links(site: Path, links: int) -> Iterator[Lack]:
    """Link a file of the store into the trees as often as a page may be linked."""
    with _scratch(site / STORE) as store, _scratch(site / TREES) as trees:
        page = store / "page"
        page.write_bytes(b"page")
        page.chmod(0o444)
        made = 0
        try:
            for made in range(links):
                os.link(page, trees / str(made))
        except OSError as error:
            cause = f"{error.strerror}, after {made} of {links}"
            advice = "put store/ and trees/ on one file system that has hard links"
            if error.errno == errno.EMLINK:
                advice = "raise its limit (GlusterFS: storage.max-hardlinks), or use another one"
            yield Lack(str(TREES), f"no hard link to a file of store/ ({cause})", advice)
            return
        found = (trees / "0").stat()
        if found.st_ino != page.stat().st_ino or found.st_nlink != links + 1:
            yield Lack(str(TREES), "a hard link is not the same file with its count", _OTHER)


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo (proc(5)): where, which type, with which options."""

    point: str
    kind: str
    options: dict[str, str]


def mount_of(path: Path, mountinfo: str) -> Mount | None:
    """Return the mount that a path is on."""
    best = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        point = fields[4].encode().decode("unicode_escape")  # a space is written as \040
        if path.is_relative_to(point) and (best is None or len(point) >= len(best.point)):
            stated = ",".join([fields[5], *kinds[2:]]).split(",")
            options = {name: value for name, _, value in (o.partition("=") for o in stated)}
            best = Mount(point, kinds[0], options)
    return best


def mount_lacks(folder: str, mount: Mount) -> Iterator[Lack]:
    """Yield what the options of a mount take away from several hosts."""
    options = mount.options
    if mount.kind in {"nfs", "nfs4"}:
        if "nolock" in options or options.get("local_lock", "none") != "none":
            advice = "mount it without `nolock` and `local_lock`"
            yield Lack(folder, f"locks of {mount.point} do not reach other hosts", advice)
        if "soft" in options or "softerr" in options:
            advice = "mount it with `hard`, which waits for the server"
            yield Lack(folder, f"{mount.point} gives up a write that takes long (`soft`)", advice)
        if (seconds := _attribute_seconds(options)) > _CACHE_SECONDS:
            what = f"changes of other hosts are seen up to {seconds:g} s late in {mount.point}"
            yield Lack(folder, what, "mount it with `actimeo=1`", serious=False)
    kind, _, subtype = mount.kind.partition(".")
    if kind in {"fuse", "fuseblk"}:
        if subtype in _ONE_HOST:
            advice = "let only one host work on it, or use NFS, CephFS or GlusterFS"
            yield Lack(folder, f"locks of {subtype} do not reach other hosts", advice)
        elif subtype not in _MANY_HOSTS:
            what = f"whether locks of {subtype or 'FUSE'} reach other hosts is not known"
            yield Lack(folder, what, "try it with `flock` on two hosts", serious=False)
        advice = "keep each file on at least two servers that do not lose power together"
        what = f"syncfs(2) does not reach the disks behind {subtype or 'FUSE'}"
        yield Lack(folder, what, advice, serious=False)


def _attribute_seconds(options: dict[str, str]) -> float:
    """Return for how long an NFS mount may keep what it knows of a file or folder (nfs(5))."""
    if "noac" in options:
        return 0.0
    return max(float(options.get(name, "60")) for name in ("acregmax", "acdirmax"))
