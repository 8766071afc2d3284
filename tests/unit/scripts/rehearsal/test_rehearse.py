"""`ssps rehearse`: what its commands print as JSON."""

import json
from pathlib import Path

import click
import pytest
from office import Ssps

from scripts.rehearsal import options
from scripts.ssps import main


@pytest.mark.slow
def test_init_and_scan_print_one_json_object_of_what_they_did(tmp_path: Path, ssps: Ssps) -> None:
    site = tmp_path / "prova"

    made = ssps("rehearse", "init", site, "--boxes", 4, "--parties", 2, "--json")
    scanned = ssps("rehearse", "scan", "--count", 2, "--json", "--site", site)
    delivered = list((site / "results").iterdir())
    more = ssps("rehearse", "scan", "--count", 1, "--no-results", "--json", "--site", site)

    found = json.loads(made.stdout)
    assert (found["site"], found["boxes"], found["parties"]) == (str(site), 4, 2)
    assert found["sheets"] > 4
    assert f"ssps run --site {site} &" in found["next"]
    intake = site / "intake"
    assert json.loads(scanned.stdout) == {"pages": 2, "results": 2, "folder": str(intake)}
    assert len(list(intake.iterdir())) == 3
    assert (site / "ballot.csv").exists()
    assert sum(len(batch.read_bytes().splitlines()) for batch in delivered) == 2
    assert json.loads(more.stdout) == {"pages": 1, "results": 0, "folder": str(intake)}
    assert list((site / "results").iterdir()) == delivered


@pytest.mark.parametrize(("given", "file"), [(["--json"], "-"), (["--json", "night"], "night")])
def test_the_json_of_a_night_is_printed_unless_a_file_is_named(given: list[str], file: str) -> None:
    top = click.Context(main, **main.context_settings)
    group = main.get_command(top, "rehearse")
    assert isinstance(group, click.Group)

    context = group.commands["national"].make_context("national", ["DIR", *given], top)

    assert context.params["file"] == Path(file)


def test_a_report_is_printed_as_json_in_place_of_its_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, code in ((Path("-"), 1), (tmp_path / "report.json", 0)):
        with pytest.raises(SystemExit) as ended:
            options.finish({"ok": not code, "pages": "real"}, file)
        assert ended.value.code == code

    printed, text = capsys.readouterr().out.split("\n", 1)
    assert json.loads(printed) == {"ok": False, "pages": "real"}
    assert "{" not in text
    assert json.loads((tmp_path / "report.json").read_text()) == {"ok": True, "pages": "real"}
