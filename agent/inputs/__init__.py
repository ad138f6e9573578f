"""Inputs: what brings lines from devices into the agent; here what all of them have in common.

An input's own thread only cuts bytes into lines and enqueues them; the agent's loop takes the
chunks and reads the lines (``agent.parsing.lines``), so that all counting and deciding happens
in one place and in order.
"""
