from collections.abc import Iterator
from pathlib import Path

import pytest
import web_site
from unit.portal.portal_site import PortalSite
from web_site import Portal


@pytest.fixture
def site(tmp_path: Path) -> PortalSite:
    return PortalSite(tmp_path / "site")


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    with web_site.running(web_site.make(tmp_path / "site")) as found:
        yield found
