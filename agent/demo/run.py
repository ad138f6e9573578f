"""Runs the demo: starts the parts, watches them, and sums up what happened."""

from __future__ import annotations

FAULT_AT_SHARE = 0.5  # of the demo's time
REFRESH_S = 0.5
SUMMARY_INTERVAL_S = 10
ZOO_BUNDLE = "zoo/pump.fieldwatch"
_STOP_S_MAX = 10.0
