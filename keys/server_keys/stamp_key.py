"""The key with which a site seals the stamps of its files (keys/digest): 32 random bytes.

    keys/stamps/stamp_key      64 hexadecimal digits and a newline, mode 0600

`ssps init` makes it. On a site of an earlier version the first daemon makes it at its start. The
publisher and the results process seal with it; the server's monitor and `ssps verify` check with
it. Sessions do not have it. If it is lost, a new one is made: every file is then hashed when it is
opened, until `ssps verify --repair` has sealed it again.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from config.fault import Fault, Faults
from config.site import KEYS, stamp_key_file
from keys import files

_BYTES = 32


def load(site: Path) -> bytes | None:
    """Return the key of a site, None if it has none or this process may not read it.

    Raises Faults if the file is not a key.
    """
    try:
        text = (site / stamp_key_file()).read_bytes()
    except (FileNotFoundError, PermissionError):
        return None
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        advice = "restore it from a backup, or remove it: a new one is then made"
        raise Faults([Fault(str(stamp_key_file()), "", f"is not a stamp key: {advice}")])
    return key


def load_or_create(site: Path) -> bytes | None:
    """Return the key of a site, and make one if there is none; None if that is not possible.

    Two processes may call it at the same time: both get the same key.
    """
    if (key := load(site)) is not None:
        return key
    path = site / stamp_key_file()
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        for folder in (site / KEYS, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:  # the owner of the site owns it, as in keys/files
            owner = site.stat()
            os.chown(path.parent, owner.st_uid, owner.st_gid)
        files.replace(fresh, secrets.token_hex(_BYTES).encode() + b"\n")
        with suppress(FileExistsError):  # another process was faster
            path.hardlink_to(fresh)
        files.sync(path.parent)
    except PermissionError:
        return None
    finally:
        with suppress(OSError):
            fresh.unlink()
    return load(site)
