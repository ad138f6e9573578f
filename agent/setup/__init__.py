"""The command ``setup``: from a few answers to a gateway that is configured and enabled.

    answers (file, options, questions) ─┐
    present agent.toml ─────────────────┴─> plan ─> broker tried ─> shown ─> applied

``answers`` reads what is wanted, ``edit`` changes the TOML and keeps its comments, ``plan`` joins
both and writes nothing. ``broker`` tries the broker, ``credentials`` stores secrets, ``apply`` does
what the plan says. ``once`` removes the secrets from a file of answers. ``questions`` asks a
person, ``ports`` probes serial devices, and ``commands`` is the command line.
"""
