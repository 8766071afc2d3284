"""Mirror / with asyncssh: PORT USER KEY PASSWORD INTO."""

import asyncio
import sys

import asyncssh  # type: ignore[import-not-found]

port, user, key, password, into = sys.argv[1:]


async def main() -> None:
    """Fetch everything."""
    proof = {"password": password, "client_keys": None} if password else {"client_keys": [key]}
    async with (
        asyncssh.connect(
            "127.0.0.1", int(port), username=user, known_hosts=None, config=None, **proof
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        names = [name for name in await sftp.listdir("/") if name not in (".", "..")]
        await sftp.get([f"/{name}" for name in names], into, recurse=True, preserve=True)


asyncio.run(main())
