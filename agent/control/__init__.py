"""The control door: how people and programs reach the one thread that may write.

    socket ─> door ─┐                                 ┌─> answered at once, where nothing changes
    signal ─────────┼─> inbox ─> loop: dispatcher ─> handler
    (MQTT) ─────────┘                                 └─> commit ─> answered

``protocol`` is what goes over the socket, ``client`` the other end of it. The inbox and the
dispatcher do no I/O; the door's thread does, so that the loop never waits for a client.
"""
