from datetime import datetime, timedelta
from pathlib import Path

from config.election import Election, Rehearsal
from sftpd.access.banner import banner

OPENS = datetime.fromisoformat("2023-05-14T17:00:00+03:00")
WEEK, DAY = timedelta(days=7), timedelta(days=1)
ELECTION = Election("2023-05-14-cb-mv", "Secim", OPENS)
REHEARSALS = (
    Rehearsal("prova-2", "Prova", OPENS - DAY, OPENS, Path("/prova-2")),
    Rehearsal("prova-1", "Prova", OPENS - WEEK, OPENS - WEEK + DAY, Path("/prova-1")),
)


def test_the_banner_gives_the_opening_in_the_election_s_own_time_zone() -> None:
    text = banner(ELECTION)

    assert text == (
        "Erisim 2023-05-14T17:00:00+03:00 itibariyla acilacaktir.\r\n"
        "Access opens at 2023-05-14T17:00:00+03:00.\r\n"
    )
    assert text.isascii()


def test_the_banner_names_the_next_rehearsal_too() -> None:
    text = banner(ELECTION, REHEARSALS, OPENS - WEEK - DAY)

    assert text.startswith("Prova 2023-05-07T17:00:00+03:00 - 2023-05-08T17:00:00+03:00.\r\n")


def test_a_rehearsal_that_has_begun_is_not_named() -> None:
    assert banner(ELECTION, REHEARSALS, OPENS) == banner(ELECTION)
