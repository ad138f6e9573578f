"""Turns readings into scores, summaries and alarms: the loop's work between queue and commit.

    chunks ─intake─> readings ─fleet─> samples, scores ─stream─> batch

``streams`` contains all of these. ``silence`` detects when and why no readings arrive.
"""
