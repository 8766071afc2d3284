"""The process that reads Parquet files for the portal; the other tests read without it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.portal.portal_site import PortalSite, result

from config.site import SNAPSHOTS
from portal import programs
from portal.data.numbers import parquet

KONAK = ("35-izmir-2", "konak", "1001")


@pytest.fixture
def parquet_in_this_process() -> None:
    """Read in a process of its own here."""


@pytest.fixture
def file(site: PortalSite) -> Iterator[Path]:
    site.publish(result(KONAK), result(("34-istanbul-1", "kadikoy-2", "1002")))
    yield site.path / SNAPSHOTS / "00000001" / "mv.parquet"


def test_a_process_writes_places_numbers_and_reasons_of_a_file(file: Path) -> None:
    with parquet.open_columns(file, ["parti-a", "parti-b", "parti-c", "ortak"]) as reader:
        places = reader.places()
        own = [(c.name, c.values.tolist()) for c in reader.columns("oylar.")]
        numbers = {c.name: c.values.tolist() for c in reader.columns()}
        reasons = reader.reasons()

    assert [tuple(place) for place in places] == [
        ("34-istanbul-1", "kadikoy-2", ["1002"]),
        ("35-izmir-2", "konak", ["1001"]),
    ]
    assert own == [("oylar.bagimsiz-1", [7, 3]), ("oylar.bagimsiz-2", [0, 5])]
    assert numbers["oylar.parti-a"] == [109, 112]
    assert reasons == []


def test_a_process_writes_the_rows_that_satisfy_a_condition(file: Path) -> None:
    rows = list(parquet.lines(file, "kurul = 'konak'"))

    assert [(cevre, kurul) for cevre, kurul, _ in rows] == [("35-izmir-2", "konak")]
    assert b'"parti-a":112' in rows[0][2]


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mv.parquet").write_bytes(b"PAR1 damaged PAR1")

    with pytest.raises(OSError, match=r"cannot be read|has ended"):
        list(parquet.lines(tmp_path / "mv.parquet"))
    with (
        pytest.raises(OSError, match=r"cannot be read|has ended"),
        parquet.open_columns(tmp_path / "mv.parquet", []),
    ):
        pass


def shell(monkeypatch: pytest.MonkeyPatch, script: str) -> list[programs.Child]:
    """Let a shell script take the place of the process; return what is started."""
    started: list[programs.Child] = []

    def start(_: str, __: object, stdin: int, stdout: int) -> programs.Child:
        started.append(programs.Child(["/bin/sh", "-c", script], stdin=stdin, stdout=stdout))
        return started[-1]

    monkeypatch.setattr(programs, "start", start)
    monkeypatch.setattr(parquet, "_SILENT_SECONDS", 0.5)
    return started


def test_a_process_that_is_silent_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = shell(monkeypatch, "printf 'a\tb\t{}\n'; exec sleep 900")

    with pytest.raises(TimeoutError, match="is silent"):
        list(parquet.lines(tmp_path / "mv.parquet"))

    assert started[0].returncode == -signal.SIGKILL


def test_a_process_that_does_not_end_after_its_last_line_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = shell(monkeypatch, "printf 'a\tb\t{}\n'; exec sleep 900 >&-")

    with pytest.raises(TimeoutError, match="sleep"):
        list(parquet.lines(tmp_path / "mv.parquet"))

    assert started[0].returncode == -signal.SIGKILL


def test_the_process_does_not_import_sqlalchemy(file: Path) -> None:
    """Importing it takes longer than reading a file."""
    code = (
        "import io, sys; from portal.data.numbers import parquet;"
        f"parquet.write(['lines', {str(file)!r}, 'true'], io.BytesIO());"
        "print('sqlalchemy' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout

    assert printed == b"False\n"
