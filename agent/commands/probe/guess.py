"""Guesses how to read a device's lines: format, separator, keys, time, checksum. Pure.

A guess is a set of input settings. ``measure`` then tests it: the agent's own parser reads the
lines with these settings.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agent.config.line_patterns import REGEX_BYTES_MAX
from agent.parsing import checksum
from models.formats.cells import IGNORED, MISSING_WORDS, TIME, has_decimal_comma, ungrouped
from models.formats.encodings import Encoding, likely, transcoded
from models.formats.header import Preamble, Wanted, is_value, names_in
from models.formats.moments import (
    MOST,
    Apart,
    Moment,
    date_and_clock,
    days_of_a_spreadsheet,
    is_time,
    machine_zone,
    moment_of,
    pattern_of,
)
from models.formats.separated import SEPARATORS
from models.plain_names import plain_name
from models.printable import printable

_DEPTH_MAX: Final = 8
_HIGH_SHARE_MAX: Final = 0.2  # the largest share of non-ASCII bytes in Western text
_WORDS_MAX: Final = 5  # different words without a value, in lines of pairs

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_SURROGATES = re.compile("[\ud800-\udfff]")  # halves of surrogate pairs, which JSON can contain
_KEY = re.compile(r"[A-Za-z_][^\s=:,;]*")


@dataclass
class Guess:
    """How to read the lines."""

    settings: dict[str, Any]  # of an input's table
    channels: dict[str, str] = field(default_factory=dict)  # name -> column, key or pointer
    time: str | None = None  # column, key or pointer of the time
    header: list[str] | None = None  # names of the columns, as in the header line
    notes: list[str] = field(default_factory=list)

    label: str = ""  # names the source of the lines; it makes channel names unique
    taken: frozenset[str] = frozenset()  # names of the stream's other channels

    def name(self, wanted: str, where: str) -> str:
        """Add a channel for the column, key or pointer ``where``; return its unique, valid name."""
        plain = plain_name(wanted)[:40] or "channel"
        if plain in (TIME, IGNORED):
            plain = f"{plain}_value"
        label = plain_name(self.label)[:20]
        labelled = f"{label}_{plain}" if label else plain
        names = itertools.chain(
            (plain, labelled), (f"{labelled}_{number}" for number in itertools.count(2))
        )
        name = next(name for name in names if name not in self.channels and name not in self.taken)
        self.channels[name] = where
        return name


def guess(
    lines: Sequence[bytes], label: str = "", taken: frozenset[str] = frozenset()
) -> Guess | None:
    """Return the best way to read these lines; None if they match no known format.

    ``label`` names their source. No channel gets one of the names ``taken``.
    """
    kind = _checksum(lines)
    if kind is not None:
        bodies = (checksum.checked(line, kind) for line in lines)
        lines = [body for body in bodies if body is not None]
    encoding = _encoding(lines)
    texts = list(_texts(lines, encoding))
    for look in (_json, _pairs, _csv):
        found = Guess({}, label=label, taken=taken)
        if texts and look(texts, found) and found.channels:
            if kind is not None:
                found.settings["checksum"] = kind
            if encoding != "utf-8":
                found.settings["encoding"] = encoding
                found.notes.append(
                    f"the text is not UTF-8; if names look wrong in {encoding}, try"
                    f" {'cp1252' if encoding == 'latin-1' else 'latin-1'}"
                )
            return found
    return None


def _checksum(lines: Sequence[bytes]) -> checksum.Kind | None:
    for kind in checksum.KINDS:
        good = sum(checksum.checked(line, kind) is not None for line in lines)
        if good and good >= MOST * len(lines):
            return kind
    return None


def _encoding(lines: Sequence[bytes]) -> Encoding:
    """Return the likely encoding; a few lines of noise do not change it."""
    odd = [likely(line) != "utf-8" for line in lines]
    text = b"\n".join(lines)
    if not any(odd) or not (odd[0] or sum(odd) > len(odd) / 2):
        return "utf-8"
    high = sum(byte >= 0x80 for byte in text)
    return likely(text) if high <= _HIGH_SHARE_MAX * len(text) else "utf-8"


def _texts(lines: Sequence[bytes], encoding: Encoding) -> Iterator[str]:
    for line in lines:
        try:
            text = transcoded(line, encoding).decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        if text and not text.isspace():
            yield text


# ---- JSON


def _json(texts: Sequence[str], found: Guess) -> bool:
    documents = [document for document in map(_object, texts) if document is not None]
    if len(documents) < MOST * len(texts):
        return False
    leaves: dict[str, list[Any]] = {}
    for document in documents:
        for pointer, value in _leaves(document, "", 0):
            leaves.setdefault(pointer, []).append(value)
    for pointer in [pointer for pointer in leaves if _SURROGATES.search(pointer)]:
        del leaves[pointer]
        found.notes.append(
            f"{printable(pointer)} is not valid text, so a configuration cannot name it"
        )
    found.settings["format"] = "json"
    nested = any("/" in pointer[1:] and _is_numbers(values) for pointer, values in leaves.items())
    keys, ignored = {}, []
    for pointer, values in leaves.items():
        plain = pointer[1:].replace("~1", "/").replace("~0", "~")
        # the parser would take a plain key that begins with / for a pointer
        where = pointer if nested or plain.startswith("/") else plain
        if _takes_time(found, where, list(map(str, values))):
            found.settings["time_key"] = where
        elif _is_numbers(values):
            name = found.name(_last_part(pointer), where)
            if name != where:
                keys[name] = where
        else:
            ignored.append(plain.split("/")[0] if "/" in pointer[1:] else plain)
    if keys:
        found.settings["keys"] = keys
    if ignored and not any(where.startswith("/") for where in found.channels.values()):
        found.settings["ignore_keys"] = sorted(set(ignored))
    return True


def _object(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _leaves(value: Any, pointer: str, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and depth < _DEPTH_MAX:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            escaped = str(key).replace("~", "~0").replace("/", "~1")
            yield from _leaves(inner, f"{pointer}/{escaped}", depth + 1)
    else:
        yield pointer, value


def _last_part(pointer: str) -> str:
    parts = pointer[1:].split("/")
    if parts[-1].isdecimal() and len(parts) > 1:
        return "_".join(parts[-2:])
    return parts[-1].replace("~1", "/").replace("~0", "~")


def _is_numbers(values: Sequence[Any]) -> bool:
    """Whether most of the known values are numbers, booleans, or strings that contain a number."""
    known = _known([value for value in values if value is not None])
    numbers = sum(
        bool(_NUMBER.fullmatch(value.strip()))
        if isinstance(value, str)
        else isinstance(value, int | float)
        for value in known
    )
    return bool(known) and numbers >= MOST * len(known)


def _known(values: Sequence[Any]) -> list[Any]:
    """Return the values that are not missing."""
    return [
        value
        for value in values
        if not isinstance(value, str)
        or (value.strip() and value.strip().upper() not in (*MISSING_WORDS, "NAN"))
    ]


# ---- pairs


def _pairs(texts: Sequence[str], found: Guess) -> bool:
    lines = [_words(text) for text in texts]
    good = [pairs for pairs, _ in lines if any(_NUMBER.match(value) for value in pairs.values())]
    words = Counter(word for pairs, bare in lines if pairs for word in set(bare))
    if len(good) < MOST * len(texts) or len(words) > _WORDS_MAX:
        return False
    found.settings["format"] = "keyvalue"
    columns: dict[str, list[str]] = {}
    for pairs in good:
        for key, value in pairs.items():
            columns.setdefault(key, []).append(value)
    keys: dict[str, str] = {}
    ignored, units = sorted(words), set[str]()
    for key, values in columns.items():
        suffixes = {_suffix(value) for value in _known(values)}
        if _takes_time(found, key, values):
            found.settings["time_key"] = key
        elif None in suffixes or not suffixes:
            ignored.append(key)
        else:
            units |= {suffix for suffix in suffixes if suffix}
            name = found.name(key, key)
            if name != key:
                keys[name] = key
    optional = {"keys": keys, "ignore_keys": ignored, "units": sorted(units)}
    found.settings |= {setting: given for setting, given in optional.items() if given}
    return True


def _words(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the pairs and the other words of a line, split as ``agent.parsing.keyvalue`` does."""
    text = " ".join(text.replace(",", " ").replace(";", " ").split())
    for sign in ("=", ":"):
        text = text.replace(f" {sign}", sign).replace(f"{sign} ", sign)
    pairs: dict[str, str] = {}
    bare: list[str] = []
    for word in text.split():
        key, sign, value = word.partition("=")
        if not sign:
            key, sign, value = word.partition(":")
        if sign and _KEY.fullmatch(key):
            pairs[key] = value
        else:
            bare.append(word)
    return pairs, bare


