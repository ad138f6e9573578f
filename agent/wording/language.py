"""A language: its texts, and how it writes numbers, shares, durations and times."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.wording import english, german
from agent.wording.catalogue import problems
from agent.wording.message import Message, Value, message_of
from models.shown import shown

BUILT_IN: Final[Mapping[str, Mapping[str, str]]] = {"en": english.TEXTS, "de": german.TEXTS}
_STEPS: Final = (  # unit, its size, and from how many units on it is used; seconds
    ("years", 31_557_600.0, 2.0),
    ("days", 86_400.0, 2.0),
    ("hours", 3600.0, 2.0),
    ("minutes", 60.0, 2.0),
)


class Language:
    """Writes messages.

    Args:
        name: Of the language, such as "de".
        own: The plant's texts, which come before the built-in ones. Unusable ones are left out.
        time: Writes a time of a document; by default it stays as it is.

    """

    def __init__(
        self,
        name: str = "en",
        own: Mapping[str, Any] | None = None,
        time: Callable[[str], str] = str,
    ) -> None:
        own = own or {}
        wrong = {key for key, _ in problems(own)}
        self.name = name
        self._time = time
        self._texts: dict[str, str] = {
            **english.TEXTS,
            **BUILT_IN.get(name, {}),
            **{key: text for key, text in own.items() if key not in wrong},
        }

    def timed(self, time: Callable[[str], str]) -> Language:
        """Return the language with another way to write times."""
        other = copy.copy(self)
        other._time = time
        return other

    def text(self, message: Message) -> str:
        """Return the text of a message.

        A key of a newer version is shown as it is. An absent value is written as such.
        """
        template = self._texts.get(message.key)
        if template is None:
            return message.key
        values = {name: self.written(name, value) for name, value in message.parameters.items()}
        return " ".join(template.format_map(_Values(values, self._texts)).split()).replace(
            " )", ")"
        )

    def written(self, name: str, value: Value) -> str:
        """Return a parameter's value as text; see ``Message``."""
        if value is None:
            return self._texts["number.absent"]
        if isinstance(value, str):
            return self._time(value) if name.endswith("_at") else value
        if isinstance(value, Mapping):
            return self.text(message_of(value))
        if name.endswith("_share"):
            return self.share(value)
        return self.duration(value) if name.endswith("_s") else self.number(value)

    def number(self, value: float | None, form: str = ".4g") -> str:
        """Return a figure with the language's decimal sign."""
        absent = self._texts["number.absent"]
        return shown(value, form, absent).replace(".", self._texts["number.point"])

    def whole(self, value: float) -> str:
        """Return a large count, with the thousands apart."""
        apart = "," if self._texts["number.point"] == "." else "."
        return f"{value:,.0f}".replace(",", apart)

    def phrase(self, key: str, default: str) -> str:
        """Return a text without parameters; ``default`` if there is no such text."""
        return self._texts.get(key, default)

    def measure(self, value: float | None, unit: str) -> str:
        """Return a measured value with its unit."""
        return self.number(value) if value is None else f"{self.number(value)} {unit}".rstrip()

    def share(self, value: float) -> str:
        """Return a probability: never 100 % or 0 % of what is not certain."""
        percent = f"{100 * value:.0f}"
        if value < 1 and percent == "100":
            return self._texts["share.most"]
        if value > 0 and percent == "0":
            return self._texts["share.least"]
        return self._texts["share"].format(percent=percent)

    def duration(self, seconds: float) -> str:
        """Return a duration in words, in a unit that a person would choose.

        >>> [Language("de").duration(s) for s in (45, 720, 11520, 86400 * 2.5, 86400 * 40)]
        ['45 s', '12 min', '3,2 h', '2,5 Tagen', '40 Tagen']
        """
        seconds = max(seconds, 0.0)
        for unit, size, least in _STEPS:
            if seconds >= least * size:
                count = _count(seconds / size, whole=unit == "minutes")
                return self._texts[f"duration.{unit}"].format(
                    count=count.replace(".", self._texts["number.point"])
                )
        return self._texts["duration.seconds"].format(count=f"{seconds:.0f}")

    def joined(self, names: list[str]) -> str:
        """Return names as a list in words."""
        if len(names) < 2:
            return "".join(names)
        return self._texts["list.and"].format(first=", ".join(names[:-1]), last=names[-1])


class _Values(dict[str, str]):
    """The written values; one that a message of another version lacks is absent."""

    def __init__(self, values: Mapping[str, str], texts: Mapping[str, str]) -> None:
        super().__init__(values)
        self._absent = texts["number.absent"]

    def __missing__(self, key: str) -> str:
        return self._absent


def _count(value: float, whole: bool) -> str:
    """Return a count with one decimal below 10, if it is not zero."""
    return f"{value:.0f}" if whole or value >= 9.95 else f"{value:.1f}".removesuffix(".0")


ENGLISH: Final = Language("en")
GERMAN: Final = Language("de")


def language(name: str) -> Language:
    """Return a built-in language; English for any other name."""
    return {"de": GERMAN}.get(name, ENGLISH)
