"""Store and forward: sends the outbox to central ops, and handles the replies.

    loop ─handover─> sender ─session─> broker

``scheduler`` selects the next message. ``window`` tracks messages without the broker's answer.
``acknowledgements`` tracks what the collector has, ``unconfirmed`` what it must still confirm.
``words`` verifies that a message really comes from the collector.
"""
