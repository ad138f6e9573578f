"""Guesses from a first look: the column of times, the channels, and their units. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from models.formats.cells import MISSING_WORDS, Cells, Decimal, NotANumber, NoValue
from models.formats.moments import (
    MOST,
    NAMES_A_TIME,
    Moment,
    date_and_clock,
    days_of_a_spreadsheet,
    machine_zone,
    moment_of,
)
from models.formats.recording import QUALITY, SCORE
from models.formats.times import ELAPSED
from models.plain_names import plain_name
from trainer.survey.look import Looked

_NAMES_A_CHANNEL: Final = re.compile(
    r"tag|channel|signal|sensor|variable|metric|parameter|point|name|kanal|messstelle|canal", re.I
)
_ELAPSED_NAMES: Final = re.compile(
    r"(.*_)?(t|time|timestamp|zeit|elapsed|s|sec|secs|seconds?|sekunden)(_(s|sec|seconds?))?", re.I
)
_WITH_UNIT: Final = re.compile(r"(.*\S)\s*[\[(]([^\[\]()]{1,16})[\])]")
_ZONE: Final = "time_zone:"  # begins what is said of it
_UNIT_MAX: Final = 16  # characters
_NAME_MAX: Final = 40
_LONG_NAMES_MAX: Final = 1000


class Column(NamedTuple):
    """A column, or a name of the long form, that may be a channel."""

    name: str  # of the channel
    source: str  # as the data call it
    unit: str


class Guess(NamedTuple):
    """How to read the data."""

    settings: Mapping[str, Any]  # of the table [data]
    channels: Sequence[Column]
    left_out: dict[str, str]  # columns, and why they are no channels
    unsure: Sequence[str]  # sentences for people


def guess(looked: Looked, given: Mapping[str, Any]) -> Guess:
    """Return how to read a source; without a time, ``settings`` lacks ``time_column``.

    Args:
        looked: the first look at the source.
        given: settings of the table ``[data]`` that a person gave; they are not guessed.

    """
    decimal: Decimal = looked.settings.get("decimal", ".")
    made = _Guessing(looked, decimal)
    made.find_time(given)
    if not made.find_long_form():
        made.find_channels()
    return Guess(made.settings, made.channels, made.left_out, made.unsure)


class _Guessing:
    def __init__(self, looked: Looked, decimal: Decimal) -> None:
        self._names, self._cells = looked.names, looked.cells
        self._units = looked.units
        self._reader = Cells(decimal, MISSING_WORDS)
        self._of_time: set[str] = set()
        self._timely: set[str] = set()  # columns that could be times
        self.settings: dict[str, Any] = dict(looked.settings)
        self.channels: list[Column] = []
        self.left_out: dict[str, str] = {}
        self.unsure: list[str] = []

    # ---- the time

    def find_time(self, given: Mapping[str, Any]) -> None:
        """Find the column of times, or those of the date and the time of day."""
        named = [given[key] for key in ("time_column", "clock_column") if key in given]
        if not named or "time_format" not in given:
            self._search_time(named)
        self._of_time |= set(named)
        self.settings |= given
        if "time_zone" in given:
            self.unsure = [line for line in self.unsure if not line.startswith(_ZONE)]

    def _search_time(self, named: Sequence[str]) -> None:
        """Search the times among the columns ``named``, or among all."""
        found = [
            (at, moment)
            for at, texts in enumerate(self._cells)
            if (not named or self._names[at] in named)
            and (moment := moment_of([text for text in texts if text])) is not None
        ]
        self._timely = {self._names[at] for at, _ in found}
        found.sort(key=lambda one: not NAMES_A_TIME.search(self._names[one[0]]))
        apart = None if found else date_and_clock(self._cells)
        if found:
            self._take(*found[0])
        elif apart is not None:
            self._take_apart(apart.first, apart.second)
        elif (days := days_of_a_spreadsheet(self._names, self._pointed())) is not None:
            self._take(*days)
            self.unsure.append(f"{self._names[days[0]]} seems to have a spreadsheet's days")
        elif (at := self._elapsed()) is not None:
            self._take(at, Moment(None, (), local=False))
            self.unsure.append(f"{self._names[at]} seems to count seconds since a start")

    def _pointed(self) -> list[list[str]]:
        """Return the cells with decimal points."""
        if self.settings.get("decimal") != ",":
            return self._cells
        return [[text.replace(",", ".") for text in texts] for texts in self._cells]

    def _elapsed(self) -> int | None:
        """Return the column of seconds since a start: its numbers rise, and its name fits."""
        for at, (name, texts) in enumerate(zip(self._names, self._cells, strict=True)):
            numbers = list(self._numbers(texts))
            named = _ELAPSED_NAMES.fullmatch(plain_name(name))
            if named and len(numbers) == len(texts) > 1 and numbers == sorted(set(numbers)):
                return at
        return None

    def _take(self, at: int, moment: Moment) -> None:
        name = self._names[at]
        self._of_time.add(name)
        self.settings["time_column"] = name
        self._take_form(name, moment)

    def _take_apart(self, first: int, second: int) -> None:
        """Take a date and a time of day."""
        pairs = zip(self._cells[first], self._cells[second], strict=True)
        moment = moment_of([f"{one} {other}" for one, other in pairs])
        if moment is None:
            return
        self._of_time |= {self._names[first], self._names[second]}
        self.settings["time_column"] = self._names[first]
        self.settings["clock_column"] = self._names[second]
        self._take_form(f"{self._names[first]} with {self._names[second]}", moment)

    def _take_form(self, name: str, moment: Moment) -> None:
        self.settings["time_format"] = moment.form or ELAPSED
        if moment.also:
            also = " or ".join(map(repr, moment.also))
            self.unsure.append(
                f"{name}: day and month cannot be told apart; time_format may also be {also}"
            )
        if moment.local:
            self.settings["time_zone"] = zone = machine_zone()
            self.unsure.append(
                f"{_ZONE} {name} has no offset from UTC; {zone!r} is this machine's: set the"
                " logger's"
            )

    # ---- the channels

    def _numbers(self, texts: Sequence[str]) -> Iterator[float]:
        for text in texts:
            try:
                value = self._reader.value(text)
            except (NotANumber, NoValue):
                continue
            if value == value:
                yield value

    def _is_numbers(self, texts: Sequence[str]) -> bool:
        words = {word.casefold() for word in MISSING_WORDS}
        known = [text for text in texts if text.strip() and text.strip().casefold() not in words]
        return bool(known) and len(list(self._numbers(known))) >= MOST * len(known)

    def find_channels(self) -> None:
        """Take the columns of numbers; leave out the others."""
        for name, texts in zip(self._names, self._cells, strict=True):
            if name in self._of_time:
                continue
            if name == SCORE or name.endswith(QUALITY):
                self.left_out[name] = "the gateway adds it; it is not measured"
            elif not name:
                self.left_out[name] = "it has no name"
            elif self._names.count(name) > 1:
                self.left_out[name] = "there are two columns of this name"
            elif name in self._timely and NAMES_A_TIME.search(name):
                self.left_out[name] = "it has times"
            elif self._is_numbers(texts):
                self._add(name)
            elif not any(text.strip() for text in texts):
                self.left_out[name] = "it is empty in the rows that were looked at"
            else:
                self.left_out[name] = "it has text, not numbers"

    def _add(self, source: str) -> None:
        """Add a channel under a valid name that is not used yet."""
        match = _WITH_UNIT.fullmatch(source)
        wanted, unit = (match[1], match[2]) if match else (source, "")
        unit = _unit(self._units.get(source, unit))
        plain = plain_name(wanted)[:_NAME_MAX] or "channel"
        used = {channel.name for channel in self.channels} | {"time"}
        name, number = plain, 2
        while name in used:
            name, number = f"{plain}_{number}", number + 1
        self.channels.append(Column(name, source, unit))

    def find_long_form(self) -> bool:
        """Whether each row has one value; then its columns and channels are taken."""
        if not self._of_time:
            return False
        others = [
            (name, texts)
            for name, texts in zip(self._names, self._cells, strict=True)
            if name not in self._of_time
        ]
        numbers = [name for name, texts in others if self._is_numbers(texts)]
        words = [(name, texts) for name, texts in others if name not in numbers and any(texts)]
        words = [(name, texts) for name, texts in words if _NAMES_A_CHANNEL.search(name)] or words
        value = next((name for name in numbers if "val" in name.casefold()), None)
        value = value or next((name for name in numbers if "wert" in name.casefold()), None)
        if len(numbers) == 1:
            value = numbers[0]
        if value is None or len(words) != 1:
            return False
        name, texts = words[0]
        if not 1 < len(set(texts)) <= min(_LONG_NAMES_MAX, len(texts) / 2):
            return False
        self.settings |= {"channel_column": name, "value_column": value}
        for source in sorted({text for text in texts if text}):
            self._add(source)
        self.unsure.append(
            f"the channels are those of the {len(texts)} rows that were looked at: are there more?"
        )
        for other, _ in others:
            if other not in (name, value):
                self.left_out[other] = "each row has one value, and this is another column"
        return True


def _unit(text: str) -> str:
    """Return a unit as people write it, without brackets; "" if it cannot be one."""
    plain = text.strip().strip("[]()").strip()
    return plain if len(plain) <= _UNIT_MAX and plain.isprintable() and plain != "-" else ""
