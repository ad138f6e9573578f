"""The contract between trainer and gateway: the trainer exports it, the gateway runs it.

    bundle ─> families ─> detector ─┬─ pipeline: interpreter, telemanom, threshold, forecaster
    readings ─> align ─> samples ───┤
                                    └─ watching: novelty, baseline (without a network)
                                         └─> sensors, events ─> scores, events, forecasts

``formats`` reads text into cells, times and rows, for the trainer and the agent alike.
``families.detector_of`` is the only way from a sealed bundle to scores. Evaluation and the agent
both use it; calibration uses the same pipeline. ``README.md`` is the normative format.
"""

__version__ = "0.1.0"
