import pytest

from config import ballot
from config.ballot import Ballot, Tur
from config.fault import Faults
from config.sheet import Secim

HEADER = "secim,cevre,sira,secenek,tur,ad,ittifak"


def read(*rows: str) -> Ballot:
    text = "\n".join((HEADER, *rows)) + "\n"
    return ballot.read("ballot.csv", text.splitlines(keepends=True), text.encode())


def faults(*rows: str) -> list[str]:
    with pytest.raises(Faults) as caught:
        read(*rows)
    return [str(fault) for fault in caught.value.faults]


def test_a_district_has_the_common_options_and_its_own_in_ballot_order() -> None:
    found = read(
        "mv,,3,parti-b,parti,B Partisi,",
        "mv,,1,parti-a,parti,A Partisi,",
        "mv,34-istanbul-1,2,bagimsiz-1,bagimsiz,Ayşe Örnek,",
    )

    here = found.options(Secim.MV, "34-istanbul-1")
    elsewhere = found.options(Secim.MV, "01-adana")

    assert [option.id for option in here] == ["parti-a", "bagimsiz-1", "parti-b"]
    assert [option.id for option in elsewhere] == ["parti-a", "parti-b"]
    assert found.options(Secim.CB, "01-adana") == ()


@pytest.mark.parametrize(("named", "own"), [("ortak", ""), ("cumhur", "cumhur")])
def test_a_party_names_its_alliance_by_the_id_or_the_name_of_the_alliance_row(
    named: str, own: str
) -> None:
    found = read(
        f"mv,,1,parti-a,parti,A Partisi,{named}",
        "mv,,2,parti-b,parti,B Partisi,",
        f"mv,,3,ortak,ittifak,ORTAK İTTİFAKI,{own}",
    )

    members = found.alliances(Secim.MV, "01-adana")

    assert {name: [option.id for option in group] for name, group in members.items()} == {
        "ortak": ["parti-a"]
    }
    joint = found.options(Secim.MV, "01-adana")[2]
    assert (joint.tur, joint.ittifak) == (Tur.ITTIFAK, "ortak")


def test_an_alliance_that_no_row_states_is_named() -> None:
    found = read(
        "mv,,1,parti-a,parti,A Partisi,ortak",
        "mv,,2,parti-b,parti,B Partisi,otrak",
        "mv,,3,ortak,ittifak,ORTAK İTTİFAKI,",
    )

    assert found.alliances_without_joint_votes() == ((Secim.MV, "otrak"),)


def test_alliances_without_a_title_are_numbered_if_there_are_several() -> None:
    one = read("mv,,3,ortak,ittifak,,")
    several = read("mv,,9,ortak-a,ittifak,,", "mv,,3,ortak-b,ittifak,,", "mv,,4,o,ittifak,MİLLET,")

    assert [option.ad for option in one.options(Secim.MV, "01-adana")] == ["İTTİFAK"]
    assert [option.ad for option in several.options(Secim.MV, "01-adana")] == [
        "İTTİFAK 1",
        "MİLLET",
        "İTTİFAK 2",
    ]


def test_every_fault_of_every_row_is_named_with_its_line() -> None:
    assert faults(
        "xx,99-ankara-1,0,parti a,kisi,,",
        "cb,,1,aday-1,aday,Birinci Aday,ortak",
    ) == [
        "ballot.csv: line 2: secim: 'xx', write one of cb, mv, bb, b, bm, ig, mh; "
        "cevre: '99-ankara-1' is not a district, write one such as 06-ankara-1; "
        "sira: '0', write the place on the ballot, from 1; "
        "tur: 'kisi', write one of parti, aday, bagimsiz, ittifak; "
        "secenek: 'parti a', write ASCII letters, digits and single dashes, at most 32, "
        "such as parti-a; ad: '', write the name in UTF-8",
        "ballot.csv: line 3: ittifak: 'ortak', only a party belongs to an alliance: leave it empty",
    ]


def test_a_district_may_repeat_no_place_and_no_option_of_the_common_ballot() -> None:
    assert faults(
        "mv,34-istanbul-1,1,PARTI-A,parti,Başka Parti,",
        "mv,,1,parti-a,parti,A Partisi,",
    ) == [
        "ballot.csv: line 2: sira: '1' is also in line 3, keep one",
        "ballot.csv: line 2: secenek: 'parti-a' is also in line 3, keep one",
    ]


def test_two_districts_may_use_the_same_place_and_id() -> None:
    found = read(
        "mv,34-istanbul-1,1,bagimsiz-1,bagimsiz,Ayşe Örnek,",
        "mv,34-istanbul-2,1,bagimsiz-1,bagimsiz,Ali Örnek,",
    )

    assert found.options(Secim.MV, "34-istanbul-2")[0].ad == "Ali Örnek"


def test_a_wrong_header_and_an_empty_ballot_are_refused() -> None:
    with pytest.raises(Faults, match="write the header secim,cevre,sira"):
        ballot.read("ballot.csv", ["secim;cevre\n"], b"")
    assert faults() == ["ballot.csv: has no option, so no result could be taken in"]


def test_at_most_a_hundred_faults_are_named() -> None:
    assert len(faults(*["mv,,1,a,parti,A,"] * 150)) == 100


def test_changes_are_said_in_words() -> None:
    before = read("mv,,1,parti-a,parti,A Partisi,", "mv,,2,parti-b,parti,B Partisi,")
    after = read("mv,,1,parti-a,parti,Yeni A Partisi,", "cb,,1,aday-1,aday,Birinci Aday,")

    changes = ballot.compare(before, after)

    assert changes.added == ("cb every district: 1. aday-1 (Birinci Aday)",)
    assert changes.removed == ("mv every district: 2. parti-b (B Partisi)",)
    assert changes.changed == (
        "mv every district: 1. parti-a (Yeni A Partisi) (was 1. A Partisi, parti)",
    )
