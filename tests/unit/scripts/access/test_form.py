from pathlib import Path

import pytest

from config.fault import Faults
from scripts.access import form

FORM = """\
party = "Çağrı ve Işık Partisi"
services = ["web", "sftp"]
static_ips = ["192.0.2.7"]
[contact]
name = "Bilgi Islem"
email = "bilgi@parti.example"
phones = ["+90 312 000 00 00", "0532 000 00 00"]
"""


def read(tmp_path: Path, text: str) -> form.Form:
    (tmp_path / "form.toml").write_text(text, encoding="utf-8")
    return form.read(tmp_path / "form.toml")


def test_a_form_becomes_what_parties_toml_says(tmp_path: Path) -> None:
    assert read(tmp_path, FORM).party == {
        "id": "cagri-ve-isik-partisi",
        "name": "Çağrı ve Işık Partisi",
        "kind": "party",
        "scope": "all",
        "static_ips": ["192.0.2.7"],
        "contact": {
            "name": "Bilgi Islem",
            "email": "bilgi@parti.example",
            "phone": "+90 312 000 00 00, 0532 000 00 00",
        },
    }


# 10000000146 is the number that every validator's tests use: its check digits are right.
@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('tc_kimlik_no = "1"', "contact.tc_kimlik_no"),
        ("tckn = 10000000146", "contact.tckn"),
        ('T_C_Kimlik = "x"', "contact.T_C_Kimlik"),
        ('name = "Ali 10000000146"', "contact.name"),
        ('name = "100 000 001 46"', "contact.name"),
        ('phones = ["10000000146"]', "contact.phones"),
        ('name = "100/000/001_46"', "contact.name"),
        ('name = "100\u00a0000  001-46"', "contact.name"),
        (
            'name = "\u0661\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661\u0664\u0666"',
            "contact.name",
        ),
        ('phones = ["10000000146 5320000000"]', "contact.phones"),
    ],
)
def test_a_kimlik_no_is_refused_wherever_it_stands_and_never_repeated(
    tmp_path: Path, line: str, key: str
) -> None:
    name = line.split(" ")[0]
    lines = [kept for kept in FORM.splitlines() if not kept.startswith(f"{name} =")]

    with pytest.raises(Faults) as caught:
        read(tmp_path, "\n".join([*lines, line]))

    assert f"form.toml: {key}: {form.NO_KIMLIK}" in str(caught.value)
    assert "10000000146" not in str(caught.value)


def test_eleven_digits_that_are_no_kimlik_no_are_a_telephone(tmp_path: Path) -> None:
    read(tmp_path, FORM.replace("0532 000 00 00", "90312000001"))


def test_an_address_is_none_though_its_digits_would_make_one(tmp_path: Path) -> None:
    asked = read(tmp_path, FORM.replace("192.0.2.7", "95.189.134.134"))
    assert asked.party["static_ips"] == ["95.189.134.134"]


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"web"', r'"\u001b]0;x\u0007"', "services"),
        ("Bilgi Islem", r"\u009b2JIslem", "contact.name"),
        ("Bilgi Islem", r"\u202emelsI", "contact.name"),
        ("bilgi@", r"bilgi\n@", "contact.email"),
        ("Partisi", r"\u001b[2J", "party"),
        ("[contact]", '"\\u001b[2J" = 1\n[contact]', r"\x1b[2J"),
    ],
)
def test_nothing_in_a_form_moves_the_operators_cursor(
    tmp_path: Path, old: str, new: str, key: str
) -> None:
    with pytest.raises(Faults) as caught:
        read(tmp_path, FORM.replace(old, new))
    (found,) = caught.value.faults
    assert str(found).startswith(f"form.toml: {key}: ")
    assert str(found).isprintable()


@pytest.mark.parametrize("text", ["x = " + "[" * 50_000, "# " + "a" * 70_000])
def test_a_form_that_is_none_is_a_fault(tmp_path: Path, text: str) -> None:
    with pytest.raises(Faults, match="is no form that can be read"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('services = ["web", "sftp"]', 'services = ["web"]', "services: does not ask for sftp"),
        ('services = ["web", "sftp"]', 'services = "sftp"', "services: write a list"),
        ('party = "Çağrı ve Işık Partisi"', 'party = "!"', "party: is no name"),
        ('party = "Çağrı ve Işık Partisi"\n', "", "party: is missing"),
        ('email = "bilgi@parti.example"', 'email = "parti"', "contact.email: is no e-mail"),
        ('email = "bilgi@parti.example"\n', "", "contact.email: is missing"),
        (
            'phones = ["+90 312 000 00 00", "0532 000 00 00"]',
            "phones = []",
            "contact.phones: write",
        ),
        ("[contact]", 'adres = "x"\n[contact]', "adres: nobody knows this key"),
        ("[contact]", "[contact", "is no form that can be read"),
    ],
)
def test_what_a_form_lacks_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(Faults) as caught:
        read(tmp_path, FORM.replace(old, new))
    assert f"form.toml: {said}" in str(caught.value)
