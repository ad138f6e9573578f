"""Simulates ten machines on virtual serial ports, /run/line-0 to -9, until stopped: lines.py RATE.

Each sends RATE lines of 8 channels a second; with 0 it is silent.
"""

import sys
import time
from pathlib import Path

from agent.bench.devices import terminals
from agent.bench.lines import Lines
from models import bundle as bundles

STREAMS = 10
rate = float(sys.argv[1])
lines = Lines(bundles.read(Path("/etc/fieldwatch/pump.fieldwatch")).manifest, STREAMS)
with terminals(STREAMS) as (ports, send):
    for number, port in enumerate(ports):
        Path(port).chmod(0o666)
        link = Path(f"/run/line-{number}")
        link.unlink(missing_ok=True)
        link.symlink_to(port)
    began, sent = time.monotonic(), 0
    while True:
        while sent < (time.monotonic() - began) * rate * STREAMS:
            sample, stream = divmod(sent, STREAMS)
            send(stream, lines.line(stream, sample))
            sent += 1
        time.sleep(0.02)
