"""Chance that repeats: the same seed and the same names give the same throws, in any order.

Whatever is drawn takes dice of its own, named after what it is for (`dice(seed, "print",
karekod)`), so that a page comes out the same however many others were made before it.
"""

import random


def seeded_rng(seed: int, *names: str | int) -> random.Random:
    """Return the dice of that name."""
    # A string seeds by its SHA-512 digest, which no PYTHONHASHSEED changes.
    return random.Random("/".join(map(str, (seed, *names))))  # noqa: S311 - no secret in it
