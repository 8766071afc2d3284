"""The commands of the staff site: a short list, for the operator who has logged in there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from keys.ledger import segments
from scripts import staff_command
from scripts.shared import console


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Let no test act for an operator after it."""
    token = console._ACTING.set(None)
    yield
    console._ACTING.reset(token)


def ask(site: Path, *words: str) -> int | str | None:
    request = {"who": "amir", "from": "10.20.3.4", "command": words}
    with pytest.raises(SystemExit) as ended:
        staff_command.run(str(site), json.dumps(request))
    return ended.value.code


def test_the_record_names_the_account_and_its_address(site: Path) -> None:
    assert ask(site, "party", "suspend", "--why=too much", "--", "parti-a") == 0

    last = list(segments.read_records(site / "ledgers/operations"))[-1].event
    assert (last.event, last.who, last.origin) == ("party suspend", "staff:amir", "10.20.3.4")
    assert last.detail["why"] == "too much"


@pytest.mark.parametrize(
    "words",
    [
        ("party", "remove", "--why=x", "--", "parti-a"),
        ("operator", "add", "x", "--why=x"),
        ("key", "revoke", "parti-a", "first", "--why=x"),
        ("--site", "/", "party", "suspend"),
        ("run",),
        (),
    ],
)
def test_other_commands_do_not_run(site: Path, words: tuple[str, ...]) -> None:
    assert "not a command of the staff site" in str(ask(site, *words))
    assert not (site / "ledgers/operations").exists()


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("party", "letter", "--pdf={site}/store/x.pdf", "--", "parti-a"), "not below"),
        (("party", "letter", "--pdf={tmp}/../x.pdf", "--", "parti-a"), "not below"),
        (("party", "letter", "--pdf", "{site}/x.pdf", "--", "parti-a"), "not below"),
        (("audit", "report", "--output={tmp}/link/x", "--", "parti-a"), "not below"),
        (("audit", "verify", "--site=/", "--json"), "not an option"),
        (("audit", "report", "-o", "/x", "--", "parti-a"), "not an option"),
    ],
)
def test_no_option_names_another_site_or_a_file_outside_the_temporary_folder(
    site: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    wrong: str,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (temporary / "link").symlink_to(site)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    stated = [word.format(site=site, tmp=temporary) for word in words]

    assert wrong in str(ask(site, *stated))
    assert not list(tmp_path.rglob("*.pdf"))


def test_a_letter_is_written_to_the_temporary_folder(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = tmp_path / "mektup.pdf"

    ask(site, "party", "letter", f"--pdf={file}", "--", "parti-a")
    assert file.exists()
