"""A result: the numbers that one board states for one box and contest, or for an aggregate sheet.

The numbers are the fields of the form (sandık sonuç tutanağı); an aggregate sheet (`belge` is then
not `sandik-sonuc`) lacks some of them, which are None here. This module does not check whether the
numbers agree with each other: they stay as the board stated them, and the publisher's checks only
mark what does not agree.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import NamedTuple

from config.sheet import Belge, Level, SandikTuru, Secim

# The numbers of a form, in its order; the names of the columns of batches, tables and exports.
NUMBER_COLUMNS = (
    "secmen",
    "oy_kullanan",
    "liste_ici_oy_kullanan",
    "liste_disi_oy_kullanan",
    "zarf",
    "itirazsiz_gecerli",
    "itirazli_gecerli",
    "gecerli",
    "gecersiz",
)
BOX_SHEET = Belge.SANDIK_SONUC


class ResultKey(NamedTuple):
    """What a result is about: contest, form and place; parts below the form's level are None."""

    secim: Secim
    belge: Belge
    cevre: str | None
    kurul: str | None
    sandik: str | None

    @property
    def level(self) -> Level:
        """The level of the place."""
        return self.belge.level

    @property
    def place(self) -> str:
        """The place in records: `34-istanbul-1/kadikoy-2/sandik-1234`, or `-` for the election."""
        parts = [part for part in (self.cevre, self.kurul) if part is not None]
        if self.sandik is not None:
            parts.append(f"sandik-{self.sandik}")
        return "/".join(parts) or "-"


@dataclass(frozen=True, slots=True)
class Result:
    """One version of one result; all counts are whole numbers from 0."""

    key: ResultKey
    sandik_turu: SandikTuru | None
    version: int  # surum, from 1
    reason: str  # neden; empty only in version 1
    time: datetime  # zaman: when the board entered it, with a time zone
    registered: int | None  # secmen: voters on the list
    voted: int | None  # oy_kullanan: everyone who voted
    listed_voted: int | None  # liste_ici_oy_kullanan: of those, voters on the list
    unlisted_voted: int | None  # liste_disi_oy_kullanan: entitled to vote, but not on the list
    envelopes: int | None  # zarf
    valid_undisputed: int | None  # itirazsiz_gecerli
    valid_disputed: int | None  # itirazli_gecerli: counted as valid upon objection
    valid: int | None  # gecerli
    invalid: int | None  # gecersiz
    votes: Mapping[str, int]  # by the option's id

    def canonical(self, votes: str | None = None) -> bytes:
        """Return the row as canonical JSON, from which its digest is computed.

        A caller that has computed `votes_json` already passes it as `votes`.

        Keys are sorted, there is no white space, text is UTF-8, times are UTC with seconds:

            {"belge":"sandik-sonuc","cevre":"34-istanbul-1", ... ,"zarf":null}
        """
        # Written without json.dumps, in the order of the keys: this runs for every row.
        key = self.key
        kind = "null" if self.sandik_turu is None else f'"{self.sandik_turu.value}"'
        time = self.time.astimezone(UTC).isoformat(timespec="seconds")
        return (
            f'{{"belge":"{key.belge.value}","cevre":{_text(key.cevre)},'
            f'"gecerli":{_number(self.valid)},"gecersiz":{_number(self.invalid)},'
            f'"itirazli_gecerli":{_number(self.valid_disputed)},'
            f'"itirazsiz_gecerli":{_number(self.valid_undisputed)},'
            f'"kurul":{_text(key.kurul)},'
            f'"liste_disi_oy_kullanan":{_number(self.unlisted_voted)},'
            f'"liste_ici_oy_kullanan":{_number(self.listed_voted)},'
            f'"neden":{_text(self.reason)},"oy_kullanan":{_number(self.voted)},'
            f'"oylar":{self.votes_json() if votes is None else votes},"sandik":{_text(key.sandik)},'
            f'"sandik_turu":{kind},"secim":"{key.secim.value}",'
            f'"secmen":{_number(self.registered)},"surum":{self.version},'
            f'"zaman":"{time}","zarf":{_number(self.envelopes)}}}'
        ).encode()

    def votes_json(self) -> str:
        """Return the votes as canonical JSON."""
        votes = [f"{encode_basestring(name)}:{n}" for name, n in sorted(self.votes.items())]
        return f"{{{','.join(votes)}}}"

    def digest(self, votes: str | None = None) -> str:
        """Return the SHA-256 of `canonical`, in hexadecimal."""
        return hashlib.sha256(self.canonical(votes)).hexdigest()

    def numbers(self) -> dict[str, int | None]:
        """Return the numbers by their field names in a batch, votes left out."""
        return {
            "secmen": self.registered,
            "oy_kullanan": self.voted,
            "liste_ici_oy_kullanan": self.listed_voted,
            "liste_disi_oy_kullanan": self.unlisted_voted,
            "zarf": self.envelopes,
            "itirazsiz_gecerli": self.valid_undisputed,
            "itirazli_gecerli": self.valid_disputed,
            "gecerli": self.valid,
            "gecersiz": self.invalid,
        }

    def same_numbers(self, other: "Result") -> bool:
        """Say whether the two state the same numbers, whatever their version, time and reason.

        An option that one of them lacks has no votes in it.
        """
        return self.numbers() == other.numbers() and _given(self.votes) == _given(other.votes)


def _given(votes: Mapping[str, int]) -> dict[str, int]:
    return {option: number for option, number in votes.items() if number}


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)