def _suffix(value: str) -> str | None:
    """Return what follows a number; None if there is no number, or more numbers."""
    match = _NUMBER.match(value)
    if match is None:
        return None
    rest = value[match.end() :]
    return None if re.search(r"\d[.:\d]", rest) or "_" in rest else rest


# ---- values with a separator in between


def _csv(texts: Sequence[str], found: Guess) -> bool:
    best: tuple[float, str, str, list[tuple[str, list[str]]]] | None = None
    for separator in SEPARATORS:
        rows = [(text, names_in(text, separator)) for text in texts]
        width, count = Counter(len(cells) for _, cells in rows).most_common(1)[0]
        if count < MOST * len(rows) or (width < 2 and separator != ","):
            continue
        rows = [(text, cells) for text, cells in rows if len(cells) == width]
        cells = [cell for _, cells in rows for cell in cells]
        decimal = "," if separator != "," and has_decimal_comma(cells) else "."
        share = _share_of_values(cells, decimal)
        if best is None or share > best[0] or (share == best[0] and width > len(best[3][0][1])):
            best = (share, separator, decimal, rows)
    if best is None or best[0] == 0.0:
        return False
    _, separator, decimal, rows = best
    found.settings["format"] = "csv"
    if separator != ",":
        found.settings["separator"] = separator
    if decimal != ".":
        found.settings["decimal"] = decimal
    found.header = _header(texts, separator, len(rows[0][1]))
    if found.header:
        rows = [(text, cells) for text, cells in rows if any(map(is_value, cells))]
    columns = list(zip(*(cells for _, cells in rows), strict=True))
    apart = None if any(map(moment_of, columns)) else date_and_clock(columns)
    _name_columns(found, columns, decimal, may_be_days=apart is None)
    if apart is not None:
        _put_together(found, apart, [text for text, _ in rows], separator)
    return True


