"""Store and forward: what waits in the outbox goes to central ops, and what comes back.

    loop ─handover─> sender ─session─> broker

``priorities`` says which message is next, ``acknowledgements`` what the collector has, and
``words`` whether it was the collector that said so.
"""
