"""Turkish text in plain ASCII, for folder names, ids and the files that a party gets.

For example `Iğdır` becomes `Igdir`, and `ŞIRNAK` becomes `SIRNAK`.
"""

import unicodedata


def to_ascii(text: str) -> str:
    """Replace Turkish and accented letters with ASCII letters; upper and lower case stay.

    Characters that have no ASCII letter, such as a dash or another script, stay as they are. For
    lower case call `to_ascii(text).lower()`: `"İ".lower()` alone gives an `i` and a combining dot.
    """
    # NFKD splits ş into s and a cedilla, İ into I and a dot. Only ı has no such decomposition.
    letters = unicodedata.normalize("NFKD", text.replace("ı", "i"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
