"""``forecast`` and its rivals speak of the detector that scores, also of a stand-in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.bundles.load import Loader, load
from agent.cli import commands
from agent.commands.forecast import forecast
from agent.commands.rivals import rivals
from agent.page import drawn
from agent.scoring.origin import Origin, Refusal, StandIn
from agent.store.batch import Batch
from agent.store.writer import Store
from models.bundle import Bundle
from models.errors import BundleError
from tests.forecast_rig import NAMES, Gateway, configure, rising

MakeBundle = Callable[..., Bundle]
CHANNELS = ", ".join(f'{{ name = "{name}" }}' for name in NAMES)
BASELINE = f"baseline = {{ period_s = 0.2, season_s = 60.0, channels = [{CHANNELS}] }}"
WHY = "forecasting.fieldwatch: it is damaged"


def refused(config: Path, stands_in: StandIn | None) -> str:
    """Run the stream as a stand-in, damage its bundle; return the digest of what ran."""
    bundle = config.parent / "forecasting.fieldwatch"
    gateway = Gateway(config)
    gateway.feed(rising(400))
    gateway.stream.origin.replace(Origin(None, Refusal(bundle, WHY), stands_in))
    status = {"running": True, "streams": {"pump": gateway.stream.document()}}
    digest = gateway.stream.detector.digest
    gateway.close()
    store = Store(config.parent / "data", "plant", "gw-1", 1000, 100_000)
    store.open()
    status["updated"] = "2023-11-14T22:15:00Z"
    store.commit(Batch(status=lambda: json.dumps(status)), "synced")
    store.close()
    bundle.write_bytes(b"x")
    return digest


@pytest.fixture
def previous(tmp_path: Path, forecasting_bundle: MakeBundle) -> tuple[Path, str]:
    """The copy of the bundle that ran before stands in."""
    config = configure(tmp_path, forecasting_bundle(), BASELINE)
    loader = Loader(tmp_path / "data", require_signature=False)
    ran = load(tmp_path / "forecasting.fieldwatch", require_signature=False).bundle
    loader.note_running({"pump": ran}, {"pump"})
    return config, refused(config, "previous_bundle")


@pytest.fixture
def base(tmp_path: Path, forecasting_bundle: MakeBundle) -> tuple[Path, str]:
    """The baseline stands in."""
    config = configure(tmp_path, forecasting_bundle(), BASELINE)
    whole = config.read_text()
    line = next(line for line in whole.splitlines() if line.startswith("bundle = "))
    config.write_text(whole.replace(line, ""))
    digest = refused(config, "baseline")
    config.write_text(whole)
    return config, digest


@pytest.mark.parametrize(
    ("which", "name"), [("previous", "the bundle that ran before"), ("base", "the baseline")]
)
def test_a_stand_in_forecasts_and_says_so(
    request: pytest.FixtureRequest, which: str, name: str
) -> None:
    config, digest = request.getfixturevalue(which)
    stands_in = {"previous": "previous_bundle", "base": "baseline"}[which]
    for document in (forecast(config, "pump"), rivals(config, "pump")):
        assert (document["bundle_digest"], document["stands_in"]) == (digest, stands_in)
        assert document["refused"] == WHY
    assert drawn.forecast(config, "pump")["stands_in"] == stands_in
    for more in ([], ["--rivals"]):
        words = ["forecast", "--config", str(config), "--stream", "pump", *more]
        lines = CliRunner().invoke(commands, words).output.splitlines()
        assert lines[1].startswith(f"the configured bundle is refused; {name} scores in its place")
        assert lines[2].strip() == WHY


def test_without_a_stand_in_the_refusal_is_the_answer(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    config = configure(tmp_path, forecasting_bundle())
    refused(config, None)
    for ask in (forecast, rivals):
        with pytest.raises(BundleError):
            ask(config, "pump")


def test_a_bundle_of_its_own_stands_in_for_nothing(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    gateway = Gateway(config := configure(tmp_path, forecasting_bundle()))
    gateway.feed(rising(200))
    gateway.close()
    assert (forecast(config, "pump")["stands_in"], rivals(config, "pump")["refused"]) == (None,) * 2
