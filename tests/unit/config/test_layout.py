import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import layout, name, scope
from config.sheet import Belge, Level, Secim, Sheet

GOLDEN = {
    "e-1/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.jpg": (
        Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1),
        1,
    ),
    "e-1/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.v2.jpg": (
        Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1),
        2,
    ),
    "e-1/gumruk/kapikule/sandik-A12/mv-sayim-dokum-cetveli-s2.tif": (
        Sheet(Secim.MV, Belge.SAYIM_DOKUM_CETVELI, "gumruk", "kapikule", "A12", 2),
        1,
    ),
    "e-1/06-ankara-1/cankaya-1/birlestirme/b-ilce-birlestirme-kurullar-s1.png": (
        Sheet(Secim.B, Belge.ILCE_BIRLESTIRME_KURULLAR, "06-ankara-1", "cankaya-1", None, 1),
        1,
    ),
    "e-1/06-ankara-1/birlestirme/cb-il-birlestirme-s3.jpg": (
        Sheet(Secim.CB, Belge.IL_BIRLESTIRME, "06-ankara-1", None, None, 3),
        1,
    ),
    "e-1/birlestirme/cb-ulkeler-ve-gumruk-kapilari-birlestirme-s1.jpg": (
        Sheet(Secim.CB, Belge.ULKELER_VE_GUMRUK_KAPILARI_BIRLESTIRME, None, None, None, 1),
        1,
    ),
}


@pytest.mark.parametrize("path", GOLDEN)
def test_a_sheet_of_each_level_has_its_path(path: str) -> None:
    sheet, version = GOLDEN[path]

    made = layout.path("e-1", sheet, version, path.rsplit(".", 1)[1])

    assert made == path
    assert layout.parse(path) == ("e-1", sheet, version, path.rsplit(".", 1)[1])


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "e-1",
        "e-1/../birlestirme/cb-il-birlestirme-s1.jpg",
        "/e-1/06-ankara-1/birlestirme/cb-il-birlestirme-s1.jpg",
        "e-1/06-ankara-1/birlestirme/cb-il-birlestirme-s1.jpg\n",
        "e-1/06-ankara-1/birlestirme/cb-il-birlestirme-s0.jpg",
        "e-1/06-ankara-1/birlestirme/cb-il-birlestirme-s01.jpg",
        "e-1/06-ankara-1/birlestirme/cb-il-birlestirme-s1.v1.jpg",
        "e-1/06-ankara-1/birlestirme/cb-il-birlestirme-s1.gif",
        "e-1/06-ankara-1/birlestirme/cb-sandik-sonuc-s1.jpg",
        "e-1/06-ankara-1/cankaya-1/birlestirme/cb-il-birlestirme-s1.jpg",
        "e-1/06-ankara-1/cankaya-1/sandik-1/cb-ilce-birlestirme-s1.jpg",
        "e-1/06-ankara-1/cankaya-1/1/cb-sandik-sonuc-s1.jpg",
        "E-1/06-ankara-1/birlestirme/cb-il-birlestirme-s1.jpg",
        "e-1/06-ankara-1/cankaya-1/sandik-١/cb-sandik-sonuc-s1.jpg",
    ],
)
def test_a_path_that_no_sheet_has_is_refused(path: str) -> None:
    with pytest.raises(ValueError):
        layout.parse(path)


names = st.from_regex(r"[a-z0-9]{1,9}(-[a-z0-9]{1,9}){0,2}", fullmatch=True).filter(
    lambda text: name.fault(text) is None
)


@st.composite
def sheets(draw: st.DrawFn) -> Sheet:
    belge = draw(st.sampled_from(Belge))
    depth = belge.level.value
    return Sheet(
        draw(st.sampled_from(Secim)),
        belge,
        draw(names) if depth >= Level.DISTRICT.value else None,
        draw(names) if depth >= Level.BOARD.value else None,
        draw(names) if depth >= Level.BOX.value else None,
        draw(st.integers(1, 999)),
    )


@pytest.mark.slow
@given(names, sheets(), st.integers(1, 999_999), st.sampled_from(layout.EXTENSIONS))
def test_every_path_is_parsed_back_to_its_sheet(
    election: str, sheet: Sheet, version: int, extension: str
) -> None:
    path = layout.path(election, sheet, version, extension)

    assert layout.parse(path) == (election, sheet, version, extension)
    assert path.isascii()
    assert len(path) < 400


@given(st.text(max_size=80))
def test_any_text_is_a_path_or_a_value_error(text: str) -> None:
    try:
        placed = layout.parse(text)
    except ValueError:
        return
    assert layout.path(*placed) == text


def test_version_0_and_an_unknown_extension_are_refused() -> None:
    sheet = Sheet(Secim.CB, Belge.IL_BIRLESTIRME, "06-ankara-1", None, None, 1)

    with pytest.raises(ValueError):
        layout.path("e-1", sheet, 0, "jpg")
    with pytest.raises(ValueError):
        layout.path("e-1", sheet, 1, "exe")


