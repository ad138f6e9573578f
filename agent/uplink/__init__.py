"""Store and forward: what waits in the outbox goes to central ops, and what comes back.

    loop ─handover─> sender ─session─> broker

``scheduler`` says which message is next, ``window`` what the broker has not answered,
``acknowledgements`` what the collector has and ``unconfirmed`` what it has not, and ``words``
whether it was the collector that said so.
"""
