"""Answers a request with the function of a route that needs only the request, without FastAPI.

FastAPI finds the arguments of any function: in path, query, headers and body, and from classes and
generators. That takes a tenth of the time of a short call. Most functions of our routes take the
request, and with `Depends` what coroutine functions make of it; their arguments are found here in
the same order, each once for a request. FastAPI serves the other routes, and describes them all.
"""

import inspect
from collections.abc import Awaitable, Callable
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


def direct(function: Function) -> Callable[[Request], Awaitable[Response]] | None:
    """Return what answers a request with `function`, None if it takes or returns something else.

    As with FastAPI, a function that is no coroutine function runs in a thread.
    """
    dependencies: dict[Function, _Step] = {}
    try:
        last = _step(function, dependencies)
    except _NeedsMore:
        return None
    if not _is_a(Response, get_type_hints(function).get("return")):
        return None
    steps, waits = tuple(dependencies.values()), inspect.iscoroutinefunction(function)

    async def answer(request: Request) -> Response:
        found: list[Any] = [request]
        for step in steps:
            found.append(await step.function(**{name: found[n] for name, n in step.arguments}))
        arguments = {name: found[n] for name, n in last.arguments}
        made = function(**arguments) if waits else run_in_threadpool(function, **arguments)
        response: Response = await made
        return response

    return answer


def _step(function: Function, dependencies: dict[Function, _Step]) -> _Step:
    """Return the step for a function; those before it are added to `dependencies`."""
    arguments = []
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is not parameter.empty:
            raise _NeedsMore
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
