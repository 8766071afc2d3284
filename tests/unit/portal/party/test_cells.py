"""What cells of several pages show."""

from portal.party.cells import in_ballot_order


def test_what_changed_is_in_the_order_of_the_form_and_then_of_the_ballot() -> None:
    changed = [
        ("secmen", 1, 2),
        ("gecerli", 1, 2),
        ("oylar.ortak-1", 1, 2),
        ("oylar.parti-1", 1, 2),
        ("oylar.parti-10", 1, 2),
        ("oylar.parti-2", 1, 2),
        ("oylar.silinen", 1, None),
    ]
    options = ("parti-1", "parti-2", "parti-10", "ortak-1")

    found = [name for name, *_ in in_ballot_order(changed, options)]

    assert found == [
        "secmen",
        "gecerli",
        "oylar.parti-1",
        "oylar.parti-2",
        "oylar.parti-10",
        "oylar.ortak-1",
        "oylar.silinen",
    ]
