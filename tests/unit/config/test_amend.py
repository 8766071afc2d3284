import tomllib

import pytest

from config import amend

FILE = """\
# Who receives. Edited by hand since 2019.

[[party]]
id = "parti-a"   # the first
name = "A Partisi"
static_ips = [
  "192.0.2.1",   # their office
]

# the second came late
[[party]]
id = "parti-b"
name = "B Partisi"
suspended = true
contact = { name = "Deneme" }  # new phone soon
"""


def test_a_key_that_is_set_changes_its_line_alone() -> None:
    assert amend.set_party_key(FILE, "parti-a", "name", "Yeni") == FILE.replace("A Partisi", "Yeni")
    assert amend.set_party_key(FILE, "parti-b", "suspended", None) == FILE.replace(
        "suspended = true\n", ""
    )


def test_a_key_that_is_new_stands_with_its_party_and_above_what_is_about_the_next() -> None:
    assert amend.set_party_key(FILE, "parti-a", "suspended", True) == FILE.replace(
        "]\n\n# the second", "]\nsuspended = true\n\n# the second"
    )


def test_a_party_that_is_added_comes_last_and_all_before_it_stays() -> None:
    new = {"id": "parti-c", "static_ips": ["192.0.2.9"], "contact": {"name": "Ç"}}

    after = amend.add_party(FILE, new)

    assert after.startswith(FILE)
    assert tomllib.loads(after)["party"] == [*tomllib.loads(FILE)["party"], new]
    assert tomllib.loads(amend.add_party("", new))["party"] == [new]


@pytest.mark.parametrize("number", [0, 1])
def test_a_party_that_is_removed_leaves_the_others_and_their_comments(number: int) -> None:
    gone = ("parti-a", "parti-b")[number]

    after = amend.remove_party(FILE, gone)

    left = tomllib.loads(FILE)["party"]
    del left[number]
    assert tomllib.loads(after)["party"] == left
    assert after.startswith("# Who receives. Edited by hand since 2019.\n")
    assert "# the second came late\n" in after


def test_who_is_not_there_or_cannot_be_told_apart_is_left_alone() -> None:
    with pytest.raises(ValueError, match="no one party 'parti-z'"):
        amend.remove_party(FILE, "parti-z")
    with pytest.raises(ValueError, match="no one party 'parti-a'"):
        amend.set_party_key(FILE + FILE[FILE.index("[[party]]") :], "parti-a", "name", "x")
    inline = 'party = [{ id = "parti-a" }]\n'
    with pytest.raises(ValueError, match="by hand"):
        amend.set_party_key(inline, "parti-a", "name", "x")


def test_a_header_inside_a_text_is_no_header() -> None:
    text = FILE.replace('name = "A Partisi"', 'name = """\n[[party]]\n"""')
    with pytest.raises(ValueError, match="take it out by hand"):
        amend.remove_party(text, "parti-b")


SPREAD = """\
[[party]]
id = "parti-a"
name = "A Partisi"

[party.contact]
name = "Deneme"

[[party]]
id = "parti-b"
"""


def test_a_contact_under_a_header_of_its_own_is_a_part_of_its_party() -> None:
    suspended = tomllib.loads(amend.set_party_key(SPREAD, "parti-a", "suspended", True))["party"]
    assert suspended[0] == {
        "id": "parti-a",
        "name": "A Partisi",
        "suspended": True,
        "contact": {"name": "Deneme"},
    }
    assert amend.remove_party(SPREAD, "parti-a") == '\n[[party]]\nid = "parti-b"\n'
