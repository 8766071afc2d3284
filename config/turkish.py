"""Turkish text: in plain ASCII for folder names and ids, and in the case and order of Turkish.

In ASCII `Iğdır` becomes `Igdir`, and `ŞIRNAK` becomes `SIRNAK`.
"""

import re
import unicodedata
from functools import lru_cache


def to_ascii(text: str) -> str:
    """Replace Turkish and accented letters with ASCII letters; upper and lower case stay.

    Characters that have no ASCII letter, such as a dash or another script, stay as they are. For
    lower case call `to_ascii(text).lower()`: `"İ".lower()` alone gives an `i` and a combining dot.
    """
    # NFKD splits ş into s and a cedilla, İ into I and a dot. Only ı has no such decomposition.
    letters = unicodedata.normalize("NFKD", text.replace("ı", "i"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


_ALPHABET = "abcçdefgğhıijklmnoöpqrsştuüvwxyz"
_ORDER = {letter: f"{number:02}" for number, letter in enumerate(_ALPHABET, start=10)}
_PLAIN = str.maketrans("âîû", "aiu")


def lower(text: str) -> str:
    """Return `text` in lower case by the rules of Turkish: I becomes ı, and İ becomes i."""
    return text.replace("İ", "i").replace("I", "ı").lower()


def upper(text: str) -> str:
    """Return `text` in upper case by the rules of Turkish: i becomes İ, and ı becomes I."""
    return text.replace("i", "İ").replace("ı", "I").upper()


@lru_cache(maxsize=8192)
def sort_key(text: str) -> tuple[str, str]:
    """Return a key that sorts as a Turkish dictionary does, with numbers by their value."""
    plain = lower(text).translate(_PLAIN)
    padded = re.sub(r"[0-9]+", lambda found: found[0].zfill(12), plain)
    return "".join(_ORDER.get(c, c) for c in padded), text
