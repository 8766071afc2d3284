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


def test_setting_a_key_changes_only_its_line() -> None:
    assert amend.set_party_key(FILE, "parti-a", "name", "Yeni") == FILE.replace("A Partisi", "Yeni")
    assert amend.set_party_key(FILE, "parti-b", "suspended", None) == FILE.replace(
        "suspended = true\n", ""
    )


def test_a_new_key_comes_before_the_comment_about_the_next_party() -> None:
    assert amend.set_party_key(FILE, "parti-a", "suspended", True) == FILE.replace(
        "]\n\n# the second", "]\nsuspended = true\n\n# the second"
    )


def test_an_added_party_comes_last() -> None:
    new = {"id": "parti-c", "static_ips": ["192.0.2.9"], "contact": {"name": "Ç"}}

    after = amend.add_party(FILE, new)

    assert after.startswith(FILE)
    assert tomllib.loads(after)["party"] == [*tomllib.loads(FILE)["party"], new]
    assert tomllib.loads(amend.add_party("", new))["party"] == [new]


@pytest.mark.parametrize("number", [0, 1])
def test_removing_a_party_keeps_the_others_and_their_comments(number: int) -> None:
    gone = ("parti-a", "parti-b")[number]

    after = amend.remove_party(FILE, gone)

    left = tomllib.loads(FILE)["party"]
    del left[number]
    assert tomllib.loads(after)["party"] == left
    assert after.startswith("# Who receives. Edited by hand since 2019.\n")
    assert "# the second came late\n" in after


def test_a_missing_or_ambiguous_party_is_refused() -> None:
    with pytest.raises(ValueError, match="not have exactly one party 'parti-z'"):
        amend.remove_party(FILE, "parti-z")
    with pytest.raises(ValueError, match="not have exactly one party 'parti-a'"):
        amend.set_party_key(FILE + FILE[FILE.index("[[party]]") :], "parti-a", "name", "x")
    inline = 'party = [{ id = "parti-a" }]\n'
    with pytest.raises(ValueError, match="by hand"):
        amend.set_party_key(inline, "parti-a", "name", "x")


def test_a_header_inside_a_string_is_not_a_header() -> None:
    text = FILE.replace('name = "A Partisi"', 'name = """\n[[party]]\n"""')
    with pytest.raises(ValueError, match="remove it by hand"):
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


def test_a_contact_table_belongs_to_its_party() -> None:
    suspended = tomllib.loads(amend.set_party_key(SPREAD, "parti-a", "suspended", True))["party"]
    assert suspended[0] == {
        "id": "parti-a",
        "name": "A Partisi",
        "suspended": True,
        "contact": {"name": "Deneme"},
    }
    assert amend.remove_party(SPREAD, "parti-a") == '\n[[party]]\nid = "parti-b"\n'
