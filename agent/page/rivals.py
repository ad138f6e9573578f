"""The comparison of a forecast with its rivals, in the viewer's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent.page.words import Words
from models.times import iso_time

_NONE: Final = "–"
_BEST: Final = "✓"

Document = Mapping[str, Any]  # of ``drawn.rivals``


def in_words(document: Document, words: Words) -> dict[str, Any]:
    """Return what the script draws: columns for the chart, and the table ready to be read."""
    lines = document["lines"]
    return {
        "times": document["times"],
        "lines": [
            {"line": one["line"], "title": _title(one, words), "values": values}
            for one in lines
            if one["line"] != "forecast"
            and (values := document["now"].get(one["line"])) is not None
        ],
        "caption": words.text(
            "rivals.caption",
            count=str(document["origins"]),
            ahead_s=document["compared_s"],
            from_at=iso_time(document["first_s"]),
            to_at=iso_time(document["last_s"]),
        ),
        "head": [words.text(f"rivals.{name}") for name in ("by", "error", "ratio", "held")],
        "channels": list(_channels(document, words)),
        "notes": [*_notes(lines, words), words.text("rivals.best", mark=_BEST)],
    }


def _title(line: Document, words: Words) -> str:
    title = words.text(f"rivals.line.{line['line']}")
    return f"{title} ({line['model']})" if line["line"] == "previous" and line["model"] else title


def _channels(document: Document, words: Words) -> Iterator[dict[str, Any]]:
    lines = [one for one in document["lines"] if one["absent"] is None]
    for name, title in document["titles"].items():
        found = [one["channels"][name] for one in lines]
        least = min((one["mae"] for one in found if one["mae"] is not None), default=None)
        yield {
            "title": title,
            "rows": [
                [_title(line, words), *_figures(one, least, words)]
                for line, one in zip(lines, found, strict=True)
            ],
        }


def _figures(one: Document, least: float | None, words: Words) -> list[str]:
    """Return error, its ratio to that of the last value, and the share inside the band."""
    if one["mae"] is None:
        return [_NONE] * 3
    error, best = (words.told.measure(value, one["unit"]) for value in (one["mae"], least))
    mark = f" {_BEST}" * (error == best)  # as it is read
    return [error + mark, *(_share(one[key], words) for key in _SHARES)]


_SHARES: Final = ("to_last", "coverage_80")


def _share(value: float | None, words: Words) -> str:
    return _NONE if value is None else words.told.share(value)


def _notes(lines: list[Document], words: Words) -> Iterator[str]:
    """Yield why a rival is not compared."""
    for line in lines:
        if (absent := line["absent"]) is not None:
            facts = {name: value for name, value in absent.items() if name != "why"}
            facts = {
                name: value if name.endswith("_s") or isinstance(value, str) else f"{value:g}"
                for name, value in facts.items()
            }
            why = words.text(f"rivals.absent.{absent['why']}", **facts)
            yield words.text("rivals.absent", line=_title(line, words), why=why)
