"""Mirror / with mc, by typing its keys on a terminal: PORT USER KEY PASSWORD INTO.

The key itself is in an agent. known_hosts is in the home folder.
"""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

_SETTINGS = """\
[Midnight-Commander]
confirm_exit=false
[Panels]
reverse_files_only=false
"""
_SELECT_ALL, _COPY, _QUIT = b"\x1b*", b"\x1b[15~", b"\x1b[21~"  # Alt-*, F5, F10
_OVERWRITE_ALL = b"\x1bl"  # Alt-L

port, user, key, password, into = sys.argv[1:]


def set_up(home: Path) -> None:
    """Write mc's options, and the server's key where mc looks for it."""
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh" / "known_hosts").write_text((home / "known_hosts").read_text())
    (home / ".config" / "mc").mkdir(parents=True, exist_ok=True)
    (home / ".config" / "mc" / "ini").write_text(_SETTINGS)


def start() -> tuple[int, int]:
    """Start mc with / in one panel and the folder in the other; return process and terminal."""
    secret = f":{password}" if password else ""
    process, terminal = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm"
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
        url = f"sftp://{user}{secret}@127.0.0.1:{port}/"
        words = ["mc", "--nosubshell", "--nomouse", "--nocolor", url, into]
        os.execvp("mc", words)  # noqa: S606 - it needs the terminal
    return process, terminal


def read_until(terminal: int, wanted: bytes, quiet: float, at_most: float) -> bytes:
    """Read until mc has shown `wanted`, and then nothing for `quiet` seconds; return all."""
    shown, deadline = b"", time.monotonic() + at_most
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], quiet)[0]:
            shown += os.read(terminal, 65536)
        elif wanted in shown:
            return shown
    text = re.sub(r"\x1b[\[(][0-9;?]*[A-Za-z]|[^\x20-\x7e]", " ", shown.decode(errors="replace"))
    sys.exit(f"mc shows no {wanted!r}, but: {' '.join(text.split())[-250:]}")


set_up(Path.home())
process, terminal = start()
try:
    read_until(terminal, b"BENIOKU", 0.5, 30)
    os.write(terminal, _SELECT_ALL)
    read_until(terminal, b"", 0.5, 10)
    os.write(terminal, _COPY)
    read_until(terminal, b"to:", 0.5, 10)
    os.write(terminal, b"\r")
    if b"Overwrite all files?" in read_until(terminal, b"", 2.0, 60):
        os.write(terminal, _OVERWRITE_ALL)
        read_until(terminal, b"", 2.0, 60)  # until it has copied everything
    os.write(terminal, _QUIT)
    with suppress(OSError):  # at the end of mc
        while os.read(terminal, 65536):
            pass
finally:
    os.close(terminal)
    os.waitpid(process, 0)
