"""Handles defects of the agent: no thread ends unnoticed, and no message crashes it forever.

``threads`` ends the process if an exception ends a thread. ``quarantine`` sets aside a message that
was being processed at each of several crashes. ``notes`` stores this on the disk.
"""