@pytest.mark.parametrize(
    "path",
    [
        "BENIOKU.txt",
        "akis/00000042.csv",
        "akis/00000042.csv.sig",
        "akis/son.txt",
        "araclar/mirror.py",
        "araclar/mirror.py.sig",
        "araclar/known_hosts",
        "araclar/allowed_signers.sig",
        "araclar/SHA256SUMS",
        "e-1/SHA256SUMS",
        "e-1/SHA256SUMS.sig",
        "e-1/34-istanbul-1/kadikoy-2/SHA256SUMS",
        "e-1/06-ankara-1/birlestirme/SHA256SUMS.sig",
        "e-1/birlestirme/SHA256SUMS",
        "e-1/SHA256SUMS.kunye",
        "e-1/34-istanbul-1/kadikoy-2/SHA256SUMS.kunye.sig",
        "e-1/sonuclar/00000042/mv.csv",
        "e-1/sonuclar/00000042/manifest.json.sig",
        "e-1/sonuclar/00000042/SHA256SUMS",
    ],
)
def test_the_publishers_own_files_are_recognised(path: str) -> None:
    assert layout.is_publisher_file(path)
    with pytest.raises(ValueError):
        layout.parse(path)


@pytest.mark.parametrize(
    "path",
    [
        *GOLDEN,
        "",
        "/BENIOKU.txt",
        "BENIOKU.txt.sig",
        "akis/son.txt.sig",
        "SHA256SUMS",
        "akis/00000000.csv",
        "akis/42.csv",
        "akis/00000042.csv.sig.sig",
        "akis/SHA256SUMS",
        "akis/SHA256SUMS.kunye",
        "e-1/SHA256SUMS.kunye.kunye",
        "e-1/34-istanbul-1/kadikoy-2/sandik-1/SHA256SUMS.kunye",
        "araclar/mirror",
        "araclar/mirror.py.sig.sig",
        "araclar/x/mirror.py",
        "e-1/06-ankara-1/SHA256SUMS",
        "e-1/birlestirme/kadikoy-2/SHA256SUMS",
        "e-1/34-istanbul-1/kadikoy-2/sandik-1/SHA256SUMS",
        "e-1/../kadikoy-2/SHA256SUMS",
        "e-1//SHA256SUMS",
        "e-1/sonuclar/42/mv.csv",
        "e-1/sonuclar/00000042/.mv.csv",
        "e-1/sonuclar/00000042/more/mv.csv",
        "e-1/sonuclar/mv.csv",
        "../sonuclar/00000042/mv.csv",
    ],
)
def test_other_files_are_not_the_publishers_own(path: str) -> None:
    assert not layout.is_publisher_file(path)


def test_sums_cover_only_sheets_of_the_same_scope() -> None:
    summed = {layout.sums_folder(sheet.cevre, sheet.kurul) for sheet, _ in GOLDEN.values()}

    assert summed == {
        "34-istanbul-1/kadikoy-2",
        "gumruk/kapikule",
        "06-ankara-1/cankaya-1",
        "06-ankara-1/birlestirme",
        "birlestirme",
    }


def test_segments_are_numbered_from_one_in_eight_digits() -> None:
    assert layout.segment(42) == "akis/00000042.csv"
    with pytest.raises(ValueError):
        layout.segment(0)


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("BENIOKU.txt", True),
        ("akis", True),
        ("akis/00000042.csv", True),
        ("araclar", True),
        ("araclar/mirror.py", True),
        ("e", True),
        ("e/SHA256SUMS", True),
        ("e/SHA256SUMS.sig", True),
        ("e/birlestirme", False),
        ("e/birlestirme/mv-il-birlestirme-s1.jpg", False),
        ("e/34-istanbul-1", True),
        ("e/34-istanbul-1/birlestirme/cb-il-birlestirme-s1.jpg", True),
        ("e/34-istanbul-1/kadikoy-2/sandik-1/cb-sandik-sonuc-s1.jpg", True),
        ("e/35-izmir-2", True),
        ("e/35-izmir-2/birlestirme", False),
        ("e/35-izmir-2/konak-1", True),
        ("e/35-izmir-2/konak-1/SHA256SUMS", True),
        ("e/35-izmir-2/konak-1/sandik-1/cb-sandik-sonuc-s1.jpg", True),
        ("e/35-izmir-2/konak-10", False),
        ("e/35-izmir-2/konak-10/SHA256SUMS", False),
        ("e/06-ankara-1", False),
        ("e/06-ankara-1/cankaya-1/sandik-1/cb-sandik-sonuc-s1.jpg", False),
        ("e/34-istanbul-10", False),
        ("e/sonuclar", True),
        ("e/sonuclar/00000042/mv.csv", True),
    ],
)
def test_files_in_scope_and_the_folders_above_them_are_in_scope(path: str, seen: bool) -> None:
    narrow = scope.parse(["34-istanbul-1", "35-izmir-2/konak-1"])

    assert layout.in_scope(path, narrow) is seen
    assert layout.in_scope(path, scope.ALL)


@pytest.mark.parametrize(
    ("board", "expected"),
    [("kadikoy-2", "kadikoy"), ("kadikoy", "kadikoy"), ("sehit-kamil", "sehit-kamil"), ("1", "1")],
)
def test_boards_of_one_ilce_differ_by_their_number(board: str, expected: str) -> None:
    assert layout.ilce_of(board) == expected
