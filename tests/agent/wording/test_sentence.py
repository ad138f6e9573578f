"""The first sentence of each kind of alarm, in both languages."""

from __future__ import annotations

from typing import Any

import pytest

from agent.wording.english import TEXTS
from agent.wording.sentence import first_sentence, present, sentence
from models.times import iso_time

ONSET_S = 1_700_000_000.0


def channel(name: str = "flow", **more: Any) -> dict[str, Any]:
    values = {"unit": "m3/h", "score": 2.0, "observed": 71.0, "expected": 81.0}
    return {"channel": name} | values | more


def alarm(kind: str = "anomaly", **more: Any) -> dict[str, Any]:
    return {
        "stream": "pump-3",
        "kind": kind,
        "onset": iso_time(ONSET_S),
        "closed": None,
        "channels": [channel()],
        "limit": None,
    } | more


def forecast(side: str = "high", median_s: float | None = 7200.0) -> dict[str, Any]:
    limit = {"side": side, "level": "critical", "value": 80.5, "unit": "degC"}
    return limit | {"made": iso_time(ONSET_S), "median_s": median_s}


PASSED = {"side": "low", "level": "warning", "value": 2.5, "unit": "bar", "worst": 2.0}
SAID = [
    (alarm(), "flow lower than expected", "flow niedriger als erwartet"),
    (
        alarm(channels=[channel(observed=90.0)]),
        "flow higher than expected",
        "flow höher als erwartet",
    ),
    (
        alarm(channels=[channel("discharge_pressure", title="Druck")]),
        "Druck lower than expected",
        "Druck niedriger als erwartet",
    ),
    (
        alarm(channels=[channel("discharge_pressure")]),
        "discharge pressure lower than expected",
        "discharge pressure niedriger als erwartet",
    ),
    (
        alarm(operating={"channels": [channel("speed")], "named": True}),
        "flow lower than expected for its speed",
        "flow niedriger als erwartet, gemessen an speed",
    ),
    (
        alarm(operating={"channels": [channel("flow")], "named": True}),
        "flow lower than expected",
        "flow niedriger als erwartet",
    ),
    (
        alarm(operating={"channels": [channel("speed")], "named": False}),
        "flow lower than expected",
        "flow niedriger als erwartet",
    ),
    (
        alarm(channels=[channel(level=True)]),
        "flow lower than in all of its training",
        "flow niedriger als je im Training",
    ),
    (alarm(channels=[channel(expected=None)]), "flow unusual", "flow ungewöhnlich"),
    (alarm(channels=[]), "unusual behaviour", "ungewöhnliches Verhalten"),
    (
        alarm("stuck"),
        "the value of flow does not change any more",
        "Wert von flow ändert sich nicht mehr",
    ),
    (alarm("missing"), "no usable value of flow", "kein brauchbarer Wert von flow"),
    (
        alarm("missing", channels=[channel(), channel("head")]),
        "no usable values",
        "keine brauchbaren Werte",
    ),
    (
        alarm("silent", cause="device"),
        "nothing comes from the device",
        "vom Gerät kommt nichts",
    ),
    (
        alarm("silent", cause="link"),
        "no connection to the device",
        "keine Verbindung zum Gerät",
    ),
    (
        alarm("silent", cause="unusable"),
        "nothing usable comes from the device",
        "vom Gerät kommt nichts Brauchbares",
    ),
    (
        alarm("limit", limit=forecast()),
        "flow will probably rise above 80.5 degC (critical limit) in 2 h",
        "flow steigt wahrscheinlich in 2 h über 80,5 degC (kritische Grenze)",
    ),
    (
        alarm("limit", limit=forecast("low", None)),
        "flow will probably fall below 80.5 degC (critical limit)",
        "flow fällt wahrscheinlich unter 80,5 degC (kritische Grenze)",
    ),
    (
        alarm("limit", limit=forecast(median_s=0.0)),
        "flow will rise above 80.5 degC (critical limit) at any moment",
        "flow steigt jeden Moment über 80,5 degC (kritische Grenze)",
    ),
    (
        alarm("limit_passed", limit=PASSED),
        "flow below 2.5 bar (warning limit)",
        "flow unter 2,5 bar (Warngrenze)",
    ),
    (alarm("of_later"), "of later", "of later"),
]


@pytest.mark.parametrize(("one", "english", "german"), SAID)
def test_each_kind_has_its_sentence(one: dict[str, Any], english: str, german: str) -> None:
    assert first_sentence(one) == f"pump-3: {english}"
    assert first_sentence(one | {"title": "Pumpe 3"}, "de") == f"Pumpe 3: {german}"


def test_it_says_for_how_long_if_the_time_is_known() -> None:
    later = ONSET_S + 720
    assert first_sentence(alarm(), "en", later).endswith("expected, for 12 min")
    assert first_sentence(alarm(), "de", later).endswith("erwartet, seit 12 min")
    over = alarm(closed=iso_time(later))
    assert first_sentence(over, "en").endswith("expected; over after 12 min")
    assert first_sentence(over, "de", later + 9e9).endswith("erwartet; vorbei nach 12 min")
    assert first_sentence(alarm(onset="x"), "en", later).endswith("than expected")


@pytest.mark.parametrize(
    ("cause", "english"),
    [
        ("device", "the device sent nothing for 12 min"),
        ("link", "no connection to the device for 12 min"),
        ("agent", "not watched for 12 min"),
        ("times", "the device's times have a gap of 12 min"),
        (None, "no values for 12 min"),
    ],
)
def test_a_gap_says_how_long_it_was(cause: str | None, english: str) -> None:
    gap = alarm("gap", cause=cause, channels=[], closed=iso_time(ONSET_S + 720))
    assert first_sentence(gap, "en", ONSET_S + 9999) == f"pump-3: {english}"


def test_the_time_that_a_forecast_leaves_runs() -> None:
    one = alarm("limit", limit=forecast())
    assert " in 2 h, for 0 s" in first_sentence(one, "en", ONSET_S)
    assert " in 60 min, for 60 min" in first_sentence(one, "en", ONSET_S + 3600)
    assert " at any moment, for 2 h" in first_sentence(one, "en", ONSET_S + 7200)
    stored = one | {"text": sentence(one).document()}
    assert present(stored, ONSET_S + 3600) == present(one, ONSET_S + 3600)


def test_the_stored_message_is_the_one_that_is_said() -> None:
    stored = {"key": "anomaly.lower", "parameters": {"machine": "M", "channel": "C"}}
    assert first_sentence(alarm(text=stored)) == "M: C lower than expected"


def test_each_key_that_an_alarm_can_get_is_a_text() -> None:
    assert {sentence(one).key for one, _, _ in SAID} <= TEXTS.keys()
