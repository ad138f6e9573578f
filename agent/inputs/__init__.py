"""Inputs: what brings lines from devices into the agent.

An input's own thread only cuts bytes into lines and enqueues them; the agent's loop takes the
chunks and reads the lines (``agent.parsing``), so that all counting and deciding happens in one
place and in order. ``source`` is what every input is, ``kinds`` opens one by its table, ``queue``
is the way to the loop, ``plant`` is the simulated pump.

What is named here other packages may use, with ``agent.inputs.threaded``: it stays.
"""

from agent.inputs.source import Chunk, Input, InputStatus

__all__ = ["Chunk", "Input", "InputStatus"]
