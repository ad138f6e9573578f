"""The style of all figures: a few colours, and SVG whose bytes depend only on the data."""

from __future__ import annotations

import io
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text

from models.printable import printable

INK: Final = "#1f2937"
MODEL: Final = "#2563eb"
LIMIT: Final = "#b91c1c"
FAULT: Final = "#f59e0b"
EVENT: Final = "#7c3aed"
SECOND: Final = "#0d9488"

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fieldwatch",  # the same data makes the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "legend.frameon": False,
}


def style() -> Any:
    """Return the matplotlib context for a figure."""
    return mpl.rc_context(_STYLE)


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG without a date.

    All texts set so far appear literally, with their "$". matplotlib adds the numbers at the axes
    while it draws, and may set them as mathematics.
    """
    for text in figure.findobj(Text):
        if given := text.get_text():
            text.set_text("\n".join(map(printable, given.split("\n"))))
            text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
