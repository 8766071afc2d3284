from scripts.rehearsal.seeded_random import seeded_rng


def test_the_same_name_throws_the_same_in_every_process() -> None:
    # Literal, since a hash that differs between processes would pass any comparison in one.
    assert seeded_rng(1, "print", "1093717526").randrange(10**9) == 30580314
