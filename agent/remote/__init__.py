"""Commands from central ops over MQTT: verification, execution once, and the answers.

    broker ─listener: form, signature─> inbox ─> loop: time, id, execution ─> commit ─┐
    broker <─────────────────────────────────────────────── listener: the answer <────┘

``message`` has the form of a command and of an answer. ``proof`` verifies who signed a command.
``execution`` is the loop's part: it executes no id twice. ``samples`` reads what a command asks
for. ``listener`` is the thread with the connection. ``asking`` is the other side, at central ops.
"""
