"""What the wall names as wrong, and only that."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import office
import pytest

from config import load
from config.settings import Settings
from keys.operations.publisher_state import PublisherState
from portal.staff.problems import problems
from publisher.status.figures import Figures
from publisher.status.health import DaemonHealth, Disk, LedgerHealth

NOW = datetime(2023, 5, 14, 18, 30, tzinfo=UTC)
FINE = Figures(
    NOW,
    {"oldest_seconds": 3.0, "gaps": 0},
    (),
    None,
    (),
    (Disk("/srv", 50 << 30, 100 << 30, 90, 100),),
    (LedgerHealth("transfer", 9, 9, 0.0),),
    (DaemonHealth("serve", 7, NOW, True), DaemonHealth("publish", 8, NOW, None)),
    PublisherState(8),
    3,
    "2023-05-14-cb-mv",
    NOW,
    NOW,
)
WRONG = {
    "SFTP sunucusu çalışmıyor.": {"daemons": (DaemonHealth("serve", None, None, False),)},
    "SFTP sunucusu çalışıyor ama bağlantı kabul etmiyor.": {
        "daemons": (DaemonHealth("serve", 7, NOW, False),)
    },
    "Yayıncı dün anından beri sayfa işlemiyor: disk full": {
        "publisher": PublisherState(8, halted=("disk full", "dün"))
    },
    "Tarama klasörlerinde okunamayan 2 dosya ya da klasör var.": {
        "publisher": PublisherState(8, trouble_count=2)
    },
    "En eski sayfa 30 dakikadır bekliyor.": {"counted": {"oldest_seconds": 1800.0, "gaps": 0}},
    "Parti ağaçlarında 4 bağlantı eksik: ssps verify": {
        "counted": {"oldest_seconds": None, "gaps": 4}
    },
    "/srv: diskte yer azaldı (%1 boş).": {"disks": (Disk("/srv", 50, 100, 1, 100),)},
    "filing kayıtları 21 saniyedir imzalanmıyor.": {
        "ledgers": (LedgerHealth("filing", 9, 2, 21.4),)
    },
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load.load(office.site(tmp_path / "site"))


def test_a_site_that_does_well_has_no_problem(settings: Settings) -> None:
    assert problems(FINE, settings) == []


@pytest.mark.parametrize("sentence", list(WRONG))
def test_what_is_wrong_is_named(settings: Settings, sentence: str) -> None:
    assert problems(replace(FINE, **WRONG[sentence]), settings) == [sentence]  # type: ignore[arg-type]
