"""Kills the agent at random moments under load, with a real broker; counts what that cost.

python -m tests.bench.kill [--kills 50] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import secrets
import tempfile
from pathlib import Path

from tests.conftest import RealAgent, RealBroker
from tests.system.test_agent import Line, Ops, kill_many_times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        broker = RealBroker(directory)
        broker.start()
        line, ops = Line(directory / "ttyPUMP"), Ops(broker.port)

        def start(config: Path) -> RealAgent:
            agent = RealAgent(config)
            agent.start()
            return agent

        outcome = kill_many_times(
            arguments.kills, arguments.seed, directory, line, broker, ops, start
        )
        ops.close()
        line.close()
        broker.kill()
    print(json.dumps({"seed": arguments.seed} | outcome, indent=2))


if __name__ == "__main__":
    main()
