"""Samples in answers to requests: read as sent, stored once, beside those of the lane."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.collector import parquet
from agent.collector.answers import is_answer, read_answer
from agent.collector.books import Collected
from agent.collector.overview import overview
from agent.collector.reading import Refused, Source
from agent.collector.retention import FOREVER
from agent.collector.samples import Shelved
from agent.collector.tidying import Keeping
from agent.dialects import answered
from agent.dialects.samples import Samples, packed
from models.messages import HELD, MISSING
from tests.agent.collector.test_samples import BEGIN_S, Open, chunk_of, samples_of, stored

TOPIC = "fieldwatch/v1/plant/gw-1/command/answer"
ID = "0f" * 16


def result_of(samples: Samples, stream: str = "pump-1") -> dict[str, Any]:
    rows = answered.rows_of(samples.times, samples.scores, samples.values)
    result = {"stream": stream, "channels": samples.channels, "interval_s": 1.0, "rows": rows}
    result["samples"] = True
    if samples.quality is not None:
        result["quality"] = samples.quality.tolist()
    return result


def answer(result: Any, **more: Any) -> bytes:
    said = {"v": 1, "id": ID, "part": 1, "parts": 1, "ok": True, "result": result} | more
    return json.dumps(said).encode()


class Both(Open):
    """A collector's database that takes chunks of the lane and answers."""

    def answered(self, samples: Samples, stream: str = "pump-1") -> None:
        found = read_answer(TOPIC, answer(result_of(samples, stream)), "plant")
        assert found is not None
        self.samples.take_answer(found)
        self.collected.commit()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Both]:
    one = Both(tmp_path)
    yield one
    one.close()


def times(directory: Path) -> list[float]:
    return sorted(at.timestamp() for at in stored(directory)["time"].to_list())


def moments(first: int, count: int) -> list[float]:
    return [BEGIN_S + at for at in range(first, first + count)]


def test_what_is_sent_is_read_to_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(500, 2)) * 10.0 ** rng.integers(-30, 30, (500, 2))).astype("f4")
    values[0] = [np.nan, np.float32(3.4e38)]
    quality = np.zeros((500, 2), np.uint8)
    quality[0, 0], quality[1, 1] = MISSING, HELD
    scores = rng.random(500, np.float32)
    scores[7] = np.nan
    sent_s = BEGIN_S + np.arange(500) * 0.1
    sent = Samples(["flow", "heat"], np.arange(500), sent_s, values, scores, quality)
    found = read_answer(TOPIC, answer(result_of(sent)), "plant")
    assert found is not None
    assert (found.gateway, found.stream, found.samples.channels) == ("gw-1", "pump-1", sent[0])
    assert found.samples.times.tobytes() == sent_s.tobytes()
    assert found.samples.values.tobytes() == values.tobytes()
    assert found.samples.scores.tobytes() == scores.tobytes()
    assert found.samples.quality is not None
    assert found.samples.quality.tolist() == quality.tolist()


@pytest.mark.parametrize(
    "body",
    [
        answer({"stream": "pump-1", "number": 1, "what": "acknowledged"}),
        answer(None, ok=False, error={"code": "stale", "message": ""}),
        answer(result_of(samples_of(1)) | {"samples": False}),  # means
        answer(result_of(samples_of(1)) | {"rows": []}),
    ],
)
def test_other_answers_are_no_samples(body: bytes) -> None:
    assert read_answer(TOPIC, body, "plant") is None


GOOD = result_of(samples_of(1, 3))
WHOLE = answer(GOOD)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (WHOLE[:-9], "unreadable"),
        (b"", "unreadable"),
        (b"[" * 10_000, "unreadable"),
        (WHOLE.replace(b'"rows": [[', b'"rows": [[NaN, '), "unreadable"),
        (answer(GOOD | {"rows": [*GOOD["rows"][:2], [1.0, 2.0]]}), "implausible"),
        (answer(GOOD | {"rows": [["1.0", 0.5, 1.0, 2.0]]}), "implausible"),
        (answer(GOOD | {"rows": [[True, 0.5, 1.0, 2.0]]}), "implausible"),
        (answer(GOOD | {"rows": [[None, 0.5, 1.0, 2.0]]}), "implausible"),
        (answer(GOOD | {"rows": [[-1.0, 0.5, 1.0, 2.0]]}), "implausible"),
        (answer(GOOD | {"rows": [[1e300, 0.5, 1.0, 2.0]]}), "implausible"),
        (answer(GOOD | {"rows": [[1.0, 0.5, 1e39, 2.0]]}), "implausible"),
        (answer(GOOD | {"rows": [[1.0, 0.5, 10**400, 2.0]]}), "implausible"),
        (answer(GOOD | {"rows": [[1.0, 0.5, 1.0, 2.0]] * 80_000}), "implausible"),
        (answer(GOOD | {"rows": None}), "implausible"),
        (answer(GOOD | {"channels": ["flow", "flow"]}), "implausible"),
        (answer(GOOD | {"channels": []}), "implausible"),
        (answer(GOOD | {"quality": [[0, 0]]}), "implausible"),
        (answer(GOOD | {"quality": [[0, 4]] * 3}), "implausible"),
        (answer(GOOD | {"quality": [[0]] * 3}), "implausible"),
        (answer(GOOD | {"stream": "../x"}), "implausible"),
        (answer(GOOD | {"stream": None}), "implausible"),
    ],
)
def test_what_no_gateway_answers_is_refused_by_cause(body: bytes, cause: str) -> None:
    with pytest.raises(Refused) as error:
        read_answer(TOPIC, body, "plant")
    assert error.value.cause == cause


