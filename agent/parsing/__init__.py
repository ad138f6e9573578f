"""Bytes into lines, lines into readings: pure, no I/O and no clock.

    bytes ─lines.Framer─> lines ─lines.LineParser─> readings, rejects

``formats``, ``headed``, ``keyvalue`` and ``regex`` are the formats that a line can have.
"""
