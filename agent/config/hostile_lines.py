"""Makes lines that keep a regular expression busy for long, from the expression itself.

If a line does not match in the end, Python's ``re`` tries every way in which repeats can share a
text. So the lines repeat what several repeats match, in all places, and end with what none matches.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from agent.config.line_patterns import PIECE, REGEX_BYTES_MAX, repeat_of
from agent.config.time_limit import TIME_LIMIT, TooSlow

_CHARACTERS: Final = "10a Z_-.,;:=/x\t+#é"
_ENDS: Final = ("\0", "!", "")
_TRIED_S: Final = 5.0  # computing this long for the usual few hundred lines is too slow, too
_NEIGHBOURS: Final = 8  # most repeats that are filled at a time; or all


class _Part(NamedTuple):
    """A piece of the expression."""

    texts: Sequence[str]  # one of each kind that it matches once
    low: int
    high: int  # times

    @property
    def varies(self) -> bool:
        return self.high > self.low and bool(self.texts)

    @property
    def shortest(self) -> str:
        return self.texts[0] * self.low if self.texts else ""


def slow_line(pattern: str) -> str | None:
    """Return a line for which a pattern takes too long on this machine; None if none was found.

    Call it in the main thread.
    """
    compiled = re.compile(pattern)
    until_s = time.process_time() + _TRIED_S
    for line in dict.fromkeys(_lines(pattern)):
        if time.process_time() > until_s:
            return line
        TIME_LIMIT.begin()
        try:
            compiled.fullmatch(line)
        except TooSlow:
            return line
        finally:
            TIME_LIMIT.end()
    return None


def _lines(pattern: str) -> Iterator[str]:
    for choice in (0, -1):
        parts = _parts(PIECE.findall(pattern), choice)
        repeats = [at for at, part in enumerate(parts) if part.varies]
        spans = [(begin, end) for begin in range(len(repeats)) for end in range(len(repeats))]
        for begin, end in spans:
            if begin <= end and (end - begin < _NEIGHBOURS or begin == 0):
                yield from _filled(parts, repeats[begin : end + 1])


def _filled(parts: Sequence[_Part], repeats: Sequence[int]) -> Iterator[str]:
    """Yield lines in which these repeats share the available length."""
    room = REGEX_BYTES_MAX - sum(len(part.shortest) for part in parts) - 1
    share = max(1, room // len(repeats))
    texts = [part.shortest for part in parts]
    for at in repeats:
        part = parts[at]
        text = max(part.texts, key=lambda text: sum(text in parts[near].texts for near in repeats))
        texts[at] = text * min(part.high, max(1, share // len(text)))
    for end in _ENDS:
        yield "".join(texts)[: REGEX_BYTES_MAX - 1] + end
        yield "".join(texts[: repeats[-1] + 1])[: REGEX_BYTES_MAX - 1] + end


def _parts(pieces: Sequence[str], choice: int) -> list[_Part]:
    """Return the parts in sequence; of alternatives with repeats, those at ``choice``."""
    characters = "".join(dict.fromkeys("".join(pieces))) + _CHARACTERS
    groups: list[list[list[_Part]]] = [[[]]]  # the open groups: the alternatives of each
    for piece in pieces:
        if piece.startswith("("):
            groups.append([[]])
        elif piece == "|":
            groups[-1].append([])
        elif piece == ")":
            inner = groups.pop()
            groups[-1][-1] += _group(inner, choice)
        elif (times := repeat_of(piece)) is None:
            groups[-1][-1].append(_Part(_taken(piece, characters), 1, 1))
        elif groups[-1][-1]:
            part = groups[-1][-1].pop()
            groups[-1][-1].append(part._replace(low=times[0], high=times[1]))
    return _group(groups[0], choice)


def _group(alternatives: Sequence[list[_Part]], choice: int) -> list[_Part]:
    """Return the parts of a group: as one part if it may be repeated."""
    if any(part.varies for parts in alternatives for part in parts):
        return alternatives[choice]
    texts = ["".join(part.shortest for part in parts) for parts in alternatives]
    return [_Part([text for text in texts if text], 1, min(2, len(texts)))]


def _taken(piece: str, characters: str) -> list[str]:
    try:
        one = re.compile(piece)
    except re.error:  # a reference to a group, or an anchor
        return []
    return [text for text in dict.fromkeys(piece[-1] + characters) if one.fullmatch(text)]
