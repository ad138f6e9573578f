"""The benchmark ``fieldwatch-agent bench``: the agent's cost here, and that of its bare parts.

    devices ─lines─> the daemon: its own loop, store and uplink ─> broker ─> subscriber
    (memory, ptys)        │ each commit                            (own processes)
                          └> marks: CPU time, lines, bytes

    run      the order of measurements, and the JSON
    rig      the daemon with meters at its ends       devices  the senders
    meters   marks at commits, and between two        lines    the lines that they send
    stages   the loop's time by stage                 bare     the parts by themselves
    bundle   the network that runs                    drain    the rate of sending a full outbox
    cold_start  from the start to the first score     machine  the kernel's clocks and counters

All costs are CPU time, so that other work on the machine changes them little.
"""
