"""Bytes into lines, lines or measurements into readings: pure, no I/O and no clock.

    lines ───────────────┬─lines.LineParser─> readings, rejects
    numbers> measurements┘

``formats``, ``headed``, ``keyvalue`` and ``regex`` are the formats of lines. ``models.formats`` has
the code that they share with the trainer. ``documents`` splits JSON messages. ``measurement`` is a
row of a numeric input; ``numbers`` reads it.
"""
