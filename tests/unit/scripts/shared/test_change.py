from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from config.event import Value
from config.fault import Faults
from keys.ledger import segments
from scripts.shared import change
from scripts.shared.change import Change, Mode, Plan


class Rename(Change[str]):
    """Changes the first line of a file; plans nothing if it is so already."""

    def __init__(self, file: Path, to: str, before_plan: Callable[[], None] = lambda: None) -> None:
        super().__init__("rename", file.name, "form 7")
        self.file, self.to, self.before_plan = file, to, before_plan
        self.reads = 0
        self.waited = ""

    def read(self) -> str:
        self.reads += 1
        return self.file.read_text()

    def describe(self, old: str) -> Value:
        return old

    def plan(self, old: str) -> Plan[str] | None:
        self.before_plan()
        if old == "forbidden":
            raise Faults([])
        if old == self.to:
            return None
        return Plan(
            self.to, [f"{old} -> {self.to}"], lambda: self.to, lambda: self.file.write_text(self.to)
        )

    def wait(self, new: str) -> bool:
        self.waited = new
        return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "name").write_text("old")
    return tmp_path / "name"


def records(site: Path) -> list[tuple[str, str, Value, Value]]:
    folder = site / "ledgers/operations"
    events = [r.event for r in segments.read_records(folder)] if folder.exists() else []
    return [(e.event, e.outcome, e.detail["before"], e.detail["after"]) for e in events]


def test_a_change_is_recorded_made_and_waited_for(
    site: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rename = Rename(file, "new")

    done = change.carry_out(site, rename, Mode())

    assert done is not None
    assert (done.old, done.new, done.in_force, rename.waited) == ("old", "new", True, "new")
    assert file.read_text() == "new"
    assert records(site) == [("rename", "ok", "old", "new")]
    assert capsys.readouterr().err == "old -> new\n"
    assert rename.reads == 1, "the state is read once, under the lock"


def test_a_dry_run_shows_the_change_and_records_nothing(
    site: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = change.carry_out(site, Rename(file, "new"), Mode(dry_run=True))

    assert (done, file.read_text(), records(site)) == (None, "old", [])
    assert capsys.readouterr().err == "old -> new\ndry run: nothing has changed\n"


def test_a_change_that_asks_needs_yes_without_a_terminal(
    site: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = change.carry_out(site, Rename(file, "new"), Mode(ask=True))

    assert (done, file.read_text(), records(site)) == (None, "old", [])
    assert "give --yes to apply this" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "after"), [(True, "new"), (False, "old")])
def test_a_change_that_asks_is_made_only_if_the_operator_agrees(
    site: Path, file: Path, monkeypatch: pytest.MonkeyPatch, answer: bool, after: str
) -> None:
    monkeypatch.setattr(change, "_on_a_terminal", lambda: True)
    monkeypatch.setattr(click, "confirm", lambda *_, **__: answer)

    change.carry_out(site, Rename(file, "new"), Mode(ask=True))

    assert file.read_text() == after


def test_a_site_that_changes_after_the_preview_is_left_alone(
    site: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_operator_is_faster(*_: object, **__: object) -> bool:
        file.write_text("theirs")
        return True

    monkeypatch.setattr(change, "_on_a_terminal", lambda: True)
    monkeypatch.setattr(click, "confirm", another_operator_is_faster)

    with pytest.raises(Faults, match="the site has changed since the preview"):
        change.carry_out(site, Rename(file, "new"), Mode(ask=True))

    assert file.read_text() == "theirs"
    assert records(site) == [("rename", "refused", "theirs", None)]


def test_a_change_that_is_not_possible_is_recorded_as_refused(site: Path, file: Path) -> None:
    file.write_text("forbidden")

    with pytest.raises(Faults):
        change.carry_out(site, Rename(file, "new"), Mode())

    assert records(site) == [("rename", "refused", "forbidden", None)]


def test_a_change_with_nothing_to_do_leaves_no_record(site: Path, file: Path) -> None:
    done = change.carry_out(site, Rename(file, "old"), Mode())

    assert (done, records(site)) == (None, [])


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ([], Mode(ask=True)),
        (["--dry-run"], Mode(dry_run=True, ask=True)),
        (["--yes"], Mode()),
        (["--apply"], Mode()),
    ],
)
def test_apply_is_still_accepted_for_yes(words: list[str], mode: Mode) -> None:
    found = []

    @click.command()
    @change.mode_options(ask=True)
    def command(mode: Mode) -> None:
        found.append(mode)

    done = CliRunner().invoke(command, words)

    assert (done.exit_code, found) == (0, [mode])
