"""The contract between trainer and gateway: what one exports, the other runs.

    bundle ─> families ─> detector ─┬─ pipeline: interpreter, telemanom, threshold, forecaster
    readings ─> align ─> samples ───┤
                                    └─ baseline: history, median
                                         └─> sensors, events ─> scores, events, forecasts

``families.detector_of`` is the only way from a sealed bundle to scores: evaluation and the agent
both take it, and calibration the same pipeline. ``README.md`` is the normative format.
"""

__version__ = "0.1.0"
