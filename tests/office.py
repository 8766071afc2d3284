"""Makes small test sites: three parties, and an election with these six sheets.

34-istanbul-1/kadikoy-2   box 1234   cb and mv result sheets
35-izmir-2/konak-1        box 7      cb result sheet
06-ankara-1/cankaya-1                the board's aggregate
06-ankara-1                          the district's
(the election's)                     countries and customs gates together
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from click.testing import Result

from config.registry import COLUMNS

Ssps = Callable[..., Result]

OPENS = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)  # 17.00 in Turkey
ELECTION = "2023-05-14-cb-mv"

SITE_TOML = """\
[election]
id = "2023-05-14-cb-mv"
title = "14 Mayıs 2023 Cumhurbaşkanı ve 28. Dönem Milletvekili Seçimi"
opens = 2023-05-14T17:00:00+03:00
[sftp]
listen = "127.0.0.1:2222"
"""

PARTIES_TOML = """\
[[party]]
id = "parti-a"
name = "A Partisi"
kind = "party"
scope = "all"
static_ips = ["127.0.0.1"]
contact = { name = "Deneme", email = "bilgi@parti-a.example", phone = "+90 312 000 00 00" }

[[party]]
id = "parti-b"
name = "B Partisi"
kind = "party"
scope = ["35-izmir-2/konak-1", "06-ankara-1"]
static_ips = ["127.0.0.1", "2001:db8::7"]

[[party]]
id = "bagimsiz-c"
name = "Bağımsız C"
kind = "independent"
scope = ["34-istanbul-1"]
static_ips = ["192.0.2.9"]
"""

ROWS = (
    "1093717526,cb,sandik-sonuc,34-istanbul-1,kadikoy-2,normal,1234,Caferağa,1",
    "1093717527,mv,sandik-sonuc,34-istanbul-1,kadikoy-2,normal,1234,Caferağa,1",
    "2000000001,cb,sandik-sonuc,35-izmir-2,konak-1,seyyar,7,,1",
    "3000000001,cb,ilce-birlestirme,06-ankara-1,cankaya-1,,,,1",
    "4000000001,cb,il-birlestirme,06-ankara-1,,,,,1",
    "5000000001,cb,ulkeler-ve-gumruk-kapilari-birlestirme,,,,,,1",
)


def registry_csv(*rows: str) -> str:
    """Return a registry file in the authority's format."""
    return "\n".join([",".join(COLUMNS), *(rows or ROWS), ""])


def site(folder: Path, site_toml: str = SITE_TOML, parties_toml: str = PARTIES_TOML) -> Path:
    """Write a site's two settings files, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "site.toml").write_text(site_toml, encoding="utf-8")
    (folder / "parties.toml").write_text(parties_toml, encoding="utf-8")
    return folder


def listing(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below `folder`, hidden ones too, by path."""
    return {
        os.path.relpath(path, folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