def _header(texts: Sequence[str], separator: str, width: int) -> list[str] | None:
    """Return the names of the columns, if a line above the rows has them."""
    preamble = Preamble(Wanted(), separator)
    for text in texts:
        if not preamble.takes(text.encode()):
            break
    return preamble.header if preamble.header and len(preamble.header) == width else None


def _with_point(cell: str, decimal: str) -> str:
    return ungrouped(cell, decimal == ",") or cell.replace(decimal, ".")


def _share_of_values(cells: Sequence[str], decimal: str) -> float:
    return sum(_is_value(_with_point(cell, decimal)) for cell in cells) / max(1, len(cells))


def _is_value(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell)) or is_time(cell)


def _name_columns(
    found: Guess, columns: Sequence[Sequence[str]], decimal: str, may_be_days: bool
) -> None:
    labels = _labels(found, len(columns))
    timely = (at for at, texts in enumerate(columns) if _takes_time(found, labels[at], texts))
    time_at = next(timely, None)
    columns = [[_with_point(cell, decimal) for cell in cells] for cells in columns]
    if time_at is None and may_be_days and (days := days_of_a_spreadsheet(labels, columns)):
        time_at, moment = days
        found.notes.append(f"{labels[time_at]} seems to be a spreadsheet's dates: check the times")
        _take(found, labels[time_at], moment)
    names = []
    for at, cells in enumerate(columns):
        known = _known(cells)
        numbers = sum(bool(_NUMBER.fullmatch(cell)) for cell in known)
        if at == time_at:
            names.append(TIME)
        elif not known or numbers < MOST * len(known):
            names.append(IGNORED)
        else:
            wanted = found.label if len(columns) == 1 and found.label else f"channel_{at + 1}"
            names.append(found.name(labels[at] if found.header else wanted, labels[at]))
    found.settings["columns"] = names


def _labels(found: Guess, width: int) -> Sequence[str]:
    return found.header or [f"column {at}" for at in range(1, width + 1)]


def _put_together(found: Guess, apart: Apart, texts: Sequence[str], separator: str) -> None:
    """Set a pattern that reads a date and a time of day as one time.

    The time cannot come from two columns.
    """
    columns = found.settings["columns"]
    labels = _labels(found, len(columns))
    where = f"{labels[apart.first]} and {labels[apart.second]}"
    pattern, keys = pattern_of(apart, columns, separator)
    matches = [re.fullmatch(pattern, text[:REGEX_BYTES_MAX]) for text in texts]
    moment = moment_of([match[TIME] if match else "" for match in matches])
    if moment is None:
        found.notes.append(
            f"{where} are date and time of day, but no pattern can read them as one time;"
            " make the program that writes the lines put both into one column"
        )
        return
    above = "; the header counts as one line that cannot be read" if found.header else ""
    found.notes.append(
        f"{where} are date and time of day; the pattern reads them as one time{above}"
    )
    del found.settings["columns"]
    found.settings.pop("separator", None)
    found.settings |= {"format": "regex", "pattern": pattern} | ({"keys": keys} if keys else {})
    found.header = None
    _take(found, f"{labels[apart.first]} with {labels[apart.second]}", moment)


# ---- times


def _takes_time(found: Guess, where: str, texts: Sequence[str]) -> bool:
    """Take a column as the time if most of its texts are times and there is no time yet."""
    moment = moment_of(texts) if found.time is None else None
    if moment is not None:
        _take(found, where, moment)
    return moment is not None


def _take(found: Guess, where: str, moment: Moment) -> None:
    found.time = where
    if moment.form is not None:
        found.settings["time_format"] = moment.form
    if moment.also:
        also = " or ".join(map(repr, moment.also))
        found.notes.append(f"{where} may also be {also}: check the proposed time_format")
    if moment.local:
        found.settings["time_zone"] = zone = machine_zone()
        found.notes.append(
            f"{where} has no offset from UTC; the proposed time_zone = {zone!r} is the gateway's:"
            " set the device's time zone"
        )
