"""The shapes of YSK's own result interface, as existing clients know them: `/api/ssps`.

Clients send numbers for places and get flat objects with YSK's mixture of cases. What our model has
no counterpart for is 0 or empty. The correspondence:

    il_ID                      plate code; 0 abroad and at customs gates
    secim_CEVRESI_ID           1 to 89, the place of the district in config/cevre
    ilce_ID, birim_ID          the district board: each is an ilçe of its own, so that a client
                               that walks all of them meets every box once
    muhtarlik_ID               a mahalle of a board; boxes without one are a mahalle without a name
    gumruk_ID, ulke_ID         the board of a customs gate, of a country
    dis_TEMSILCILIK_ID         that of its country
    belde_ID, cezaevi_ID       0
    partiN_ALDIGI_OY           the N-th party or candidate of the ballot, the same in every district
    bagimsizN_ALDIGI_OY        the N-th option that only this district has
    ittifakN_ALDIGI_OY         the joint votes of the N-th alliance
    sandikTuru 0               normal and mobile (seyyar) boxes
    secmen_SAYISI              registered voters of opened boxes: the number is on their sheets only
    secim_TURU                 8 mv, 9 cb, 6 bb, 2 b as YSK; 3 bm, 4 ig, 5 mh are ours
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from config import cevre as districts
from config.ballot import Option, Tur
from config.result import NUMBER_COLUMNS
from config.sheet import Belge, SandikTuru, Secim
from config.turkish import upper
from portal.data import titles
from portal.data.answers.boxes import BoxRow
from portal.data.criteria import Area, Criteria
from portal.data.numbers import ids
from portal.data.numbers.boxes import ABROAD, BoxPlace
from portal.data.numbers.sums import Group
from portal.data.scoped import ScopedData

Json = dict[str, Any]
SECIM_TURU = {
    Secim.B: 2,
    Secim.BM: 3,
    Secim.IG: 4,
    Secim.MH: 5,
    Secim.BB: 6,
    Secim.MV: 8,
    Secim.CB: 9,
}
SANDIK_TURU = {
    SandikTuru.NORMAL: 0,
    SandikTuru.SEYYAR: 0,
    SandikTuru.GUMRUK: 1,
    SandikTuru.CEZAEVI: 2,
    SandikTuru.YURT_DISI: 3,
}
NUMBERS = {
    "secmen": "secmen_SAYISI",
    "oy_kullanan": "oy_KULLANAN_SECMEN_SAYISI",
    "itirazsiz_gecerli": "itirazsiz_GECERLI_OY_SAYISI",
    "itirazli_gecerli": "itirazli_GECERLI_OY_SAYISI",
    "gecerli": "gecerli_OY_TOPLAMI",
    "gecersiz": "gecersiz_OY_TOPLAMI",
}
AGGREGATES = {
    Belge.IL_BIRLESTIRME: "birlestirme_TUTANAGI_IL",
    Belge.ILCE_BIRLESTIRME_KURULLAR: "birlestirme_TUTANAGI_ILCE",
    Belge.ILCE_BIRLESTIRME: "birlestirme_TUTANAGI_KURUL",
    Belge.GUMRUK_ILCE_BIRLESTIRME_KURUL: "birlestirme_TUTANAGI_GUMRUK_KURUL",
    Belge.GUMRUK_ILCE_BIRLESTIRME_RUMUZ: "birlestirme_TUTANAGI_GUMRUK_RUMUZ",
    Belge.GUMRUK_KAPILARI_BIRLESTIRME: "birlestirme_TUTANAGI_GUMRUKLER",
    Belge.YURT_DISI_ULKE_BIRLESTIRME: "birlestirme_TUTANAGI_ULKE",
    Belge.YURT_DISI_ULKELER_BIRLESTIRME: "birlestirme_TUTANAGI_ULKELER",
    Belge.ULKELER_VE_GUMRUK_KAPILARI_BIRLESTIRME: "birlestirme_TUTANAGI_TUMDUNYA",
}
_NO_AGGREGATES = {
    **dict.fromkeys(AGGREGATES.values(), 0),
    "birlestirme_TUTANAGI_GUMRUK_ILCE": 0,
    "birlestirme_TUTANAGI_DIS_TEMSILCILIK": 0,
}
PARTIES, INDEPENDENTS, ALLIANCES = 40, 50, 5
_ANY = ("", "0", "-1")
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Query:
    """What a client asks for: searches whose boxes it wants, in turn; none if it asks in vain."""

    secim: Secim
    searches: tuple[Criteria, ...]
    place: BoxPlace | None = None  # only this box


class Interface:
    """The interface over the data of one scope; of one request."""

    def __init__(self, data: ScopedData, election: str, title: str, date: str) -> None:
        self._data = data
        self._election = ids.election_number(election)
        self._title = title
        self._date = date
        self._boards = data.board_numbers()
        self._board_of = {number: board for board, number in self._boards.items()}
        self._district_of = dict(enumerate(districts.names(), 1))
        self._district_number = {name: n for n, name in self._district_of.items()}
        self._known_columns: dict[tuple[Secim, str | None], dict[str, str]] = {}

    # What is asked.

    def query(self, asked: Mapping[str, str]) -> Query | None:
        """Read the parameters; None if any of them names what does not exist.

        Unknown and empty parameters are ignored. 0, -1 and empty mean any for every place.
        """
        secim = self._contest(asked)
        if secim is None or not self._is_this_election(asked):
            return None
        kinds = _kinds(asked.get("sandikTuru", ""))
        area = _area(asked.get("yurtIciDisi", ""))
        places = self._places(secim, asked)
        if kinds is None or area is None or places is None:
            return None
        first = _box_number(asked, "sandikNoIlk", "sandikRumuzIlk")
        last = _box_number(asked, "sandikNoSon", "sandikRumuzSon")
        searches = tuple(
            Criteria(secim, area, kind, *place, first, last) for place in places for kind in kinds
        )
        if (box := asked.get("sandikId", "").strip()) not in _ANY:
            place = self._box(secim, searches, _number(box))
            return None if place is None else Query(secim, searches, place)
        return Query(secim, searches)

    def _contest(self, asked: Mapping[str, str]) -> Secim | None:
        text = asked.get("secimTuru", "").strip()
        if text in _ANY:
            return next(iter(self._data.contests), None)
        number = _number(text)
        found = next((secim for secim, n in SECIM_TURU.items() if n == number), None)
        return found if found in self._data.contests else None

    def _is_this_election(self, asked: Mapping[str, str]) -> bool:
        text = asked.get("secimId", "").strip()
        return text in _ANY or _number(text) == self._election

    def _places(
        self, secim: Secim, asked: Mapping[str, str]
    ) -> list[tuple[str | None, str | None, str | None]] | None:
        """Return district, board and mahalle of what is asked; None if there is no such place."""
        stated = {
            name: _number(text)
            for name in _PLACE_PARAMETERS
            if (text := asked.get(name, "").strip()) not in _ANY
        }
        if "beldeId" in stated or "cezaeviId" in stated:
            return None
        boards: set[tuple[str, str]] | None = None
        for name, within in _BOARD_PARAMETERS.items():
            if name in stated:
                board = self._board_of.get(stated[name] or 0)
                if board is None or not _is_in(board[0], within):
                    return None
                boards = {board} if boards is None else boards & {board}
        known = {cevre for cevre, _ in self._boards}
        names = [name for name in self._district_number if name in known]
        if "ilId" in stated:
            names = [name for name in names if _plate(name) == stated["ilId"]]
        if "secimCevresiId" in stated:
            names = [n for n in names if self._district_number[n] == stated["secimCevresiId"]]
        if "muhtarlikId" in stated:
            places = (
                [Criteria(secim)]
                if boards is None
                else [Criteria(secim, cevre=c, kurul=k) for c, k in boards]
            )
            lines = (line for place in places for line in self._data.mahalles(place))
            return [
                (line.cevre, line.kurul, line.name)
                for line in lines
                if line.number == stated["muhtarlikId"] and line.cevre in names
            ] or None
        if boards is not None:
            return [(c, k, None) for c, k in sorted(boards) if c in names] or None
        if "ilId" in stated or "secimCevresiId" in stated:
            return [(name, None, None) for name in names] or None
        return [(None, None, None)]

    def _box(
        self, secim: Secim, searches: Iterable[Criteria], number: int | None
    ) -> BoxPlace | None:
        rows = (row for search in searches for row in self._data.places(search))
        return next((place for place in rows if ids.box_number(str(place)) == number), None)

    # Lists of places.

    def provinces(self, query: Query) -> list[Json]:
        """Return getIlList: a row for each province, or each district for parliament."""
        found: dict[object, Json] = {}
        for name in self._districts(query):
            by_district = query.secim is Secim.MV
            number = self._district_number[name] if by_district else 0
            row = {
                "id": number or _plate(name),
                "il_ID": _plate(name),
                "il_ADI": _district_title(name) if by_district else _province_title(name),
                "secim_CEVRESI_ID": number,
                "secilecek_ADAY_SAYISI": 0,
                "yerlesim_YERI_TURU": 0,
                "secim_DETAY_ID": 0,
            }
            found.setdefault(row["id"], row)
        return list(found.values())

    def boards(self, query: Query) -> list[Json]:
        """Return getIlceList: a row for each board in the country."""
        return [
            {
                "ilce_ID": self._boards[board],
                "ilce_ADI": _board_title(board[1]),
                "belde_ID": 0,
                "belde_ADI": "",
                "birim_ID": self._boards[board],
                "birim_ADI": _board_title(board[1]),
                **self._district_fields(query.secim, board[0]),
            }
            for board in self._found_boards(query)
            if board[0] not in ABROAD
        ]

    def mahalles(self, query: Query) -> list[Json]:
        """Return getMuhtarlikList: a row for each mahalle of each board."""
        found = []
        for search in query.searches:
            for line in self._data.mahalles(search):
                if line.cevre in ABROAD:
                    continue
                board = line.cevre, line.kurul
                found.append(
                    {
                        "muhtarlik_ID": line.number,
                        "muhtarlik_ADI": upper(line.name),
                        "cezaevi_ID": 0,
                        "cezaevi_ADI": "",
                        **_range(line.first, line.last),
                        "ilce_ID": self._boards[board],
                        "ilce_ADI": _board_title(line.kurul),
                        "belde_ID": 0,
                        "birim_ID": self._boards[board],
                        **self._district_fields(query.secim, line.cevre),
                    }
                )
        return found

    def gates(self, query: Query) -> list[Json]:
        """Return getGumrukList: a row for each customs gate."""
        return [
            {
                "gumruk_ID": self._boards[board],
                "gumruk_ADI": _board_title(board[1]),
                "ilce_ID": 0,
                **self._range_of(query.secim, board),
            }
            for board in self._found_boards(query)
            if board[0] == districts.CUSTOMS
        ]

    def countries(self, query: Query) -> list[Json]:
        """Return getUlkeList: a row for each country."""
        return [
            {
                "ulke_ID": self._boards[board],
                "ulke_ADI": _board_title(board[1]),
                **self._range_of(query.secim, board),
            }
            for board in self._found_boards(query)
            if board[0] == districts.ABROAD
        ]

    def missions(self, query: Query) -> list[Json]:
        """Return getDisTemsilcilikList: our registry has one for each country."""
        return [
            {
                "dis_TEMSILCILIK_ID": row["ulke_ID"],
                "dis_TEMSILCILIK_ADI": row["ulke_ADI"],
                **row,
            }
            for row in self.countries(query)
        ]

    def elections(self, asked: Mapping[str, str]) -> list[Json]:
        """Return getSecimDetayList: a row for each contest, none of another election."""
        if not self._is_this_election(asked):
            return []
        return [
            {
                "id": SECIM_TURU[secim],
                "secim_DETAY_ID": 0,
                "secim_ID": self._election,
                "secim_ADI": self._title,
                "secim_TARIHI": self._date,
                "secim_TURU": SECIM_TURU[secim],
                "secim_TURU_ADI": secim.turkish,
            }
            for secim in self._data.contests
        ]

    def headings(self, query: Query) -> list[Json]:
        """Return getSandikSecimSonucBaslikList: what the columns of votes mean."""
        found: list[Json] = [
            {"sira_NO": 0, "ad": ad, "column_NAME": column}
            for ad, column in (
                ("Sandık No", "sandik_NO"),
                ("Kayıtlı Seçmen Sayısı", "secmen_SAYISI"),
                ("Oy Kullanan Seçmen Sayısı", "oy_KULLANAN_SECMEN_SAYISI"),
                ("Geçerli Oy Toplamı", "gecerli_OY_TOPLAMI"),
                ("Geçersiz Oy Toplamı", "gecersiz_OY_TOPLAMI"),
            )
        ]
        names = self._districts(query, everywhere=True)
        district = names[0] if len(names) == 1 else None
        options = self._data.options(query.secim, district)
        columns = self._columns(query.secim, district)
        for number, option in enumerate(options, 1):
            column = columns[option.id]
            found.append({"sira_NO": number, "ad": option.ad, "column_NAME": column})
        return found

    # Results.

    def sums(self, query: Query) -> list[Json]:
        """Return getSecimSonucList: one row with the sums of what is asked."""
        row: Json = {
            "secim_ID": self._election,
            "secim_TURU": SECIM_TURU[query.secim],
            "toplam_SANDIK_SAYISI": 0,
            "acilan_SANDIK_SAYISI": 0,
            "acilan_SECMEN_SAYISI": 0,
            **dict.fromkeys(NUMBERS.values(), 0),
        }
        votes: dict[str, int] = {}
        for search in query.searches:
            found = self._data.summary(search)
            row["toplam_SANDIK_SAYISI"] += found.boxes
            row["acilan_SANDIK_SAYISI"] += found.opened
            row["acilan_SECMEN_SAYISI"] += found.total.numbers["secmen"]
            for name, column in NUMBERS.items():
                row[column] += found.total.numbers[name]
            for option, number in found.total.votes.items():
                votes[option] = votes.get(option, 0) + number
        names = self._districts(query, everywhere=True)
        district = names[0] if len(names) == 1 else None
        row |= self._votes(query.secim, district, votes)
        row |= self._aggregates_below(query)
        return [row]

    def rows(self, query: Query, kind: str) -> Iterator[Json]:
        """Yield getSecimSandikSonucList: a row for each box, ilçe (`1`) or province (`2`)."""
        if kind in ("1", "2"):
            yield from self._groups(query, by_board=kind == "1")
            return
        if query.place is not None:
            found = self._data.box_row(query.secim, query.place)
            if found is not None:
                yield self._box_row(query.secim, found)
            return
        for search in query.searches:
            for row in self._data.rows(search):
                yield self._box_row(query.secim, row)

    def count(self, query: Query) -> int:
        """Return how many boxes `rows` yields."""
        if query.place is not None:
            return 1
        return sum(sum(self._data.boxes_by_board(s).values()) for s in query.searches)

    def _box_row(self, secim: Secim, row: BoxRow) -> Json:
        cevre, kurul, sandik = row.place
        board = self._boards[cevre, kurul]
        abroad, customs = cevre == districts.ABROAD, cevre == districts.CUSTOMS
        mahalle = self._data.mahalle_number(row.place, row.mahalle) if cevre not in ABROAD else 0
        numeric = sandik.isascii() and sandik.isdecimal() and not abroad and not customs
        made: Json = {
            "sandik_ID": ids.box_number(str(row.place)),
            "sandik_NO": int(sandik) if numeric else 0,
            "sandik_RUMUZ": "" if numeric else sandik,
            "sandik_TURU": SANDIK_TURU[row.kind],
            "secim_ID": self._election,
            "secim_TURU": SECIM_TURU[secim],
            **self._district_fields(secim, cevre),
            "ilce_ID": 0 if abroad or customs else board,
            "ilce_ADI": "" if abroad or customs else _board_title(kurul),
            "belde_ID": 0,
            "belde_ADI": "",
            "birim_ID": 0 if abroad or customs else board,
            "muhtarlik_ID": mahalle,
            "muhtarlik_ADI": upper(row.mahalle),
            "cezaevi_ID": 0,
            "gumruk_ID": board if customs else 0,
            "gumruk_ADI": _board_title(kurul) if customs else "",
            "ulke_ID": board if abroad else 0,
            "ulke_ADI": _board_title(kurul) if abroad else "",
            "dis_TEMSILCILIK_ID": board if abroad else 0,
            "dis_TEMSILCILIK_ADI": _board_title(kurul) if abroad else "",
        }
        made |= {column: row.numbers[name] or 0 for name, column in NUMBERS.items()}
        made |= self._votes(secim, cevre, row.votes)
        made |= {
            "versiyon": row.version,
            "degisiklik_NEDENI": row.reason,
            "son_ISLEM_TARIHI": row.time.isoformat(timespec="seconds") if row.time else None,
            "sandik_SONUC_TUTANAGI": row.sheets,
            "sandik_DOKUM_CETVELI": row.count_sheets,
            "denetim_TUTANAGI": 0,
            **_NO_AGGREGATES,
        }
        for belge, (_, pages) in self._aggregates_of(secim, cevre, kurul).items():
            made[AGGREGATES[belge]] = pages
        return made

    def _groups(self, query: Query, by_board: bool) -> Iterator[Json]:
        """Yield a row for each board, or for each row of getIlList, besides abroad and customs."""
        sums: dict[tuple[str, str | None], tuple[int, int, dict[str, int], dict[str, int]]] = {}
        by_province = not by_board and query.secim is not Secim.MV
        first: dict[int, str] = {}  # the first district of each province
        for search in query.searches:
            expected = self._expected(search, by_board)
            found = {(g.cevre, g.kurul): g for g in self._data.groups(search, by_board)}
            for place, boxes in expected.items():
                into = place
                if by_province and (plate := _plate(place[0])):
                    into = first.setdefault(plate, place[0]), None
                all_boxes, opened, numbers, votes = sums.get(into, (0, 0, {}, {}))
                if (group := found.get(place)) is not None:
                    opened += group.boxes
                    _add(numbers, _numbers(group))
                    _add(votes, self._data.votes_of(query.secim, group))
                sums[into] = all_boxes + boxes, opened, numbers, votes
        for (cevre, kurul), (all_boxes, opened, numbers, votes) in sums.items():
            board = self._boards.get((cevre, kurul or ""), 0)
            yield {
                "secim_ID": self._election,
                "secim_TURU": SECIM_TURU[query.secim],
                **self._district_fields(query.secim, cevre),
                **({"secim_CEVRESI_ID": 0} if by_province and _plate(cevre) else {}),
                "ilce_ID": 0 if cevre in ABROAD else board,
                "ilce_ADI": _board_title(kurul) if kurul and cevre not in ABROAD else "",
                "gumruk_ID": board if cevre == districts.CUSTOMS else 0,
                "ulke_ID": board if cevre == districts.ABROAD else 0,
                "toplam_SANDIK_SAYISI": all_boxes,
                "acilan_SANDIK_SAYISI": opened,
                "acilan_SECMEN_SAYISI": numbers.get("secmen", 0),
                **{column: numbers.get(name, 0) for name, column in NUMBERS.items()},
                **self._votes(query.secim, cevre, votes),
            }

    def _expected(self, search: Criteria, by_board: bool) -> dict[tuple[str, str | None], int]:
        found: dict[tuple[str, str | None], int] = {}
        for (cevre, kurul), boxes in self._data.boxes_by_board(search).items():
            place = (cevre, kurul if by_board else None)
            found[place] = found.get(place, 0) + boxes
        return found

    def _votes(self, secim: Secim, district: str | None, votes: Mapping[str, int]) -> Json:
        columns = self._columns(secim, district)
        made = dict(_NO_VOTES)
        independents = 0
        for option, number in votes.items():
            column = columns.get(option)
            if column is not None:
                made[column] = number
            if column is None or column.startswith("bagimsiz"):
                independents += number
        made["bagimsiz_TOPLAM_OY"] = independents
        return made

    def _columns(self, secim: Secim, district: str | None) -> dict[str, str]:
        key = secim, district
        if key not in self._known_columns:
            common = self._data.options(secim)
            own = self._data.options(secim, district) if district is not None else common
            self._known_columns[key] = _columns(common, own)
        return self._known_columns[key]

    def _aggregates_of(self, secim: Secim, cevre: str, kurul: str) -> dict[Belge, tuple[int, int]]:
        """Return the aggregate sheets of a box's board, district and, abroad, of the election."""
        found = dict(self._data.aggregate_sheets(secim, cevre, kurul))
        found |= self._data.aggregate_sheets(secim, cevre, "")
        if cevre in ABROAD:
            found |= self._data.aggregate_sheets(secim, "", "")
        return found

    def _aggregates_below(self, query: Query) -> Json:
        found: Json = dict(_NO_AGGREGATES)
        boards = self._found_boards(query)
        places = [*boards, *((name, "") for name in dict.fromkeys(cevre for cevre, _ in boards))]
        if any(cevre in ABROAD for cevre, _ in boards):
            places.append(("", ""))
        for place in places:
            for belge, (sheets, _) in self._data.aggregate_sheets(query.secim, *place).items():
                found[AGGREGATES[belge]] += sheets
        return found

    def _found_boards(self, query: Query) -> list[tuple[str, str]]:
        return list(
            dict.fromkeys(
                board for search in query.searches for board in self._data.boxes_by_board(search)
            )
        )

    def _districts(self, query: Query, everywhere: bool = False) -> list[str]:
        names = dict.fromkeys(cevre for cevre, _ in self._found_boards(query))
        return [name for name in names if everywhere or name not in ABROAD]

    def _district_fields(self, secim: Secim, cevre: str) -> Json:
        by_district = secim is Secim.MV
        title = _district_title(cevre) if by_district else _province_title(cevre)
        return {
            "il_ID": _plate(cevre),
            "il_ADI": title,
            "secim_CEVRESI_ID": self._district_number.get(cevre, 0),
        }

    def _range_of(self, secim: Secim, board: tuple[str, str]) -> Json:
        chosen = self._data.choices(Criteria(secim, cevre=board[0], kurul=board[1]))
        first, last = chosen.first or "", chosen.last or ""
        return {**_range("", ""), "min_SANDIK_RUMUZ": first, "max_SANDIK_RUMUZ": last}


