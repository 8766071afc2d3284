"""scripts/mirror checks the labels of SHA256SUMS: of which folder they are, and how new."""

from dataclasses import replace
from pathlib import Path

from unit.publisher.filed_site import KEY
from wire import test_mirror
from wire.test_mirror import ELECTION, KONAK, Party, put, whole

from config import layout
from keys.server_keys import sshsig
from publisher.feed.sums_label import format_label, parse_label

party = test_mirror.party


def labelled(folder: Path) -> dict[Path, bytes]:
    """Return the sums in a folder of a tree, with their label and both signatures."""
    return {folder / name: (folder / name).read_bytes() for name in layout.SUMS_FILES}


def test_sums_with_the_label_of_another_board_or_election_are_refused(party: Party) -> None:
    party.file(1)
    party.filer.file(KONAK, "konak")
    party.feed()
    mine, other = (
        party.tree / ELECTION / place for place in ("34-istanbul-1/kadikoy-2", "35-izmir-2/konak-1")
    )
    put({mine / path.name: content for path, content in labelled(other).items()})

    code, last = party.mirror()

    path = f"{ELECTION}/34-istanbul-1/kadikoy-2/SHA256SUMS.kunye"
    wrong = f"belongs to '{ELECTION}/35-izmir-2/konak-1', in the election '{ELECTION}'"
    assert (code, last["error"]) == (1, f"VERIFICATION FAILED: {path}: {wrong}")


def test_older_sums_than_those_that_the_mirror_has_are_refused_even_if_they_name_all_files(
    party: Party,
) -> None:
    party.file(1)
    party.feed()
    board = party.tree / ELECTION / "34-istanbul-1/kadikoy-2"
    assert party.mirror()[0] == 0
    kept = (party.folder / ELECTION / "34-istanbul-1/kadikoy-2/SHA256SUMS.kunye").read_bytes()
    party.file(2)
    party.feed()
    label = board / "SHA256SUMS.kunye"
    newer = parse_label(label.read_bytes())
    rolled_back = format_label(replace(newer, number=parse_label(kept).number - 1))
    put({label: rolled_back, Path(f"{label}.sig"): sshsig.sign(KEY, rolled_back)})

    code, last = party.mirror()

    assert (code, last["unsummed"]) == (0, 1)
    assert (party.folder / label.relative_to(party.tree)).read_bytes() == kept


def test_a_mirror_of_an_earlier_version_gets_the_labels(party: Party) -> None:
    party.file(1)
    party.feed()
    assert party.mirror()[0] == 0
    label = party.folder / ELECTION / "34-istanbul-1/kadikoy-2/SHA256SUMS.kunye"
    label.unlink()

    assert party.mirror()[0] == 0

    assert whole(party.folder) == whole(party.tree)


def test_sums_without_labels_are_accepted_from_a_server_of_an_earlier_version_only(
    party: Party,
) -> None:
    party.file(1)
    party.feed()
    for label in party.tree.rglob("SHA256SUMS.kunye*"):
        label.unlink()
    code, last = party.mirror()
    assert (code, last["unsummed"]) == (0, 0)
    party.file(2)
    party.feed()  # the publisher writes them at its start
    assert party.mirror()[0] == 0
    party.file(3)
    party.feed()

    for label in party.tree.rglob("SHA256SUMS.kunye*"):
        label.unlink()

    code, last = party.mirror()
    assert (code, last["unsummed"]) == (0, 1)
