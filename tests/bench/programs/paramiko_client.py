"""Mirror / with paramiko's SFTPClient: PORT USER KEY PASSWORD INTO."""

import stat
import sys
from pathlib import Path

import paramiko

port, user, key, password, into = sys.argv[1:]
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # noqa: S507 - a test server
proof = {"password": password} if password else {"key_filename": key}
client.connect("127.0.0.1", int(port), user, allow_agent=False, look_for_keys=False, **proof)  # type: ignore[arg-type]
sftp = client.open_sftp()


def fetch(source: str, to: Path) -> None:
    """Fetch a folder."""
    to.mkdir(exist_ok=True)
    for entry in sftp.listdir_attr(source or "/"):
        if stat.S_ISDIR(entry.st_mode or 0):
            fetch(f"{source}/{entry.filename}", to / entry.filename)
        else:
            sftp.get(f"{source}/{entry.filename}", str(to / entry.filename))


fetch("", Path(into))
client.close()
