"""Reads the site's own keys, and refuses a file under keys/ that is not the one on record.

A file under keys/ is used only if its SHA-256 is the newest one that the operations ledger has for
its name (keys/operations/key_files). A daemon that starts or reloads records the files first
(keys/operations/keys_record), and `ssps key adopt --site-keys` does so at any time. A file that was
replaced, added or removed in between is not used: `Unrecorded` names it and that command.

A rotation (keys/server_keys/host) records the files as they will be, and moves them then. Until it
has moved one, the file in `next/` is the one on record, and is read instead.

A site of an earlier version, whose ledger names none of the site's own keys, uses them as they are
until its first daemon has recorded them.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from config.fault import Fault, Faults
from config.site import KEYS, OPERATORS, RINGS, SIGNING_KEYS, USERS, stamp_key_file
from keys.operations import key_files, staged_file
from keys.operations.key_files import REMOVED, KeyFilesOnRecord
from keys.server_keys import host, sshsig, stamp_key

ADOPT = "ssps key adopt --site-keys"
_log = structlog.get_logger()


class Unrecorded(Faults):
    """Files under keys/ that are not those on record."""


def signing_key(site: Path, on_record: KeyFilesOnRecord | None = None) -> Ed25519PrivateKey:
    """Return the site's signing key; raise Faults if it has no usable one, or another on record."""
    name = SIGNING_KEYS / host.SIGNING_KEY
    content = _read(site, name, _server_keys(site, on_record))
    if content is None:
        raise Faults([Fault(str(name), "", sshsig.NO_KEY.format("No such file or directory"))])
    return sshsig.parse_signing_key(content, str(name))


def public_signing_keys(
    site: Path, on_record: KeyFilesOnRecord | None = None
) -> list[Ed25519PublicKey]:
    """Return the site's public signing keys that are on record: in use, next and former ones.

    A key counts if any public signing key on record has its digest: in the middle of a rotation a
    file has the name of before, and the record that of afterwards. A file that is not on record is
    left out. So is a damaged one, which `ssps check` names.
    """
    expected = _server_keys(site, on_record)
    recorded = {d for name, d in expected.items() if key_files.is_public_signing_key(name)}
    found = []
    for path in sorted((site / SIGNING_KEYS).rglob("*.pub")):
        try:
            content = staged_file.read(path)
            if content is not None and (not expected or key_files.digest_of(content) in recorded):
                found.append(sshsig.public_key(content.decode()))
        except (OSError, ValueError):
            continue
    return found


def stamp_key_on_record(site: Path, *, create: bool = False) -> bytes | None:
    """Return the key that seals stamps; None if there is none, or another one is on record.

    With `create` a missing key is made. Raises Faults if the file is not a key.
    """
    key = stamp_key.load_or_create(site) if create else stamp_key.load(site)
    if key is None:
        return None
    name = str(stamp_key_file())
    expected = KeyFilesOnRecord(site).refresh().digests
    if expected.get(name, REMOVED) == REMOVED:
        return key  # the first daemon that starts records it
    try:
        check(expected, name, (site / name).read_bytes())
    except Unrecorded as error:
        _log.error("key-file-unrecorded", file=name, cause=str(error))
        return None
    return key


def require(site: Path, *folders: Path) -> None:
    """Raise Unrecorded if a file in one of these folders of keys/ is not the one on record."""
    expected = _server_keys(site, None)
    if not expected:
        return
    wrong = [
        _fault(name)
        for name in _differing(expected, key_files.server_key_files(site))
        if any(Path(name).is_relative_to(folder) for folder in folders)
    ]
    if wrong:
        raise Unrecorded(wrong)


def require_recorded(site: Path, digests: Mapping[str, str]) -> None:
    """Raise Unrecorded unless the files of these digests, by name, are those on record."""
    expected = _server_keys(site, None)
    wrong = [_fault(name) for name in _differing(expected, digests) if name in digests]
    if expected and wrong:
        raise Unrecorded(wrong)


