"""The search: on validation data alone, stopped early, resumed, repeated, and written down."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from models import toml
from models.errors import ConfigError
from tests.trainer.conftest import CONFIG, machine, write_recording
from tests.trainer.test_cli import run
from trainer import config
from trainer.tune import Found, tune

# its loss is least at a rate of 0.01; it fails, or is interrupted, where the test says so
MODULE = """
import math
from pathlib import Path

from models.errors import ConfigError
from trainer.epochs import Epoch

HERE = Path(__file__).parent


class Line:
    packages, tables = (), ()

    def check(self, config):
        pass

    def fit(self, job):
        assert len(job.parts.train.times) > 100
        assert not len(job.parts.calibrate.times) and not len(job.parts.test.times)
        assert not job.labelled and not job.lives
        fits = HERE / "fits"
        count = len(fits.read_text()) if fits.exists() else 0
        fits.write_text("x" * (count + 1))
        if (HERE / f"interrupt-{count}").exists():
            (HERE / f"interrupt-{count}").unlink()
            raise KeyboardInterrupt
        if job.settings["form"] == "broken":
            raise ConfigError("this form cannot learn")
        far = abs(math.log10(job.settings["rate"]) + 2) + abs(job.config.fit.batch - 40) / 100
        for number in range(1, 11):
            with (HERE / "epochs").open("a") as file:
                file.write(".")
            job.on_epoch("line", Epoch(number, far, far + 1 / number, True, 0.0))
"""

TUNED = """
[family]
name = "line"

[family.settings]
rate = 0.5
form = "straight"

[tune]
trials = 12
first_trials = 3
warm_up_epochs = 2

[[tune.ranges]]
setting = "family.settings.rate"
low = 0.0001
high = 1.0
log = true

[[tune.ranges]]
setting = "fit.batch"
low = 10
high = 100

