"""Bytes into lines, lines or measurements into readings: pure, no I/O and no clock.

    bytes ─lines.Framer─> lines ─┬─lines.LineParser─> readings, rejects
    numbers ──────> measurements ┘

``formats``, ``headed``, ``keyvalue`` and ``regex`` are the formats that a line can have.
``measurement`` is a row of an input that has numbers; ``numbers`` reads that.
"""
