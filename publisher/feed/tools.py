"""Shows the parties what they need to mirror and to verify, in `araclar/` of every tree.

    araclar/mirror.py          the reference client (scripts/mirror)
    araclar/known_hosts        the host keys of the server, and those it will use next
    araclar/allowed_signers    the public keys of all signatures, as on each party's letter
    araclar/SHA256SUMS         the sums of these files

Each has a signature of the site beside it, `NAME.sig`. They are the same for every party, so they
are written once, into `feed/araclar/`, and linked into the trees. Keys change rarely, so the files
are compared about once a minute. Keys that are not on record (keys/operations/site_keys) are not
shown. A party does not trust these keys because they are here: they are
the ones on its letter.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256

import structlog

from config import layout
from config.fault import Faults
from config.party import Party
from config.settings import Settings
from config.site import HOST_KEYS, SIGNING_KEYS
from keys.operations import site_keys
from keys.server_keys import host, sshsig
from publisher.feed.published_files import PublishedFiles
from publisher.feed.sums import Sign, format_sums

log = structlog.get_logger()


class Tools:
    """The tools of one site; `client` is the bytes of the reference client, empty for no tools."""

    def __init__(
        self, settings: Settings, files: PublishedFiles, sign: Sign, client: bytes
    ) -> None:
        self._settings, self._files, self._sign, self._client = settings, files, sign, client

    def show(self, parties: Iterable[Party], at: int) -> None:
        """Show the tools in the trees of the parties, if they changed since."""
        if not self._client:
            return
        try:
            made = {
                f"{layout.TOOLS}/{name}": content
                for name, content in contents(self._settings, self._client)
            }
        except (Faults, ValueError, IndexError, FileNotFoundError, PermissionError) as error:
            # A public key that cannot be read must not stop the feed.
            log.error("tools-not-shown", cause=str(error), advice="see `ssps check`")
            return
        # The sums and signatures come last, so that what they name is there.
        for path, content in made.items():
            self._keep(path, content, at)
            self._keep(path + layout.SIGNATURE_SUFFIX, self._sign(content), at)
        for party in parties:
            self._files.make_folder(party.id, layout.TOOLS)
            shown = self._files.inodes_in_tree(party.id, layout.TOOLS)
            for path in made:
                for each in (path, path + layout.SIGNATURE_SUFFIX):
                    kept = self._files.folder / each
                    if shown.get(kept.name) != kept.stat().st_ino:
                        self._files.show_in_tree(kept, party.id, each)

    def _keep(self, path: str, content: bytes, at: int) -> None:
        with suppress(FileNotFoundError):
            if (self._files.folder / path).read_bytes() == content:
                return
        self._files.keep(path, content, at, durable=False)


def contents(settings: Settings, client: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of each tool, the sums last."""
    site = settings.site
    site_keys.require(site, HOST_KEYS, SIGNING_KEYS)
    made = {
        layout.MIRROR: client,
        layout.ALLOWED_SIGNERS: sshsig.site_allowed_signers(site).encode(),
    }
    if (address := settings.sftp.public_address) is not None:
        lines = host.known_hosts(site, *address) + host.known_hosts(site, *address, next_keys=True)
        made[layout.KNOWN_HOSTS] = lines.encode()
    made[layout.SUMS] = format_sums(
        (name, sha256(content).hexdigest()) for name, content in sorted(made.items())
    )
    yield from made.items()
