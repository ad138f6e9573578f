"""How soon the reference bundle finds each of the pump's faults, and how often it cries wolf.

    python -m tests.bench.detection [--seeds 10] [--days 3] [--interpreter auto]

The seeds are none that the bundle was trained, calibrated or evaluated on. Each fault sets in
after ten minutes and lasts ten; found is an event that opens while it lasts. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np

from agent.bundles.load import load
from agent.config.fault_kinds import FAULT_KINDS, FaultKind
from agent.inputs.plant import PERIOD_S, Pump, sudden
from models.messages import Event, Samples
from models.pipeline import Pipeline
from tests.conftest import ZOO_BUNDLE

FIRST_SEED = 5000
FAULT_AT_S = FAULT_S = 600.0
START_S = 1_700_000_000.0
HOUR_SAMPLES = round(3600 / PERIOD_S)


def events_of(pipeline: Pipeline, pump: Pump, samples: int) -> list[Event]:
    """What the pipeline makes of a pump's next samples, in pieces of an hour."""
    state, events = pipeline.start(), []
    for begin in range(0, samples, HOUR_SAMPLES):
        count = min(HOUR_SAMPLES, samples - begin)
        times = START_S + (begin + np.arange(count)) * PERIOD_S
        events += pipeline.step(state, Samples(times, pump.run(count))).events
    return events


def runs(pipeline: Pipeline, kind: FaultKind, seeds: int) -> dict[str, Any]:
    """Delays from each fault to the first event that opens while it lasts."""
    found: list[float | None] = []
    early = 0
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        pump = Pump(seed, [sudden(kind, FAULT_AT_S, FAULT_S)])
        events = events_of(pipeline, pump, round((FAULT_AT_S + FAULT_S) / PERIOD_S))
        after = [e.opened - START_S - FAULT_AT_S for e in events if e.state == "opened"]
        found.append(min((round(delay, 1) for delay in after if delay >= 0), default=None))
        early += sum(delay < 0 for delay in after)
    known = [delay for delay in found if delay is not None]
    return {
        "found": f"{len(known)} of {len(found)}",
        "delay_s_median": statistics.median(known) if known else None,
        "delay_s_max": max(known, default=None),
        "false_before": early,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--interpreter", default="auto", choices=["auto", "litert", "tflite"])
    arguments = parser.parse_args()
    bundle, pipeline = load(ZOO_BUNDLE, arguments.interpreter)
    day = round(86_400 / PERIOD_S)
    healthy = [
        events_of(pipeline, Pump(FIRST_SEED + 1000 + number), day)
        for number in range(arguments.days)
    ]
    outcome = {
        "bundle": bundle.digest,
        "interpreter": pipeline.runtime,
        "faults": {kind: runs(pipeline, kind, arguments.seeds) for kind in FAULT_KINDS},
        "false_alarms_per_day": [
            sum(event.state == "opened" for event in events) for events in healthy
        ],
    }
    print(json.dumps(outcome, indent=2))


if __name__ == "__main__":
    main()
