"""Names that are a level of an MQTT topic: of a site, a gateway, a stream, an input, a key."""

from __future__ import annotations

import re
from typing import Final

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