def unrecorded(site: Path, on_record: KeyFilesOnRecord | None = None) -> Iterator[Fault]:
    """Yield a fault for each file under keys/ that is not the one on record, of whatever kind."""
    known = (KeyFilesOnRecord(site) if on_record is None else on_record).refresh()
    expected = known.digests
    found = _credential_files(site, expected)
    if any(not key_files.holds_credentials(name) for name in expected):
        found |= key_files.server_key_files(site)
    else:
        expected = {n: d for n, d in expected.items() if key_files.holds_credentials(n)}
    if not known.empty:
        yield from map(_fault, _differing(expected, found))


def check(expected: Mapping[str, str], name: str, content: bytes | None) -> None:
    """Raise Unrecorded unless `content` is that of the file on record under `name`."""
    if key_files.digest_of(content) != expected.get(name, REMOVED):
        raise Unrecorded([_fault(name)])


def _read(site: Path, name: Path, expected: Mapping[str, str]) -> bytes | None:
    content = staged_file.read(site / name)
    if not expected:
        return content
    try:
        check(expected, str(name), content)
    except Unrecorded:
        content = staged_file.read(site / name.parent / host.NEXT_KEY / name.name)
        if content is None:
            raise
        check(expected, str(name), content)
    return content


def _server_keys(site: Path, on_record: KeyFilesOnRecord | None) -> dict[str, str]:
    return (KeyFilesOnRecord(site) if on_record is None else on_record).refresh().server_keys


def _differing(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    names = {*expected, *found}
    return sorted(n for n in names if expected.get(n, REMOVED) != found.get(n, REMOVED))


def _credential_files(site: Path, expected: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of rings, users and operators; of a staged one if it is on record."""
    paths = [*(site / RINGS).glob("*.toml"), *(site / USERS).glob("*.toml")]
    names = {str(p.relative_to(site)) for p in paths if not p.name.startswith(".")}
    names |= {str(OPERATORS), *filter(key_files.holds_credentials, expected)}
    found = {}
    for name in names:
        for path in (site / name, staged_file.staged(site / name)):
            content = staged_file.read(path)
            if name not in found or key_files.digest_of(content) == expected.get(name):
                found[name] = key_files.digest_of(content)
    return found


def _fault(name: str) -> Fault:
    path = Path(name)
    if path.parent == RINGS:
        command = f"ssps key adopt {path.stem}"
    elif path.parent == USERS:
        command = f"ssps user remove --all {path.stem}"
    elif path == OPERATORS:
        command = "ssps operator remove --all"
    else:
        command = ADOPT
    verb = "accept it as it is with" if "adopt" in command else "start again without users with"
    message = (
        "is not the file on record, so it is not used: restore it from a backup, or "
        f"{verb} `{command}`"
    )
    return Fault(name, "", message)


class KeyWatch:
    """Looks for files under keys/ that were changed by hand, for the signer's process.

    A command records a file and then moves it, so a difference counts if two looks have found it.
    """

    def __init__(self, site: Path) -> None:
        self._site = site
        self._on_record = KeyFilesOnRecord(site)
        self._seen: object = None
        self._found: tuple[Fault, ...] = ()
        self._reported: frozenset[Fault] = frozenset()

    def look(self) -> list[Fault]:
        """Return what is wrong since the last look but one, each difference once."""
        seen = self._signature()
        if seen != self._seen:
            self._found = tuple(unrecorded(self._site, self._on_record))
            self._seen = seen  # only now: if the line above fails, the next look tries again
            return []
        fresh = [fault for fault in self._found if fault not in self._reported]
        self._reported = frozenset(self._found)
        return fresh

    def _signature(self) -> object:
        digest = hashlib.sha256()
        for path in sorted((self._site / KEYS).rglob("*")):
            try:
                state = path.lstat()
            except FileNotFoundError:
                continue  # a command has just renamed it
            line = (str(path), state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
            digest.update(repr(line).encode())
        return digest.digest(), len(self._on_record.refresh().digests), self._on_record.next_seq
