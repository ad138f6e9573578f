"""The gateway's agent: from sensor to SQLite to central ops.

    inputs ─chunks─> daemon's loop: parsing ─> scoring ─> alarms ─batch─> store
                                                                           │
      staff <── commands, health (status, metrics, log) <──────────────────┤
      central ops <── mqtt <── uplink <────────────────────────────────────┘

``config`` reads the configuration, ``bundles`` loads the detectors, ``fleets`` chooses the detector
of each stream. ``assembly`` creates all parts, ``daemon`` connects them and runs the loop, with
``central``, ``commits``, ``corrections``, ``operating``, ``overview`` and ``reloading``.
``handling`` has the states of an alarm that people handle; their requests come through ``control``
to ``operating``. ``wording`` has the texts of alarms in the reader's language. ``onsite`` tells
programs and web servers on site. ``page`` shows alarms in a browser, in a process of its own, to
those in the file of ``users``. ``rescue`` has backups and the way back from an upgrade.
``collector`` is the other end of the uplink. ``bench`` and ``demo`` measure and show the agent from
outside. A table in ``tests/test_architecture.py`` defines the allowed imports between packages.
"""
