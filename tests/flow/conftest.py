"""A rehearsal's web site and a browser, for the tests that look at it as its users do."""

from collections.abc import Iterator

import pytest
import web_browser
from playwright.sync_api import Browser, BrowserContext
from running_site import RunningSite


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """A small election with a portal, all of it filed and counted."""
    with web_browser.counted_night(tmp_path_factory.mktemp("web")) as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with web_browser.chromium_browser() as found:
        yield found


@pytest.fixture
def context(night: RunningSite, chromium: Browser) -> Iterator[BrowserContext]:
    """A browser without cookies. The test's authority is in no store of the system."""
    made = chromium.new_context(
        base_url=web_browser.kit(night)["site"],
        ignore_https_errors=True,
        accept_downloads=True,
        locale="tr-TR",
    )
    made.set_default_timeout(60_000)
    yield made
    made.close()
