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
    "found.000/tarama.jpg",
    "#snapshot/GMT+03-2023.05.14-14.00.00/tarama.jpg",
    "@Recently-Snapshot/tarama.jpg",
    "@SynoDrive/tarama.jpg",
    "@sharebin/tarama.jpg",
    ".AppleDouble/tarama.jpg",
    ".Spotlight-V100/Store-V2/tarama.jpg",
    ".Trashes/501/tarama.jpg",
    ".fseventsd/0000",
    "tarama.jpg.sb-1a2b3c4d-e5f6g7/tarama.jpg",
    "Network Trash Folder/tarama.jpg",
    "trashbox/tarama.jpg",
    ".wdmc/tarama.jpg",
    ".dropbox.cache/2023-05-14/tarama.jpg",
    ".dropbox",
    ".stfolder/x",
    ".stversions/tarama~20230514-140000.jpg",
    "~syncthing~tarama.jpg.tmp",
    ".syncthing.tarama.jpg.tmp",
    ".~tmp~/tarama.jpg",
    ".tarama.jpg.Xy12Ab",
    ".tarama.jpg.swp",
    ".ocdata",
    ".tarama.jpg.icloud",
    ".~lock.tarama.pdf#",
    "~$tarama.pdf",
    ".sync/Archive/tarama.jpg",
    "tarama.jpg.!sync",
    "autorun.inf",
    "DCIM/.thumbnails/1.jpg",
    "MISC/AUTPRINT.MRK",
    "DCIM/CANONMSC/M0100.CTG",
    "DCIM/CANONMSC/M0100.THM",
    "LOST.DIR/1234",
]
SCANS = [
    "tarama 1.jpg",
    "gun-1/sandik 7.tif",
    "thumbs/tarama.jpg",
    "SYNOPSIS.pdf",
    "eaDir/1.jpg",
    "scan.thm.jpg",
    "IMG_0001.JPG",
    "MISC/tarama.jpg",
    "#1/tarama.jpg",
    "found/tarama.jpg",
    "tarama~1.jpg",
    "snapshot/tarama.jpg",
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