_PLACE_PARAMETERS = (
    "ilId",
    "ilceId",
    "beldeId",
    "birimId",
    "muhtarlikId",
    "cezaeviId",
    "ulkeId",
    "disTemsilcilikId",
    "gumrukId",
    "secimCevresiId",
)
PARAMETERS = (
    "secimId",
    "secimTuru",
    "sandikTuru",
    "yurtIciDisi",
    *_PLACE_PARAMETERS,
    "sandikNoIlk",
    "sandikNoSon",
    "sandikRumuzIlk",
    "sandikRumuzSon",
    "sandikId",
    "cacheSlayer",
)
_BOARD_PARAMETERS = {
    "ilceId": "",
    "birimId": "",
    "ulkeId": districts.ABROAD,
    "disTemsilcilikId": districts.ABROAD,
    "gumrukId": districts.CUSTOMS,
}
_NO_VOTES: Json = {
    **{f"parti{n}_ALDIGI_OY": 0 for n in range(1, PARTIES + 1)},
    **{f"bagimsiz{n}_ALDIGI_OY": 0 for n in range(1, INDEPENDENTS + 1)},
    "bagimsiz_TOPLAM_OY": 0,
    **{f"ittifak{n}_ALDIGI_OY": 0 for n in range(1, ALLIANCES + 1)},
}


