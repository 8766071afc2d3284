import pytest

from keys.credentials.passwords import Problem, problem


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ("yesil-kurbaga", None),
        ("123456789abc", None),
        ("kisa-parola", Problem.LENGTH),
        ("ab12-" * 205, Problem.LENGTH),
        ("ilk-parola-ab", Problem.REUSED),
        ("sifre-PARTI-A-1", Problem.REUSED),
        ("ababababababab", Problem.TOO_SIMPLE),
        ("\ufffd" * 3 + "yesil-kurbaga", Problem.NOT_TEXT),
    ],
)
def test_a_new_password_is_checked(new: str, expected: Problem | None) -> None:
    assert problem("parti-a", "ilk-parola-ab", new) is expected
