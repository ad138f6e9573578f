"""Bytes into lines, lines or measurements into readings: pure, no I/O and no clock.

    lines ───────────────┬─lines.LineParser─> readings, rejects
    numbers> measurements┘

``formats``, ``headed``, ``keyvalue`` and ``regex`` are the formats that a line can have; what they
share with the trainer is in ``models.formats``. ``documents`` takes messages of JSON apart.
``measurement`` is a row of an input that has numbers; ``numbers`` reads that.
"""
