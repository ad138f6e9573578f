"""Persists what the gateway must keep. Only this package uses SQLite.

    batch ─writer─> fieldwatch.db, readings.db ─reader─> commands, uplink

``writer`` has a ``records_file`` with ``alarm_table`` and ``outbox``, and a ``readings_file`` with
``ring`` and ``history``; each is a ``file``. ``record`` is a message in the outbox. ``sqlite``
opens files, ``migrations`` makes their tables, ``salvage`` reads damaged ones. ``retention`` and
``compaction`` keep them small. ``correction`` corrects times. A ``window`` has the samples around
an alarm; ``window_table`` writes it, and ``windows`` reads it.
"""
