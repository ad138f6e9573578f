"""Runs the demo: starts the parts, watches them, and sums up what happened."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agent.demo.broker import Broker
from agent.demo.line import PumpLine
from agent.demo.ops import Ops
from agent.demo.screen import CHART_WIDTH, View, screen
from agent.plant import FAULT_KINDS, Fault, Pump
from agent.store import Reader
from models.errors import ConfigError, FieldwatchError

FAULT_AT_SHARE = 0.5  # of the demo's time
REFRESH_S = 0.5
SUMMARY_INTERVAL_S = 10
ZOO_BUNDLE = "zoo/pump.fieldwatch"
_STOP_S_MAX = 10.0
