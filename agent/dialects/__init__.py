"""The form of messages to central ops: a dialect makes topic and bytes from the outbox's records.

    outbox ─record─> dialect ─topic, bytes─> session ─> broker

``dialect`` defines the interface, ``kinds`` makes the configured dialect, ``cloudevents`` and
``cbor`` are the two dialects. ``topics`` has the topics of the collector, which are the same in all
dialects. ``received`` reads at central ops what any of them has written.
"""
