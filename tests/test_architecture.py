"""The architecture as three tables: what a package may import, which room may import which room
of the agent, and which file is the only door to a part of the outside world.

Checked on the source with ``ast``; each rule is shown to bite on a planted violation.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT = {  # besides itself and the standard library
    "models": {"numpy", "pydantic"},
    "agent": {"models", "numpy", "pydantic"},
    "trainer": {"models", "numpy", "pydantic"},
}
# rooms of the agent: which others each may import; no circle, so data flows one way
_SEES_ALL = {"__main__", "assembly", "bench", "cli", "daemon", "demo"}
ROOMS: dict[str, set[str]] = {
    "backoff": set(),
    "clock": set(),
    "guard": set(),
    "journal": set(),
    "memory": set(),
    "config": {"handling", "wording"},  # the classes of consequence; which texts there are
    # knows names of commands and how a refusal is told, and nothing of what they do
    "control": {"wording"},
    # the states of an alarm and what leads from one to the next, with the reason as a message: no
    # input, output or clock
    "handling": {"wording"},
    # knows no configuration: its limits are numbers; of an alarm it knows the states
    "store": {"alarms", "handling", "journal"},
    "users": {"control"},  # of the page: their file
    # texts in the reader's language, from an alarm's data alone: no input, output or clock
    "wording": set(),
    "mqtt": {"config", "guard"},
    "dialects": {"config", "mqtt", "store"},
    "parsing": {"config"},
    "alarms": {"config", "handling", "wording"},
    "bundles": {"config"},
    # the streams' detectors, for the daemon
    "fleets": {"alarms", "bundles", "clock", "config", "journal", "parsing", "scoring"},
    "defects": {"guard", "inputs", "journal", "parsing"},
    "health": {"alarms"},
    # neither store nor uplink
    "inputs": {"backoff", "config", "guard", "journal", "mqtt", "parsing"},
    "scoring": {
        "alarms",
        "clock",
        "config",
        "health",
        "inputs",
        "journal",
        "parsing",
        "store",
        "wording",
    },
    # parts of the loop: of a commit, who is told; what a wrong clock timed
    "commits": {"alarms", "clock", "health", "inputs", "onsite", "scoring", "store", "uplink"},
    # tells people on site; knows nothing of scoring and of the uplink
    "onsite": {"backoff", "clock", "config", "handling", "mqtt", "store", "wording"},
    "corrections": {"clock", "store"},
    "operating": {"alarms", "control", "handling", "wording"},  # what people ask of alarms
    # commands of central ops: neither scoring nor the uplink
    "remote": {
        "backoff",
        "clock",
        "config",
        "control",
        "dialects",
        "mqtt",
        "operating",
        "store",
    },
    # of these commands, for the daemon: who listens, and who executes
    "central": {"clock", "config", "control", "mqtt", "operating", "remote", "store"},
    "overview": {  # asks all parts of the loop
        "alarms",
        "clock",
        "commits",
        "config",
        "control",
        "defects",
        "health",
        "inputs",
        "onsite",
        "reloading",
        "scoring",
        "store",
        "uplink",
    },
    # reads, checks and loads; the daemon applies
    "reloading": {
        "alarms",
        "bundles",
        "clock",
        "config",
        "control",
        "fleets",
        "health",
        "journal",
        "mqtt",
        "scoring",
    },
    "uplink": {
        "backoff",
        "clock",
        "config",
        "dialects",
        "guard",
        "mqtt",
        "store",
    },  # never meets scoring
    "collector": {"backoff", "config", "defects", "dialects", "journal", "mqtt", "store", "uplink"},
    # the local page: reads the store, and acts through the control socket
    "page": {
        "commands",
        "config",
        "control",
        "handling",
        "journal",
        "onsite",
        "operating",
        "store",
        "users",
        "wording",
    },
    # archives of the gateway's files; the way back from an upgrade
    "rescue": {"alarms", "commands", "config", "control", "health", "store"},
    # asks, writes the configuration, stores credentials
    "setup": {"commands", "config", "dialects", "inputs", "mqtt", "rescue"},
    "commands": {
        "alarms",
        "bundles",
        "config",
        "control",
        "defects",
        "dialects",
        "fleets",
        "handling",
        "inputs",
        "mqtt",
        "onsite",
        "operating",
        "parsing",
        "remote",
        "scoring",
        "store",
        "users",
        "wording",
    },
}
_TRAINING = {
    "trainer/detector/networks.py",
    "trainer/detector/fit.py",
    "trainer/detector/export.py",
    "trainer/forecast/network.py",
    "trainer/forecast/fit.py",
}
ONLY_IN = {  # one door per outside world; a folder stands for all files in it
    "ai_edge_litert": {"models/interpreter.py"},
    "tflite_runtime": {"models/interpreter.py"},
    "cryptography": {"models/keys.py", "models/signing.py"},
    "sqlite3": {"agent/store/migrations.py", "agent/store/salvage.py", "agent/store/sqlite.py"},
    "sqlite_utils": {"agent/store/migrations.py"},
    # the benchmark's subscriber, and paho alone to compare the uplink with
    "paho": {
        "agent/mqtt/client.py",
        "agent/mqtt/connection.py",
        "agent/demo/",
        "agent/bench/mqtt.py",
    },
    "amqtt": {"agent/demo/"},
    "cbor2": {"agent/dialects/cbor.py"},
    "zstandard": {"agent/mqtt/payload.py"},
    "compression": {"agent/mqtt/payload.py"},
    "serial": {"agent/inputs/serial.py"},
    "pymodbus": {"agent/inputs/modbus_line.py"},
    "termios": {"agent/inputs/serial.py"},
    "selectors": {"agent/control/clients.py"},
    "starlette": {"agent/page/"},
    "uvicorn": {"agent/page/"},
    "h11": {"agent/page/limits.py"},
    "jinja2": {"agent/page/app.py"},
    "http": {"agent/onsite/webhook.py", "agent/commands/check_onsite.py"},
    "click": {
        "agent/cli.py",
        "agent/commands/alarms/commands.py",
        "agent/commands/labels.py",
        "agent/commands/command.py",
        "agent/commands/options.py",
        "agent/commands/probe/commands.py",
        "agent/page/commands.py",
        "agent/rescue/commands.py",
        "agent/setup/commands.py",
        "agent/setup/questions.py",
        "models/options.py",
        "trainer/cli.py",
        "trainer/registry/commands.py",
    },
    # tables take it from models.validation: an agent that runs does without it
    "pydantic": {
        "models/validation.py",
        "agent/config/environment.py",
        "models/environment.py",
        "models/reference.py",
        "agent/collector/run.py",
        "trainer/",
    },
    "matplotlib": {
        "trainer/drawing.py",
        "trainer/figures.py",
        "trainer/data_figures.py",
        "trainer/benchmark/figures.py",
        "trainer/forecast/figures.py",
    },
    "tensorflow": _TRAINING,
    "aeon": {"trainer/benchmark/counts.py"},
    "optuna": {"trainer/tune.py"},
    "keras": _TRAINING,
    "polars": {
        "agent/collector/parquet.py",
        "trainer/datasets/parquet.py",
        "trainer/datasets/plain_blocks.py",
    },
    "dask": {"trainer/fleet/dask_pool.py"},
    "distributed": {"trainer/fleet/dask_pool.py"},
    "sqlalchemy": {"trainer/datasets/database.py", "trainer/registry/store.py"},
    "mlflow": {"trainer/registry/"},
    "pandas": {"trainer/registry/flavour.py"},
}


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted name of all that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, f"{path}: relative import"
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def passes(where: str, door: str) -> bool:
    return where.startswith(door) if door.endswith("/") else where == door


def violations(root: Path) -> Iterator[str]:
    for package, allowed in MAY_IMPORT.items():
        for path in sorted((root / package).rglob("*.py")):
            where = path.relative_to(root).as_posix()
            for name in sorted({name.split(".")[0] for name in imported(path)}):
                if name in ONLY_IN:
                    if not any(passes(where, door) for door in ONLY_IN[name]):
                        yield f"{where} imports {name}; only {sorted(ONLY_IN[name])} may"
                elif name not in allowed | {package} | sys.stdlib_module_names:
                    yield f"{where} imports {name}; {package} may import {sorted(allowed)}"
    yield from trespasses(root)


def room_of(where: str) -> str:
    """Return the room of a file of the agent: its folder, or its own name beside the rooms."""
    return where.split("/")[1].removesuffix(".py")


def trespasses(root: Path) -> Iterator[str]:
    for path in sorted((root / "agent").rglob("*.py")):
        where = path.relative_to(root).as_posix()
        room = room_of(where)
        if room in _SEES_ALL or where == "agent/__init__.py":
            continue
        names = {name.split(".")[1] for name in imported(path) if name.startswith("agent.")}
        for other in sorted(names - {room} - ROOMS.get(room, set())):
            yield f"{where} imports the room {other}; {room} may import {sorted(ROOMS[room])}"


def test_the_architecture_holds() -> None:
    assert list(violations(ROOT)) == []


def test_every_room_is_in_the_table_and_the_table_has_no_circle() -> None:
    files = (path.relative_to(ROOT).as_posix() for path in (ROOT / "agent").rglob("*.py"))
    rooms = {room_of(where) for where in files if where != "agent/__init__.py"}
    assert rooms == ROOMS.keys() | _SEES_ALL
    TopologicalSorter(ROOMS).prepare()  # raises CycleError


def test_every_door_is_there_and_every_name_goes_through_one() -> None:
    for name, doors in ONLY_IN.items():
        paths = [ROOT / door for door in doors]
        assert all(path.exists() for path in paths), f"{name}: {sorted(doors)}"
        files = [
            file for path in paths for file in ([path] if path.is_file() else path.glob("*.py"))
        ]
        assert any(name in file.read_text() for file in files), f"nothing imports {name}"


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("models/scaling.py", "import agent.store.writer"),
        ("agent/daemon.py", "from trainer import fit"),
        ("trainer/detector/fit.py", "import agent"),
        ("agent/uplink/sender.py", "import sqlite3"),
        ("agent/daemon.py", "import paho.mqtt.client"),
        ("models/pipeline.py", "from tflite_runtime.interpreter import Interpreter"),
        ("trainer/evaluate.py", "import tensorflow as tf"),
        ("agent/scoring/stream.py", "import pandas"),
        ("agent/scoring/stream.py", "import pathlib, scipy.signal"),
        ("agent/parsing/lines.py", "from serial import Serial"),
        ("agent/config/load.py", "import click"),
        ("agent/uplink/sender.py", "import amqtt"),
        ("models/bundle.py", "from cryptography.hazmat.primitives import hashes"),
        ("models/bundle.py", "import click"),
        ("trainer/train.py", "import matplotlib.pyplot as plt"),
        ("trainer/train.py", "from mlflow.tracking import MlflowClient"),
        ("trainer/evaluate.py", "importlib.import_module('tensorflow.lite')"),
        ("agent/daemon.py", "__import__('keras')"),
        ("agent/mqtt/connection.py.py", "import paho"),
        ("agent/control/door.py", "import agent.store.writer"),
        ("agent/control/inbox.py", "from agent.uplink import sender"),
        ("agent/remote/proof.py", "from agent.uplink import trust"),
        ("agent/health/status.py", "import selectors"),
        ("agent/onsite/hooks.py", "import http.client"),
        ("agent/onsite/worker.py", "import agent.scoring.stream"),
        ("agent/onsite/command.py", "import agent.uplink.link"),
        ("agent/wording/sentence.py", "from agent.alarms import document"),
        ("agent/wording/language.py", "import agent.store.reader"),
        ("agent/store/reader.py", "import starlette"),
        ("agent/commands/check_page.py", "import agent.page.access"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, where: str, line: str) -> None:
    planted = tmp_path / where
    planted.parent.mkdir(parents=True)
    planted.write_text(f"import json\nimport numpy\n\ndef late():\n    {line}\n")
    found = list(violations(tmp_path))
    assert len(found) == 1
    assert found[0].startswith(where)


PRINTING = {"echo", "secho", "print"}
MAY_PRINT = {  # the door; a screen that is redrawn; processes that talk to each other
    "models/console.py",
    "agent/demo/run.py",
    "agent/store/maintenance.py",
    "agent/config/checker.py",
    "agent/bench/mqtt.py",
}


def prints(path: Path) -> Iterator[str]:
    """Whatever writes to the terminal past ``models.console``."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in PRINTING:
                yield name
            case ast.Attribute(value=ast.Name(id="sys"), attr="stdout"):
                yield "sys.stdout"


