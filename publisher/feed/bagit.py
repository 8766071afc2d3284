r"""Exports a party's pages as a bag in the BagIt format (RFC 8493) with a signed manifest.

    <election>-<party>-<first>-<last>/
        bagit.txt                          BagIt-Version: 1.0, Tag-File-Character-Encoding: UTF-8
        bag-info.txt                       for whom, when it was made, and the two numbers
        data/<election>/<cevre>/...        the pages, at the same paths as in the party's tree
        data/<election>/sonuclar/00000042/ the newest results in its scope, as CSV, if there are any
        manifest-sha256.txt                `<sha256>  data/<path>`, as `sha256sum -c` reads it
        manifest-sha256.txt.sig            by the site's signing key (keys/server_keys/sshsig)
        tagmanifest-sha256.txt  .sig       the same for the files beside `data`

`first` and `last` are record numbers of the filing ledger. A bag has what was filed from `first` to
`last`, so the next bag starts at `last` + 1.

While a bag is made its name ends with `.part`. An export that was interrupted continues such a
folder. The bag gets its final name after every byte was read back from the disk.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import file_digest, sha256
from pathlib import Path
from types import MappingProxyType

from config import layout
from config.party import Party
from keys.files import sync
from publisher.catalog.queries.feed import FeedQueries, FiledPage
from publisher.feed.sums import format_sums, parse_sums

_DATA, _MANIFEST, _TAGS = "data", "manifest-sha256.txt", "tagmanifest-sha256.txt"
_BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_INFO = "bag-info.txt"
_PART = ".part"
_MAX_ROWS = 5000

Progress = Callable[[int], None]  # called with the number of bytes of each file that is done


class Damaged(Exception):
    """A file does not have the bytes that it must have."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a bag: the pages with record numbers from `first` to `last`."""

    first: int
    last: int
    filed: Sequence[FiledPage]

    def name(self, election: str, party: str) -> str:
        """Return the name of the bag's folder."""
        return f"{election}-{party}-{self.first}-{self.last}"


def select_contents(
    filings: FeedQueries, party: Party, first: int, last: int | None = None
) -> Contents:
    """Select the pages in a party's scope with numbers from `first` to `last`, or to the newest."""
    wanted, seq = [], first - 1
    while found := filings.after(seq, _MAX_ROWS):
        seq = found[-1].seq
        wanted += [
            filed
            for filed in found
            if filed.folder.is_covered_by(party.scope) and (last is None or filed.seq <= last)
        ]
        if last is not None and seq >= last:
            break
    return Contents(first, seq if last is None else last, wanted)


def unfinished_last_number(folder: Path, election: str, party: str, first: int) -> int | None:
    """Return the last number of an unfinished bag in `folder`, None if there is none."""
    prefix = f"{election}-{party}-{first}-"
    for part in folder.glob(f"{prefix}*{_PART}"):
        last = part.name.removeprefix(prefix).removesuffix(_PART)
        if last.isdecimal():
            return int(last)
    return None


def next_number(bag: Path, election: str, party: Party) -> int:
    """Return the number from which the bag after `bag` must start.

    Raises ValueError if `bag` is not a finished bag of this party, or if the party's scope has
    changed since: the next bag would lack earlier pages of the new scope.
    """
    try:
        lines = (bag / _INFO).read_text("ascii").splitlines()
        info = dict(line.split(": ", 1) for line in lines)
        name, scope = info["External-Identifier"], info["Ssps-Scope"]
        numbers = Contents(int(info["Ssps-First"]), int(info["Ssps-Last"]), ())
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{bag} is not a bag that `ssps export` made") from None
    if bag.suffix == _PART or name != numbers.name(election, party.id):
        raise ValueError(f"{bag} is not a finished bag of {election} for {party.id}")
    if scope != str(party.scope):
        raise ValueError(f"{bag} was made for the scope {scope}, the scope is {party.scope} now")
    return numbers.last + 1


