from pathlib import Path

import pytest

from config.fault import Faults
from keys.access_requests import form

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


def test_a_form_becomes_an_entry_of_parties_toml(tmp_path: Path) -> None:
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
def test_an_identity_number_is_refused_in_every_field_and_never_printed(
    tmp_path: Path, line: str, key: str
) -> None:
    name = line.split(" ")[0]
    lines = [kept for kept in FORM.splitlines() if not kept.startswith(f"{name} =")]

    with pytest.raises(Faults) as caught:
        read(tmp_path, "\n".join([*lines, line]))

    assert f"form.toml: {key}: {form.NO_KIMLIK}" in str(caught.value)
    assert "10000000146" not in str(caught.value)


def test_eleven_digits_with_wrong_check_digits_are_accepted(tmp_path: Path) -> None:
    read(tmp_path, FORM.replace("0532 000 00 00", "90312000001"))


def test_an_address_is_not_taken_for_an_identity_number(tmp_path: Path) -> None:
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
def test_control_characters_in_a_form_are_refused(
    tmp_path: Path, old: str, new: str, key: str
) -> None:
    with pytest.raises(Faults) as caught:
        read(tmp_path, FORM.replace(old, new))
    (found,) = caught.value.faults
    assert str(found).startswith(f"form.toml: {key}: ")
    assert str(found).isprintable()


@pytest.mark.parametrize("text", ["x = " + "[" * 50_000, "# " + "a" * 70_000])
def test_a_file_that_is_not_a_form_is_a_fault(tmp_path: Path, text: str) -> None:
    with pytest.raises(Faults, match="cannot be read as a form"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('services = ["web", "sftp"]', 'services = ["ftp"]', "services: unknown: 'ftp'"),
        ('services = ["web", "sftp"]', 'services = "sftp"', "services: write a list"),
        ('services = ["web", "sftp"]', "services = 5\n[[user]]", "services: write a list"),
        ('services = ["web", "sftp"]', "services = 5\n[[key]]", "services: write a list"),
        ('static_ips = ["192.0.2.7"]', "static_ips = 7", "static_ips: write a list, such as"),
        ('static_ips = ["192.0.2.7"]', "static_ips = [7]", "static_ips: write a list, such as"),
        ('party = "Çağrı ve Işık Partisi"', 'party = "!"', "party: not a name"),
        ('party = "Çağrı ve Işık Partisi"\n', "", "party: is missing"),
        ('email = "bilgi@parti.example"', 'email = "parti"', "contact.email: not an e-mail"),
        ('email = "bilgi@parti.example"\n', "", "contact.email: is missing"),
        (
            'phones = ["+90 312 000 00 00", "0532 000 00 00"]',
            "phones = []",
            "contact.phones: write",
        ),
        ("[contact]", 'adres = "x"\n[contact]', "adres: unknown key"),
        ("[contact]", "[contact", "cannot be read as a form"),
    ],
)
def test_each_fault_of_a_form_is_named_with_its_key(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(Faults) as caught:
        read(tmp_path, FORM.replace(old, new))
    assert f"form.toml: {said}" in str(caught.value)


USERS = """\
[[user]]
name = "ayse"
contact = true
[[user]]
name = "mehmet"
"""


def test_a_form_names_the_users_of_the_web_site_and_the_web_service(tmp_path: Path) -> None:
    text = FORM.replace('["web", "sftp"]', '["web", "sftp", "service"]')

    assert read(tmp_path, text + USERS).users == (
        ("ayse", "representative"),
        ("mehmet", "web"),
        ("servis", "service"),
    )
    assert read(tmp_path, FORM + USERS).users == (("ayse", "representative"), ("mehmet", "web"))
    assert read(tmp_path, FORM).users == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("contact = true", "", "user: mark one user with contact = true (Genelge md. 4/b-6)"),
        ('"mehmet"', '"ayse"', "user[1].name: 'ayse' is taken"),
        ('"mehmet"', '"Mehmet Y."', "user[2].name: 'Mehmet Y.' is not a user name"),
        ('"mehmet"', '"servis"', "user[2].name: 'servis' is taken"),
        ('name = "mehmet"', "", "user[2].name: is missing"),
        ('"mehmet"', '"10000000146"', "user.name: a T.C. kimlik no must not be here"),
        ('"mehmet"', '"m"\nrole = "x"', "user[2].role: unknown key"),
        ('"mehmet"', '"m"\ntc_no = 1', "user.tc_no: a T.C. kimlik no must not be here"),
        ('["web", "sftp"]', '["sftp"]', 'user: the web site is not requested: add "web"'),
    ],
)
def test_a_wrong_user_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(Faults) as caught:
        read(tmp_path, (FORM + USERS).replace(old, new))

    assert any(said in str(fault) for fault in caught.value.faults), caught.value


def test_more_than_ten_web_users_are_refused(tmp_path: Path) -> None:
    many = "".join(f'[[user]]\nname = "u{n}"\n' for n in range(10))
    with pytest.raises(Faults, match="11 users, at most 10"):
        read(tmp_path, FORM + many + '[[user]]\nname = "ayse"\ncontact = true\n')
