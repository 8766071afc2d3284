"""Answers a request with the function of a route that needs little of it, without FastAPI.

FastAPI finds the arguments of any function: in path, query, headers and body, and from classes and
generators. That takes a tenth of the time of a short call. Most functions of our routes take the
request, texts of its path, and with `Depends` what coroutine functions make of the request; their
arguments are found here in the same order, each once for a request. FastAPI serves the other
routes, and describes them all.
"""

import inspect
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple, get_type_hints

from fastapi import Request, Response, params
from fastapi.concurrency import run_in_threadpool

Function = Callable[..., Any]


class _Step(NamedTuple):
    """A function to be called, and which earlier result each parameter gets; 0 is the request."""

    function: Function
    arguments: tuple[tuple[str, int], ...]


class _NeedsMore(Exception):
    """A function takes something else."""


def direct(
    function: Function, in_path: Collection[str] = ()
) -> Callable[[Request], Awaitable[Response]] | None:
    """Return what answers a request with `function`, None if it takes or returns something else.

    `in_path` are the names in the path of its route. As with FastAPI, a function that is no
    coroutine function runs in a thread.
    """
    dependencies: dict[Function, _Step] = {}
    hints = get_type_hints(function, include_extras=True)  # a text with limits is no mere text
    texts = [name for name in in_path if hints.get(name) is str]
    try:
        last = _step(function, dependencies, texts)
    except _NeedsMore:
        return None
    if not _is_a(Response, hints.get("return")):
        return None
    steps, waits = tuple(dependencies.values()), inspect.iscoroutinefunction(function)

    async def answer(request: Request) -> Response:
        found: list[Any] = [request]
        for step in steps:
            found.append(await step.function(**{name: found[n] for name, n in step.arguments}))
        arguments = {name: found[n] for name, n in last.arguments}
        for name in texts:
            arguments[name] = request.path_params[name]
        made = function(**arguments) if waits else run_in_threadpool(function, **arguments)
        response: Response = await made
        return response

    return answer


def _step(
    function: Function, dependencies: dict[Function, _Step], without: Collection[str] = ()
) -> _Step:
    """Return the step for a function, `without` some parameters.

    The steps before it are added to `dependencies`.
    """
    arguments = []
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is not parameter.empty:
            raise _NeedsMore
        if name in without:
            continue
        if hints.get(name) is Request:
            arguments.append((name, 0))
            continue
        needed = _dependency(hints.get(name))
        if needed not in dependencies:
            dependencies[needed] = _step(needed, dependencies)
        arguments.append((name, list(dependencies).index(needed) + 1))
    return _Step(function, tuple(arguments))


def _dependency(hint: Any) -> Function:
    """Return the function that a parameter depends on."""
    match getattr(hint, "__metadata__", ()):
        case (params.Depends(dependency=function, use_cache=True, scope=None),):
            if inspect.isfunction(function) and inspect.iscoroutinefunction(function):
                return function
    raise _NeedsMore


def _is_a(kind: type, hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, kind)
