"""The places of the rehearsal: made-up boards and neighbourhoods, real countries and gates.

Each place has a Turkish name, which is printed on sheets, and a folder name, which `ascii_name`
makes from it.
"""

import random
from functools import cache

from config import cevre, kurul
from config.cevre import ascii_name


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


_NAME_BEGINNINGS = _split_names(
    "Ak, Alaca, Altın, Ayva, Badem, Boz, Çam, Çınar, Demir, Elma, Gök, Gül, Güneş, Ihlamur, Kara, "
    "Kavak, Kızıl, Kiraz, Koca, Meşe, Mor, Nar, Pınar, Sarı, Söğüt, Taş, Üzüm, Yeşil, Yıldız, "
    "Zeytin"
)
_NAME_ENDINGS = _split_names(
    "bahçe, burun, dağ, dere, hisar, kaya, kent, köprü, köy, ova, pazar, tepe, yaka, yazı, yurt"
)
_MAHALLE_NAMES = _split_names(
    "Bahçelievler, Barbaros, Cumhuriyet, Çarşı, Esentepe, Fatih, Gazi, Hürriyet, İnönü, İstiklal, "
    "Kurtuluş, Mimarsinan, Sakarya, Şirinevler, Yenimahalle, Yıldırım"
)

COUNTRIES = kurul.names(cevre.ABROAD)  # those with most voters first
GATES = kurul.names(cevre.CUSTOMS)


@cache
def _turkish_names() -> dict[str, str]:
    """Return the Turkish name of each known folder name."""
    compounds = (first + second for first in _NAME_BEGINNINGS for second in _NAME_ENDINGS)
    return {
        **cevre.titles(),
        **{ascii_name(name): name for name in (*compounds, "Merkez", *COUNTRIES, *GATES)},
    }


def turkish_name(place: str) -> str:
    """Return the name of a place as printed on a sheet: `34-istanbul-1` -> `İstanbul 1`."""
    known = _turkish_names()
    stem, _, number = place.rpartition("-")
    if place in known:
        return known[place]
    if stem in known and number.isdecimal():
        return f"{known[stem]} {number}"
    return place.replace("-", " ").title()


def turkish_upper(text: str) -> str:
    """Return `text` in Turkish capitals: i becomes İ, ı becomes I."""
    return text.replace("i", "İ").replace("ı", "I").upper()


def boards(rng: random.Random, count: int) -> list[str]:
    """Return the folder names of `count` boards; large towns have several, such as `cinarova-2`.

    The first town always has several, so that even the smallest district has the sheet type that
    adds up the boards of one town.
    """
    towns = [ascii_name(first + second) for first in _NAME_BEGINNINGS for second in _NAME_ENDINGS]
    made: list[str] = []
    for number, town in enumerate(["merkez", *rng.sample(towns, min(count, len(towns)))]):
        if number == 0 or rng.random() < 0.15:
            made += [f"{town}-{n}" for n in range(1, rng.randint(3, 4))]
        else:
            made.append(town)
    return made[:count]


def mahalles(rng: random.Random, count: int) -> list[str]:
    """Return the Turkish names of `count` neighbourhoods of one board."""
    every = [
        *_MAHALLE_NAMES,
        *(first + second for first in _NAME_BEGINNINGS[:16] for second in _NAME_ENDINGS),
    ]
    picked = rng.sample(every, min(count, len(every)))
    return [f"{picked[n % len(picked)]} Mahallesi" for n in range(count)]
