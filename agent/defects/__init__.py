"""Handles defects of the agent: no thread ends unnoticed, no message crashes it for ever.

``threads`` ends the process if a thread of it ended. ``quarantine`` sets aside what the agent was
working on at each of several crashes. ``notes`` keeps that on the disk.
"""
