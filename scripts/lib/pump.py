"""Simulates a pump on a virtual serial port of this name, until it is stopped: pump.py PORT."""

import shutil
import signal
import sys
from pathlib import Path

from agent.demo.line import PumpLine
from agent.inputs.plant import Pump

port = Path(sys.argv[1])
with PumpLine(Pump(1, [])) as line:
    shutil.chown(line.port, "root", "dialout")
    Path(line.port).chmod(0o660)
    port.parent.mkdir(parents=True, exist_ok=True)
    port.symlink_to(line.port)
    line.start()
    signal.pause()
