"""What becomes of a mistake in the agent: no thread is missed, no message ends it for ever.

``threads`` ends the process where a thread of it ended; ``quarantine`` sets aside what was in hand
at each of several ends, which ``notes`` has on the disk.
"""
