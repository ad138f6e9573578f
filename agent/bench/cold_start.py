"""Measures the time from ``fieldwatch-agent run``, a separate process, to the first stored score.

It runs the reference bundle with detector and forecaster, an existing database, and a line that
always sends, like a restart on a gateway. Commits and checks happen every few milliseconds, so that
they do not change the result.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from agent.bench.bundle import REFERENCE_BUNDLE
from agent.bench.devices import Send, terminals
from agent.bench.lines import Lines
from agent.bench.new_store import GATEWAY, SITE, new_store
from agent.bundles.ledger import DIRECTORY
from agent.store.reader import Reader
from models import bundle as bundles
from models.errors import FieldwatchError, StoreError
from models.formats.cells import TIME

_START_S_MAX = 60.0
_LOOK_S = 0.005
_LINES_A_LOOK = 16
_STREAM = "pump"
_UNCOMPILED = "PYTHONDONTWRITEBYTECODE"


class NotStarted(FieldwatchError):
    """The agent has not scored anything; the text contains its log."""


def cold_start_s(directory: Path) -> float:
    """Return the seconds until the first score in the second of two starts.

    The first start compiles the modules of a checkout; an installation is already compiled. It also
    tries the network in another process, which the second start need not repeat.

    Raises:
        NotStarted: there was no score.

    """
    directory.mkdir()
    first, second = directory / "first", directory / "second"
    _start_s(first)
    return _start_s(second, first / "data" / DIRECTORY)


def _start_s(directory: Path, bundles_known: Path | None = None) -> float:
    environment = {key: os.environ[key] for key in os.environ.keys() - {_UNCOMPILED}}
    data, config, log = directory / "data", directory / "agent.toml", directory / "agent.log"
    directory.mkdir()
    new_store(data)
    if bundles_known is not None:
        shutil.copytree(bundles_known, data / DIRECTORY)
    manifest = bundles.read(REFERENCE_BUNDLE).manifest
    columns = [TIME, *manifest.channel_names]
    with terminals(1) as (ports, send), log.open("wb") as output:
        config.write_text(
            _CONFIG.format(
                site=SITE,
                gateway=GATEWAY,
                directory=data,
                stream=_STREAM,
                bundle=REFERENCE_BUNDLE,
                port=ports[0],
                columns=columns,
            )
        )
        command = [sys.executable, "-P", "-m", "agent", "run", "--config", str(config)]
        began = time.monotonic()
        agent = subprocess.Popen(  # noqa: S603 - our own
            command, stdout=output, stderr=output, env=environment
        )
        try:
            _wait_for_score(agent, data, Lines(manifest, 1), send)
            return time.monotonic() - began
        except NotStarted as error:
            raise NotStarted(f"{error}:\n{log.read_text(errors='replace')}") from error
        finally:
            agent.kill()
            agent.wait()


def _wait_for_score(
    agent: subprocess.Popen[bytes], directory: Path, lines: Lines, send: Send
) -> None:
    deadline = time.monotonic() + _START_S_MAX
    sample = 0
    with Reader(directory) as reader:
        while agent.poll() is None and time.monotonic() < deadline:
            for _ in range(_LINES_A_LOOK):
                send(0, lines.line(0, sample))
                sample += 1
            if _scored(reader):
                return
            time.sleep(_LOOK_S)
    raise NotStarted("the agent has not scored anything")


def _scored(reader: Reader) -> bool:
    try:
        chunks = reader.newest_samples(_STREAM, 1)
    except StoreError:  # it is being opened
        return False
    return any(not np.isnan(np.frombuffer(chunk.scores, np.float32)).all() for chunk in chunks)


_CONFIG = """\
[gateway]
site = "{site}"
name = "{gateway}"

[store]
directory = "{directory}"
flush_interval_s = 0.01

[[streams]]
name = "{stream}"
bundle = "{bundle}"

[[inputs]]
name = "line"
type = "serial"
port = "{port}"
stream = "{stream}"
columns = {columns}
"""
