"""Commands: how people and programs reach the one thread that may write.

    socket ─> door ─┐                                 ┌─> answered at once, where nothing changes
    signal ─────────┼─> inbox ─> loop: dispatcher ─> handler
    (MQTT) ─────────┘                                 └─> commit ─> answered

``control`` is all of it as the loop sees it. ``protocol`` defines what goes over the socket, and
``client`` is its other end. The inbox and the dispatcher do no I/O. The thread of the door does it,
so the loop never waits for a client.
"""
