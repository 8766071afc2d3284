"""A portal over a small election: parti-a sees everything, parti-b only Kadıköy 2."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import web_site
from unit.portal.portal_site import PortalSite

from keys.credentials.users import Role, User, Users
from portal.data.sites import Sites

LOGIN = base64.b64encode(f"parti-a.servis:{web_site.PASSWORD}".encode()).decode()
BASIC = {"authorization": f"Basic {LOGIN}"}
PARTIES_TOML = """\
[[party]]
id = "parti-a"
name = "A Partisi"
kind = "party"
scope = "all"
static_ips = ["127.0.0.1"]

[[party]]
id = "parti-b"
name = "B Partisi"
kind = "party"
scope = ["34-istanbul-1/kadikoy-2"]
static_ips = ["127.0.0.1"]
"""


@dataclass
class ServiceCalls:
    """Calls the web service of a portal in this process."""

    site: PortalSite
    portal: web_site.Portal
    auth: dict[str, tuple[str, str]] = field(default_factory=dict)

    def get(self, path: str, party: str = "parti-a", **options: Any) -> httpx.Response:
        """Call as the service user of a party."""
        options.setdefault("auth", (f"{party}.servis", web_site.PASSWORD))
        return self.portal.client().get(path, **options)

    def json(self, path: str, party: str = "parti-a", **options: Any) -> Any:
        answer = self.get(path, party, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refresh(self) -> None:
        """Have the portal look for something new."""
        self.portal.runner.run(self.sites.refresh())

    @property
    def sites(self) -> Sites:
        """The data that the portal serves."""
        found: Sites = self.portal.sites
        return found


@pytest.fixture
def calls(site: PortalSite) -> Iterator[ServiceCalls]:
    web_site.make(site.path, parties_toml=PARTIES_TOML)
    servis = User("servis", Role.SERVICE, (web_site.password(),))
    web_site.write_users(site.path, Users("parti-b", (servis,)))
    with web_site.running(site.path) as portal:
        yield ServiceCalls(site, portal)
