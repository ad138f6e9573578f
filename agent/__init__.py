"""The gateway's agent: from sensor to SQLite to central ops.

    inputs ─chunks─> daemon's loop: parsing ─> scoring ─> alarms ─batch─> store
                                                                           │
      staff <── commands, health (status, metrics, log) <──────────────────┤
      central ops <── mqtt <── uplink <────────────────────────────────────┘

``config`` says what there is, ``bundles`` loads what scores, ``fleets`` chooses what each stream
runs, ``daemon`` wires all and runs the loop, with ``commits``, ``corrections``, ``overview`` and
``reloading``. ``collector`` is the other end of the uplink. ``bench`` and ``demo`` measure and
show the agent from outside. Which room may import which is a table in
``tests/test_architecture.py``.
"""
