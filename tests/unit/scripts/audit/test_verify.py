import json
import shutil
from datetime import timedelta
from pathlib import Path

from office import Ssps
from unit.keys.ledger.signed_ledgers import NOON, Signed

from config.event import Event
from keys import feed_segment
from keys.feed_segment import NO_PREVIOUS, format_segment
from keys.ledger import note, segments
from keys.ledger.writer import Ledger
from scripts.shared import console


def records(folder: Path) -> list[bytes]:
    return (folder / "000000000000.jsonl").read_bytes().splitlines(keepends=True)


def drop_record(folder: Path, number: int) -> None:
    found = records(folder)
    del found[number]
    (folder / "000000000000.jsonl").write_bytes(b"".join(found))


def keep_records(folder: Path, count: int) -> None:
    (folder / "000000000000.jsonl").write_bytes(b"".join(records(folder)[:count]))


def test_verify_needs_only_copies_and_the_public_key(
    signed: Signed, public: Path, ssps: Ssps, tmp_path: Path
) -> None:
    one, two = signed("gate-1/transfer"), signed("gate-2/transfer")
    old = tmp_path / "old"
    old.write_bytes(note.split_notes((two / "checkpoints").read_bytes())[0])

    done = ssps("audit", "verify", one.parent, two, "--key", public, "--checkpoint", old)

    assert done.exit_code == 0, done.output
    assert f"{one}: 30 records, OK: all match the checkpoint of ssps/transfer/" in done.stdout
    assert f"{two}: extends {old}" in done.stdout
    drop_record(two, 7)
    done = ssps("audit", "verify", tmp_path, "--key", public, "--json")
    assert done.exit_code == 1
    told = {Path(each["folder"]): each for each in map(json.loads, done.stdout.splitlines())}
    assert told[one]["findings"] == []
    assert told[two]["findings"][0]["kind"] == "dropped"
    assert told[two]["findings"][0]["record"] == 7


def test_a_mirrored_feed_can_be_given_as_older_checkpoints(
    signed: Signed, public: Path, ssps: Ssps, tmp_path: Path
) -> None:
    one = signed("gate-1/transfer")
    two = signed("gate-2/transfer").rename(tmp_path / "copied-under-another-name")
    older = note.split_notes((one / "checkpoints").read_bytes())[:2]
    feed = tmp_path / "mirror/akis"
    feed.mkdir(parents=True)
    for number, kept in enumerate(older, start=1):
        others = ("operations", b"of which nothing was copied")
        content = format_segment(
            feed_segment.FeedSegment(
                "e", "f" * 16, number, 0, NO_PREVIOUS, (), (("transfer", kept), others)
            )
        )
        (feed / f"{number:08}.csv").write_bytes(content)

    for given, count in ((feed.parent, 2), (feed, 2), (feed / "00000002.csv", 1)):
        done = ssps("audit", "verify", one, "--key", public, "--checkpoint", given)
        assert (done.exit_code, done.stdout.count(f"{one}: extends {feed}")) == (0, count)
    other = ssps("audit", "verify", two, "--key", public, "--checkpoint", feed)
    assert (other.exit_code, other.stdout.count("another log")) == (1, 1)  # one for each log
    keep_records(one, 15)
    for beside in ("checkpoint", "checkpoints"):
        (one / beside).unlink()
    cut = ssps("audit", "verify", one, "--key", public, "--checkpoint", feed)
    assert (cut.exit_code, f"{one}: cut short: ends before record 15" in cut.stdout) == (1, True), (
        cut.stdout
    )

    (feed / "00000001.csv").write_bytes(b"# ssps akis 1\n")
    spoilt = ssps("audit", "verify", two, "--key", public, "--checkpoint", feed)
    assert "name a segment exactly as it was mirrored" in spoilt.stderr
    (tmp_path / "empty").mkdir()
    empty = ssps("audit", "verify", two, "--key", public, "--checkpoint", tmp_path / "empty")
    assert "empty: has no checkpoint of these ledgers" in empty.stdout


def test_verify_names_what_is_missing(
    signed: Signed, public: Path, ssps: Ssps, tmp_path: Path
) -> None:
    folder = signed()
    (tmp_path / "empty").mkdir()

    assert "no ledgers given" in ssps("audit", "verify").stderr
    assert "no public key given" in ssps("audit", "verify", folder).stderr
    nothing = ssps("audit", "verify", tmp_path / "empty", "--key", public)
    assert (nothing.exit_code, nothing.stderr.endswith("name a folder that does\n")) == (1, True)
    (tmp_path / "x").write_text("rubbish")
    assert (
        "name YSK's public signing key"
        in ssps("audit", "verify", folder, "--key", tmp_path / "x").stderr
    )
    stray = ssps("audit", "verify", folder, "--key", public, "--checkpoint", tmp_path / "x")
    assert stray.exit_code == 1
    assert "forged" in stray.stdout


def test_verify_joins_segments_on_another_disk_to_their_ledger(
    signed: Signed, public: Path, ssps: Ssps, tmp_path: Path
) -> None:
    folder, disk = signed(size=1500), tmp_path / "disk-2/transfer"
    disk.mkdir(parents=True)
    oldest = segments.list_segments(folder)[0].path
    shutil.move(oldest, disk)

    alone = ssps("audit", "verify", folder, "--key", public)
    both = ssps("audit", "verify", folder, disk, "--key", public)

    assert (alone.exit_code, "and no record says why" in alone.stdout) == (1, True)
    assert both.exit_code == 0, both.output
    assert both.stdout.startswith(f"{folder}: 30 records, OK")
    assert len(both.stdout.splitlines()) == 1


def test_verify_accepts_a_ledger_without_records(public: Path, ssps: Ssps, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    with Ledger(folder):
        pass

    done = ssps("audit", "verify", folder, "--key", public)

    assert (done.exit_code, done.stdout) == (0, f"{folder}: OK: no records yet\n")


def test_verify_uses_the_keys_of_the_site(site: Path, ssps: Ssps) -> None:
    with console.recorded_change(site, "key add", "parti-a", "form 12") as record:
        record.done(None)

    done = ssps("audit", "verify", "--site", site)

    assert (done.exit_code, "1 records, OK: all match the checkpoint" in done.stdout) == (0, True)


def test_records_whose_time_runs_backwards_are_named(
    signed: Signed, public: Path, ssps: Ssps
) -> None:
    folder = signed("transfer", 2, 1)
    with Ledger(folder, lambda: NOON - timedelta(hours=1)) as writer:
        trick = {"x": f'"time":"{NOON:%Y}-01-01T00:00:00.000000Z","what":'}
        writer.append(Event("open", "parti-a", "192.0.2.7", "/1", detail=trick))
    with Ledger(folder, lambda: NOON) as writer:
        writer.append(Event("open", "parti-a", "192.0.2.7", "/2"))

    done = ssps("audit", "verify", folder, "--key", public)

    assert done.exit_code == 0, done.output  # the ledger is what was signed
    said = "record 2 is dated 2023-05-14T16:00:00+03:00, earlier than record 1 (2023-05-14T17:0"
    assert done.stdout.count("is dated") == 1
    assert said in done.stdout
