"""Names in an intake folder that are not scans: what NAS systems, computers and cameras put there.

A NAS makes thumbnails of the scans that it stores, and in some of them the karekod can be read; a
recycle bin or a snapshot contains the scans of another day. Such files are counted, left where they
are, and never filed. The names are patterns as in a shell (`*`, `?`, `[...]`), upper and lower case
are the same, and each is compared with one part of a path. `[intake] ignore_folders` and
`ignore_files` in site.toml replace these lists.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property

FOLDERS = (
    ".*",  # .thumbnails, .Trash-1000, .snapshot, .@__thumb, .AppleDouble, .recycle, .zfs
    "@*",  # @eaDir, @tmp (Synology), @Recycle, @Recently-Snapshot (QNAP), @GMT-* (Samba)
    "#recycle*",  # Synology
    "#snapshot*",
    "~snap*",  # NetApp
    "trashbox",  # Buffalo
    "Recycle Bin",
    "$*",  # $RECYCLE.BIN, $Extend (Windows)
    "RECYCLER",
    "RECYCLED",
    "System Volume Information",
    "DfsrPrivate",
    "found.[0-9][0-9][0-9]",  # what a repair of the file system found
    "lost+found",
    "LOST.DIR",
    "Network Trash Folder",  # macOS
    "Temporary Items",
    "TheVolumeSettingsFolder",
    "__MACOSX",
    "*.sb-????????-??????",  # a file that a Mac is replacing
    "THMBNL",  # cameras
    "AVF_INFO",
    "CANONMSC",
)
FILES = (
    ".*",  # .DS_Store, ._scan.jpg, .nfs0000, .fuse_hidden0000
    "thumbs*.db",  # Windows
    "ehthumbs*.db",
    "desktop.ini",
    "autorun.inf",
    "*Zone.Identifier",
    "~$*",  # office programs
    "~syncthing~*",
    "*.!sync",  # Resilio
    "*.lnk",
    "*.url",
    "Icon\r",  # macOS
    "SYNOPHOTO_THUMB_*",  # Synology
    "SYNOFILE_THUMB_*",
    "SYNOVIDEO_*",
    "*@SynoEAStream",
    "*@SynoResource",
    "ZbThumbnail.info",  # cameras
    "Picasa.ini",
    "*.thm",
    "*.ctg",
    "*.mrk",
    "*.xmp",
    "*.lrv",
)


@dataclass(frozen=True)
class Litter:
    """Patterns of the names of folders and of files."""

    folders: tuple[str, ...] = FOLDERS
    files: tuple[str, ...] = FILES

    def covers(self, path: str) -> bool:
        """Return True if a file is litter; `path` is relative to the intake folder."""
        folder, _, name = path.rpartition("/")
        return self.covers_file(name) or any(map(self.covers_folder, folder.split("/")))

    def covers_folder(self, name: str) -> bool:
        """Return True if everything in a folder of that name is litter."""
        return self._folders.match(name) is not None

    def covers_file(self, name: str) -> bool:
        """Return True if a file of that name is litter wherever it is."""
        return self._files.match(name) is not None

    @cached_property
    def _folders(self) -> re.Pattern[str]:
        return _either(self.folders)

    @cached_property
    def _files(self) -> re.Pattern[str]:
        return _either(self.files)


def _either(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or r"(?!)", re.IGNORECASE)
