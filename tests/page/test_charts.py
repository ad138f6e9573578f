"""Charts from a real store, by the worker as a real process: what it answers, and how it ends."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from agent.page.chart_protocol import ANSWER_BYTES_MAX, POINTS_MAX, REQUEST_BYTES_MAX, ChartError
from agent.page.charts import Charts, Limits
from agent.page.data import Data
from agent.page.stored import Stored
from agent.page.words import Languages
from agent.page.worker import answered
from agent.store.batch import Batch
from agent.store.writer import Store
from agent.wording.language import GERMAN
from models.bundle import Bundle
from models.messages import Samples
from tests.conftest import ROOT, WAIT_S_MAX
from tests.database import make_files
from tests.forecast_rig import COUPLED, NAMES, RISE_STEPS, Gateway, configure, rising

START_S = 1_790_000_400.0
ROWS = 900
HOSTILE = "</script><b>\u202e"
BOUND = Limits(answer_s_max=WAIT_S_MAX, idle_s_max=WAIT_S_MAX)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels, the second of which has few values; five minutes without anything."""
    directory = tmp_path_factory.mktemp("charts")
    make_files(directory / "store")
    store = Store(directory / "store", "plant", "gw-1", 100, 10_000)
    store.readings.history.describe({"pump": ["pressure", "flow"], HOSTILE: [HOSTILE]})
    store.open()
    times = START_S + np.arange(float(ROWS)) + np.where(np.arange(ROWS) < 600, 0, 300)
    values = np.stack([np.arange(ROWS), np.full(ROWS, np.nan)], axis=1).astype(np.float32)
    values[0, 1], values[1, 1] = 2.5, np.inf
    scores = np.linspace(0, 1.5, ROWS).astype(np.float32)
    samples = [("pump", Samples(times, values), scores)]
    samples.append((HOSTILE, Samples(times, values[:, :1].copy()), scores))
    store.commit(Batch(samples=samples), "synced")
    store.close()
    file = directory / "agent.toml"
    file.write_text('[store]\ndirectory = "store"\n')
    return file


@pytest.fixture(scope="module")
def forecasting(
    tmp_path_factory: pytest.TempPathFactory, forecasting_bundle: Callable[..., Bundle]
) -> Path:
    bundle = forecasting_bundle(coupling=COUPLED)
    gateway = Gateway(file := configure(tmp_path_factory.mktemp("forecasts"), bundle))
    gateway.feed(rising(RISE_STEPS + 6))
    gateway.close()
    return file


@asynccontextmanager
async def charts_of(config: Path, limits: Limits = BOUND) -> AsyncIterator[Charts]:
    charts = Charts(config, limits)
    try:
        yield charts
    finally:
        await charts.close()


def run(config: Path, ask: Callable[[Charts], Coroutine[Any, Any, bytes]]) -> dict[str, Any]:
    """Return the document of one request to a worker of its own."""

    async def asked() -> bytes:
        async with charts_of(config) as charts:
            return await ask(charts)

    document: dict[str, Any] = json.loads(asyncio.run(asked()), parse_constant=pytest.fail)
    return document


def whole(charts: Charts, points_max: int = 20) -> Coroutine[Any, Any, bytes]:
    return charts.history("pump", START_S, START_S + 1200, points_max)


async def refused(asked: Coroutine[Any, Any, bytes]) -> ChartError:
    with pytest.raises(ChartError) as found:
        await asked
    return found.value


