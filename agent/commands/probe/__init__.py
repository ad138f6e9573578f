"""Probing: what an input yields, what that seems to be, and the configuration for it.

    listen ─arrivals─> guess ─settings─> measured by the agent's own parser ─> propose ─> TOML

``commands`` is its part of the command line, ``run`` joins the others.
"""
