"""How people handle an alarm: its states and transitions after ISA-18.2 and IEC 62682.

    condition ─raised, worsened, cleared, unwatched─┐
    people ─acknowledge, shelve, out of service, …──┼─> machine: Standing ─> Standing
    time ─the end of a shelving─────────────────────┘            (one row of the logbook)

``states`` says what an alarm's standing is, ``machine`` how it changes, ``priority`` how urgent it
is, ``transition`` what is written of a change. This is arithmetic: no input or output, and no clock
of its own. docs/alarms.md compares it with the standard.
"""
