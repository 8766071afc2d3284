"""A stream ends with the session, and does not keep the session from its end."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from portal.access import event_stream
from portal.access.gate import Refusal
from portal.access.limits import MAX_OPEN, Limits
from portal.access.sessions import Lifetimes, Sessions, Stage

NEWS = "event: durum\ndata: 1\n\n"


class Site:
    """One user with an open page; each look of its stream takes a minute."""

    def __init__(self, folder: Path) -> None:
        self.now, self.looks = datetime(2023, 5, 14, 18, 0, tzinfo=UTC), 0
        lifetimes = Lifetimes(timedelta(minutes=30), timedelta(hours=12))
        self.sessions = Sessions(folder / "s.sqlite", lambda: self.now, lambda: lifetimes)
        self.token, _ = self.sessions.begin("parti-a", "ayse", "c", "", Stage.FULL)
        self.admitted, self.stopping, self.in_step = True, asyncio.Event(), True
        self.news: list[str] = []
        self.limits = Limits()

    def still_admitted(self, who: object) -> bool:
        return self.admitted

    def knows_the_others(self) -> bool:
        return self.in_step

    def at_look(self, number: int) -> None:
        """Do something in the meantime."""

    async def look(self) -> list[str]:
        self.now += timedelta(minutes=1)
        self.looks += 1
        assert self.looks < 1000, "the stream does not end"
        self.at_look(self.looks)
        return self.news

    def stream(self, *, keeps_session: bool = False) -> list[str]:
        """Return what the stream sends until it ends."""
        app = SimpleNamespace(state=SimpleNamespace(entrance=self))
        request: Any = SimpleNamespace(app=app, state=SimpleNamespace(token=self.token))
        who: Any = SimpleNamespace(login="parti-a.ayse")
        answer: Any = event_stream.stream(request, who, self.look, keeps_session=keeps_session)
        return asyncio.run(read(answer))


async def read(answer: Any) -> list[str]:
    return [part async for part in answer.body_iterator]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.sessions.close()


def test_an_open_page_alone_does_not_keep_a_session(site: Site) -> None:
    sent = site.stream()

    assert site.looks == 30  # minutes
    assert sent == ["retry: 3000\n\n", ": \n\n", ": \n\n"]


def test_a_page_that_keeps_its_session_ends_with_its_longest_lifetime(site: Site) -> None:
    site.stream(keeps_session=True)

    assert site.looks == 12 * 60


def test_requests_keep_it_and_its_stream(site: Site) -> None:
    def ask(number: int) -> None:
        if number == 20:
            assert site.sessions.find(site.token) is not None

    site.at_look = ask  # type: ignore[method-assign]
    site.stream()

    assert site.looks == 50


@pytest.mark.parametrize(
    "what", ["log out", "is excluded", "does not know the other portals", "stops"]
)
def test_nothing_is_sent_after_the_end(site: Site, what: str) -> None:
    site.news = [NEWS]

    def end(number: int) -> None:
        if number == 3:
            match what:
                case "log out":
                    site.sessions.end(site.token)
                case "is excluded":
                    site.admitted = False
                case "does not know the other portals":
                    site.in_step = False
                case "stops":
                    site.stopping.set()

    site.at_look = end  # type: ignore[method-assign]

    assert site.stream() == ["retry: 3000\n\n", NEWS, NEWS]
    assert site.looks == 3


def test_a_user_has_only_some_streams_at_a_time(site: Site) -> None:
    app = SimpleNamespace(state=SimpleNamespace(entrance=site))
    request: Any = SimpleNamespace(app=app, state=SimpleNamespace(token=site.token))
    ayse: Any = SimpleNamespace(login="parti-a.ayse")
    other: Any = SimpleNamespace(login="parti-b.banu")

    def opened(who: Any) -> Any:
        answer: Any = event_stream.stream(request, who, site.look)
        return answer.body_iterator

    async def run() -> None:
        late = [opened(ayse) for _ in range(3)]  # asked for before the others are open
        open_ = [opened(ayse) for _ in range(MAX_OPEN)]
        assert [await anext(each) for each in open_] == ["retry: 3000\n\n"] * MAX_OPEN
        with pytest.raises(Refusal) as refused:
            opened(ayse)
        assert (refused.value.status_code, refused.value.headers) == (429, {"Retry-After": "60"})
        assert await anext(opened(other)) == "retry: 3000\n\n"
        assert [await anext(each, "ended") for each in late] == ["ended"] * 3
        await open_[0].aclose()
        assert await anext(opened(ayse)) == "retry: 3000\n\n"

    asyncio.run(run())
