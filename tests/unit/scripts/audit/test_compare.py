from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from office import Ssps
from unit.keys.ledger.signed_ledgers import KEY, make_signed, write

from keys.feed_segment import NO_PREVIOUS, FeedEntry, FeedSegment, format_segment
from keys.ledger.signer import Signer
from keys.server_keys import sshsig

PAGE = FeedEntry("e/34-istanbul-1/s1.jpg", 10, "ab" * 32, 1_684_072_800, "sandik-sonuc", 1)
MORE = replace(PAGE, path="e/34-istanbul-1/s2.jpg")
OTHER = replace(PAGE, sha256="cd" * 32)

ONLY = "differs; only one of them has"

Segments = list[tuple[FeedEntry, ...]]


def mirror(
    folder: Path,
    segments: Segments,
    name: str = "f" * 16,
    checkpoints: tuple[tuple[str, bytes], ...] = (),
) -> Path:
    """Write a chain of signed segments, each with its entries."""
    akis = folder / "akis"
    akis.mkdir(parents=True)
    previous = NO_PREVIOUS
    for number, entries in enumerate(segments, start=1):
        segment = FeedSegment("e", name, number, 1_684_072_800, previous, entries, checkpoints)
        content = format_segment(segment)
        (akis / f"{number:08}.csv").write_bytes(content)
        (akis / f"{number:08}.csv.sig").write_bytes(sshsig.sign(KEY, content))
        previous = sha256(content).hexdigest()
    return akis


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ([(PAGE,), (MORE,)], [(PAGE,), (MORE,)], ""),
        ([(PAGE,), (MORE,)], [(PAGE,)], ""),
        ([(PAGE,), ()], [(PAGE,), (MORE,)], f"segment 2 {ONLY} {MORE.path}"),
        ([(), (PAGE,)], [(PAGE,), ()], f"segment 1 {ONLY} {PAGE.path}"),
    ],
)
def test_two_mirrors_of_one_feed(
    tmp_path: Path, ssps: Ssps, public: Path, one: Segments, other: Segments, told: str
) -> None:
    feeds = [mirror(tmp_path / "a", one), mirror(tmp_path / "b", other)]

    done = ssps("audit", "compare", *feeds, "--key", public)

    assert done.exit_code == int(bool(told)), done.output
    assert (f"{feeds[0]} and {feeds[1]} differ: {told}" if told else "OK: 2 feeds") in done.stdout


def test_feeds_of_two_scopes_agree_about_the_pages_that_both_list(
    tmp_path: Path, ssps: Ssps, public: Path
) -> None:
    one = mirror(tmp_path / "a", [(PAGE,), (MORE,)])
    same = mirror(tmp_path / "b", [(), (), (PAGE,)], name="0" * 16)
    other = mirror(tmp_path / "c", [(OTHER,)], name="1" * 16)

    assert ssps("audit", "compare", one, same, "--key", public).exit_code == 0
    done = ssps("audit", "compare", one, same, other, "--key", public, "--json")

    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 2  # c differs from a and from b
    assert f"{PAGE.path} has the SHA-256 {'ab' * 32} in segment 1" in done.stdout


def test_another_history_of_a_ledger_is_a_difference(
    tmp_path: Path, ssps: Ssps, public: Path
) -> None:
    ledger = make_signed(tmp_path / "transfer", 10)
    newest = (ledger / "checkpoint").read_bytes()
    fork = tmp_path / "fork" / "transfer"
    fork.mkdir(parents=True)
    write(fork, 10, 50)
    with Signer(fork, KEY, token=lambda: newest.split(b"\n")[0].decode()[-16:]) as signer:
        signer.sign(last=True)
    forked = (fork / "checkpoint").read_bytes()
    one = mirror(tmp_path / "a", [(PAGE,)], "0" * 16, (("transfer", newest),))
    other = mirror(tmp_path / "b", [(PAGE,)], "1" * 16, (("transfer", forked),))

    done = ssps("audit", "compare", one, other, "--key", public)

    assert done.exit_code == 1
    assert "the transfer ledger of 10 records has one root in segment 1, and another" in done.stdout


def test_a_feed_that_somebody_else_signed_is_not_compared(
    tmp_path: Path, ssps: Ssps, public: Path
) -> None:
    one, other = mirror(tmp_path / "a", [(PAGE,)]), mirror(tmp_path / "b", [(PAGE,)])
    (other / "00000001.csv.sig").write_bytes(b"-")

    done = ssps("audit", "compare", one, other, "--key", public)

    assert done.exit_code == 1
    assert f"{other}/00000001.csv: has no valid signature" in done.stderr


def test_one_feed_is_nothing_to_compare(tmp_path: Path, ssps: Ssps, public: Path) -> None:
    done = ssps("audit", "compare", mirror(tmp_path / "a", [(PAGE,)]), "--key", public)

    assert done.exit_code == 2
