"""Kills the agent at random moments under load, with a real broker; counts what that cost.

python -m tests.bench.kill [--kills 50] [--load mqtt] [--acknowledgement central] [--seed N]

Ends with 1 where something was lost, doubled, or is not as an uninterrupted run makes it.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import RealAgent, RealBroker
from tests.kill_rig import LOADS, Killing, wrong


def start(config: Path) -> RealAgent:
    agent = RealAgent(config)
    agent.start()
    return agent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--load", choices=LOADS, default="mqtt")
    parser.add_argument("--acknowledgement", choices=("broker", "central"), default="central")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    print("seed", arguments.seed, flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        broker = RealBroker(Path(name))
        broker.start()
        try:
            chance = random.Random(arguments.seed)
            given = arguments.load, arguments.acknowledgement
            counts = Killing(Path(name), broker, start, *given, chance).run(arguments.kills)
        finally:
            broker.kill()
    print(json.dumps(vars(arguments) | counts | {"s": round(time.monotonic() - began)}, indent=2))
    print("wrong:", wrong(counts) or "nothing")
    return bool(wrong(counts))


if __name__ == "__main__":
    sys.exit(main())
