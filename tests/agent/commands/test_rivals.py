"""The forecast beside its rivals: what each would have said in the stored past, and was off by."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.bundles.ledger import copy_of_other
from agent.bundles.load import Loader, load
from agent.cli import commands
from agent.commands.past_steps import CELLS_MAX, past_steps
from agent.commands.rivals import ORIGINS_MAX, rivals
from agent.inputs.plant import PERIOD_S
from agent.store.batch import Batch
from agent.store.reader import Reader
from agent.store.writer import Store
from models import bundle as bundles
from models.bundle import Bundle
from models.errors import BundleError, DataError
from models.forecaster import Forecaster
from models.messages import Float32, Forecast, Samples, stored_samples
from models.season_forecast import find_season
from models.times import unix_s
from tests.conftest import ZOO_BUNDLE
from tests.forecast_rig import (
    NAMES,
    START_S,
    STEP_SAMPLES,
    Gateway,
    configure,
    rising,
    write,
)

MakeBundle = Callable[..., Bundle]
CONTEXT, HORIZON = 24, 12  # of the small forecaster, whose steps are a second
STEPS = 200
WIDE = np.zeros((7, 8, 4))
WIDE[:3], WIDE[4:] = -100.0, 100.0  # scales of the context


def fed(config: Path, rows: Float32, first: int = 0) -> Path:
    gateway = Gateway(config)
    gateway.feed(rows, first)
    gateway.close()
    return config


@pytest.fixture(scope="module")
def compared(
    tmp_path_factory: pytest.TempPathFactory, forecasting_bundle: MakeBundle
) -> tuple[Path, dict[str, Any]]:
    config = configure(tmp_path_factory.mktemp("compared"), forecasting_bundle())
    return config, rivals(fed(config, rising(STEPS)), "pump")


def line(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in document["lines"] if one["line"] == name)
    return found


def stored(config: Path) -> Samples:
    with Reader(config.parent / "data") as reader:
        chunks = reader.newest_samples("pump", 10**6)
    return stored_samples([(one.times, one.values, None) for one in chunks], len(NAMES))


def forecaster_of(path: Path) -> Forecaster:
    forecaster = load(path).detector.forecaster
    assert forecaster is not None
    return forecaster


def came_after(samples: Samples, origin_s: float) -> Float32:
    """The means of the steps after an origin, (C, H), sample by sample."""
    means = []
    for step in range(HORIZON):
        after = samples.times - origin_s - step
        rows = samples.values[(after > 0.01) & (after < 1.01)]
        assert len(rows) == STEP_SAMPLES
        means.append(rows.astype(np.float64).mean(axis=0))
    return np.array(means).T.astype(np.float32)


def foretold(forecaster: Forecaster, samples: Samples, origin_s: float) -> Forecast:
    """As an agent that sees the samples up to an origin, and nothing of what follows."""
    state = forecaster.start()
    forecaster.step(state, samples.part(0, int((samples.times < origin_s + 0.01).sum())))
    made = forecaster.forecast(
        forecaster.context(state), state.newest, forecaster.intervals.start()
    )
    assert isinstance(made, Forecast)
    assert made.time == pytest.approx(origin_s, abs=1e-6)
    return made


def test_the_errors_are_those_of_an_agent_that_saw_only_what_was_before(
    compared: tuple[Path, dict[str, Any]],
) -> None:
    config, document = compared
    forecaster, samples = forecaster_of(config.parent / "forecasting.fieldwatch"), stored(config)
    origins = [unix_s(time) for time in document["origins"]]
    made = [foretold(forecaster, samples, origin) for origin in origins]
    came = np.stack([came_after(samples, origin) for origin in origins])
    quantiles = np.stack([one.quantiles for one in made])
    low, high = forecaster.pairs[80]
    inside = (quantiles[..., low] <= came) & (came <= quantiles[..., high])
    error = np.abs(quantiles[..., forecaster.intervals.middle] - came).mean(axis=(0, 2))
    last = np.abs(np.stack([one.last for one in made])[..., None] - came).mean(axis=(0, 2))
    ours, simple = line(document, "forecast"), line(document, "last")
    for at, name in enumerate(NAMES):
        one = ours["channels"][name]
        assert one["mae"] == pytest.approx(error[at], rel=1e-4, abs=1e-5)
        assert one["coverage_80"] == pytest.approx(inside.mean(axis=(0, 2))[at], abs=1e-5)
        assert one["compared"] == len(origins) * HORIZON
        assert simple["channels"][name]["mae"] == pytest.approx(last[at], rel=1e-4, abs=1e-5)
        assert one["to_last"] == pytest.approx(error[at] / last[at], rel=1e-3)
        assert simple["channels"][name]["to_last"] == 1.0
        assert simple["channels"][name]["coverage_80"] is None
    assert ours["model"] == "pump version 1"


def test_the_origins_are_spread_over_the_history(compared: tuple[Path, dict[str, Any]]) -> None:
    _, document = compared
    origins = [unix_s(time) for time in document["origins"]]
    assert len(origins) == ORIGINS_MAX
    assert all(origin % 2 == 0 for origin in origins)  # its stride
    newest = unix_s(document["made"])
    assert origins[0] - START_S <= CONTEXT + 3  # the first step may not be whole
    assert newest - HORIZON - 2 < origins[-1] <= newest - HORIZON
    assert max(np.diff(origins)) <= 1.5 * min(np.diff(origins))
    assert document["compared_s"] == HORIZON


def test_what_they_say_now_stands_beside_it(compared: tuple[Path, dict[str, Any]]) -> None:
    config, document = compared
    forecaster, samples = forecaster_of(config.parent / "forecasting.fieldwatch"), stored(config)
    newest = unix_s(document["made"])
    made = foretold(forecaster, samples, newest)
    assert [unix_s(time) for time in document["times"]] == made.times.tolist()
    now = document["now"]
    assert now.keys() == {"forecast", "last"}
    for at, name in enumerate(NAMES):
        median = made.quantiles[at, :, forecaster.intervals.middle]
        assert now["forecast"][name] == pytest.approx(median.tolist(), rel=1e-4)
        assert now["last"][name] == pytest.approx([made.last[at]] * HORIZON, rel=1e-4)


def test_without_a_rival_the_reason_is_there(compared: tuple[Path, dict[str, Any]]) -> None:
    _, document = compared
    for name, why in (("previous", "none_kept"), ("season", "no_season")):
        assert line(document, name)["absent"] == {"why": why}
        assert line(document, name)["channels"] == {}
    assert document["season"] is None


def exchanged(directory: Path, old: Bundle, new: Bundle) -> Path:
    """Return the copy of the bundle that the gateway ran before; it has a history, too."""
    config = configure(directory, old)
    loader = Loader(directory / "data", require_signature=False)
    for bundle in (old, new):
        loaded = load(write(directory, bundle), require_signature=False).bundle
        loader.note_running({"pump": loaded}, {"pump"})
    fed(config, rising(STEPS))
    copy = copy_of_other(directory / "data", "pump", loaded.digest)
    assert copy is not None
    return copy


def test_the_previous_bundle_is_compared_at_the_same_places(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    wide = {"rate": 0.0, "leads_steps": [1, 3, 6, 12], "offsets": WIDE.tolist()}
    old = forecasting_bundle(intervals=wide)
    old = replace(old, manifest=old.manifest.model_copy(update={"version": 7}))
    exchanged(tmp_path, old, forecasting_bundle())
    document = rivals(tmp_path / "agent.toml", "pump")
    ours, previous = line(document, "forecast"), line(document, "previous")
    assert (previous["model"], previous["absent"]) == ("pump version 7", None)
    assert len(document["origins"]) == ORIGINS_MAX
    for name in NAMES:  # the same network with other intervals
        assert previous["channels"][name]["mae"] == ours["channels"][name]["mae"]
        assert previous["channels"][name]["coverage_80"] == 1.0
    assert ours["channels"]["bearing_temperature"]["coverage_80"] < 1.0
    assert document["now"]["previous"] == document["now"]["forecast"]


def renamed(bundle: Bundle) -> Bundle:
    first, *others = bundle.manifest.channels
    channels = [first.model_copy(update={"name": "vibration_z"}), *others]
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"channels": channels}))


@pytest.mark.parametrize(
    ("old", "absent"),
    [
        (lambda make: make(step_samples=10), {"why": "other_steps", "step_s": 2.0}),
        (lambda make: renamed(make()), {"why": "other_channels", "channel": "vibration_z"}),
        (lambda make: bundles.read(ZOO_BUNDLE), {"why": "other_steps", "step_s": 10.0}),
    ],
)
def test_a_previous_bundle_that_forecasts_something_else_is_not_compared(
    tmp_path: Path,
    forecasting_bundle: MakeBundle,
    old: Callable[[MakeBundle], Bundle],
    absent: dict[str, Any],
) -> None:
    exchanged(tmp_path, old(forecasting_bundle), forecasting_bundle())
    document = rivals(tmp_path / "agent.toml", "pump")
    assert line(document, "previous")["absent"] == absent
    assert line(document, "forecast")["channels"].keys() == set(NAMES)


def test_a_damaged_copy_is_refused_and_the_rest_is_compared(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    copy = exchanged(tmp_path, forecasting_bundle(stride_steps=4), forecasting_bundle())
    copy.write_bytes(copy.read_bytes()[:-100])
    absent = line(rivals(tmp_path / "agent.toml", "pump"), "previous")["absent"]
    assert absent["why"] == "refused"
    assert str(copy) in absent["text"]


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (0, "no comparison: short history: 0 s are stored, 38 s are needed"),
        (30, "no comparison: short history: 29 s are stored, 38 s are needed"),
    ],
)
def test_a_short_history_is_named(
    tmp_path: Path, forecasting_bundle: MakeBundle, steps: int, says: str
) -> None:
    config = fed(configure(tmp_path, forecasting_bundle()), rising(steps)[1:], 1)
    with pytest.raises(DataError, match=says):
        rivals(config, "pump")
    result = call(config)
    assert isinstance(result.exception, DataError)


def call(config: Path, *arguments: str) -> Result:
    words = ["forecast", "--config", str(config), "--stream", "pump", "--rivals", *arguments]
    return CliRunner().invoke(commands, words)


def test_few_steps_more_suffice(tmp_path: Path, forecasting_bundle: MakeBundle) -> None:
    config = fed(configure(tmp_path, forecasting_bundle()), rising(39)[1:], 1)
    document = rivals(config, "pump")
    assert 1 <= len(document["origins"]) <= 2


def test_no_origin_looks_into_a_gap(tmp_path: Path, forecasting_bundle: MakeBundle) -> None:
    config = configure(tmp_path, forecasting_bundle())
    rows = rising(STEPS)
    gap = slice(100 * STEP_SAMPLES, 110 * STEP_SAMPLES)
    gateway = Gateway(config)
    gateway.feed(rows[: gap.start])
    gateway.feed(rows[gap.stop :], gap.stop)
    gateway.close()
    document = rivals(config, "pump")
    origins = np.array([unix_s(time) for time in document["origins"]])
    assert 4 <= len(origins) < ORIGINS_MAX
    gap_s = START_S + 110
    assert not ((origins >= gap_s - 9) & (origins < gap_s + CONTEXT - 10)).any()
    before = int((origins < gap_s - 10).sum()) * HORIZON
    over = int(((origins < gap_s - 10) & (origins > gap_s - 10 - HORIZON)).sum())
    compared = line(document, "last")["channels"]["flow"]["compared"]
    assert compared <= len(origins) * HORIZON
    assert before + over > 0


def test_a_history_of_gaps_is_named(tmp_path: Path, forecasting_bundle: MakeBundle) -> None:
    config = configure(tmp_path, forecasting_bundle())
    rows = rising(STEPS)
    flow = rows[:, NAMES.index("flow")].reshape(-1)
    for begin in range(0, len(rows), 20 * STEP_SAMPLES):
        flow[begin : begin + 10 * STEP_SAMPLES] = np.nan
    with pytest.raises(DataError, match="at any of 12 past times; at the last: missing values: "):
        rivals(fed(config, rows), "pump")


def test_a_rival_that_the_gaps_stop_is_left_out(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    text = 'baseline = { period_s = 0.2, season_s = 40.0, channels = [{ name = "flow" }] }'
    rows = seasonal(400, 40)
    for begin in range(0, len(rows), 60 * STEP_SAMPLES):  # its context is 80 steps
        rows[begin : begin + 7 * STEP_SAMPLES] = np.nan
    document = rivals(fed(configure(tmp_path, forecasting_bundle(), text), rows), "pump")
    absent = line(document, "season")["absent"]
    assert (absent["why"], absent["made"]) == ("gaps", 0)
    assert absent["tried"] == len(document["origins"]) > 2
    assert line(document, "forecast")["channels"]["flow"]["mae"] > 0
    compared = line(document, "forecast")["channels"]["flow"]["compared"]
    assert 0 < compared < len(document["origins"]) * HORIZON  # what did not come is not compared
    assert "season" not in document["now"]


def seasonal(steps: int, season: int) -> Float32:
    rows = rising(steps)
    wave = np.sin(2 * np.pi * np.arange(len(rows)) / STEP_SAMPLES / season)
    scale = np.array([1.0, 1.0, 10.0, 2.0, 20.0, 5.0, 5.0, 10.0])
    center = np.array([3.0, 3.0, 40.0, 6.0, 80.0, 40.0, 30.0, 400.0])
    noise = np.random.default_rng(1).normal(0, 0.02, (len(rows), len(NAMES)))
    return np.asarray(center + scale * (wave[:, None] + noise), np.float32)


def test_a_season_that_the_history_shows_is_a_rival(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    config = fed(configure(tmp_path, forecasting_bundle()), seasonal(400, 40))
    document = rivals(config, "pump")
    assert document["season"] == {"season_s": 40.0, "found": True}
    season, last = line(document, "season"), line(document, "last")
    assert season["absent"] is None
    for name in NAMES:
        one = season["channels"][name]
        assert one["mae"] < 0.5 * last["channels"][name]["mae"]
        assert one["coverage_80"] > 0.5
    # the season was found in the older half: no origin is there
    assert unix_s(document["origins"][0]) >= START_S + 199
    assert len(document["now"]["season"]["flow"]) == HORIZON


def test_a_configured_season_is_used_from_the_beginning(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    text = 'baseline = { period_s = 0.2, season_s = 40.0, channels = [{ name = "flow" }] }'
    config = fed(configure(tmp_path, forecasting_bundle(), text), seasonal(400, 40))
    document = rivals(config, "pump")
    assert document["season"] == {"season_s": 40.0, "found": False}
    assert unix_s(document["origins"][0]) <= START_S + 2 * 40 + 3
    config.write_text(config.read_text().replace("season_s = 40.0", "season_s = 250.0"))
    absent = line(rivals(config, "pump"), "season")["absent"]
    assert absent["why"] == "short_history"
    assert absent["stored_s"] < absent["needed_s"]
    config.write_text(config.read_text().replace("season_s = 250.0", "season_s = 86400.0"))
    absent = line(rivals(config, "pump"), "season")["absent"]
    assert absent == {"why": "other_season", "season_s": 86400.0}


@pytest.mark.parametrize(
    ("steps", "season"),
    [
        (np.sin(np.arange(400) / 40 * 2 * np.pi), 40),
        (np.sin(np.arange(400) / 40 * 2 * np.pi) + np.arange(400) / 50, 40),
        (np.arange(400) % 24 == 3, 24),
        (np.random.default_rng(1).normal(size=400), None),
        (np.random.default_rng(1).normal(size=400).cumsum(), None),
        (np.ones(400), None),
        (np.full(400, np.nan), None),
        (np.sin(np.arange(400) / 200 * 2 * np.pi), None),  # two of them are too few
        (np.arange(400) % 2, None),  # too short
        (np.empty(0), None),
    ],
)
def test_a_season_is_found(steps: Sequence[float], season: int | None) -> None:
    found = find_season(np.asarray(steps, np.float32)[:, None])
    assert found == season


def test_a_stream_without_a_bundle_is_compared_with_the_last_value(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    config = configure(tmp_path, forecasting_bundle())
    text = config.read_text()
    bundle = next(one for one in text.splitlines() if one.startswith("bundle = "))
    named = ", ".join(f'{{ name = "{name}" }}' for name in NAMES)
    table = f"baseline = {{ period_s = 0.2, season_s = 40.0, channels = [{named}] }}"
    config.write_text(text.replace(bundle, table).replace('unit = "degC"\n', ""))
    document = rivals(fed(config, seasonal(400, 40)), "pump")
    ours, last = line(document, "forecast"), line(document, "last")
    assert ours["model"] is None
    assert ours["channels"]["flow"]["mae"] < 0.5 * last["channels"]["flow"]["mae"]
    assert line(document, "season")["absent"] == {"why": "same"}
    assert line(document, "previous")["absent"] == {"why": "none_kept"}


def test_only_the_newest_samples_are_read(tmp_path: Path, forecasting_bundle: MakeBundle) -> None:
    config = fed(configure(tmp_path, forecasting_bundle()), rising(60))
    store = Store(tmp_path / "data", "plant", "gw-1", 1000, 2_000_000)
    store.open()
    many = 1_000_000
    samples = Samples(START_S + np.arange(float(many)), np.ones((many, 1), np.float32))
    store.commit(Batch(samples=[("fan", samples, np.ones(many, np.float32))]), "synced")
    store.close()
    with pytest.raises(DataError, match="short history: 0 s are stored"):
        rivals(config, "pump")


def test_few_steps_are_kept_of_short_ones(tmp_path: Path, forecasting_bundle: MakeBundle) -> None:
    config = configure(tmp_path, forecasting_bundle(step_samples=1))
    forecaster = forecaster_of(tmp_path / "forecasting.fieldwatch")
    store = Store(tmp_path / "data", "plant", "gw-1", 1000, 1_000_000)
    store.open()
    rows = 300_000
    for begin in range(0, rows, 1000):
        times = START_S + (begin + np.arange(1000)) * PERIOD_S
        values = np.repeat(np.arange(begin, begin + 1000, dtype=np.float32)[:, None], 8, axis=1)
        samples = Samples(times, values)
        store.commit(Batch(samples=[("pump", samples, np.ones(1000, np.float32))]), "synced")
    store.close()
    with Reader(config.parent / "data") as reader:
        steps = past_steps(reader, "pump", forecaster, len(NAMES))
    assert CELLS_MAX / 8 <= len(steps.numbers) < 2 * CELLS_MAX / 8
    assert set(np.diff(steps.numbers).tolist()) == {1}
    kept = np.arange(rows - len(steps.numbers), rows, dtype=np.float32)
    assert (steps.values == kept[:, None]).all()


def test_steps_begin_anew_where_the_clock_was_set_back(
    tmp_path: Path, forecasting_bundle: MakeBundle
) -> None:
    config = configure(tmp_path, forecasting_bundle())
    forecaster = forecaster_of(tmp_path / "forecasting.fieldwatch")
    store = Store(tmp_path / "data", "plant", "gw-1", 1000, 100_000)
    store.open()
    other = Samples(np.arange(9.0), np.ones((9, 3), np.float32))  # of another bundle's channels
    store.commit(Batch(samples=[("pump", other, np.ones(9, np.float32))]), "synced")
    for begin_s, value, rows in ((1000.0, 1.0, 100), (500.0, 2.0, 53)):
        times = begin_s + np.arange(1, rows + 1) * PERIOD_S
        samples = Samples(times, np.full((rows, len(NAMES)), value, np.float32))
        store.commit(Batch(samples=[("pump", samples, np.ones(rows, np.float32))]), "synced")
    store.close()
    with Reader(config.parent / "data") as reader:
        steps = past_steps(reader, "pump", forecaster, len(NAMES))
    # ten whole steps; the first may have lost samples, and three more are no step
    assert steps.numbers.tolist() == list(range(502, 511))
    assert (steps.values == 2.0).all()
    rows = steps.rows(509, 4)
    assert rows[:, 0].tolist()[:2] == [2.0, 2.0]
    assert np.isnan(rows[2:]).all()


def test_people_get_a_table_for_each_channel(compared: tuple[Path, dict[str, Any]]) -> None:
    config, document = compared
    result = call(config)
    lines = result.output.splitlines()
    assert lines[0] == "pump: the forecast and its rivals"
    assert lines[1].startswith("each forecast 12 s ahead at 12 past times, 2023-11-14T")
    begin = lines.index("flow, m3/h")
    assert lines[begin + 1].split() == "off by of last value 80 % held in 12 s".split()
    one = line(document, "forecast")["channels"]["flow"]
    assert lines[begin + 2].split()[:4] == ["forecast", "(pump", "version", "1)"]
    assert float(lines[begin + 2].split()[4]) == pytest.approx(one["mae"], rel=1e-3)
    assert lines[begin + 3].split()[3:6] == ["100", "%", "-"]
    assert "season: not compared: none is configured, and none was found" in result.output
    assert lines[-1].startswith("NOT WATCHING")
    document = json.loads(call(config, "--json").output)
    assert document["lines"][0]["line"] == "forecast"


@pytest.mark.parametrize("other", [["--set", "flow=1"], ["--plan", "flow=1"], ["--horizon", "2"]])
def test_it_goes_with_nothing_else(compared: tuple[Path, dict[str, Any]], other: list[str]) -> None:
    result = call(compared[0], *other)
    assert result.exit_code == 2
    assert "--rivals goes with --stream, --config and --json only" in result.output


def test_a_refused_bundle_is_named(tmp_path: Path, forecasting_bundle: MakeBundle) -> None:
    config = configure(tmp_path, forecasting_bundle())
    (tmp_path / "forecasting.fieldwatch").write_bytes(b"x")
    with pytest.raises(BundleError):
        rivals(config, "pump")
