from collections.abc import Iterator
from pathlib import Path

import pytest
import staff_site
from staff_site import Staff


@pytest.fixture
def staff(tmp_path: Path) -> Iterator[Staff]:
    with staff_site.running(staff_site.make(tmp_path / "site")) as found:
        yield found
