from collections.abc import Iterator

import pytest
import running_site
from running_site import RunningSite


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """A running site with a small election, all of it filed. Tests must only read from it."""
    with running_site.running_rehearsal(tmp_path_factory.mktemp("rehearsal")) as found:
        found.scan()
        yield found
