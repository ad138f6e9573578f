"""Changes settings in a TOML text that people wrote, and keeps their comments and their order.

The text is cut at its headers. Its values are read by ``tomllib`` only, and so is the result: where
this module does not understand a form of TOML, it refuses to change the file.
"""

from __future__ import annotations

import copy
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from models.errors import ConfigError
from models.toml import pairs, toml_value

_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([\w.-]+)\s*\]\]?\s*(#.*)?")
_KEY: Final = re.compile(r"\s*([\w.-]+)\s*=")
_EXAMPLE: Final = re.compile(r"#\s*([\w-]+)\s*=")

Place = tuple[str, ...]


class _Part:
    """A header, and the lines up to the next one; the first part has no header."""

    def __init__(self, lines: list[str], place: Place = (), is_row: bool = False) -> None:
        self.lines, self.place, self.is_row = lines, place, is_row


class Editor:
    """A TOML text, and the document that it shall have after all changes."""

    def __init__(self, text: str, source: str) -> None:
        """Take a text.

        Raises:
            ConfigError: it is not TOML.

        """
        self._source = source
        self._parts = list(_cut(text))
        try:
            self.document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{source}: not TOML: {error}") from error

    def text(self) -> str:
        """Return the changed text.

        Raises:
            ConfigError: the file has a form in which a setting could not be changed.

        """
        text = self._joined().rstrip("\n") + "\n"
        try:
            made = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{self._source}: {self._unfit()} ({error})") from error
        if _sorted(made) != _sorted(self.document):
            raise ConfigError(f"{self._source}: {self._unfit()}")
        return text

    def _joined(self) -> str:
        return "\n".join(line for part in self._parts for line in part.lines)

    def _unfit(self) -> str:
        return (
            "its form cannot be changed automatically. Write tables with headers in lines of their"
            " own, such as [mqtt], or change the settings by hand"
        )

    def set(self, place: Place, value: Any) -> None:
        """Give a setting a value that is not a table."""
        *tables, key = place
        table = self.document
        for name in tables:
            table = table.setdefault(name, {})
        if key in table and table[key] == value:
            return
        table[key] = value
        part = self._table(tuple(tables))
        line = f"{key} = {toml_value(value)}"
        if (found := _lines_of(part.lines, key)) is not None:
            comment = _comment(part.lines[found.start]) if len(found) == 1 else ""
            part.lines[found.start : found.stop] = [_with_comment(line, comment)]
            return
        for at, text in enumerate(part.lines):
            if (example := _EXAMPLE.match(text)) and example[1] == key:
                part.lines[at] = _with_comment(line, _comment(text.lstrip("# ")))
                return
        part.lines.insert(_end_of_settings(part.lines), line)

    def remove(self, place: Place) -> None:
        """Remove a setting, if it is there."""
        *tables, key = place
        table = self.document
        for name in tables:
            table = table.get(name, {})
        if table.pop(key, None) is None:
            return
        for part in self._parts:
            if part.place == tuple(tables) and (found := _lines_of(part.lines, key)) is not None:
                del part.lines[found.start : found.stop]

    def remove_table(self, name: str) -> None:
        """Turn a table and those in it into comments, if it is there."""
        if self.document.pop(name, None) is None:
            return
        for part in self._parts:
            if part.place[:1] == (name,):
                part.lines = [_commented(line) for line in part.lines]
                part.place = ()

    def replace_rows(self, name: str, tables: Sequence[Mapping[str, Any]]) -> None:
        """Give a list of tables, such as ``inputs``, new rows; rows that stay keep their text."""
        before = self.document.get(name, [])
        if before == list(tables):
            return
        self.document[name] = copy.deepcopy(list(tables))
        groups = list(self._groups(name))
        kept = [group for row, group in zip(before, groups, strict=False) if row in tables]
        for group in groups:
            if group not in kept:
                for part in group:
                    part.lines, part.place = _without_settings(part.lines), ()
        made = [line for row in tables if row not in before for line in ("", *_rows(name, row))]
        if kept:
            last = kept[-1][-1]
            at = _end_of_settings(last.lines)
        elif groups:
            last, at = groups[0][0], 0
            made = [*made[1:], ""]
        else:
            last = self._parts[-1]
            at = len(last.lines)
        last.lines[at:at] = made
        self._parts = list(_cut(self._joined()))  # the new rows are parts, too

    def _groups(self, name: str) -> Iterator[list[_Part]]:
        """Yield the parts of each row of a list of tables."""
        group: list[_Part] = []
        for part in self._parts:
            if part.place == (name,) and part.is_row:
                if group:
                    yield group
                group = [part]
            elif part.place[:1] == (name,) and group:
                group.append(part)
        if group:
            yield group

    def _table(self, place: Place) -> _Part:
        for part in self._parts:
            if part.place == place and not part.is_row:
                return part
        while self._parts[-1].lines and not self._parts[-1].lines[-1].strip():
            self._parts[-1].lines.pop()
        part = _Part(["", f"[{'.'.join(place)}]"] if place else [], place)
        self._parts.insert(len(self._parts) if place else 0, part)
        return part


def _cut(text: str) -> Iterator[_Part]:
    part = _Part([])
    for line in text.split("\n"):
        if header := _HEADER.fullmatch(line):
            yield part
            part = _Part([], tuple(header[2].split(".")), header[1] == "[[")
        part.lines.append(line)
    yield part


def _lines_of(lines: Sequence[str], key: str) -> range | None:
    """Return the lines of a setting; its value may have several."""
    for at, line in enumerate(lines):
        if (found := _KEY.match(line)) and found[1] == key:
            for end in range(at + 1, len(lines) + 1):
                if _is_toml("\n".join(lines[at:end])):
                    return range(at, end)
    return None


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _comment(line: str) -> str:
    """Return the comment behind a setting in one line."""
    for at in (found.start() for found in re.finditer("#", line)):
        if _is_toml(line[:at]):
            return line[at:]
    return ""


def _with_comment(line: str, comment: str) -> str:
    return f"{line:<29} {comment}" if comment else line


def _commented(line: str) -> str:
    return f"# {line}" if line.strip() and not line.lstrip().startswith("#") else line


def _settings(lines: Sequence[str]) -> Iterator[int]:
    """Yield the lines that belong to a setting or are a header."""
    at = 0
    while at < len(lines):
        if found := _KEY.match(lines[at]):
            span = _lines_of(lines[at:], found[1]) or range(1)
            yield from range(at, at + len(span))
            at += len(span)
            continue
        if _HEADER.fullmatch(lines[at]):
            yield at
        at += 1


def _end_of_settings(lines: Sequence[str]) -> int:
    """Return where a further setting of a part belongs: after the last, before later comments."""
    return max(_settings(lines), default=-1) + 1


def _without_settings(lines: Sequence[str]) -> list[str]:
    gone = set(_settings(lines))
    left = [line for at, line in enumerate(lines) if at not in gone]
    return list(itertools.dropwhile(lambda line: not line.strip(), left))


def _rows(name: str, row: Mapping[str, Any]) -> Iterator[str]:
    """Yield a row. Its tables have dotted keys: comments that follow are about the row itself."""
    yield f"[[{name}]]"
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _dotted(key, value)
        else:
            yield from pairs({key: value})


def _dotted(key: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table with dotted keys."""
    for line in pairs(table):
        yield f"{key}.{line}" if _KEY.match(line) and line[0] != " " else line


def _sorted(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document whose lists of named tables have no order."""
    return {
        key: sorted(value, key=repr)
        if isinstance(value, list) and all(isinstance(one, Mapping) for one in value)
        else value
        for key, value in document.items()
    }