[[tune.ranges]]
setting = "family.settings.form"
choices = ["straight", "bent"]
"""


def project(directory: Path, ranges: str = TUNED) -> Path:
    """Lay out the family's package, a recording and a configuration; return the last."""
    site = directory / "site"
    information = site / "lines-1.0.dist-info"
    information.mkdir(parents=True)
    (site / f"{module(directory)}.py").write_text(MODULE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: lines\nVersion: 1.0\n")
    points = f"[fieldwatch.training]\nline = {module(directory)}:Line\n"
    (information / "entry_points.txt").write_text(points)
    write_recording(directory / "normal.csv", *machine(4000, seed=1))
    path = directory / "tiny.toml"
    path.write_text(CONFIG.partition("[network]")[0] + ranges)
    return path


def module(directory: Path) -> str:
    """Return a name that no other test's package has: modules stay in memory."""
    return "line_" + "".join(filter(str.isalnum, str(directory)))


def searched(path: Path) -> Found:
    return tune(config.read(path), path.parent / "made", lambda line: None)


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    return project(tmp_path)


def fits(path: Path) -> int:
    return len((path.parent / "site" / "fits").read_text())


def test_the_winner_is_a_configuration_that_check_accepts(
    ready: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "tune", ready, "--json", "-q") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"] < found["configured"] == pytest.approx(1.699 + 0.24 + 0.1, abs=1e-3)
    path = ready.with_name("tiny.tuned.toml")
    assert found["path"] == str(path)
    written, before = tomllib.loads(path.read_text()), tomllib.loads(ready.read_text())
    assert written["family"]["settings"]["rate"] == found["settings"]["family.settings.rate"]
    assert 0.0001 <= written["family"]["settings"]["rate"] < 0.5
    assert isinstance(written["fit"]["batch"], int)
    for name in ("bundle", "data", "sampling", "split", "tune"):
        assert written[name] == before[name]
    comment = path.read_text().partition("\n[")[0]
    assert (
        f"validation loss {found['best']:.6g}, as configured {found['configured']:.6g}" in comment
    )
    assert "the best of 12 trials" in comment
    assert run(monkeypatch, "check", path, "-q") == 0


def test_trials_are_stopped_early(ready: Path) -> None:
    found = searched(ready)
    assert found.stopped > 0
    epochs = len((ready.parent / "site" / "epochs").read_text())
    assert epochs < 10 * fits(ready) == 10 * 13


def test_the_same_seed_finds_the_same_even_if_it_was_interrupted(
    ready: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = searched(ready)
    text = once.path.read_text()
    once.study.unlink()
    (ready.parent / "site" / "fits").unlink()
    for count in (0, 6):
        (ready.parent / "site" / f"interrupt-{count}").touch()
        with pytest.raises(KeyboardInterrupt):
            searched(ready)
    assert run(monkeypatch, "tune", ready, "--output", ready.parent / "made") == 0
    assert "of 12 trials are done" in capsys.readouterr().out
    assert once.path.read_text() == text
    assert fits(ready) == 13 + 2
    assert searched(ready) == once  # nothing is left to do
    assert fits(ready) == 13 + 2


def test_more_trials_go_on_and_other_ranges_begin_anew(ready: Path) -> None:
    searched(ready)
    ready.write_text(ready.read_text().replace("trials = 12", "trials = 15", 1))
    assert searched(ready).trials == 15
    assert fits(ready) == 13 + 3
    ready.write_text(ready.read_text().replace("high = 100\n", "high = 90\n", 1))
    assert searched(ready).trials == 15
    assert fits(ready) == 16 + 16


def test_a_trial_that_fails_is_told_and_does_not_end_the_search(ready: Path) -> None:
    ready.write_text(ready.read_text().replace('"bent"]', '"broken"]'))
    lines: list[str] = []
    found = tune(config.read(ready), ready.parent, lines.append)
    assert 0 < found.failed < found.trials == 12
    assert any("failed: this form cannot learn; " in line for line in lines)
    assert found.settings["family.settings.form"] == "straight"


def test_a_configuration_that_no_trial_betters_stays(ready: Path) -> None:
    text = ready.read_text().replace("rate = 0.5", "rate = 0.01")
    ready.write_text(text.replace("[tune]", "[fit]\nbatch = 40\n\n[tune]", 1))
    found = searched(ready)
    assert found.settings == {}
    assert found.best == found.configured == pytest.approx(0.1)
    assert tomllib.loads(found.path.read_text()) == tomllib.loads(ready.read_text())
    assert "No trial was better than the configuration itself" in found.path.read_text()


def test_nothing_that_came_to_an_end_is_an_error(ready: Path) -> None:
    text = ready.read_text().replace('form = "straight"', 'form = "broken"')
    ready.write_text(text.replace('["straight", "bent"]', '["broken"]'))
    with pytest.raises(ConfigError, match=r"no training came to an end.*this form cannot learn"):
        searched(ready)


RANGE = '[[tune.ranges]]\nsetting = "fit.batch"\nlow = 10\nhigh = 100\n'


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ('[[tune.ranges]]\nsetting = "fit.loss"\nchoices = ["huber"]\n', "cannot be searched"),
        ('[[tune.ranges]]\nsetting = "fit.bach"\nlow = 1\nhigh = 2\n', "did you mean 'fit.batch'"),
        ('[[tune.ranges]]\nsetting = "fit.batch"\nlow = 10\n', "set low and high, or choices"),
        (RANGE.replace("10\n", "200\n", 1), "low 200 is not below high 100"),
        (RANGE.replace("= 10\n", "= 0\n") + "log = true\n", "log needs a low above 0"),
        (RANGE + "choices = [1]\n", "choices and low, high exclude each other"),
        (RANGE.replace("= 10\n", "= 0\n"), "fit.batch = 0: must be at least 1"),
        (RANGE.replace("= 10\n", "= 10.5\n"), "fit.batch: 10.5 is not a whole number"),
        (RANGE + RANGE, "setting 'fit.batch' occurs twice"),
        ('[[tune.ranges]]\nsetting = "network.layers"\nchoices = [[0]]\n', "network.layers"),
        ("", "ranges"),
    ],
)
def test_ranges_that_do_not_fit_are_refused_before_the_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    new: str,
    said: str,
) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(f"{CONFIG}\n[tune]\ntrials = 3\n{new}")
    assert run(monkeypatch, "tune", path) == 78
    assert said in capsys.readouterr().err


def test_without_its_table_or_its_extra_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG)
    assert run(monkeypatch, "tune", path) == 78
    assert f"{path}: there is no table [tune]" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run(monkeypatch, "tune", path) == 69
    assert "pip install 'fieldwatch[tune]'" in capsys.readouterr().err


def test_a_network_is_searched(tmp_path: Path) -> None:
    write_recording(tmp_path / "normal.csv", *machine(4000, seed=1))
    path = tmp_path / "tiny.toml"
    few = CONFIG.partition("[forecast]")[0].replace("epochs = 20", "epochs = 2")
    layers = '[[tune.ranges]]\nsetting = "network.layers"\nchoices = [[4], [12]]\n'
    rate = '[[tune.ranges]]\nsetting = "fit.learning_rate"\nlow = 0.03\nhigh = 0.1\nlog = true\n'
    path.write_text(f"{few}\n[tune]\ntrials = 2\n{layers}{rate}")
    found = searched(path)
    assert found.trials == 2
    assert found.configured is not None
    assert found.best <= found.configured


def test_a_document_is_written_as_it_was_read() -> None:
    document = tomllib.loads(CONFIG + TUNED.replace("[family]", '["odd key"]\nx = {}\n[family]'))
    assert tomllib.loads("\n".join(toml.written(document))) == document
