"""Formats and parses SHA256SUMS.kunye, the label with the folder and time of a SHA256SUMS.

The lines of SHA256SUMS name neither board nor election nor time, and a comment in it would stop
busybox's `sha256sum -c` and `rclone checksum`. So a signed copy of one folder's sums could be put
into another. The label beside it is ASCII, and signed as SHA256SUMS is:

    ssps kunye 1
    secim: 2023-05-14-cb-mv
    yer: 2023-05-14-cb-mv/34-istanbul-1/kadikoy-2
    zaman: 2023-05-14T14:41:00Z
    no: 42
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  SHA256SUMS

`yer` is the folder in the tree, `zaman` when the sums were written (UTC), and `no` the number of
the newest filing that they may contain, which never decreases. The last line is what `sha256sum -c`
reads. The first line is that of no other file that a site signs, so the signature has the same
namespace, `ssps`: the parties have only that one in allowed_signers.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from config import layout, times

_FORM = re.compile(
    rb"ssps kunye 1\nsecim: ([!-~]+)\nyer: ([!-~]+)\nzaman: ([0-9T:-]{19}Z)\nno: (-?[0-9]{1,18})\n"
    rb"([0-9a-f]{64})  SHA256SUMS\n"
)


@dataclass(frozen=True, slots=True)
class SumsLabel:
    """What a SHA256SUMS is of: `folder` is its path in a tree, `at` in seconds since 1970."""

    election: str
    folder: str
    at: int
    number: int
    sha256: str

    def describes(self, folder: str, content: bytes) -> bool:
        """Say whether it is the label of the sums with these bytes in that folder of a tree."""
        return (self.folder, self.sha256) == (folder, sha256(content).hexdigest())


def label_of(sums: str, at: int, number: int, content: bytes) -> SumsLabel:
    """Return the label of the sums with these bytes at the path `sums` in a tree."""
    folder = sums.removesuffix(f"/{layout.SUMS}")
    return SumsLabel(folder.split("/")[0], folder, at, number, sha256(content).hexdigest())


def format_label(label: SumsLabel) -> bytes:
    """Return the bytes of the file."""
    return (
        f"ssps kunye 1\nsecim: {label.election}\nyer: {label.folder}\n"
        f"zaman: {times.format_utc(datetime.fromtimestamp(label.at, UTC))}\nno: {label.number}\n"
        f"{label.sha256}  {layout.SUMS}\n"
    ).encode("ascii")


def parse_label(content: bytes) -> SumsLabel:
    """Parse a label; raise ValueError for anything that `format_label` would not write."""
    match = _FORM.fullmatch(content)
    if match is None:
        raise ValueError("not a label of SHA256SUMS")
    election, folder, time, number, digest = (part.decode() for part in match.groups())
    at = int(datetime.strptime(time + "+0000", "%Y-%m-%dT%H:%M:%SZ%z").timestamp())
    label = SumsLabel(election, folder, at, int(number), digest)
    if format_label(label) != content or folder.split("/")[0] != election:
        raise ValueError("not a label of SHA256SUMS")
    return label
