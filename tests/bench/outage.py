"""The broker away for a week, lived through in minutes; then all that waited, and live beside it.

python -m tests.bench.outage [--days 7] [--replay-rate N]

Then the same messages once more: sent by the uplink as fast as it can, and by paho alone, to the
same broker. Ends with 1 where something is missing, or live messages were late.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from agent.bench.drain import drain
from agent.bench.mqtt import Subscriber
from agent.config.broker import MqttTable
from agent.dialects.cbor import from_json
from agent.mqtt.payload import Payload
from agent.store.record import Outgoing
from tests.bench.kill import start
from tests.conftest import RealBroker
from tests.outage_rig import PERSISTENT, Ops, Outage, wrong

LIVE_S_P99_MAX = 2.0


def beside_paho(ops: Ops, port: int, directory: Path) -> dict[str, Any]:
    """How fast the messages of the backlog go without a limit, and with paho alone."""
    messages = [
        Outgoing("summary", "pump", 0.0, arrival.message["data"])
        for arrival in islice(ops.of_kind("summary"), 3000)
    ]
    with Subscriber(port):
        mqtt = MqttTable(host="127.0.0.1", port=port, protocol="5")
        rates = drain(messages, mqtt, directory / "drain")
    assert rates is not None
    return {
        "uplink_per_s": round(rates.agent),
        "paho_alone_per_s": round(rates.bare),
        "share": round(rates.agent / rates.bare, 2),
    }


def bytes_by_form(ops: Ops) -> dict[str, dict[str, int]]:
    """Mean length of the messages that came, in each of the forms they can be sent in."""
    zstd = Payload(compression="zstd").encode
    forms: dict[str, Callable[[bytes], bytes]] = {
        "json": bytes,
        "cbor": from_json,
        "json, zstd": zstd,
        "cbor, zstd": lambda body: zstd(from_json(body)),
    }
    return {
        kind: {
            name: round(fmean(len(form(one.text)) for one in islice(came, 500)))
            for name, form in forms.items()
        }
        for kind in ("summary", "alarm", "health")
        if (came := ops.of_kind(kind))
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument(
        "--replay-rate", type=float, help="mqtt.replay_rate_max, if not its default"
    )
    arguments = parser.parse_args()
    settings = f"replay_rate_max = {arguments.replay_rate}" if arguments.replay_rate else ""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        broker = RealBroker(directory, PERSISTENT.format(directory))
        broker.start()
        try:
            outage = Outage(directory, broker, settings)
            report = outage.run(arguments.days, start)
            report["bytes"] = bytes_by_form(outage.ops)
            report["without_limit"] = beside_paho(outage.ops, broker.port, directory)
        finally:
            broker.kill()
    print(json.dumps(report, indent=2))
    late = report["live"]["latency_s_p99"]
    bad = bool(wrong(report)) or late is None or late > LIVE_S_P99_MAX
    print("wrong:", wrong(report) or (f"live messages late: {late} s" if bad else "nothing"))
    return bad


if __name__ == "__main__":
    sys.exit(main())
