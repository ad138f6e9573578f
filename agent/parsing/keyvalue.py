"""Pairs of key and value on a line: ``T=21.4 P=1.2;RPM=1490``, or ``T: 21.4, P: 1.2``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.config.inputs import InputTable
from agent.parsing.formats import Keys, Row, Rows, Values, stacked, times_of
from agent.parsing.rejects import Rejects
from models.formats.times import NO_TIME

_TO_BLANKS = str.maketrans(",;", "  ")


class KeyValue:
    """Pairs in any order; a value is a number, with a configured unit, or nothing."""

    block_counts_nothing = True

    def __init__(self, settings: InputTable, names: Sequence[str], rejects: Rejects) -> None:
        self._rejects = rejects
        self._keys = Keys(settings, names)
        self._seconds, self._values = times_of(settings).seconds, Values(settings, names, rejects)
        self._value = self._values.cells.value
        self._decimal_comma = settings.decimal == ","
        self.has_time = self._keys.time is not None
        self._separator = settings.separator
        self._units = sorted(settings.units, key=len, reverse=True)
        self._words = frozenset([*settings.ignore_keys, *settings.units])  # not pairs; ignored

    def block(self, lines: Sequence[bytes]) -> Rows | None:
        """Parse all lines at once, if each has only expected pairs."""
        rows = []
        try:
            for line in lines:
                pairs = self._pairs(line.decode())
                if not pairs.keys() <= self._keys.expected or self._keys.known.isdisjoint(pairs):
                    return None
                values = list(map(self._value, self._cells(pairs)))
                rows.append(Row(line, self._time(pairs), values))
        except ValueError:
            return None
        return stacked(rows, len(self._keys.channels))

    def line(self, line: bytes, text: str) -> Row | None:
        """Read one line; None if it was rejected."""
        try:
            pairs = self._pairs(text)
        except _NoPair as odd:
            self._rejects.add("truncated" if odd.last else "malformed", line)
            return None
        if self._keys.known.isdisjoint(pairs):
            self._rejects.add("unknown_channel", line)
            return None
        values = self._values.read(line, enumerate(self._cells(pairs)))
        for key in sorted(pairs.keys() - self._keys.expected):
            self._rejects.add("unknown_channel", line, key)
        return Row(line, self._time(pairs), values)

    def _pairs(self, text: str) -> dict[str, str]:
        """Return the value of each key as text; the last one if a key is repeated.

        Raises:
            _NoPair: something is not a pair.

        """
        pairs: dict[str, str] = {}
        words = self._split(text)
        for number, word in enumerate(words, 1):
            key, sign, value = word.partition("=")
            if not sign:
                key, sign, value = word.partition(":")
            key = key.strip()
            if sign and key:
                pairs[key] = value
            elif word not in self._words:
                raise _NoPair(last=number == len(words) and not sign)
        return pairs

    def _split(self, text: str) -> list[str]:
        if self._separator is not None and self._separator != " ":
            return [word for part in text.split(self._separator) if (word := part.strip())]
        if self._separator is None and self._decimal_comma:  # "T=21,4, P=1,2"
            text = text.replace(";", " ").replace(", ", " ")
        elif self._separator is None:
            text = text.translate(_TO_BLANKS)
        text = " ".join(text.split())
        for near in ("=", ":"):  # "T = 21.4" is one pair, too
            text = text.replace(f" {near}", near).replace(f"{near} ", near)
        return text.split()

    def _cells(self, pairs: Mapping[str, str]) -> list[str]:
        """Return the text of each channel's value; empty if there is none."""
        if not self._units:
            return [pairs.get(key, "") for key in self._keys.channels]
        return [self._without_unit(pairs.get(key, "")) for key in self._keys.channels]

    def _time(self, pairs: Mapping[str, str]) -> float:
        return self._seconds(pairs.get(self._keys.time, "")) if self._keys.time else NO_TIME

    def _without_unit(self, value: str) -> str:
        value = value.strip()
        for unit in self._units:
            if value.endswith(unit):
                return value.removesuffix(unit)
        return value


class _NoPair(ValueError):
    """A word without a = or :, or without a key before it."""

    def __init__(self, last: bool) -> None:
        super().__init__("not a pair of key and value")
        self.last = last  # whether it is the last word of the line, which may be truncated
