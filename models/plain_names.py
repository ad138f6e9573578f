"""Makes names of inputs and channels from the names that a device or a file uses."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_NO_NAME = re.compile(r"[^A-Za-z0-9_.\-]+")
_LETTERS: Final = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe"}
    | {"Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "Ø": "Oe", "Å": "Aa", "Æ": "Ae", "Œ": "Oe"}
    | {"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "þ": "th", "ı": "i"}
    | {"\N{MICRO SIGN}": "u", "\N{GREEK SMALL LETTER MU}": "u", "Ω": "Ohm", "Δ": "Delta"}
)
_CAPITALS: Final = str.maketrans(
    {"Ä": "AE", "Ö": "OE", "Ü": "UE", "Ø": "OE", "Å": "AA", "Æ": "AE", "Œ": "OE"}
)


def plain_name(text: str, joined: str = "_") -> str:
    """Return a text in the characters of a name, maybe empty; ``joined`` replaces all others.

    >>> plain_name("Öldruck [bar]"), plain_name("DÜSE"), plain_name("Débit m³/h", "-")
    ('Oeldruck_bar', 'DUESE', 'Debit-m3-h')
    """
    composed = unicodedata.normalize("NFC", text)
    letters = composed.translate(_CAPITALS if composed.isupper() else {}).translate(_LETTERS)
    plain = "".join(
        one for one in unicodedata.normalize("NFKD", letters) if not unicodedata.combining(one)
    )
    return _NO_NAME.sub(joined, plain).strip("-_.")
