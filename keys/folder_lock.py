"""Locks a folder, also against the other hosts of a shared file system.

The lock is flock(2) on the folder itself. NFS and FUSE keep a lock on a folder to the host that
takes it, and tell their server only of a lock on a file that is open for writing. So on anything
but a disk of this machine, the file `.lock` in the folder is locked as well.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from keys.kernel import file_system

_FILE = ".lock"


class FolderLock:
    """A lock on a folder, which is held until `close`. `descriptor` is the open folder."""

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        """Take the lock; raise BlockingIOError if another process has it, FileNotFoundError."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self.descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._file: int | None = None
        try:
            fcntl.flock(self.descriptor, kind | fcntl.LOCK_NB)
            if not file_system.is_local(self.descriptor):
                self._file = self._open_file()
                fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BaseException:
            self.close()
            raise

    def _open_file(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(_FILE, flags, 0o600, dir_fd=self.descriptor)
        if os.geteuid() == 0:  # the daemons must be able to open what root has created
            owner = os.fstat(self.descriptor)
            with suppress(OSError):
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor

    def close(self) -> None:
        """Release the lock."""
        for descriptor in (self._file, self.descriptor):
            if descriptor is not None:
                os.close(descriptor)
