"""Check that asyncssh, which the tests do not install, mirrors a whole tree.

asyncssh is licensed under EPL or GPL, so it is not a dependency of this project: scripts/bench
installs it into a folder of its own. FileZilla's fzsftp cannot be tested here: it logs in and lists
on commands from its stdin (`open`, `ls`), but passes files to FileZilla through shared memory. Its
SSH code is PuTTY's, like that of psftp, which the tests use.

Prints the negotiated cipher and the result. The exit code is 1 if a file differs.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import servers
from others import ASYNCSSH
from servers import Server

FILES, SIZE = 60, 700_000


def fill(tree: Path) -> None:
    """Write the pages of three boards."""
    for number in range(FILES):
        page = tree / f"2023/c-1/k-{number % 3}/sandik-{number}/cb-sandik-sonuc-s1.jpg"
        page.parent.mkdir(parents=True)
        page.write_bytes(os.urandom(SIZE + number))
        os.utime(page, (1684080000 + number, 1684080000 + number))
    for path in tree.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o444)


def pages_in(folder: Path) -> dict[str, tuple[str, float]]:
    """Return the SHA-256 and mtime of each page, by its path."""
    return {
        path.relative_to(folder).as_posix(): (
            sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime,
        )
        for path in folder.rglob("*.jpg")
    }


async def mirror(asyncssh: Any, server: Server, into: Path) -> str:
    """Fetch everything with asyncssh, check that writing fails, and return the cipher."""
    async with asyncssh.connect(
        "127.0.0.1", server.port, username=server.user, client_keys=[str(server.key)],
        known_hosts=None,
    ) as connection:  # fmt: skip
        async with connection.start_sftp_client() as sftp:
            await sftp.get("/2023", str(into), recurse=True, preserve=True)
            for write in (sftp.mkdir("/x"), sftp.remove("/2023"), sftp.put(__file__, "/x")):
                try:
                    await write
                except asyncssh.SFTPError:
                    continue
                raise SystemExit("a write succeeded")
        page = "2023/c-1/k-0/sandik-0/cb-sandik-sonuc-s1.jpg"
        digest = (await connection.run(f"sha256sum {page}")).stdout.split()[0]
        if digest != sha256((into.parent / page).read_bytes()).hexdigest():
            raise SystemExit("the server's sha256sum differs from the file's")
        return str(connection.get_extra_info("recv_cipher"))


def main() -> None:
    """Mirror a tree, and compare the result with it."""
    argparse.ArgumentParser(prog="scripts/bench clients", description=__doc__).parse_args()
    sys.path.append(str(ASYNCSSH))
    import asyncssh  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory(prefix="ssps-clients-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        tree = servers.lay_out(folder)
        fill(tree)
        with servers.ours(folder) as server:
            (folder / "mirror").mkdir()
            cipher = asyncio.run(mirror(asyncssh, server, folder / "mirror" / "2023"))
        same = pages_in(folder / "mirror") == pages_in(tree)
        print(f"asyncssh {asyncssh.__version__}, {cipher}: {FILES} files,",
              "all identical" if same else "NOT identical")  # fmt: skip
    sys.exit(int(not same))


if __name__ == "__main__":
    main()
