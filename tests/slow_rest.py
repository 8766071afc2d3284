"""Runs a few of a test's parameters in scripts/check, and all of them in scripts/test."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_rest(values: Iterable[Any], quick: int) -> list[Any]:
    """Mark all values but the first `quick` ones as slow."""
    found = [each if isinstance(each, tuple) else (each,) for each in values]
    return [
        pytest.param(*each, marks=() if number < quick else pytest.mark.slow)
        for number, each in enumerate(found)
    ]