def printing(root: Path) -> set[str]:
    files = (path for package in MAY_IMPORT for path in (root / package).rglob("*.py"))
    return {path.relative_to(root).as_posix() for path in files if any(prints(path))}


def test_all_that_is_printed_goes_through_one_door() -> None:
    assert printing(ROOT) <= MAY_PRINT


@pytest.mark.parametrize("line", ["click.echo('a')", "print('a')", "sys.stdout.write('a')"])
def test_what_prints_past_the_door_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "cli.py").write_text(f"{line}\n")
    assert printing(tmp_path) == {"agent/cli.py"}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name.split(".")[0] for name in ended.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import agent.cli",
        "import agent.health.status, agent.alarms.document, agent.config.location,"
        " agent.store.writer, agent.health.prometheus, agent.commands.follow",
        "import agent.control.client",
        "import agent.users",
        "import agent.page.run, agent.page.__main__, agent.page.commands",  # what serves the page
        "import agent.rescue.backup, agent.rescue.restore, agent.rescue.rollback,"
        " agent.rescue.support",
        "import agent.page.charts",  # its worker has all that
    ],
)
def test_commands_that_score_nothing_stay_light(statement: str) -> None:
    heavy = {"numpy", "pydantic", "tensorflow", "paho", "serial"}
    heavy |= {"ai_edge_litert", "tflite_runtime"}
    assert not loaded_by(statement) & heavy


