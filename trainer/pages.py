"""Writes self-contained HTML pages: the style, tables and images of all reports."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Final

from models.files import replace
from models.printable import printable
from models.shown import shown

TEXT_CHARACTERS_MAX: Final = 10_000
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937; max-width: 62rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.lead { font-size: 1.05rem; } .quiet { color: #6b7280; overflow-wrap: anywhere; }
table { border-collapse: collapse; } img { max-width: 100%; }
th[scope=row] { font-weight: normal; }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid #e5e7eb;
         font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
"""


def write(path: Path, title: str, body: Iterable[str]) -> None:
    """Write a page with this title; ``body`` is HTML."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f"<title>{text(title)}</title><style>{_STYLE}</style>"
    page = f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n'
    replace(path, (page + "\n".join(body) + "\n</main></body></html>\n").encode())


def text(value: object) -> str:
    """Return a value as HTML text; everything in it is escaped."""
    told = shown(value, "g", absent="–") if isinstance(value, float) else str(value)
    return escape(printable(told, TEXT_CHARACTERS_MAX))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of text; without a header row if all its cells are empty.

    If the first of them is empty, the first cell of a row is the row's name.
    """
    named = not header[0]
    lines = ["".join(map(_column_header, header))] if any(header) else []
    lines += ["".join(_cell(cell, named and not at) for at, cell in enumerate(row)) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>\n" for line in lines) + "</table>"


def _column_header(name: str) -> str:
    # an empty header cell would be read out as one that has lost its name
    return f'<th scope="col">{text(name)}</th>' if name else "<td></td>"


def _cell(value: object, names_row: bool) -> str:
    return f'<th scope="row">{text(value)}</th>' if names_row else f"<td>{text(value)}</td>"


def or_dash(value: float | None) -> str:
    """Return a figure as text; a dash if it is not known."""
    return shown(value, "g", absent="–")


def image(svg: bytes, instead: str) -> str:
    """Return a drawing with its alternative text."""
    data = base64.b64encode(svg).decode()
    return f'<p><img alt="{text(instead)}" src="data:image/svg+xml;base64,{data}"></p>'