def alive(pid: int) -> bool:
    """Whether there is such a process; what nobody has waited for counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():
            await asyncio.sleep(0.02)
    assert condition(), what


def test_a_history_comes_as_columns(config: Path) -> None:
    document = run(config, whole)
    times = document["times"]
    assert (document["stream"], document["level_s"], document["interval_s"]) == ("pump", None, 60)
    assert times[:2] == [START_S, START_S + 60]
    pressure, flow = document["channels"]
    assert {len(times)} == {
        *map(len, (document["score_max"], pressure["mean"], pressure["min"], pressure["max"]))
    }
    assert [pressure[key][0] for key in ("name", "min", "mean", "max") if key != "name"] == [
        0,
        29.5,
        59,
    ]
    assert (flow["name"], flow["unit"], flow["min"][0], flow["mean"][0]) == (
        "flow",
        None,
        2.5,
        None,
    )
    assert flow["mean"][3] is None
    assert max(filter(None, document["score_max"])) == 1.5
    assert document["agent"]["watching"] is False


def test_a_gap_is_one_point_without_values(config: Path) -> None:
    document = run(config, whole)
    pressure = document["channels"][0]["mean"]
    empty = [at for at, value in enumerate(pressure) if value is None]
    assert empty == [10]
    assert document["times"][9:12] == [START_S + 540, START_S + 600, START_S + 900]
    assert document["score_max"][10] is None


def test_only_what_is_asked_for(config: Path) -> None:
    document = run(
        config, lambda charts: charts.history("pump", START_S, START_S + 5, 100, ["flow"])
    )
    assert [channel["name"] for channel in document["channels"]] == ["flow"]
    assert document["channels"][0]["mean"] == [2.5, None, None, None, None]
    assert document["times"] == [START_S + second for second in range(5)]
    later = run(config, lambda charts: charts.history("pump", START_S + 1e6, START_S + 2e6))
    assert (later["times"], later["channels"][0]["mean"]) == ([], [])


def test_names_are_data(config: Path) -> None:
    document = run(config, lambda charts: charts.history(HOSTILE, START_S, START_S + 9))
    assert document["stream"] == document["channels"][0]["name"] == HOSTILE


def test_a_history_has_units_and_limits_of_the_configuration(
    forecasting: Path, tmp_path: Path
) -> None:
    make_files(tmp_path / "data")
    store = Store(tmp_path / "data", "plant", "gw-1", 100, 10_000)
    store.readings.history.describe({"pump": NAMES})
    store.open()
    samples = Samples(START_S + np.arange(9.0), np.ones((9, len(NAMES)), np.float32))
    scores = np.ones(9, np.float32)
    store.commit(Batch(samples=[("pump", samples, scores)]), "synced")
    store.close()
    other = tmp_path / "agent.toml"
    other.write_text(forecasting.read_text())
    document = run(other, lambda charts: charts.history("pump", START_S, START_S + 9))
    channels = {one["name"]: one for one in document["channels"]}
    assert (channels["flow"]["unit"], channels["flow"]["limits"]) == ("m3/h", [])
    assert channels["bearing_temperature"]["limits"] == [["high", "critical", 60.0]]


def test_a_forecast_comes_as_columns(forecasting: Path) -> None:
    document = run(forecasting, lambda charts: charts.forecast("pump"))
    times = document["times"]
    assert (document["hypothetical"], document["coupled"]) == (None, True)
    assert document["plannable"] == ["flow"]
    assert times[0] == document["made_s"] + document["step_s"]
    flow = next(one for one in document["channels"] if one["name"] == "flow")
    assert (flow["unit"], len(flow["median"])) == ("m3/h", len(times))
    assert [one["percent"] for one in flow["intervals"]] == [50, 80, 95]
    edges = [one["low"][-1] for one in flow["intervals"]]
    edges += [flow["median"][-1], *(one["high"][-1] for one in reversed(flow["intervals"]))]
    assert edges[2::-1] + edges[3:4] + edges[:3:-1] == sorted(edges)
    assert document["limits"][0]["channel"] == "bearing_temperature"


def test_what_if_comes_beside_it(forecasting: Path) -> None:
    document = run(
        forecasting,
        lambda charts: charts.forecast("pump", settings=["voltage+=1"], plans=["flow=80"]),
    )
    assert document["plan"] == [{"channel": "flow", "adds": False, "value": 80}]
    supposed = {one["name"]: one for one in document["hypothetical"]["channels"]}
    made = {one["name"]: one for one in document["channels"]}
    assert supposed["flow"]["median"] == pytest.approx([80] * 12, abs=1e-3)
    assert supposed["bearing_temperature"]["median"] != made["bearing_temperature"]["median"]
    assert supposed["voltage"]["last"] == pytest.approx(made["voltage"]["last"] + 1, abs=1e-3)
    few = run(forecasting, lambda charts: charts.forecast("pump", horizon_steps=3))
    assert len(few["times"]) == 3


def test_the_rivals_come_as_columns(
    tmp_path: Path, forecasting_bundle: Callable[..., Bundle]
) -> None:
    gateway = Gateway(file := configure(tmp_path, forecasting_bundle()))
    gateway.feed(rising(80))
    gateway.close()
    document = run(file, lambda charts: charts.rivals("pump"))
    forecast = run(file, lambda charts: charts.forecast("pump"))
    assert document["times"] == forecast["times"]
    assert document["made_s"] == forecast["made_s"]
    assert document["titles"]["bearing_temperature"] == "bearing temperature"
    assert forecast["titles"] == document["titles"]
    assert document["origins"] == 12
    assert document["first_s"] < document["last_s"] <= document["made_s"] - 12
    assert [one["line"] for one in document["lines"]] == ["forecast", "previous", "last", "season"]
    flow = next(one for one in forecast["channels"] if one["name"] == "flow")
    assert document["now"]["forecast"]["flow"] == flow["median"]
    assert document["now"]["last"]["flow"] == [flow["last"]] * 12


def test_rivals_without_a_past_are_refused(forecasting: Path) -> None:
    text = forecasting.read_text().replace('"data"', '"none"')
    file = forecasting.with_name("short.toml")
    file.write_text(text)
    make_files(forecasting.parent / "none")
    error = asyncio.run(refused_by(file, lambda charts: charts.rivals("pump")))
    assert (error.code, "no comparison: short history: 0 s" in str(error)) == ("impossible", True)
    assert error.message is not None
    assert GERMAN.text(error.message).startswith("kein Vergleich: zu kurze Vorgeschichte: 0 s sind")
    error = asyncio.run(refused_by(forecasting, lambda charts: charts.rivals("pumb")))
    assert (error.code, "did you mean 'pump'" in str(error)) == ("configuration", True)
    damaged = forecasting.parent / "data" / "bundles"
    damaged.mkdir(exist_ok=True)
    (damaged / "ran.json").symlink_to("ran.json")  # a loop
    error = asyncio.run(refused_by(forecasting, lambda charts: charts.rivals("pump")))
    (damaged / "ran.json").unlink()
    assert (error.code, "ran.json: cannot be read" in str(error)) == ("store", True)
    file.write_text(text.replace("forecasting.fieldwatch", "gone.fieldwatch"))
    assert asyncio.run(refused_by(file, lambda charts: charts.rivals("pump"))).code == "bundle"


async def _asked_at_once(config: Path, count: int) -> list[tuple[int, dict[str, Any]]]:
    stored, words = Stored(config.parent / "data"), Languages(config).words({})
    async with charts_of(config, BOUND._replace(waiting_max=1)) as charts:
        data = Data(charts, stored, lambda _: words)
        scope = {"type": "http", "path_params": {"stream": "pump"}}
        answers = await asyncio.gather(*(data.rivals(Request(scope)) for _ in range(count)))
    await stored.close()
    return [(one.status_code, json.loads(bytes(one.body))) for one in answers]


def test_viewers_who_come_at_once_wait_for_one_comparison(
    forecasting: Path, tmp_path: Path, forecasting_bundle: Callable[..., Bundle]
) -> None:
    (status, first), *others = asyncio.run(_asked_at_once(forecasting, 5))
    assert (status, [one["line"] for one in first["lines"]]) == (200, ["last"])
    assert others == [(status, first)] * 4
    short = configure(tmp_path, forecasting_bundle())
    (status, first), *others = asyncio.run(_asked_at_once(short, 5))
    assert (status, "short history" in first["error"]) == (409, True)
    assert others == [(status, first)] * 4


@pytest.mark.parametrize(
    "line",
    [
        b'{"what": "rivals"}\n',
        b'{"what": "rivals", "stream": 1}\n',
        b'{"what": "rivals", "stream": "pump", "origins": 1000000}\n',
    ],
)
def test_a_request_for_rivals_is_checked(config: Path, line: bytes) -> None:
    head, _ = answered(config, line).split(b"\n", 1)
    assert json.loads(head)["code"] == "request"


def test_a_spark_is_the_score_of_the_last_hour(tmp_path: Path) -> None:
    make_files(tmp_path / "store")
    store = Store(tmp_path / "store", "plant", "gw-1", 100, 100_000)
    store.readings.history.describe({"pump": ["flow"], "fan": ["speed"]})
    store.open()
    times = time.time() - 5400 + np.arange(5400.0)
    scores = np.where(np.arange(5400) == 1000, 9.0, np.arange(5400) / 10_000).astype(np.float32)
    samples = Samples(times, np.ones((5400, 1), np.float32))
    store.commit(Batch(samples=[("pump", samples, scores)]), "synced")
    store.close()
    file = tmp_path / "agent.toml"
    file.write_text('[store]\ndirectory = "store"\n')
    spark = run(file, lambda charts: charts.spark("pump"))
    assert spark["stream"] == "pump"
    assert len(spark["times"]) == len(spark["score_max"]) <= 60
    assert 0.5 < max(spark["score_max"]) < 0.54  # the score of 9 was before
    assert spark["times"][0] >= times[1000]
    empty = {"stream": "fan", "times": [], "score_max": []}
    assert run(file, lambda charts: charts.spark("fan")) == empty


async def _described(file: Path) -> None:
    async with charts_of(file) as charts:
        first = await charts.describe()
        assert first["pump"]["title"] == "Pump 7"
        assert first["pump"]["channels"]["bearing_temperature"] == {
            "title": "bearing temperature",
            "unit": "degC",
        }
        limit = {"channel": "bearing_temperature", "side": "high", "level": "critical"}
        assert first["pump"]["limits"] == [{**limit, "value": 60.0}]
        pid = charts.worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert await charts.describe() == first  # which asks no worker
        assert charts.worker_pid == pid
        drop_ins = file.parent / "conf.d"
        drop_ins.mkdir()
        (drop_ins / "title.toml").write_text('[[streams]]\nname = "pump"\ntitle = "P-8"\n')
        assert (await charts.describe())["pump"]["title"] == "P-8"
        (drop_ins / "title.toml").write_text('[[streams]]\nname = "pump"\nno_title = "P-9"\n')
        assert (await refused(_text(charts))).code == "configuration"


async def _text(charts: Charts) -> bytes:
    return json.dumps(await charts.describe()).encode()


def test_a_description_is_asked_again_when_the_configuration_changed(
    forecasting: Path, tmp_path: Path
) -> None:
    file = tmp_path / "agent.toml"
    bundle = forecasting.parent / "forecasting.fieldwatch"
    text = forecasting.read_text().replace('"forecasting.fieldwatch"', f'"{bundle}"')
    file.write_text(text.replace("[[streams.limits]]", 'title = "Pump 7"\n[[streams.limits]]'))
    asyncio.run(_described(file))


@pytest.mark.parametrize(
    ("ask", "code", "says"),
    [
        (lambda c: c.history("pumb", 0, 9), "unknown", "'pumb'; did you mean 'pump'"),
        (lambda c: c.history("pump", 0, 9, 9, ["x"]), "unknown", "no channel 'x'; there are"),
        (lambda c: c.history("pump", 9, 9), "request", "the end of a history must be after"),
        (lambda c: c.history("pump", 0, math.inf), "request", "a number is not finite"),
        (lambda c: c.history("pump", -1, 9), "request", "from_s = -1.0: must be"),
        (lambda c: c.history("pump", 0, 9, POINTS_MAX + 1), "request", "points_max = 4001: must"),
        (lambda c: c.history("p" * REQUEST_BYTES_MAX, 0, 9), "too_large", "16384 are allowed"),
        (lambda c: c.forecast("pump"), "configuration", "gateway: missing; it has no"),
        (lambda c: c.forecast("pump", plans=["flow"]), "request", "'flow': must be"),
    ],
)
def test_what_cannot_be_asked_is_said(
    config: Path, ask: Callable[[Charts], Coroutine[Any, Any, bytes]], code: str, says: str
) -> None:
    error = asyncio.run(refused_by(config, ask))
    assert error.code == code
    assert says in str(error)


async def refused_by(
    config: Path, ask: Callable[[Charts], Coroutine[Any, Any, bytes]]
) -> ChartError:
    async with charts_of(config) as charts:
        return await refused(ask(charts))


def test_what_is_missing_is_said(forecasting: Path, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[store]\ndirectory = "nothing"\n')
    assert asyncio.run(refused_by(file, whole)).code == "store"
    text = forecasting.read_text()
    file.write_text(text.replace('"data"', '"empty"'))
    make_files(tmp_path / "empty")
    error = asyncio.run(refused_by(file, lambda charts: charts.forecast("pump")))
    assert (error.code, "short history" in str(error)) == ("impossible", True)
    assert error.message is not None
    assert GERMAN.text(error.message).startswith("keine Vorhersage: zu kurze Vorgeschichte: ")
    file.write_text(text.replace("forecasting.fieldwatch", "gone.fieldwatch"))
    error = asyncio.run(refused_by(file, lambda charts: charts.forecast("pump")))
    assert error.code == "bundle"
    error = asyncio.run(refused_by(forecasting, lambda c: c.forecast("pump", plans=["voltage=1"])))
    assert (error.code, "did you mean" in str(error)) == ("configuration", False)


@pytest.mark.parametrize(
    "line", [b"{}\n", b"[]\n", b"1\n", b"\xff\n", b'{"what": "x"}\n', b'{"what": []}\n', b"\n"]
)
def test_no_line_ends_the_worker(config: Path, line: bytes) -> None:
    head, body = answered(config, line).split(b"\n", 1)
    assert json.loads(head) == {"code": "request", "bytes": len(body)}
    assert b"this is no request" in body


def test_what_is_too_large_is_not_sent(tmp_path: Path) -> None:
    channels = [f"channel {number}" for number in range(60)]
    make_files(tmp_path / "store")
    store = Store(tmp_path / "store", "plant", "gw-1", 100, 10_000)
    store.readings.history.describe({"pump": channels})
    store.open()
    values = np.random.default_rng(1).normal(size=(4000, len(channels))).astype(np.float32)
    samples = Samples(START_S + np.arange(4000.0), values)
    store.commit(Batch(samples=[("pump", samples, np.ones(4000, np.float32))]), "synced")
    store.close()
    file = tmp_path / "agent.toml"
    file.write_text('[store]\ndirectory = "store"\n')
    error = asyncio.run(
        refused_by(file, lambda c: c.history("pump", START_S, START_S + 4000, 4000))
    )
    assert error.code == "too_large"
    assert f"{ANSWER_BYTES_MAX} are allowed: ask for fewer channels or points" in str(error)
    fewer = run(file, lambda c: c.history("pump", START_S, START_S + 4000, 4000, channels[:3]))
    assert len(fewer["times"]) == 4000


async def _one_worker(config: Path) -> None:
    async with charts_of(config) as charts:
        assert charts.worker_pid is None
        first = await whole(charts)
        pid = charts.worker_pid
        assert pid is not None
        assert await asyncio.gather(whole(charts), whole(charts)) == [first, first]
        assert (await refused(charts.history("x", 0, 9))).code == "unknown"
        assert charts.worker_pid == pid
    assert not alive(pid)
    assert (await refused(whole(charts))).code == "ended"


def test_one_worker_answers_all_and_ends_with_the_page(config: Path) -> None:
    asyncio.run(_one_worker(config))


async def _killed(config: Path) -> None:
    async with charts_of(config) as charts:
        first = await whole(charts)
        assert charts.worker_pid is not None
        os.kill(charts.worker_pid, signal.SIGKILL)  # between two requests
        assert await whole(charts) == first
        pid = charts.worker_pid
        os.kill(pid, signal.SIGSTOP)
        asked = asyncio.create_task(whole(charts))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)  # in the middle of one
        assert await asked == first
        assert charts.worker_pid != pid
        assert not alive(pid)


def test_after_a_kill_another_worker_answers(config: Path) -> None:
    asyncio.run(_killed(config))


async def _killed_at_its_start(config: Path) -> None:
    async with charts_of(config) as charts:
        asked = asyncio.create_task(whole(charts))
        await until(lambda: charts.worker_pid is not None, "a worker")
        assert charts.worker_pid is not None
        os.kill(charts.worker_pid, signal.SIGKILL)
        error = await refused(_of(asked))
        assert error.code == "ended"
        assert "(code -9)" in str(error)
        assert json.loads(await whole(charts))["stream"] == "pump"


async def _of(task: asyncio.Task[bytes]) -> bytes:
    return await task


def test_a_worker_that_never_answered_is_not_tried_twice(config: Path) -> None:
    asyncio.run(_killed_at_its_start(config))


async def _too_long(config: Path) -> None:
    async with charts_of(config, BOUND._replace(answer_s_max=0.001)) as charts:
        error = await refused(whole(charts))
        assert error.code == "too_long"
        assert "ask for a shorter time or fewer points" in str(error)
        assert charts.worker_pid is None
    async with charts_of(config) as charts:
        await whole(charts)
        pid = charts.worker_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        asked = asyncio.create_task(whole(charts))
        await asyncio.sleep(0)
        asked.cancel()  # whoever asked has left
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not alive(pid)
        document = json.loads(await whole(charts, 10))
        assert document["interval_s"] == 120.0  # not the answer that the other owed


def test_a_worker_that_owes_an_answer_is_ended(config: Path) -> None:
    asyncio.run(_too_long(config))


async def _idle(config: Path) -> None:
    async with charts_of(config, BOUND._replace(idle_s_max=0.001)) as charts:
        first = await whole(charts)
        await until(lambda: charts.worker_pid is None, "the worker's end")
        assert await whole(charts) == first


def test_a_worker_without_work_ends_and_comes_back(config: Path) -> None:
    asyncio.run(_idle(config))


async def _busy(config: Path) -> None:
    async with charts_of(config, BOUND._replace(waiting_max=2)) as charts:
        found = await asyncio.gather(*(whole(charts) for _ in range(3)), return_exceptions=True)
        (error,) = (one for one in found if isinstance(one, BaseException))
        assert isinstance(error, ChartError)
        assert error.code == "busy"
        await whole(charts)


def test_few_requests_may_wait(config: Path) -> None:
    asyncio.run(_busy(config))


def test_the_worker_ends_with_its_input(config: Path) -> None:
    """As it is when the page was killed."""
    ended = subprocess.run(
        [sys.executable, "-m", "agent.page.worker", str(config)],
        input=b"{}\n",
        capture_output=True,
        cwd=ROOT,
        check=True,
        timeout=WAIT_S_MAX,
    )
    assert b'{"code": "request"' in ended.stdout
    assert ended.stderr == b""
