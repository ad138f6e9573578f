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
from agent.control.client import NoAgent, NoAnswer, NotAllowed
from agent.wording.language import Language
from agent.wording.message import Message, Value
from agent.wording.worded import message_in
from models.errors import ConfigError, FieldwatchError, StoreError

Theme = Literal["auto", "light", "dark"]
THEMES: Final[tuple[Theme, ...]] = ("auto", "light", "dark")
LANGUAGE_COOKIE: Final = "language"
THEME_COOKIE: Final = "theme"
_KINDS: Final[Mapping[type[FieldwatchError], str]] = {
    NoAgent: "no_agent",
    NotAllowed: "not_allowed",
    NoAnswer: "no_answer",
    StoreError: "store",
    ConfigError: "configuration",
}


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

    def error(self, error: FieldwatchError) -> str:
        """Return why something was not done; details from below the agent stay as they are."""
        if (message := message_in(error)) is not None:
            return self.told.text(message)
        kind = next((name for kind, name in _KINDS.items() if isinstance(error, kind)), "other")
        return self.text(f"refused.{kind}", why=str(error))

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

    def words(self, cookies: Mapping[str, str], accepted: str = "") -> Words:
        """Return the words for a viewer.

        The language is that of the cookie, otherwise the first one of the browser that there is,
        otherwise that of the configuration.

        Args:
            cookies: What the viewer chose.
            accepted: The header Accept-Language of the browser (RFC 9110).

        """
        wanted = [cookies.get(LANGUAGE_COOKIE, ""), *_languages(accepted)]
        name = next((one for one in wanted if one in self.names), None)
        told = self._default if name is None else Language(name, self._own.get(name))
        chosen = cookies.get(THEME_COOKIE)
        theme: Theme = next((one for one in THEMES if one == chosen), "auto")
        return Words(Moments(datetime.now(UTC), False, told), theme, self.names)


def _languages(accepted: str) -> list[str]:
    """Return the languages of a header, without their regions, in order; weights are ignored."""
    return [one.partition(";")[0].strip().partition("-")[0] for one in accepted.split(",")]
