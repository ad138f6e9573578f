"""Commands: the way of people and programs to the only thread that may write.

    socket ─> door ─┐                                 ┌─> answered at once, where nothing changes
    signal ─────────┼─> inbox ─> loop: dispatcher ─> handler
    (MQTT) ─────────┘                                 └─> commit ─> answered

``control`` combines these for the loop. ``protocol`` defines the lines on the socket, and
``client`` is the other end. The inbox and the dispatcher do no I/O. The door's thread does it, so
the loop never waits for a client.
"""
