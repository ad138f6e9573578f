"""Inputs deliver readings from devices to the agent, as lines of text or as numbers.

An input's own thread only cuts bytes into lines, or asks for numbers, and enqueues them; the
agent's loop takes the chunks and reads them (``agent.parsing``), so that all counting and deciding
happens in one place and in order. ``source`` is what every input is, ``kinds`` opens one by its
table, ``queue`` is the way to the loop, ``plant`` is the simulated pump.

Other packages may use the names below and ``agent.inputs.threaded``: these stay.
"""

from agent.inputs.source import Chunk, Input, InputStatus
from agent.parsing.measurement import Bad, Measurement

__all__ = ["Bad", "Chunk", "Input", "InputStatus", "Measurement"]
