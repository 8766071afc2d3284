from collections.abc import Iterator

import night
import pytest
from night import Night


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """A night in which a whole small election has been scanned and filed; only read from it."""
    with night.night(tmp_path_factory.mktemp("rehearsal")) as found:
        found.scan()
        yield found
