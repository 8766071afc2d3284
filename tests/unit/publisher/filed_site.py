"""Files pages on a test site directly, without a Filer, and reads feeds and sums like a party."""

import hashlib
import os
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config import layout
from config.settings import Settings
from config.sheet import Sheet
from keys.feed_segment import NO_PREVIOUS, FeedEntry, parse_segment
from keys.server_keys import sshsig
from publisher.catalog import catalog
from publisher.catalog import tables as t
from publisher.catalog.catalog import Catalog
from publisher.store.store import Store

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOON = 1684072800


@dataclass
class PageFiler:
    """Leaves pages as the publisher does: bytes in the store, links in the trees, catalog rows."""

    settings: Settings
    seq: "count[int]" = field(default_factory=count)

    def __post_init__(self) -> None:
        Catalog(catalog.url(self.settings.site)).close()
        self.store = Store(self.settings.site)
        # Without a pool every connection is closed at the end of its `with` block.
        self.engine = sa.create_engine(catalog.url(self.settings.site), poolclass=sa.NullPool)
        for party in self.settings.parties:
            if party.mirrors:
                self.store.make_root(party.id)

    def file(self, sheet: Sheet, content: str, version: int = 1, gap: str = "") -> str:
        """File one page and return its path; the tree of the party `gap` does not get it."""
        seq = next(self.seq)
        digest = sha256(content.encode()).hexdigest()
        path = layout.path(self.settings.election.id, sheet, version, "jpg")
        self.store.stage(f"a-{seq}", content.encode())
        self.store.keep(f"a-{seq}", digest, NOON + seq)
        with self.engine.begin() as connection:
            arrival = {
                "id": f"a-{seq}", "name": "", "source": b"", "source_stamp": "", "received_at": "",
                "state": "filed", "outcome": "filed", "sha256": digest, "seq": seq,
            }  # fmt: skip
            connection.execute(sa.insert(t.arrival), [arrival])
            filing = {
                "arrival": f"a-{seq}", "frame": 1, "secim": sheet.secim, "belge": sheet.belge,
                "cevre": sheet.cevre or "", "kurul": sheet.kurul or "",
                "sandik": sheet.sandik or "", "page": sheet.page, "version": version,
                "karekod": "", "sha256": digest, "path": path, "filed_at": NOON + seq, "seq": seq,
            }  # fmt: skip
            connection.execute(sa.insert(t.filing), [filing])
            if gap:
                number = connection.scalar(sa.select(sa.func.max(t.filing.c.id)))
                connection.execute(sa.insert(t.gap), [{"party": gap, "filing": number}])
        for party in self.settings.parties:
            if party.mirrors and party.id != gap and party.scope.covers(sheet):
                self.store.link(digest, party.id, path)
        return path

    def close_gaps(self) -> None:
        """Link every page that a tree lacks and remove the gaps."""
        with self.engine.begin() as connection:
            query = sa.select(t.gap.c.party, t.filing.c.path, t.filing.c.sha256).join(t.filing)
            for party, path, digest in connection.execute(query).all():
                self.store.link(digest, party, path)
            connection.execute(sa.delete(t.gap))


def read_feed(tree: Path) -> list[FeedEntry]:
    """Return every entry of a party's feed, after verifying signatures, chain and files."""
    entries, previous = [], NO_PREVIOUS
    newest = tree / "akis" / "son.txt"
    last = int(newest.read_text().partition(".")[0]) if newest.exists() else 0
    feeds = set()
    for number in range(1, last + 1):
        file = tree / layout.segment(number)
        content = file.read_bytes()
        sshsig.verify(KEY.public_key(), content, Path(f"{file}.sig").read_bytes())
        segment = parse_segment(content)
        assert (segment.number, segment.previous) == (number, previous)
        previous = sha256(content).hexdigest()
        feeds.add(segment.feed)
        for entry in segment.entries:
            shown = tree / entry.path
            assert sha256(shown.read_bytes()).hexdigest() == entry.sha256
            assert (shown.stat().st_size, shown.stat().st_mtime) == (entry.size, entry.filed_at)
            entries.append(entry)
    assert len(feeds) <= 1
    return entries


def pages(tree: Path) -> set[str]:
    """Return the path of every page in a tree."""
    return {
        path.relative_to(tree).as_posix()
        for path in tree.rglob("*")
        if path.suffix == ".jpg" and path.is_file()
    }


def read_sums(folder: Path) -> dict[str, str]:
    """Return the sums in a folder by path, after verifying their signature."""
    content = (folder / "SHA256SUMS").read_bytes()
    sshsig.verify(KEY.public_key(), content, (folder / "SHA256SUMS.sig").read_bytes())
    lines = (line.split("  ") for line in content.decode().splitlines())
    return {path: digest for digest, path in lines}


def digests(folder: Path, suffix: str) -> dict[str, str]:
    """Return the SHA-256 of each file below `folder` whose name ends with `suffix`, by path."""
    return {
        os.path.relpath(path, folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob(f"*{suffix}")
    }
