"""What the gateway keeps: the only room that meets SQLite.

    batch ─writer─> fieldwatch.db, readings.db ─reader─> commands, uplink

``ring``, ``alarm_table`` and ``outbox`` are the writer's tables; ``record`` is a message in the
outbox. ``sqlite`` opens files, ``migrations`` makes their tables, ``salvage`` reads damaged ones.
``retention`` and ``compaction`` keep them small, ``correction`` puts times right.
"""