def test_only_the_topic_of_a_gateway_of_the_site_is_one_of_answers() -> None:
    assert is_answer(TOPIC)
    assert not is_answer("fieldwatch/v1/plant/gw-1/command")
    assert not is_answer("fieldwatch/v1/plant/gw-1/alarm/answer")
    for topic in (TOPIC.replace("plant", "other"), TOPIC.replace("gw-1", "g w")):
        with pytest.raises(Refused, match="not a topic"):
            read_answer(topic, WHOLE, "plant")


@pytest.mark.parametrize("answer_first", [False, True])
@pytest.mark.parametrize("filed_between", [False, True])
def test_a_sample_that_comes_both_ways_is_stored_once(
    opened: Both, tmp_path: Path, answer_first: bool, filed_between: bool
) -> None:
    def take(of_answer: bool) -> None:
        if of_answer:
            opened.answered(samples_of(8, 20))
        else:
            opened.take(chunk_of(samples_of(1, 10)))
        if filed_between:
            opened.file_all()

    take(answer_first)
    take(not answer_first)
    opened.file_all()
    assert times(tmp_path) == moments(1, 27)
    assert opened.samples.repeated == 3
    assert opened.samples.size_bytes == 0


def test_samples_from_before_the_lane_and_between_its_chunks_are_stored(
    opened: Both, tmp_path: Path
) -> None:
    opened.take(chunk_of(samples_of(100)))
    opened.take(chunk_of(samples_of(200)))  # 110 to 199 are of other streams, or were lost
    opened.answered(samples_of(90, 115))
    opened.file_all()
    assert times(tmp_path) == moments(90, 120)
    opened.take(chunk_of(samples_of(210)))
    opened.file_all()
    assert times(tmp_path) == moments(90, 130)


def test_a_sample_of_the_first_moment_of_a_clock_is_stored(opened: Both, tmp_path: Path) -> None:
    opened.answered(samples_of(0, 10, since_s=0.0))  # of a device that counts from its start
    opened.file_all()
    assert times(tmp_path) == [float(at) for at in range(10)]


def test_answers_that_overlap_are_stored_once_over_restarts(opened: Both, tmp_path: Path) -> None:
    opened.answered(samples_of(1, 10))
    opened.answered(samples_of(5, 10))
    opened.close()
    opened.collected.__enter__()
    opened.answered(samples_of(1, 10))
    opened.file_all()
    opened.answered(samples_of(10, 10))
    opened.file_all()
    assert times(tmp_path) == moments(1, 19)
    (told,) = overview(tmp_path, None, 0)["samples"]
    assert (told["epoch"], told["samples"], told["chunks_waiting"]) == ("answered", 19, 0)


@pytest.mark.parametrize("count", [5, 10, 20])
def test_an_answer_that_begins_like_an_earlier_one_replaces_none_of_it(
    opened: Both, tmp_path: Path, count: int
) -> None:
    opened.answered(samples_of(1, 10))
    opened.file_all()
    opened.answered(samples_of(1, count))
    opened.file_all()
    assert times(tmp_path) == moments(1, max(10, count))
    assert opened.samples.repeated == min(10, count)
    (told,) = overview(tmp_path, None, 0)["samples"]
    assert told["samples"] == max(10, count)


def test_a_power_cut_between_file_and_database_repeats_and_loses_no_answer(
    opened: Both, tmp_path: Path
) -> None:
    one = samples_of(1)
    opened.answered(one)
    found = read_answer(TOPIC, answer(result_of(one)), "plant")
    assert found is not None
    source = Source("gw-1", parquet.ANSWERED)
    parquet.write(tmp_path, source, "pump-1", [found.samples])  # and then the power was cut
    opened.close()
    opened.collected.__enter__()
    opened.take(chunk_of(samples_of(5, 10)))
    opened.answered(samples_of(8, 10))
    opened.file_all()
    assert times(tmp_path) == moments(1, 17)


def test_quality_and_score_stay_as_they_came(opened: Both, tmp_path: Path) -> None:
    quality = np.zeros((10, 2), np.uint8)
    quality[2, 0] = HELD
    opened.answered(samples_of(1)._replace(quality=quality))
    opened.file_all()
    found = stored(tmp_path)
    assert found.columns[3:] == ["fieldwatch:score", "flow:quality", "heat:quality"]
    assert found.sort("time")["flow:quality"].to_list() == ["good"] * 2 + ["held"] + ["good"] * 7
    assert found["flow"].null_count() == 1
    assert found["fieldwatch:score"].to_list() == list(range(1, 11))


def test_a_damaged_file_beside_ends_nothing(opened: Both, tmp_path: Path) -> None:
    opened.answered(samples_of(1, 3))
    opened.file_all()
    (file,) = (tmp_path / "samples").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    opened.answered(samples_of(2, 3))
    opened.file_all()
    assert len(list((tmp_path / "samples").rglob("*.parquet"))) == 2


def test_without_room_an_answer_is_refused(tmp_path: Path) -> None:
    keeping = FOREVER._replace(bytes_max=2**14)
    with Collected(tmp_path, "plant", keeping, Keeping()) as collected:
        shelved = collected.samples
        assert isinstance(shelved, Shelved)
        noise = np.random.default_rng(1).normal(size=(2000, 2)).astype(np.float32)
        found = read_answer(
            TOPIC, answer(result_of(samples_of(1, 2000)._replace(values=noise))), "plant"
        )
        assert found is not None
        assert len(packed(found.samples)[1]) > shelved.bytes_max
        with pytest.raises(Refused, match="too many samples") as error:
            shelved.take_answer(found)
        assert error.value.cause == "no_room"
