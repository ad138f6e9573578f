"""Readings into scores, summaries and alarms; what the loop does between queue and commit.

chunks ─intake─> readings ─fleet─> samples, scores ─stream─> batch; ``streams`` holds all of these,
and ``silence`` finds out when and why no readings come
"""