def _columns(common: Iterable[Option], options: Iterable[Option]) -> dict[str, str]:
    """Return the column of each option: parties by their place on the common ballot."""
    counts = {"parti": 0, "bagimsiz": 0, "ittifak": 0}
    shared = [option.id for option in common]
    found: dict[str, str] = {}
    for option in sorted(options, key=lambda o: (o.id not in shared, o.sira)):
        if option.tur is Tur.ITTIFAK:
            name = "ittifak"
        elif option.tur is Tur.BAGIMSIZ or option.id not in shared:
            name = "bagimsiz"
        else:
            name = "parti"
        counts[name] += 1
        found[option.id] = f"{name}{counts[name]}_ALDIGI_OY"
    return found


def _kinds(text: str) -> tuple[SandikTuru | None, ...] | None:
    if text.strip() in ("", "-1"):
        return (None,)
    number = _number(text)
    return tuple(kind for kind, n in SANDIK_TURU.items() if n == number) or None


def _area(text: str) -> Area | None:
    if text.strip() in _ANY:
        return Area.EVERYWHERE
    return {1: Area.HOME, 2: Area.ABROAD}.get(_number(text) or 0)


def _is_in(cevre: str, within: str) -> bool:
    return cevre == within if within else cevre not in ABROAD


def _box_number(asked: Mapping[str, str], number: str, letters: str) -> str | None:
    for name in (letters, number):
        text = asked.get(name, "").strip()
        if text not in _ANY:
            return text[:64]
    return None


