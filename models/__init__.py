"""The contract between trainer and gateway: what one exports, the other runs.

    bundle ──> interpreter ─┐
    samples ─> scaling ─> telemanom ─> threshold ─> pipeline ─> scores, events

``pipeline`` is the only way from samples to scores: calibration, evaluation and the agent all
call it on the same ``.tflite``. ``README.md`` beside this file is the normative format.
"""

__version__ = "0.1.0"
