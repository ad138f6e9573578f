"""How a viewer reads the page: language, times in the gateway's zone, theme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from agent.commands.alarms.moments import Moments
from agent.commands.alarms.told import language_of, usable_catalogue
from agent.config.location import language_settings
from agent.config.texts import languages
from agent.wording.language import Language
from agent.wording.message import Message, Value

Theme = Literal["auto", "light", "dark"]
THEMES: Final[tuple[Theme, ...]] = ("auto", "light", "dark")
LANGUAGE_COOKIE: Final = "language"
THEME_COOKIE: Final = "theme"


@dataclass(frozen=True, slots=True)
class Words:
    """Writes texts and times for one viewer, as of one moment."""

    moments: Moments
    theme: Theme
    names: tuple[str, ...]  # of all languages

    @property
    def told(self) -> Language:
        """The language, with times in full."""
        return self.moments.told

    @property
    def language(self) -> str:
        """The name of the language, as in BCP 47."""
        return self.moments.language.name

    def text(self, key: str, **parameters: Value) -> str:
        """Return a text of the page."""
        return self.told.text(Message(f"page.{key}", parameters))

    def phrase(self, key: str, default: str) -> str:
        """Return a text that is not the page's own; ``default`` if there is none."""
        return self.told.phrase(key, default)


class Languages:
    """The languages of the gateway: the built-in ones, and those of the plant."""

    def __init__(self, config_file: Path) -> None:
        self._default = language_of(config_file, None)
        _, path = language_settings(config_file)
        self._own, _ = usable_catalogue(path)  # ``language_of`` has said what is wrong
        self.names = tuple(languages(self._own))

    def words(self, cookies: Mapping[str, str]) -> Words:
        """Return the words for a viewer with these cookies."""
        name = cookies.get(LANGUAGE_COOKIE)
        told = Language(name, self._own.get(name)) if name in self.names else self._default
        wanted = cookies.get(THEME_COOKIE)
        theme: Theme = next((one for one in THEMES if one == wanted), "auto")
        return Words(Moments(datetime.now(UTC), False, told), theme, self.names)
