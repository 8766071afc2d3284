from pathlib import Path

import pytest
from unit.portal.portal_site import PortalSite


@pytest.fixture
def site(tmp_path: Path) -> PortalSite:
    return PortalSite(tmp_path / "site")
