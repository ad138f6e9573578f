"""Commands: how people and programs reach the one thread that may write.

    socket ─> door ─┐                                 ┌─> answered at once, where nothing changes
    signal ─────────┼─> inbox ─> loop: dispatcher ─> handler
    (MQTT) ─────────┘                                 └─> commit ─> answered

``protocol`` defines what goes over the socket, and ``client`` is its other end. The inbox and the
dispatcher do no I/O. The thread of the door does it, so the loop never waits for a client.
"""
