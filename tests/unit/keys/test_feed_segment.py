from dataclasses import replace

import pytest

from keys.feed_segment import NO_PREVIOUS, FeedEntry, FeedSegment, format_segment, parse_segment

SHA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
SEGMENT = FeedSegment(
    "e-1",
    "5f0c2b7e90a1c3d4",
    2,
    1684075260,
    SHA,
    (
        FeedEntry("e-1/birlestirme/a.jpg", 312004, SHA, 1684075212, "il-birlestirme", 1),
        FeedEntry("e-1/b.v2.jpg", 1, SHA, 1684075213, "sandik-sonuc", 2, "e-1/b.jpg"),
    ),
    (("filing", b"ssps/filing\n12\n"),),
)
GOLDEN = f"""\
# ssps akis 1
# secim: e-1
# akis: 5f0c2b7e90a1c3d4
# no: 2
# kapanis: 2023-05-14T14:41:00Z
# onceki: {SHA}
# defter filing: c3Nwcy9maWxpbmcKMTIK
path,size,sha256,filed_at,sheet,version,supersedes
e-1/birlestirme/a.jpg,312004,{SHA},2023-05-14T14:40:12Z,il-birlestirme,1,
e-1/b.v2.jpg,1,{SHA},2023-05-14T14:40:13Z,sandik-sonuc,2,e-1/b.jpg
""".encode()


def test_a_segment_has_the_golden_bytes() -> None:
    assert format_segment(SEGMENT) == GOLDEN
    assert parse_segment(GOLDEN) == SEGMENT


def test_a_segment_may_have_no_entries_and_no_checkpoints() -> None:
    silent = replace(SEGMENT, number=1, previous=NO_PREVIOUS, entries=(), checkpoints=())

    assert parse_segment(format_segment(silent)) == silent


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"# ssps akis 1", b"# ssps akis 2"),
        (b"# no: 2", b"# no: 02"),
        (b"# no: 2\n", b""),
        (b"# kapanis: 2023-05-14T14:41:00Z", b"# kapanis: 2023-05-14 14:41"),
        (b"# onceki: e3", b"# onceki: E3"),
        (b"# defter filing: c3N", b"# defter filing: !!!"),
        (b"# defter", b"# baska"),
        (b"path,size", b"path, size"),
        (b",312004,", b",-1,"),
        (b",312004,", b",,"),
        (b"il-birlestirme,1,\n", b"il-birlestirme,1\n"),
        (b",e3b0", b",e3b"),
        (b"e-1/b.jpg\n", b"e-1/b.jpg"),
        (b"e-1/b.jpg\n", b"e-1/b.jpg\n\n"),
        (b"\n", b"\r\n"),
        (b"e-1/b.jpg", "e-1/ş.jpg".encode()),
    ],
)
def test_a_segment_in_another_form_is_refused(old: bytes, new: bytes) -> None:
    assert old in GOLDEN
    with pytest.raises(ValueError):
        parse_segment(GOLDEN.replace(old, new))
