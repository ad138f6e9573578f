"""Inputs deliver readings from devices to the agent, as lines of text or as numbers.

An input's own thread only splits bytes into lines, or requests numbers, and enqueues them. The
agent's loop takes the chunks and parses them (``agent.parsing``), so that all counting and deciding
happens in one place and in order. ``source`` defines the interface of an input, ``kinds`` opens one
by its table, ``queue`` passes chunks to the loop, ``plant`` simulates a pump.

Other packages may use the names below and ``agent.inputs.threaded``: these remain stable.
"""

from agent.inputs.source import Chunk, Input, InputStatus
from agent.parsing.measurement import Bad, Measurement

__all__ = ["Bad", "Chunk", "Input", "InputStatus", "Measurement"]
