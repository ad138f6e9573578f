"""Whatever a bundle, a recording or its labels hold: what the trainer prints and draws is text."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agent.inputs import plant
from models import bundle as bundles
from models.bundle import Bundle
from models.columns import of_bundle
from models.errors import ConfigError
from models.manifest import EVALUATED
from tests.hostile import Printed, assert_harmless, printed
from tests.trainer.conftest import CONFIG
from trainer import config as configuration
from trainer import evaluate, gates, report
from trainer.cli import main
from trainer.config import EvaluateTable, GatesTable, ParityTable
from trainer.detector.report import sections
from trainer.epochs import Epoch
from trainer.prepare import Grid

UNIT = "\x1b[2J\n\u202e$\\x$\x9b"  # 16 characters at most
SHOWN = r"\x1b[2J\n\u202e$\x$\x9b"
KIND = "cavitation $\\frac$ \x1b[2J\x9b\u202e\x00"
KIND_SHOWN = r"cavitation $\frac$ \x1b[2J\x9b\u202e\x00"


def call(*words: object, encoding: str = "utf-8") -> Printed:
    return printed(main, "fieldwatch-trainer", [str(word) for word in words], encoding)


@pytest.fixture(scope="module")
def hostile_bundle(zoo_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    manifest = zoo_bundle.manifest
    channels = [one.model_copy(update={"unit": UNIT}) for one in manifest.channels]
    forecast = {name: row | {"unit": UNIT} for name, row in manifest.metrics["forecast"].items()}
    lineage = manifest.lineage.model_copy(
        update={"data_files": [KIND], "software": manifest.lineage.software | {KIND: KIND}}
    )
    data = {
        "recordings": [{"name": KIND, "rows": 1, "out_of_range": 0, "rejected": {KIND: 1}}],
        "rejected": {KIND: 2},
        "remarks": [KIND],
    }
    found = gates.judge(manifest.metrics, GatesTable(), ParityTable())
    told = {"forecast": forecast, "data": data, "verdict": gates.document(found, accepted=False)}
    changes = {
        "created": KIND,
        "channels": channels,
        "lineage": lineage,
        "metrics": manifest.metrics | told | {EVALUATED: None},  # it is another file
    }
    path = tmp_path_factory.mktemp("bundles") / "hostile.fieldwatch"
    bundles.write(path, manifest.model_copy(update=changes), zoo_bundle.parts, None)
    return bundles.read(path)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a fault, labelled; the name of the file is as hostile as its labels."""
    path = tmp_path_factory.mktemp("recordings") / "pump $\\x$ \x1b[2J\u202e.csv"
    plant.simulate(path, 0.08, 21, [plant.Fault("cavitation", 120.0, 30.0)])
    labels = path.with_name(path.stem + ".labels.csv")
    labels.write_bytes(labels.read_bytes().replace(b"cavitation", KIND.encode()))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_evaluation(
    hostile_bundle: Bundle, recording: Path, as_json: bool, encoding: str
) -> None:
    more = ["--json"] if as_json else []
    told = call("evaluate", hostile_bundle.source, recording, *more, encoding=encoding)
    assert told.code == 0
    assert_harmless(told, as_json)
    if as_json:
        assert list(json.loads(told.out)["labelled"]["kinds"]) == [KIND]
    else:
        assert f"{KIND_SHOWN}: 1 of 1 found" in told.out


def test_a_report_and_its_figures(hostile_bundle: Bundle, recording: Path, tmp_path: Path) -> None:
    """What is given as text is drawn as text: "$" begins no mathematics, and ends no report."""
    manifest = hostile_bundle.manifest
    read = evaluate.read_labelled(
        recording, of_bundle(manifest), manifest.source_channels, Grid.of(manifest)
    )
    judged = evaluate.judge_all(hostile_bundle, read.samples, [read], EvaluateTable())
    epochs = [Epoch(number, 1.0 / number, 1.0 / number, True, 1.0) for number in (1, 2)]
    path = tmp_path / "report.html"
    own = sections(hostile_bundle, epochs, None)
    report.write(hostile_bundle, judged, own, path)
    page = path.read_text(encoding="utf-8")
    assert page.replace("\n", "").isprintable()
    assert KIND_SHOWN.replace("&", "&amp;") in page
    drawn = [base64.b64decode(one) for one in re.findall(r"svg\+xml;base64,([^\"]*)", page)]
    texts = [
        "".join(node.itertext()) for svg in drawn for node in ElementTree.fromstring(svg).iter()
    ]
    assert any(KIND_SHOWN in text for text in texts)
    assert any(SHOWN.split("\\n")[1] in text for text in texts)
    assert all(text.replace("\n", "").isprintable() for text in texts)


@pytest.mark.parametrize(
    "words",
    [
        ("sign", "none\x1b[2J\n<0>root", "--key", "none"),
        ("evaluate", "none\x1b[2J\n<0>root\udcff", "a.csv"),
        ("train", "none\x1b[2J\n<0>root"),
        ("keygen", "none\x1b[2J\n<0>root/key"),
        ("benchmark", "nasa", "--data", "none\x1b[2J\n<0>root"),
        ("benchmark", "ims", "--data", "none\x1b[2J\n<0>root"),
        ("benchmark", "cmapss", "--data", "none\x1b[2J\n<0>root"),
        ("benchmark", "all", "--data", "none\x1b[2J\n<0>root"),
        ("benchmark", "all", "--data", "none", "--seeds", "\x1b[2J\n<0>root"),
        ("benchmark", "nab", "--data", "none\x1b[2J\n<0>root"),
        ("benchmark", "ett", "--data", "none", "--horizons", "\x1b[2J\n<0>root"),
        ("\x1b[2J\n<0>root",),
        ("--help",),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_words_of_the_command_line(
    words: tuple[str, ...], encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_harmless(call(*words, encoding=encoding))


@pytest.mark.parametrize("unit", ["\\u001b[2J", "k\\u00a0W", "\\nkW", "\\u202ekW"])
def test_a_unit_that_is_not_printable_makes_no_bundle(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG.replace('unit = "kW"', f'unit = "{unit}"'))
    with pytest.raises(ConfigError, match=r"unit of load: .* is not printable"):
        configuration.read(path)
