"""The patterns of allowed names, and the names of the built-in detector families."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from models.formats.cells import IGNORED, TIME

# one level of an MQTT topic: a site, gateway, stream, input or key
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")

CHANNEL: Final = r"^[A-Za-z0-9_.\-]+$"  # a channel or source
BUNDLE: Final = r"^[a-z0-9][a-z0-9.\-]{0,63}$"  # a bundle, or a family of models
GROUP: Final = r"^[A-Za-z_][A-Za-z0-9_.\-]*$"  # a group of the operating system
CLIENT_ID: Final = "^[!-~]{1,200}$"  # at an MQTT broker
LANGUAGE: Final = r"^[a-z]{2}[a-z0-9\-]*$"  # as in BCP 47, in lower case
DIGEST: Final = r"^[0-9a-f]{64}$"  # sha256


def usable_channel(name: str) -> str:
    """Check the name of a channel; a bundle may have one that was allowed earlier.

    Raises:
        ValueError: inputs and recordings mean another column by it.

    """
    if name == TIME:
        raise ValueError("'time' is the column of the times: give the channel another name")
    if name == IGNORED:
        raise ValueError("'-' is a column that is left out: give the channel another name")
    return name


ALLOWED: Final[Mapping[str, str]] = {  # by pattern
    CHANNEL: "letters, digits, '_', '.' and '-'",
    BUNDLE: "1 to 64 small letters, digits, '.' and '-', the first a letter or digit",
    GROUP: "letters, digits, '_', '.' and '-', the first a letter or '_'",
    CLIENT_ID: "1 to 200 printable ASCII characters without blanks",
    LANGUAGE: "two small letters, such as 'en', and after them small letters, digits and '-'",
    DIGEST: "64 hexadecimal digits, the letters small",
}

# detector families; those without training learn from the streams they score
HAMPEL: Final = "hampel"
NOVELTY: Final = "novelty"  # only for streams without a bundle
UNTRAINED: Final = (HAMPEL, NOVELTY)
REMAINING_LIFE: Final = "remaining_life"  # in limits, alarms and messages, as if it were a channel
