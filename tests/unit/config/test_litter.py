import pytest

from config.litter import Litter

LITTER = [
    "@eaDir/tarama 1.jpg/SYNOPHOTO_THUMB_XL.jpg",
    "gun-1/@eadir/tarama.jpg/SYNOFILE_THUMB_M.png",
    ".thumbnails/normal/9f86d0.png",
    ".@__thumb/default_tarama.jpg",
    "#recycle/gun-1/tarama.tif",
    "@Recycle/tarama.tif",
    "$RECYCLE.BIN/S-1-5-21/$R1A2B3.jpg",
    ".Trash-1000/files/tarama.jpg",
    "~snapshot/hourly.0/tarama.jpg",
    ".snapshot/daily/tarama.jpg",
    "@GMT-2023.05.14-14.00.00/tarama.jpg",
    "._tarama.jpg",
    ".DS_Store",
    "gun-1/Thumbs.db",
    "gun-1/desktop.ini",
    "DCIM/100CANON/IMG_0001.THM",
    "System Volume Information/IndexerVolumeGuid",
    "lost+found/#12345",
]
SCANS = [
    "tarama 1.jpg",
    "gun-1/sandik 7.tif",
    "thumbs/tarama.jpg",
    "SYNOPSIS.pdf",
    "eaDir/1.jpg",
    "scan.thm.jpg",
    "IMG_0001.JPG",
]


@pytest.mark.parametrize("path", LITTER)
def test_litter_of_shares_and_cameras_is_recognised(path: str) -> None:
    assert Litter().covers(path)


@pytest.mark.parametrize("path", SCANS)
def test_a_scan_is_not_litter(path: str) -> None:
    assert not Litter().covers(path)


def test_other_patterns_replace_the_lists() -> None:
    litter = Litter(("yedek*",), ("*.bak",))

    assert litter.covers("Yedek-1/tarama.jpg")
    assert litter.covers("gun-1/tarama.BAK")
    assert not litter.covers(".gizli.jpg")
    assert not Litter((), ()).covers("@eaDir/x.jpg")
