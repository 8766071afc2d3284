"""Which functions of routes are called without FastAPI's help, and with what."""

import asyncio
import threading
from typing import Annotated, Any

import pytest
from fastapi import Depends, Request, Response

from portal.access.direct import direct
from portal.party.pages import box, home, search
from portal.service import result_calls, snapshot_calls

REQUEST = Request({"type": "http"})


def answer(function: Any, **path: str) -> bytes:
    """Return what the function answers to a request with these texts in its path."""
    answered = direct(function, path)
    assert answered is not None
    request = Request({**REQUEST.scope, "path_params": path})
    return bytes(asyncio.run(answered(request)).body)  # type: ignore[arg-type]


def test_what_functions_depend_on_is_made_once_and_in_order() -> None:
    made = []

    async def first(request: Request) -> str:
        made.append("first")
        return f"first of {request.scope['type']}"

    async def second(before: Annotated[str, Depends(first)]) -> str:
        made.append("second")
        return f"second after {before}"

    async def third(one: Annotated[str, Depends(first)]) -> str:
        made.append("third")
        return f"third after {one}"

    async def route(
        two: Annotated[str, Depends(second)],
        request: Request,
        three: Annotated[str, Depends(third)],
        one: Annotated[str, Depends(first)],
    ) -> Response:
        return Response("; ".join((one, two, three, request.scope["type"])))

    found = answer(route)

    assert found == b"first of http; second after first of http; third after first of http; http"
    assert made == ["first", "second", "third"]
    assert answer(route) == found
    assert made == ["first", "second", "third"] * 2


def test_a_function_that_is_no_coroutine_runs_in_a_thread() -> None:
    def route(request: Request) -> Response:
        return Response(str(threading.current_thread() is threading.main_thread()))

    assert answer(route) == b"False"


def test_what_is_refused_reaches_the_caller_and_ends_the_request() -> None:
    async def refused(request: Request) -> str:
        raise PermissionError("no")

    async def route(word: Annotated[str, Depends(refused)]) -> Response:
        raise AssertionError("called")

    with pytest.raises(PermissionError):
        answer(route)


async def _word(request: Request) -> str:
    return "word"


def _in_thread(request: Request) -> str:
    return "word"


async def _with_number(request: Request, number: int) -> str:
    return "word"


class _Made:
    def __init__(self, request: Request) -> None: ...


async def from_path(request: Request, number: int) -> Response:
    return Response()


async def with_default(request: Request, word: str = "") -> Response:
    return Response()


async def of_a_dict(request: Request) -> dict[str, str]:
    return {}


async def each_time(word: Annotated[str, Depends(_word, use_cache=False)]) -> Response:
    return Response()


async def from_a_thread(word: Annotated[str, Depends(_in_thread)]) -> Response:
    return Response()


async def from_below(word: Annotated[str, Depends(_with_number)]) -> Response:
    return Response()


async def of_a_class(made: Annotated[_Made, Depends(_Made)]) -> Response:
    return Response()


@pytest.mark.parametrize(
    "route",
    [from_path, with_default, of_a_dict, each_time, from_a_thread, from_below, of_a_class],
)
def test_fastapi_serves_what_takes_or_returns_something_else(route: Any) -> None:
    assert direct(route) is None


def test_texts_of_the_path_are_passed_to_the_function() -> None:
    async def route(cevre: str, request: Request, kurul: str) -> Response:
        return Response(f"{cevre} {kurul}")

    path = {"kurul": "kadikoy-1", "cevre": "34-istanbul-1", "other": "x"}

    assert answer(route, **path) == b"34-istanbul-1 kadikoy-1"
    assert direct(from_path, ("number",)) is direct(route, ("cevre",)) is None


def test_the_calls_and_pages_that_are_asked_for_most_need_nothing_else() -> None:
    calls = (result_calls.results, result_calls.summary, snapshot_calls.latest_snapshot)
    assert all(direct(route) for route in (*calls, home.home, search.search))
    place = ("cevre", "kurul", "sandik")
    assert direct(box.box, place) and direct(box.picture, ("path",))


def test_fastapi_checks_the_limits_of_a_text_of_the_path() -> None:
    assert direct(result_calls.box, ("cevre", "kurul", "sandik")) is None
