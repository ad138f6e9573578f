"""The configuration: what is refused, and what the refusal says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from agent.config import load as config
from agent.config import location
from agent.config.inputs import SerialTable
from agent.wording.language import ENGLISH
from models.errors import ConfigError
from models.settings import tables_in

EXAMPLE = Path(__file__).parents[3] / "systemd" / "agent.toml"

MINIMAL = """
[gateway]
site = "plant-1"
name = "gateway-1"

[[streams]]
name = "pump"
bundle = "pump.fieldwatch"

[[inputs]]
name = "pump-serial"
stream = "pump"
port = "/dev/ttyUSB0"
columns = ["time", "flow"]
"""


@pytest.fixture
def written(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "agent.toml"
        path.write_text(text)
        return path

    return write


def refusal(path: Path) -> list[str]:
    """The lines of the refusal, each of which names the file."""
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def models(
    model: type[BaseModel] = config.AgentConfig, inside: str = ""
) -> Iterator[tuple[str, type[BaseModel]]]:
    for key, field in model.model_fields.items():
        for kind in tables_in(field.annotation):
            yield inside + key, kind
            yield from models(kind, f"{inside}{key}.")


def own_keys(model: type[BaseModel]) -> set[str]:
    """Without those that are tables of their own."""
    return set(model.model_fields) - {key.split(".")[0] for key, _ in models(model)}


# ---- what is right


def test_a_minimal_file_has_the_documented_defaults(written):
    loaded = config.load(written(MINIMAL))
    assert loaded.mqtt is None
    assert loaded.store.flush_interval_s == 1.0
    assert loaded.summary.interval_s == 60
    assert loaded.inputs[0].format == "csv"
    assert loaded.keys.directory is None
    assert loaded.bundles.require_signature


def test_mqtt_defaults(written):
    mqtt = config.load(written(MINIMAL + '[mqtt]\nhost = "broker"\n')).mqtt
    assert mqtt is not None
    assert (mqtt.port, mqtt.protocol, mqtt.inflight_max) == (1883, "auto", 20)
    assert (mqtt.ack_timeout_s, mqtt.backoff_min_s, mqtt.backoff_max_s) == (60, 1, 60)
    assert (mqtt.stop_timeout_s, mqtt.unsubscribed_retry_s) == (3, 30)


def test_relative_paths_are_relative_to_the_file(written, tmp_path, monkeypatch):
    path = written(
        MINIMAL + '[mqtt]\nhost = "b"\nusername = "u"\npassword_file = "secret/mqtt"\n'
        '[store]\ndirectory = "data"\n'
    )
    monkeypatch.chdir("/")
    loaded = config.load(path)
    assert loaded.streams[0].bundle == tmp_path / "pump.fieldwatch"
    assert loaded.mqtt is not None
    assert loaded.mqtt.password_file == tmp_path / "secret" / "mqtt"
    assert loaded.inputs[0].port == Path("/dev/ttyUSB0")
    assert location.store_directory(path) == loaded.store.directory == tmp_path / "data"


def test_the_store_is_found_without_the_rest(written):
    path = written("[gateway]\nsite = 7\n")  # what else is wrong, check tells
    assert location.store_directory(path) == config.StoreTable().directory


@pytest.mark.parametrize(
    ("text", "said"),
    [("[store]\ndirectory = 3", "= 3"), ("store = 1", "must be a table"), ("[", "not TOML")],
)
def test_a_store_that_is_none_is_told(written, text, said):
    with pytest.raises(ConfigError, match=said):
        location.store_directory(written(text))


def test_several_inputs_may_feed_one_stream(written):
    second = '[[inputs]]\nname = "b"\nstream = "pump"\nport = "p"\nformat = "json"\n'
    assert len(config.load(written(MINIMAL + second)).inputs) == 2


def test_a_configuration_cannot_be_changed(written):
    loaded = config.load(written(MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        loaded.gateway.site = "other"


# ---- what is refused


def test_an_unknown_key_gets_the_nearest_one(written):
    text = MINIMAL.replace("port =", "prot =") + "[store]\nflush_interval = 2\n[sumary]\n"
    assert set(refusal(written(text))) == {
        "inputs[0].port: missing; it has no default",
        "inputs[0].prot: unknown key; did you mean 'port'?",
        "store.flush_interval: unknown key; did you mean 'flush_interval_s'?",
        "sumary: unknown key; did you mean 'summary'?",
    }


def test_an_unknown_key_like_no_other_gets_what_is_allowed(written):
    (line,) = refusal(written(MINIMAL + "[runtime]\nxyzzy = 1\n"))
    assert line == (
        "runtime.xyzzy: unknown key; allowed here are interpreter, queue_chunks_max, gather_s"
    )


def test_a_password_in_the_file_is_refused_and_not_repeated(written):
    (line,) = refusal(written(MINIMAL + '[mqtt]\nhost = "b"\npassword = "hunter2"\n'))
    assert line.startswith("mqtt.password: unknown key: secrets do not belong in this file")
    assert "mqtt.password_file" in line
    assert "hunter2" not in line


def test_every_problem_is_named_at_once(written):
    text = MINIMAL.replace('site = "plant-1"', 'site = "plant/1"').replace(
        'stream = "pump"', 'stream = "pmup"\nbaud = "fast"'
    )
    lines = refusal(written(text))
    assert len(lines) == 4
    assert lines[0].startswith("gateway.site = 'plant/1': allowed are 1 to 64 letters")
    assert lines[1].startswith("inputs[0].baud = 'fast': ")
    assert lines[2] == "inputs: stream = 'pmup': there is no such stream; did you mean 'pump'?"
    assert lines[3].startswith("streams: 'pump' has no input")


@pytest.mark.parametrize("name", ["a/b", "a+", "#", "", "ä", "a b", "$SYS", "x" * 65, "a\\nb"])
@pytest.mark.parametrize("key", ['site = "plant-1"', 'name = "pump"', 'name = "pump-serial"'])
def test_names_are_fit_for_topics(written, name, key):
    replaced = f'{key.split(" = ")[0]} = "{name}"'
    assert "letters, digits" in refusal(written(MINIMAL.replace(key, replaced)))[0]


MQTT_INPUT = """
gateway = { site = "plant-1", name = "gw-1" }
[[streams]]
name = "pump"
bundle = "b"
[[inputs]]
name = "bus"
type = "mqtt"
stream = "pump"
columns = ["flow"]
topics = ["TOPIC"]
"""


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        ("", "a topic has 1 to 65535 bytes"),
        ("x" * 65_536, "a topic has 1 to 65535 bytes"),
        ("a/#/b", "a # must be alone, at the end"),
        ("a#", "a # must be alone, at the end"),
        ("a/b+/c", "a + must be alone between two slashes"),
        ("a/++", "a + must be alone between two slashes"),
        ("a\\u0000b", "unprintable characters"),
        ("a\\u202eb", "unprintable characters"),
    ],
)
def test_a_topic_that_one_cannot_subscribe_to_is_refused(written, topic, says):
    """The client would say so by an exception, in the thread of the input."""
    (line,) = refusal(written(MQTT_INPUT.replace("TOPIC", topic)))
    assert line.startswith("inputs[0].topics[0]")
    assert says in line


@pytest.mark.parametrize(
    "topic", ["#", "+", "a/+/b", "+/a/#", "/", "$SYS/#", "$share/g/a/#", "ä b"]
)
def test_a_topic_that_one_can_subscribe_to_is_taken(written, topic):
    config.load(written(MQTT_INPUT.replace("TOPIC", topic)))


@pytest.mark.parametrize(
    ("addition", "says"),
    [
        ('[[streams]]\nname = "pump"\nbundle = "b"\n', "streams: name = 'pump' occurs twice"),
        (
            '[[inputs]]\nname = "pump-serial"\nstream = "pump"\nport = "p"\ncolumns = ["a"]\n',
            "inputs: name = 'pump-serial' occurs twice",
        ),
        (
            '[[inputs]]\nname = "b"\nstream = "pump"\nport = "/dev/ttyUSB0"\ncolumns = ["a"]\n',
            "inputs: port = '/dev/ttyUSB0' occurs twice",
        ),
        ('[mqtt]\nhost = "b"\npassword_file = "p"\n', "mqtt: password_file needs username"),
        ('[mqtt]\nhost = "b"\ntls_key_file = "k"\n', "mqtt: tls_key_file needs tls_cert_file"),
        (
            '[mqtt]\nhost = "b"\ntls_cert_file = "c"\ntls_key_file = "k"\n',
            "mqtt: tls_cert_file needs tls_ca_file",
        ),
        ('[mqtt]\nhost = "b"\nbackoff_min_s = 90\n', "mqtt: backoff_min_s 90 is above"),
        ('[mqtt]\nhost = "b"\nprotocol = "3.1"\n', "mqtt.protocol = '3.1': must be 'auto'"),
        ("[store]\nflush_interval_s = 0\n", "store.flush_interval_s = 0: must be above 0"),
        ("[store]\nflush_interval_s = inf\n", "store.flush_interval_s = inf: must be a finite"),
        ("[summary]\ninterval_s = -1\n", "summary.interval_s = -1: "),
        ("[bundles]\nrequire_signature = true\n", "bundles.require_signature needs keys.dir"),
        (
            '[bundles]\ntrusted_keys_dir = "keys"\n',
            "bundles.trusted_keys_dir: unknown key; set directory in the table [keys] instead",
        ),
        (
            '[mqtt]\nhost = "b"\nacknowledgement = "central"\n',
            'mqtt.acknowledgement = "central" needs the collector\'s public key in keys.directory',
        ),
        ("store = 5\n", "store = 5: "),
    ],
)
def test_what_does_not_fit_is_refused(written, addition, says):
    # a key at the top must come before the first table
    text = addition + MINIMAL if not addition.startswith("[") else MINIMAL + addition
    (line,) = refusal(written(text))
    assert line.startswith(says)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("", "columns is needed with format = 'csv'"),
        ('columns = ["time"]', "columns: no channel among them"),
        ('columns = ["time", "flow", "flow"]', "columns: 'flow' occurs twice"),
        ('columns = ["flow"]\nkeys = {flow = "q"}', "keys is for format = 'json' or"),
        ('columns = ["flow"]\ntime_key = "t"', "time_key is for format = 'json' or"),
        (
            'format = "json"\ncolumns = ["flow"]',
            "columns is for format = 'csv' or format = 'readings', not with format = 'json'",
        ),
        (
            'columns = ["flow"]\nheader = true',
            "columns is for format = 'csv' or format = 'readings', not with header",
        ),
        ('format = "json"\nheader = true', "header is for format = 'csv'"),
        ("header = true", "header is for files and messages"),
        ('columns = ["flow"]\nseparator = "1"', "separator = '1': must not be a part of numbers"),
        ('columns = ["flow"]\ndecimal = ","', "decimal = ',' needs another separator"),
        ('format = "keyvalue"\nseparator = ":"', "separator = ':': must not be a part of"),
        ('format = "json"\nunits = ["C"]', "units is for format = 'keyvalue'"),
        ('format = "regex"', "pattern is needed with format = 'regex'"),
        ("format = 'regex'\npattern = '(?P<flow'", "pattern: not a regular expression: "),
        ("format = 'regex'\npattern = '(?P<time>.*)'", "pattern: no named group such as"),
        ("format = 'regex'\npattern = '(?P<flow>.+)'\nline_bytes_max = 513", "line_bytes_max: at"),
    ],
)
def test_an_input_keeps_to_one_format(written, settings, says):
    text = MINIMAL.replace('columns = ["time", "flow"]', settings)
    (line,) = refusal(written(text))
    assert line.startswith(f"inputs[0]: {says}")


def test_ignored_columns_may_repeat(written):
    text = MINIMAL.replace('["time", "flow"]', '["-", "flow", "-"]')
    assert config.load(written(text)).inputs[0].columns == ["-", "flow", "-"]


def test_streams_and_inputs_are_needed(written):
    lines = refusal(written('[gateway]\nsite = "s"\nname = "g"\n'))
    assert lines == [
        "streams: missing; it has no default",
        "inputs: missing; it has no default",
    ]


def test_a_missing_file(tmp_path):
    assert refusal(tmp_path / "none.toml") == ["cannot be read: No such file or directory"]


def test_not_toml_says_where(written):
    (line,) = refusal(written("[gateway]\nsite = plant\n"))
    assert line.startswith("not TOML: ")
    assert "line 2" in line


def test_not_text(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert refusal(path)[0].startswith("not TOML: ")


BASELINE = """
[streams.baseline]
period_s = 0.5
[[streams.baseline.channels]]
name = "flow"
unit = "m3/h"
"""


def without_a_bundle(text: str = BASELINE) -> str:
    return MINIMAL.replace('bundle = "pump.fieldwatch"\n', text)


def test_a_stream_may_do_without_a_bundle(written):
    stream = config.load(written(without_a_bundle())).streams[0]
    assert stream.bundle is None
    assert stream.baseline.reach == 1.3
    assert [channel.name for channel in stream.baseline.channels] == ["flow"]


def test_a_stream_has_a_bundle_or_a_baseline_or_both(written):
    assert refusal(written(without_a_bundle(""))) == [
        "streams[0]: a stream needs a bundle or a table baseline"
    ]
    both = config.load(written(without_a_bundle('bundle = "pump.fieldwatch"\n' + BASELINE)))
    assert both.streams[0].bundle.name == "pump.fieldwatch"
    assert both.streams[0].baseline.reach == 1.3


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("period_s = 0.5", "period_s = 0.0", "streams[0].baseline.period_s = 0.0"),
        ("period_s = 0.5", "period_s = inf", "streams[0].baseline.period_s = inf"),
        ('unit = "m3/h"', "low = 3.0\nhigh = 3.0", "low 3 is not below high 3"),
        (
            "period_s = 0.5",
            "period_s = 0.5\nwarm_up_samples = 50\nhistory_samples = 40",
            "more than history_samples",
        ),
        ("period_s = 0.5", "period_s = 0.5\ndeviation_max = 3", "did you mean 'deviations_max'"),
        ("period_s = 0.5", "period_s = 0.05\nhistory_days = 3660", "keep fewer days, or more"),
        (
            'unit = "m3/h"',
            "".join(f'[[streams.baseline.channels]]\nname = "c{n}"\n' for n in range(260)),
            "the history of 261 channels takes",
        ),
        ('unit = "m3/h"', '[[streams.baseline.channels]]\nname = "flow"', "'flow' occurs twice"),
        ('"flow"', '"time"', "'time' is the column of the times: give the channel another name"),
    ],
)
def test_a_baseline_is_checked(written, before, after, said):
    (line,) = refusal(written(without_a_bundle(BASELINE.replace(before, after))))
    assert said in line


LIMITS = """
[[streams.limits]]
channel = "flow"
unit = "m3/h"
high_critical = 120
high_warning = 110.5
low_warning = 10
low_critical = 5
[streams.prediction]
probability = 0.6
"""


def with_limits(text: str = LIMITS) -> str:
    return MINIMAL.replace("[[inputs]]", text + "[[inputs]]")


def test_limits_and_when_they_raise_an_alarm(written):
    stream = config.load(written(with_limits())).streams[0]
    (limit,) = stream.limits
    assert (limit.channel, limit.high_critical, limit.low_warning) == ("flow", 120.0, 10.0)
    prediction = stream.prediction
    assert (prediction.probability, prediction.clear_probability) == (0.6, 0.3)
    assert (prediction.on_forecasts, prediction.off_forecasts) == (3, 3)
    assert config.load(written(MINIMAL)).streams[0].limits == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "high_critical = 120",
            "high_critical = 110.5",
            "warning 110.5 is not below high_critical",
        ),
        ("high_warning = 110.5\nlow_warning = 10\n", "low_warning = 121\n", "not below high_crit"),
        ("low_critical = 5", "low_critical = 10", "low_critical 10 is not below low_warning 10"),
        ("low_critical = 5", "low_critical = nan", "low_critical = nan: must be a finite number"),
        ("low_critical = 5", "low_critcal = 5", "did you mean 'low_critical'?"),
        (LIMITS, '[[streams.limits]]\nchannel = "flow"\n', "streams[0].limits[0]: no limit: give"),
        ("[streams.pred", LIMITS[: LIMITS.index("[streams.p")] + "[streams.pred", "occurs twice"),
        (
            "probability = 0.6",
            "probability = 0.2",
            "clear_probability 0.3 is above probability 0.2",
        ),
        ("probability = 0.6", "probability = 1", "streams[0].prediction.probability = 1: "),
        ("probability = 0.6", "on_forecasts = 0", "streams[0].prediction.on_forecasts = 0: "),
        ("low_critical = 5", "deadband = 1e9", "deadband 1e+09 is not below 100.5, the distance"),
        ("low_critical = 5", "deadband = -1", "streams[0].limits[0].deadband = -1"),
        ("low_critical = 5", "on_delay_s = inf", "streams[0].limits[0].on_delay_s = inf"),
        ("low_critical = 5", 'action = ""', "streams[0].limits[0].action = ''"),
    ],
)
def test_limits_are_checked(written, before, after, said):
    assert before in LIMITS
    (line,) = refusal(written(with_limits(LIMITS.replace(before, after))))
    assert said in line


def test_the_baseline_has_limits_too(written):
    (limit,) = config.load(written(without_a_bundle(BASELINE + LIMITS))).streams[0].limits
    assert (limit.on_delay_s, limit.off_delay_s, limit.deadband) == (0.0, 60.0, 0.0)


@pytest.mark.parametrize(
    ("given", "high", "low"),
    [
        ("", None, None),
        ('action = "both"', "both", "both"),
        ('action = "both"\nlow_action = "open the valve"', "both", "open the valve"),
        ('high_action = "throttle"', "throttle", None),
    ],
)
def test_what_to_do_may_depend_on_the_side(written, given, high, low):
    text = LIMITS.replace('unit = "m3/h"', given)
    (limit,) = config.load(written(with_limits(text))).streams[0].limits
    assert (limit.action_of("high"), limit.action_of("low")) == (high, low)


# ---- documentation that is checked


def test_every_key_is_described():
    described = {"AgentConfig": config.AgentConfig} | {
        model.__name__: model for _, model in models()
    }
    assert len(described) >= 33  # all tables are found
    for name, model in described.items():
        for key, field in model.model_fields.items():
            assert field.description, f"{name}.{key} has no description"


def example_settings() -> dict[str, dict[str, str]]:
    """Each table of the example, with the text of its settings, commented out or not."""
    tables: dict[str, dict[str, str]] = {}
    table = ""
    for line in EXAMPLE.read_text().splitlines():
        if header := re.fullmatch(r"(?:# )?\[+([\w.]+)\]+", line):
            table = header[1]
        elif setting := re.fullmatch(r"(?:# )?(\w+) = (.*)", line):
            tables.setdefault(table, {}).setdefault(setting[1], setting[2])
    return tables


def test_the_example_loads():
    assert config.load(EXAMPLE).streams[0].name == "pump-1"


def exemplified() -> Iterator[tuple[str, type[BaseModel]]]:
    """The tables of the example; of inputs the usual kind, the others have pages of their own."""
    for table, model in models():
        if not table.startswith("inputs") or model is SerialTable:
            yield table, model


def test_the_example_shows_every_key():
    settings = example_settings()
    for table, model in exemplified():
        assert own_keys(model) == set(settings.get(table, ())), table


def test_the_example_shows_the_defaults():
    given = tomllib.loads(EXAMPLE.read_text())
    settings = example_settings()
    for table, model in exemplified():
        rows = given.get(table, {})
        row = rows[0] if isinstance(rows, list) else rows
        for key in own_keys(model):
            field = model.model_fields[key]
            if (
                key in row
                or field.is_required()
                or not field.get_default(call_default_factory=True)
            ):
                continue
            shown = tomllib.loads(f"{key} = {settings[table][key]}")[key]
            assert shown == field.default or Path(str(shown)) == field.default, key


def test_loading_is_cheap_on_a_small_gateway():
    heavy = ("numpy", "pydantic_settings", "serial", "sqlite3", "paho")
    code = f"import sys, agent.config.load; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def suppressing(*whens: str) -> str:
    tables = "".join(f"[[streams.alarms.suppress]]\n{when}\n" for when in whens)
    return MINIMAL.replace("[[inputs]]", tables + "[[inputs]]", 1)


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("when = {}", "give either channel or alarm"),
        ('when = {channel = "flow", alarm = "silent"}', "give either channel or alarm"),
        ('when = {channel = "flow"}', "channel needs above, below or both"),
        ('when = {alarm = "silent", below = 1}', "belong to a channel, not to an alarm"),
        (
            'when = {channel = "flow", above = 2, below = 1}',
            "above = 2, below = 1: no value",
        ),
        ('when = {channel = "flow", below = 1, off_delay_s = -1}', "off_delay_s"),
        ('when = {channel = "flow", below = 1, unknown_s = 0}', "unknown_s"),
        ('when = {channel = "flow", below = 1}\nkinds = ["gap"]', "kinds"),
        ('when = {channel = "flow", below = 1}\nreason = "a\\u001b[2J"', "printable"),
        (
            'when = {stream = "pumo", channel = "flow", below = 1}',
            "there is no stream 'pumo'; did you mean 'pump'",
        ),
        ('when = {alarm = "silent"}', "the alarm silent would suppress itself; set kinds, without"),
    ],
)
def test_a_suppression_that_makes_no_sense_is_refused(tmp_path: Path, when: str, says: str) -> None:
    (tmp_path / "agent.toml").write_text(suppressing(when))
    with pytest.raises(ConfigError, match=re.escape(says)):
        config.load(tmp_path / "agent.toml")


def test_alarms_may_suppress_others_and_not_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    first = 'when = {alarm = "silent"}\nkinds = ["anomaly", "limit"]'
    path.write_text(suppressing(first, 'when = {alarm = "anomaly"}\nkinds = ["stuck"]'))
    loaded = config.load(path).streams[0].alarms.suppress
    assert [ENGLISH.text(one.when.message("pump")) for one in loaded] == [
        "pump has the alarm silent",
        "pump has the alarm anomaly",
    ]
    path.write_text(suppressing(first, 'when = {alarm = "limit"}\nkinds = ["silent"]'))
    with pytest.raises(ConfigError, match="limit of pump"):
        config.load(path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("chatter_raises = 1", "chatter_raises must be 0 or at least 2"),
        ("flood_alarms = 3", "flood_over_alarms 5 is above flood_alarms 3"),
        ("remind_h = -1", "remind_h"),
        ('advisory_when_over = ["gap"]', "advisory_when_over"),
    ],
)
def test_the_handling_of_alarms_has_bounds(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "agent.toml").write_text(f"{MINIMAL}\n[alarms]\n{line}\n")
    with pytest.raises(ConfigError, match=re.escape(says)):
        config.load(tmp_path / "agent.toml")