def _number(text: str) -> int | None:
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > _MAX_DIGITS:
        return None
    return int(digits)


def _plate(cevre: str) -> int:
    return int(cevre[:2]) if cevre[:2].isdecimal() else 0


def _district_title(cevre: str) -> str:
    """Return a district as YSK names it: İSTANBUL-1."""
    return (
        upper(titles.district(cevre)).replace(" ", "-")
        if _plate(cevre)
        else upper(titles.district(cevre))
    )


def _province_title(cevre: str) -> str:
    return _district_title(cevre).split("-")[0] if _plate(cevre) else _district_title(cevre)


def _board_title(kurul: str) -> str:
    """Return a board as YSK names an ilçe, a country or a gate: KADIKÖY-2."""
    name, _, number = titles.board(kurul).rpartition(" ")
    return upper(f"{name}-{number}" if name and number.isdecimal() else titles.board(kurul))


def _range(first: str, last: str) -> Json:
    numeric = first.isdecimal() and last.isdecimal()
    return {
        "min_SANDIK_NO": int(first) if numeric else 0,
        "max_SANDIK_NO": int(last) if numeric else 0,
        "min_SANDIK_RUMUZ": "" if numeric else first,
        "max_SANDIK_RUMUZ": "" if numeric else last,
    }


def _numbers(group: Group) -> dict[str, int]:
    return dict(zip(NUMBER_COLUMNS, group.values, strict=False))


def _add(into: dict[str, int], numbers: Mapping[str, int]) -> None:
    for name, number in numbers.items():
        into[name] = into.get(name, 0) + number
