"""Drop-ins and variables: what lies over what, and what a refusal names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import commands
from agent.config import environment, location
from agent.config import load as config
from agent.config.layers import Layers, Origin, leaves
from models.errors import ConfigError

MAIN = """
[gateway]
site = "plant-1"
name = "gateway-1"
[mqtt]
host = "broker"
port = 8883
[[streams]]
name = "pump"
bundle = "pump.fieldwatch"
[[streams.limits]]
channel = "flow"
high_warning = 100
high_critical = 120
[[inputs]]
name = "line"
stream = "pump"
port = "/dev/ttyUSB0"
columns = ["time", "flow"]
"""

Write = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """``written(a=...)`` has a drop-in ``conf.d/a.toml``."""
    (tmp_path / "conf.d").mkdir()

    def write(main: str = MAIN, **drop_ins: str) -> Path:
        (tmp_path / "agent.toml").write_text(main)
        for name, text in drop_ins.items():
            (tmp_path / "conf.d" / f"{name}.toml").write_text(text)
        return tmp_path / "agent.toml"

    return write


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    return str(caught.value).replace(f"{path.parent}/", "")


# ---- drop-ins


def test_a_table_is_merged_key_by_key(written: Write) -> None:
    mqtt = config.load(written(a='[mqtt]\nhost = "other"\n')).mqtt
    assert mqtt is not None
    assert (mqtt.host, mqtt.port) == ("other", 8883)


def test_drop_ins_are_laid_in_the_order_of_their_names(written: Write) -> None:
    path = written(
        b="[mqtt]\nport = 2\nkeepalive_s = 20\n", a="[mqtt]\nport = 1\n", B="[mqtt]\nport = 3\n"
    )
    mqtt = config.load(path).mqtt
    assert mqtt is not None
    assert (mqtt.port, mqtt.keepalive_s) == (2, 20)  # B, a, b


def test_tables_of_a_list_are_one_where_they_have_one_name(written: Write) -> None:
    path = written(
        a='[[inputs]]\nname = "line"\nbaud = 9600\n[[streams]]\nname = "pump"\nsilent_after_s = 5\n'
    )
    loaded = config.load(path)
    (line,), (pump,) = loaded.inputs, loaded.streams
    assert (line.baud, str(line.port), line.columns) == (9600, "/dev/ttyUSB0", ["time", "flow"])
    assert (pump.silent_after_s, len(pump.limits)) == (5, 1)


def test_tables_with_another_name_are_added(written: Write) -> None:
    path = written(
        a='[[inputs]]\nname = "b"\nstream = "pump"\nport = "b"\nformat = "json"\n'
        '[[streams]]\nname = "pump"\n[[streams.limits]]\nchannel = "head"\nlow_warning = 1\n'
    )
    loaded = config.load(path)
    assert [source.name for source in loaded.inputs] == ["line", "b"]
    assert [limit.channel for limit in loaded.streams[0].limits] == ["flow", "head"]


def test_limits_are_one_where_they_have_one_channel(written: Write) -> None:
    path = written(
        a='[[streams]]\nname = "pump"\n[[streams.limits]]\nchannel = "flow"\nhigh_critical = 150\n'
    )
    (limit,) = config.load(path).streams[0].limits
    assert (limit.high_warning, limit.high_critical) == (100, 150)


def test_a_list_of_values_is_replaced(written: Write) -> None:
    path = written(a='[[inputs]]\nname = "line"\ncolumns = ["flow"]\n')
    assert config.load(path).inputs[0].columns == ["flow"]


def test_the_same_name_twice_in_one_file_is_still_refused(written: Write) -> None:
    again = '[[inputs]]\nname = "b"\nstream = "pump"\nport = "{}"\ncolumns = ["flow"]\n'
    text = refusal(written(a=again.format("p") + again.format("q")))
    assert text == "conf.d/a.toml: inputs: name = 'b' occurs twice; it must be unique"


def test_paths_are_relative_to_the_main_file(written: Write) -> None:
    path = written(a='[store]\ndirectory = "data"\n')
    assert config.load(path).store.directory == path.parent / "data"
    assert location.store_directory(path) == path.parent / "data"


def test_backups_and_other_files_are_no_drop_ins(written: Write) -> None:
    path = written()
    for name in (".a.toml", "a.toml~", "a.toml.bak"):
        (path.parent / "conf.d" / name).write_text("no toml")
    config.load(path)


def test_a_drop_in_that_cannot_be_read_is_named(written: Write) -> None:
    assert refusal(written(a="[mqtt\n")).startswith("conf.d/a.toml: not TOML: ")
    path = written(a="")
    (path.parent / "conf.d" / "b.toml").mkdir()
    assert refusal(path) == "conf.d/b.toml: cannot be read: it is a directory, not a file"
    with pytest.raises(ConfigError, match=r"b\.toml"):
        location.store_directory(path)


def test_conf_d_that_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(MAIN)
    (tmp_path / "conf.d").write_text("")
    assert refusal(tmp_path / "agent.toml") == "conf.d: cannot be read: Not a directory"


@pytest.mark.parametrize(
    ("drop_in", "said"),
    [
        ("[mqtt]\nport = 0\n", "conf.d/a.toml: mqtt.port = 0: must be at least 1"),
        ("[mqtt]\nprot = 1\n", "conf.d/a.toml: mqtt.prot: unknown key; did you mean 'port'?"),
        ("mqtt = 5\n", "conf.d/a.toml: mqtt = 5: "),
        # the second table of the merged list is the first of its file
        (
            '[[inputs]]\nname = "b"\nstream = "pump"\ncolumns = ["flow"]\n',
            "conf.d/a.toml: inputs[0].port: missing; it has no default",
        ),
        # what several files say of one table does not fit
        (
            "[mqtt]\nbackoff_min_s = 90\n",
            "agent.toml, conf.d/a.toml: mqtt: backoff_min_s 90 is above backoff_max_s 60",
        ),
        (
            '[[inputs]]\nname = "line"\nstream = "pmup"\n',
            "inputs: stream = 'pmup': there is no such stream; did you mean 'pump'?",
        ),
        ('[summary]\ninterval_s = "x"\n', "conf.d/a.toml: summary.interval_s = 'x': "),
    ],
)
def test_a_refusal_names_the_file_that_the_value_came_from(
    written: Write, drop_in: str, said: str
) -> None:
    assert said in refusal(written(a=drop_in))


def test_what_only_the_main_file_says_is_its_own(written: Write) -> None:
    path = written(MAIN.replace("port = 8883", "port = 0"), a='[mqtt]\nhost = "x"\n')
    assert refusal(path).startswith("agent.toml: mqtt.port = 0: ")


# ---- the environment


def test_a_variable_lies_over_all_files(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDWATCH_MQTT__PORT", "1884")
    monkeypatch.setenv("FIELDWATCH_MQTT__USERNAME", "42")  # a text all the same
    monkeypatch.setenv("FIELDWATCH_MQTT__PROTOCOL", "5")
    monkeypatch.setenv("FIELDWATCH_BUNDLES__REQUIRE_SIGNATURE", "false")
    monkeypatch.setenv("FIELDWATCH_STORE__DIRECTORY", "data")
    monkeypatch.setenv("FIELDWATCH_STORE__FLUSH_INTERVAL_S", "0.5")
    path = written(a="[mqtt]\nport = 1\n")
    loaded = config.load(path)
    assert loaded.mqtt is not None
    assert (loaded.mqtt.port, loaded.mqtt.username, loaded.mqtt.protocol) == (1884, "42", "5")
    assert not loaded.bundles.require_signature
    assert loaded.store.flush_interval_s == 0.5
    assert location.store_directory(path) == loaded.store.directory == path.parent / "data"


def test_a_variable_can_make_a_table(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDWATCH_MQTT__HOST", "b")
    loaded = config.load(written(MAIN.replace('[mqtt]\nhost = "broker"\nport = 8883\n', "")))
    assert loaded.mqtt is not None
    assert loaded.mqtt.host == "b"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FIELDWATCH_MQTT__PORT", "many", "FIELDWATCH_MQTT__PORT = 'many': must be a whole number"),
        ("FIELDWATCH_MQTT__PORT", "0", "FIELDWATCH_MQTT__PORT = 0: must be at least 1"),
        (
            "FIELDWATCH_MQTT_PORT",
            "1",
            "FIELDWATCH_MQTT_PORT: no such setting; did you mean FIELDWATCH_MQTT__PORT?",
        ),
        ("FIELDWATCH_CONFG", "x", "FIELDWATCH_CONFG: no such setting; did you mean FIELDWATCH_C"),
        ("FIELDWATCH_ZZZ", "x", "no such setting; settings are named FIELDWATCH_<TABLE>__<KEY>"),
        ("FIELDWATCH_STREAMS__PUMP__NAME", "x", "streams is a list of tables; set it in a file"),
        ("FIELDWATCH_mqtt__port", "1", "no such setting; did you mean FIELDWATCH_MQTT__PORT?"),
    ],
)
def test_a_wrong_variable_is_named(
    written: Write, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    (line,) = refusal(written()).splitlines()
    assert said in line
    assert line.startswith(variable)


def test_a_secret_in_a_variable_is_not_repeated(
    written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIELDWATCH_MQTT__PASSWORD", "hunter2")
    text = refusal(written())
    assert "hunter2" not in text
    assert "FIELDWATCH_MQTT__PASSWORD_FILE" in text


@pytest.mark.parametrize("name", [*environment.RESERVED, "SOAK_S", "TEST_X"])
def test_reserved_names_are_no_settings(
    written: Write, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"FIELDWATCH_{name}", "x")
    config.load(written())


def test_the_light_commands_know_the_same_variable() -> None:
    layers = Layers("main")
    variables = {"FIELDWATCH_STORE__DIRECTORY": "x", "FIELDWATCH_CONTROL__SOCKET": "y"}
    assert environment.lay(layers, variables, config.AgentConfig) == []
    assert {place for place, _ in leaves(layers.document)} == {
        ("store", "directory"),
        ("control", "socket"),
    }


# ---- what came from where


def test_what_is_replaced_is_forgotten() -> None:
    layers = Layers("main")
    layers.lay({"a": {"b": 1, "c": [{"name": "x", "d": 1}]}}, "main")
    layers.lay({"a": 5}, "over")
    assert layers.document == {"a": 5}
    assert layers.origins(("a", "b")) == [Origin("over", ("a", "b"))]


def test_documents_that_are_laid_stay_as_they_are() -> None:
    first = {"a": {"b": 1}, "c": [{"name": "x", "d": 1}]}
    layers = Layers("main")
    layers.lay(first, "main")
    layers.lay({"a": {"b": 2}, "c": [{"name": "x", "d": 2}]}, "over")
    assert first == {"a": {"b": 1}, "c": [{"name": "x", "d": 1}]}
    assert layers.document == {"a": {"b": 2}, "c": [{"name": "x", "d": 2}]}


def test_check_shows_where_each_setting_came_from(
    written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIELDWATCH_MQTT__KEEPALIVE_S", "30")
    path = written(a='[mqtt]\nhost = "other"\n[[inputs]]\nname = "line"\nbaud = 9600\n')
    call = ["check", "--config", str(path), "--origins"]
    output = CliRunner().invoke(commands, call).output
    lines = output.replace(f"{path.parent}/", "").splitlines()
    assert 'mqtt.host = "other"  # conf.d/a.toml' in lines
    assert "mqtt.port = 8883  # agent.toml" in lines
    assert "mqtt.keepalive_s = 30  # FIELDWATCH_MQTT__KEEPALIVE_S" in lines
    assert "mqtt.inflight_max = 20  # default" in lines
    assert "inputs[0].baud = 9600  # conf.d/a.toml" in lines
    assert 'inputs[0].columns = ["time", "flow"]  # agent.toml' in lines
    shown = json.loads(CliRunner().invoke(commands, [*call, "--json"]).output)
    assert {"key": "health.interval_s", "value": 60.0, "source": "default"} in shown


def test_check_names_the_variable_that_is_wrong(
    written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIELDWATCH_MQTT__PORT", "many")
    outcome = CliRunner().invoke(commands, ["check", "--config", str(written())])
    assert "FAIL  configuration: FIELDWATCH_MQTT__PORT = 'many'" in outcome.output
