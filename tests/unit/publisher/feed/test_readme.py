from dataclasses import replace
from pathlib import Path

import office

from config import load, parallel
from publisher.feed import readme

GUIDE = Path(__file__).parents[4] / "docs" / "parties.md"


def test_the_parties_guide_and_the_readme_print_these_numbers(tmp_path: Path) -> None:
    settings = load.load(office.site(tmp_path / "site"))
    at_once = parallel.within(settings.sftp.max_sessions_per_party)
    few = replace(settings, sftp=replace(settings.sftp, max_sessions_per_party=6))
    printed = (
        f"mirror --parallel={at_once.lftp} / ",
        f"--transfers {at_once.transfers} --checkers {at_once.checkers} :sftp:/ ",
    )

    for text in (GUIDE.read_text(), readme.text(settings, settings.parties[0])):
        assert [words for words in printed if words not in text] == []
    assert "mirror --parallel=4 / " in readme.text(few, settings.parties[0])
