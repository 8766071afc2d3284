from scripts.rehearsal.synthetic.seeded_random import seeded_rng


def test_a_name_gives_the_same_numbers_in_every_process() -> None:
    # A literal: a hash that differs between processes would pass a comparison within one process.
    assert seeded_rng(1, "print", "1093717526").randrange(10**9) == 30580314
