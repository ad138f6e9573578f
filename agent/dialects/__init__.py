"""How messages look to central ops: a dialect makes topic and bytes of what the outbox keeps.

    outbox ─record─> dialect ─topic, bytes─> session ─> broker

``dialect`` says what one is, ``kinds`` makes the one that is configured, ``cloudevents`` and
``cbor`` are the two there are. ``topics`` has those of the collector, which is the same in all
dialects, and ``received`` reads at central ops what any of them has written.
"""
