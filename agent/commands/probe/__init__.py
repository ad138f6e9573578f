"""The command ``probe``: listens to an input, guesses its format, and proposes its configuration.

    listen ─arrivals─> guess ─settings─> measured by the agent's own parser ─> propose ─> TOML

``commands`` is the command line. ``run`` joins the other modules.
"""
