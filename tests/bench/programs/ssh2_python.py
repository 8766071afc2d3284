"""Mirror / with ssh2-python, a binding of libssh2: PORT USER KEY PASSWORD INTO."""

import socket
import stat
import sys
from pathlib import Path

from ssh2.session import Session  # type: ignore[import-not-found]

port, user, key, password, into = sys.argv[1:]
session = Session()
session.handshake(socket.create_connection(("127.0.0.1", int(port))))
if password:
    session.userauth_password(user, password)
else:
    session.userauth_publickey_fromfile(user, key, "", f"{key}.pub")
sftp = session.sftp_init()


def fetch(source: str, to: Path) -> None:
    """Fetch a folder."""
    to.mkdir(exist_ok=True)
    with sftp.opendir(source or "/") as folder:
        found = [(name.decode(), attributes) for _, name, attributes in folder.readdir()]
    for name, attributes in found:
        if name in (".", ".."):
            continue
        if stat.S_ISDIR(attributes.permissions):
            fetch(f"{source}/{name}", to / name)
            continue
        with sftp.open(f"{source}/{name}", 0, 0) as file, (to / name).open("wb") as out:
            for _, data in file:
                out.write(data)


fetch("", Path(into))
