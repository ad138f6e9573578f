"""Store and forward: sends the outbox to central ops, and handles what comes back.

    loop ─handover─> sender ─session─> broker

``scheduler`` says which message is next. ``window`` knows what the broker has not answered yet.
``acknowledgements`` knows what the collector has, and ``unconfirmed`` what it has not. ``words``
checks that a message really comes from the collector.
"""
