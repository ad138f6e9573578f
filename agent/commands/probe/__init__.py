"""Probing: what an input delivers, what that seems to be, and its configuration.

    listen ─arrivals─> guess ─settings─> measured by the agent's own parser ─> propose ─> TOML

``commands`` is its part of the command line, ``run`` joins the others.
"""
