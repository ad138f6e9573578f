"""What the agent costs on this machine, beside its bare parts: ``fieldwatch-agent bench``.

    devices ─lines─> the daemon: its own loop, store and uplink ─> broker ─> subscriber
    (memory, ptys)        │ each commit                            (own processes)
                          └> marks: CPU time, lines, bytes

    run      what is measured, in which order, and the JSON
    rig      the daemon with meters at its ends       devices  who sends
    meters   marks at commits, and between two        lines    what is sent
    stages   where the loop's time goes               bare     the parts by themselves
    bundle   the network that is run                  drain    how fast a full outbox is sent
    cold_start  from the start to the first score     machine  the kernel's clocks and counters

All costs are CPU time, so that other work on the machine changes them little.
"""