def make(
    folder: Path,
    party: Party,
    election: str,
    bag: Contents,
    original: Callable[[str], Path],
    sign: Callable[[bytes], bytes],
    now: datetime,
    progress: Progress = lambda size: None,
    results: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    """Make a bag in `folder`, or continue an unfinished one, and verify it.

    `results` are further files for the bag, by path below `data`. Returns the path of
    `<name>.part`, which `finish` gives its final name. Raises Damaged if an original has other
    bytes than when it was filed.
    """
    part = folder / f"{bag.name(election, party.id)}{_PART}"
    part.mkdir(parents=True, exist_ok=True)
    size = 0
    for filed in bag.filed:
        target = part / _DATA / filed.path
        if not _has_digest(target, filed.sha256):
            _copy_original(original(filed.sha256), target, filed)
        done = target.stat().st_size
        size += done
        progress(done)
    (part / _DATA).mkdir(exist_ok=True)
    listed = [(f"{_DATA}/{filed.path}", filed.sha256) for filed in bag.filed]
    shutil.rmtree(part / _DATA / election / layout.RESULTS, ignore_errors=True)  # of earlier tries
    for path, content in results.items():
        target = part / _DATA / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(target, content)
        listed.append((f"{_DATA}/{path}", sha256(content).hexdigest()))
        size += len(content)
    manifest = format_sums(sorted(listed))
    tags = {
        "bagit.txt": _BAGIT,
        _INFO: _info(party, election, bag, now, f"{size}.{len(listed)}").encode(),
        _MANIFEST: manifest,
        f"{_MANIFEST}{layout.SIGNATURE_SUFFIX}": sign(manifest),
    }
    summed = format_sums((name, sha256(tags[name]).hexdigest()) for name in sorted(tags))
    tags |= {_TAGS: summed, f"{_TAGS}{layout.SIGNATURE_SUFFIX}": sign(summed)}
    for name, content in tags.items():
        _write_synced(part / name, content)
    sync(part)
    verify(part, progress)
    return part


def describe(part: Path) -> str:
    """Return the text that the operations ledger has about a verified bag: name and digest."""
    manifest = sha256((part / _MANIFEST).read_bytes()).hexdigest()
    return f"{part.name.removesuffix(_PART)}, sha256 {manifest} of {_MANIFEST}"


def finish(part: Path) -> Path:
    """Give a verified bag its final name."""
    bag = part.with_name(part.name.removesuffix(_PART))
    part.rename(bag)
    sync(bag.parent)
    return bag


def verify(bag: Path, progress: Progress = lambda size: None) -> None:
    """Read a bag back from the disk; raise Damaged if it differs from its manifests."""
    manifest = parse_sums((bag / _MANIFEST).read_bytes())
    for path, digest in (*manifest, *parse_sums((bag / _TAGS).read_bytes())):
        if not _has_digest(bag / path, digest):
            raise Damaged(f"{bag / path}: differs from {_MANIFEST}, make the bag again")
        progress((bag / path).stat().st_size)
    if extra := sorted(set(_data_files(bag)) - {path for path, _ in manifest}):
        raise Damaged(f"{bag / extra[0]}: is not in the manifest, remove it")


def _data_files(bag: Path) -> Iterator[str]:
    for path in (bag / _DATA).rglob("*"):
        if not path.is_dir():
            yield path.relative_to(bag).as_posix()


def _info(party: Party, election: str, bag: Contents, now: datetime, oxum: str) -> str:
    lines: Iterable[tuple[str, object]] = (
        ("Source-Organization", "Yuksek Secim Kurulu"),
        ("External-Description", f"{election}: tutanak goruntuleri, {party.id} kapsami"),
        ("External-Identifier", bag.name(election, party.id)),
        ("Bagging-Date", f"{now:%Y-%m-%d}"),
        ("Payload-Oxum", oxum),
        ("Ssps-Scope", party.scope),
        ("Ssps-First", bag.first),
        ("Ssps-Last", bag.last),
    )
    return "".join(f"{key}: {value}\n" for key, value in lines)


def _copy_original(source: Path, target: Path, filed: FiledPage) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    new_file = target.with_name(f"{target.name}.new")
    with source.open("rb") as old, new_file.open("wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())
    if not _has_digest(new_file, filed.sha256):
        new_file.unlink()
        raise Damaged(f"{source}: has other bytes than were filed, restore it from a backup")
    os.utime(new_file, (filed.filed_at, filed.filed_at))
    new_file.replace(target)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _has_digest(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as file:
            # Read from the disk, not from the page cache that has what was just written.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file_digest(file, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False
