"""Readings into scores, summaries and alarms; what the loop does between queue and commit.

chunks ─intake─> readings ─fleet─> samples, scores ─stream─> batch; ``streams`` has all of it, and
``silence`` says when and why no readings come
"""
