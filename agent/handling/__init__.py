"""The handling of alarms by people: states and transitions after ISA-18.2 and IEC 62682.

    condition ─raised, worsened, cleared, unwatched─┐
    people ─acknowledge, shelve, out of service, …──┼─> machine: Standing ─> Standing
    time ─the end of a shelving─────────────────────┘            (one row of the logbook)

``states`` defines an alarm's standing, ``machine`` its changes, ``priority`` its urgency, and
``transition`` the record of a change. ``announcing`` decides which change calls somebody, ``flood``
which alarms are grouped, ``suppression`` when a design suppresses, ``dues`` what time changes next.
This package only computes: it does no I/O and reads no clock. docs/alarms.md compares it with the
standard.
"""