def test_a_running_agent_does_not_load_what_it_does_not_need() -> None:
    heavy = {"tensorflow", "keras", "sqlite_utils", "matplotlib", "amqtt", "cryptography"}
    heavy |= {"pydantic", "pydantic_core", "_ssl", "pymodbus"}
    begin = "from agent import memory; memory.begin()"
    assert not loaded_by(f"{begin}; import agent.daemon, agent.inputs.serial") & heavy


def test_a_gateway_of_networks_does_not_load_the_detectors_without_one() -> None:
    code = "import agent.daemon, sys; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(ended.stdout.split())
    assert "models.pipeline" in loaded
    assert not loaded & {"models.baseline", "models.novelty", "models.season_forecast"}


PUBLIC = {"_replace", "_make", "_fields", "_asdict", "_exit"}  # of named tuples and ``os``
FOREIGN = {"_experimental_disable_per_channel_quantization_for_dense_layers"}  # TensorFlow's


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in PUBLIC | FOREIGN


def privates(path: Path) -> Iterator[str]:
    """Yield which private names of others a file uses; its own are those of ``self`` and ``cls``.

    A method that a planted defect ends in (``tests.planted``) is named, and not used.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name) if is_private(name):
                yield name
            case ast.ImportFrom(module=str(module), names=names) if (
                module.split(".")[0] in MAY_IMPORT
            ):
                yield from (alias.name for alias in names if is_private(alias.name))
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "delattr")
                | ast.Attribute(attr="setattr" | "delattr"),
                args=[_, ast.Constant(value=str(name)), *_],
            ) if is_private(name):
                yield name
            case ast.Call(
                func=ast.Attribute(attr="setattr" | "delattr"),
                args=[ast.Constant(value=str(name)), *_],
            ) if is_private(name.rpartition(".")[2]):
                yield name


def test_no_test_uses_what_is_private() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert {
        str(file.relative_to(ROOT)): used for file in files if (used := [*privates(file)])
    } == {}


@pytest.mark.parametrize(
    "line",
    [
        "one.uplink._connection.close()",
        "one._settings = 1",
        "from agent.health.status import _input",
        "setattr(one, '_settings', 1)",
        "monkeypatch.setattr(one, '_LOOK_S', 0.0)",
        "monkeypatch.setattr('agent.uplink.session._LOOK_S', 0.0)",
    ],
)
def test_a_private_name_in_a_test_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "planted.py").write_text(f"self._own = one._replace(a=1)\n{line}\n")
    assert len(list(privates(tmp_path / "planted.py"))) == 1
