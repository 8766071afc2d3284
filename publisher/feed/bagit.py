r"""A bag of pages for who mirrors nothing: BagIt (RFC 8493), its manifest signed.

    <election>-<party>-<first>-<last>/
        bagit.txt                          BagIt-Version: 1.0, Tag-File-Character-Encoding: UTF-8
        bag-info.txt                       whose it is, when it was made, and the two numbers
        data/<election>/<cevre>/...        the pages, at the paths that a party's tree has
        manifest-sha256.txt                `<sha256>  data/<path>`, as `sha256sum -c` takes it
        manifest-sha256.txt.sig            by the site's signing key (keys/server_keys/sshsig)
        tagmanifest-sha256.txt  .sig       the same over the files beside `data`

`first` and `last` are numbers of the filing ledger: a bag holds what was filed from the one to the
other, so that the next one begins where this one ends. What is being made is called `<...>.part`
and is gone on with if it is there; it gets its name once every byte was read back.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import file_digest, sha256
from pathlib import Path

from config import layout
from config.party import Party
from keys.files import sync
from publisher.catalog.feed_queries import FeedQueries, FiledPage
from publisher.feed.sums import format_sums, parse_sums

_DATA, _MANIFEST, _TAGS = "data", "manifest-sha256.txt", "tagmanifest-sha256.txt"
_BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_INFO = "bag-info.txt"
_UNTIL = "until"
_PART = ".part"
_MAX_ROWS = 5000

Progress = Callable[[int], None]  # is told how many bytes were done


class Damaged(Exception):
    """A file does not hold what it ought to."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into a bag: filings of these numbers, first and last."""

    first: int
    last: int
    filed: Sequence[FiledPage]

    def name(self, election: str, party: str) -> str:
        """Return the bag's name."""
        return f"{election}-{party}-{self.first}-{self.last}"


def select_contents(
    filings: FeedQueries, party: Party, first: int, last: int | None = None
) -> Contents:
    """Return what a party may see of what was filed from `first` on, up to `last` if given."""
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
    """Return the last number of a bag that was begun in `folder` and not finished."""
    prefix = f"{election}-{party}-{first}-"
    for part in folder.glob(f"{prefix}*{_PART}"):
        last = part.name.removeprefix(prefix).removesuffix(_PART)
        if last.isdecimal():
            return int(last)
    return None


def next_number(bag: Path, election: str, party: Party) -> int:
    """Return the number after the last of a bag.

    Raises ValueError if it is none, or one after which something would be left out: another
    party's, or one of another scope than the party's is now.
    """
    try:
        lines = (bag / _INFO).read_text("ascii").splitlines()
        said = dict(line.split(": ", 1) for line in lines)
        name, scope = said["External-Identifier"], said["Ssps-Scope"]
        numbers = Contents(int(said["Ssps-First"]), int(said["Ssps-Last"]), ())
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{bag} is no bag of this command's") from None
    if bag.suffix == _PART or name != numbers.name(election, party.id):
        raise ValueError(f"{bag} is no finished bag of {election} for {party.id}")
    if scope != str(party.scope):
        raise ValueError(f"{bag} was made for the scope {scope}, and it is {party.scope} now")
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
) -> Path:
    """Make a bag in `folder`, or finish it, and read all of it back; return `<name>.part`.

    Raises Damaged if an original is not what it was when it was filed.
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
    manifest = format_sums(sorted((f"{_DATA}/{f.path}", f.sha256) for f in bag.filed))
    tags = {
        "bagit.txt": _BAGIT,
        _INFO: _info(party, election, bag, now, size).encode(),
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
    """Return what a record says of a bag that is whole: its name, and its manifest's hash."""
    manifest = sha256((part / _MANIFEST).read_bytes()).hexdigest()
    return f"{part.name.removesuffix(_PART)}, sha256 {manifest} of {_MANIFEST}"


def finish(part: Path) -> Path:
    """Give a bag its name; it is whole."""
    whole = part.with_name(part.name.removesuffix(_PART))
    part.rename(whole)
    sync(whole.parent)
    return whole


def verify(bag: Path, progress: Progress = lambda size: None) -> None:
    """Read a whole bag back from the disk; raise Damaged for what its manifests do not say."""
    manifest = parse_sums((bag / _MANIFEST).read_bytes())
    for path, digest in (*manifest, *parse_sums((bag / _TAGS).read_bytes())):
        if not _has_digest(bag / path, digest):
            raise Damaged(f"{bag / path}: is not what {_MANIFEST} says, make the bag again")
        progress((bag / path).stat().st_size)
    if extra := sorted(set(_data_files(bag)) - {path for path, _ in manifest}):
        raise Damaged(f"{bag / extra[0]}: is in no manifest, take it out")


def _data_files(bag: Path) -> Iterator[str]:
    for path in (bag / _DATA).rglob("*"):
        if not path.is_dir():
            yield path.relative_to(bag).as_posix()


def _info(party: Party, election: str, bag: Contents, now: datetime, size: int) -> str:
    lines: Iterable[tuple[str, object]] = (
        ("Source-Organization", "Yuksek Secim Kurulu"),
        ("External-Description", f"{election}: tutanak goruntuleri, {party.id} kapsami"),
        ("External-Identifier", bag.name(election, party.id)),
        ("Bagging-Date", f"{now:%Y-%m-%d}"),
        ("Payload-Oxum", f"{size}.{len(bag.filed)}"),
        ("Ssps-Scope", party.scope),
        ("Ssps-First", bag.first),
        ("Ssps-Last", bag.last),
    )
    return "".join(f"{key}: {value}\n" for key, value in lines)


def _copy_original(source: Path, target: Path, filed: FiledPage) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.new")
    with source.open("rb") as old, fresh.open("wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())
    if not _has_digest(fresh, filed.sha256):
        fresh.unlink()
        raise Damaged(f"{source}: is not what was filed, restore it from a copy")
    os.utime(fresh, (filed.filed_at, filed.filed_at))
    fresh.replace(target)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _has_digest(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as file:
            # From the disk, not from what was just written there.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file_digest(file, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False
