"""Two people handle one alarm at once, at the terminal and over a real broker, 1,000 times.

python -m tests.bench.two_writers [--commands 1000] [--seed N]

Ends with 1 where the logbook does not explain every answer and every state.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.conftest import RealAgent, RealBroker
from tests.serial_line import Line
from tests.system.test_commands import Central, Commanded
from tests.writers_rig import Writing, answered_truly, explained


def start(config: Path) -> RealAgent:
    agent = RealAgent(config)
    agent.start()
    return agent


def write(directory: Path, broker: RealBroker, commands: int, seed: int) -> Counter[str]:
    """Have both write, and compare all with the logbook."""
    line = Line(directory / "ttyPUMP")
    gateway = Commanded(directory, line, start, broker.port)
    central = Central(broker.port)
    try:
        key = gateway.trust(directory, "operate", "anna")
        writing = Writing(gateway, central, key, Random(seed))
        counts = writing.run(commands)
        rows = gateway.logbook()
        explained(rows, gateway.stored())
        answered_truly(writing.answered, rows)
        doors = Counter(f"rows by {row['door']}" for row in rows)
        return counts + doors
    finally:
        central.close()
        gateway.agent.kill()
        line.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    print("seed", arguments.seed, flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        broker = RealBroker(Path(name))
        broker.start()
        try:
            counts = write(Path(name), broker, arguments.commands, arguments.seed)
        except AssertionError as error:
            print("wrong:", error)
            return 1
        finally:
            broker.kill()
    took = {"s": round(time.monotonic() - began)}
    print(json.dumps(vars(arguments) | dict(counts) | took, indent=2))
    print("wrong: nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
