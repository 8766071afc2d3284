"""Makes random number generators that repeat: the same seed and names give the same numbers.

Each thing that is drawn uses its own generator, named after its purpose, for example
`seeded_rng(seed, "sheet", karekod)`. So a page comes out the same no matter how many other pages
were made before it.
"""

import random


def seeded_rng(seed: int, *names: str | int) -> random.Random:
    """Return the generator of this name."""
    # Random seeds itself with the SHA-512 of a string, which does not depend on PYTHONHASHSEED.
    return random.Random("/".join(map(str, (seed, *names))))  # noqa: S311 - no secret in it
