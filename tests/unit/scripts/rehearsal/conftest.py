from datetime import UTC, datetime

import pytest

from config.election import Election
from config.registry import RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet


@pytest.fixture(scope="session")
def election() -> Election:
    return Election("prova-cb-mv", "14 Mayıs 2023 Seçimi", datetime(2023, 5, 14, 14, tzinfo=UTC))


@pytest.fixture(scope="session")
def entry() -> RegistryEntry:
    """A presidential result sheet, whose karekod starts with 0."""
    sheet = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "merkez-2", "1001", 1)
    return RegistryEntry("0093717526", sheet, SandikTuru.NORMAL, "Çınarova Mahallesi")
