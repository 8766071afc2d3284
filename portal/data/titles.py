"""The names of places and things as the web site shows them, in Turkish."""

from collections.abc import Mapping

from config import cevre, kurul
from config.sheet import SandikTuru
from config.snapshot import VOTES
from portal.data.criteria import Area, Status
from publisher.results.snapshots.headings import HEADINGS

KINDS = {
    SandikTuru.NORMAL: "Normal",
    SandikTuru.CEZAEVI: "Cezaevi",
    SandikTuru.SEYYAR: "Seyyar",
    SandikTuru.GUMRUK: "Gümrük",
    SandikTuru.YURT_DISI: "Yurt dışı",
}
SERVICES = {"sftp": "SFTP", "web": "Web sitesi", "service": "Web servisi"}
AREAS = {Area.EVERYWHERE: "Genel", Area.HOME: "Yurt içi", Area.ABROAD: "Yurt dışı ve gümrük"}
STATUSES = {Status.ALL: "Hepsi", Status.OPENED: "Açılan", Status.UNOPENED: "Açılmayan"}
NO_MAHALLE = "(belirtilmemiş)"


def district(name: str) -> str:
    """Return the title of a district: `34-istanbul-1` is İstanbul 1."""
    return cevre.titles().get(name, name)


def board(name: str) -> str:
    """Return the title of a board: `kadikoy-2` is Kadıköy 2."""
    return kurul.title(name)


def field(name: str, options: Mapping[str, str]) -> str:
    """Return the title of a number of a result: a heading of the form, or the option's title."""
    if name.startswith(VOTES):
        option = name.removeprefix(VOTES)
        return options.get(option, option)
    return HEADINGS.get(name, name)
