"""The page's settings for its process, which does without pydantic and gets them as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """The files of the page's certificate."""

    file: str
    key_file: str | None  # None: the certificate's file has the key, too


class Settings(NamedTuple):
    """What of the configuration the page needs; the command ``page`` has checked it."""

    config_file: str
    host: str
    port: int
    users_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    host_names: tuple[str, ...] = ()
    session_idle_s: float = 1800.0
    session_s: float = 43_200.0
    idle_exit_s: float = 0.0  # 0: never

    def to_json(self) -> str:
        """Return the settings as one line."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return the settings that ``to_json`` wrote."""
        found = cls(**json.loads(text))
        return found._replace(host_names=tuple(found.host_names))

    @property
    def users(self) -> Path | None:
        """The file of the users."""
        return None if self.users_file is None else Path(self.users_file)

    @property
    def certificate(self) -> Certificate | None:
        """The certificate; None: the page speaks plain HTTP."""
        if self.certificate_file is None:
            return None
        return Certificate(self.certificate_file, self.key_file)

    @property
    def tls(self) -> bool:
        """Whether the page speaks TLS."""
        return self.certificate_file is not None
