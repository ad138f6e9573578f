"""The command, on real parts: what it proposes is pasted into a configuration, and reads all."""

from __future__ import annotations

import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import tomllib
import tty
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent.cli import commands
from agent.commands.probe import report
from agent.commands.probe.measure import plain_channels
from agent.config import load as configuration
from agent.mqtt.client import Client
from agent.parsing.checksum import signed
from agent.parsing.lines import LineParser
from models.errors import ConfigError
from tests.conftest import ROOT, WAIT_S_MAX, RealBroker, wait_until
from tests.modbus_device import Cable, Device, Unit
from tests.scripted_broker import PUBLISH, SUBACK, ScriptedBroker, Session

HEAD = '[gateway]\nsite = "plant"\nname = "gw-1"\n'


def probe(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["probe", *map(str, arguments)], standalone_mode=False)


def found(*arguments: object, seconds: float = 0.5) -> dict[str, Any]:
    ended = probe(*arguments, "--seconds", seconds, "--json")
    document: dict[str, Any] = json.loads(ended.stdout)
    unread = not document["proposal"] and "--input" not in arguments
    assert ended.return_value == (69 if document["problem"] else 65 if unread else 0)
    return document


def pasted(document: dict[str, Any], directory: Path) -> Path:
    """A whole configuration, of both proposals."""
    path = directory / "agent.toml"
    path.write_text(HEAD + document["stream"] + document["proposal"])
    return path


def reads(config: Path, number: int, lines: Sequence[bytes]) -> list[list[float]]:
    """What the configuration makes of the lines of an input."""
    loaded = configuration.load(config)
    baseline = loaded.streams[0].baseline
    assert baseline is not None
    channels = plain_channels([channel.name for channel in baseline.channels])
    parser = LineParser(loaded.inputs[number].lines, channels)
    values = parser.parse(lines, 1.7e9).values.tolist()
    assert not parser.counters
    return [[value for value in row if value == value] for row in values]


class Talking:
    """Something that says a line again and again, until it is closed."""

    def __init__(self, say: Callable[[int], object], pause_s: float = 0.02) -> None:
        self._ended = threading.Event()

        def run() -> None:
            for number in itertools.count():
                say(number)
                if self._ended.wait(pause_s):
                    return

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def talking(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """What starts a Talking; all of them end before ``tmp_path``, which they may write to."""
    assert tmp_path.is_dir()
    made: list[Talking] = []
    yield lambda *given: made.append(Talking(*given))
    for one in made:
        one.close()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The other end of a serial line, and its lasting name."""
    (tmp_path / "by-id").mkdir()
    controller, terminal = pty.openpty()
    tty.setraw(terminal)
    os.set_blocking(controller, False)
    name = tmp_path / "by-id" / "usb-FTDI_x"
    name.symlink_to(os.ttyname(terminal))
    yield controller, name
    os.close(controller)
    os.close(terminal)


def write(controller: int, line: bytes, end: bytes = b"\r\n") -> None:
    try:
        os.write(controller, line + end)
    except BlockingIOError:  # nobody reads
        pass


# ---- serial


def test_a_serial_line(
    port: tuple[int, Path], talking: Callable[..., None], tmp_path: Path
) -> None:
    controller, name = port
    talking(lambda n: write(controller, signed(f"T={n}.5C P={n / 8:.3f}".encode(), "xor")))
    xonxoff = ("--flow-control", "xonxoff")
    document = found("serial", "auto", "--by-id", name.parent, "--baud", 9600, *xonxoff)
    assert document["problem"] is None
    (source,) = document["sources"]
    assert (source["format"], source["checksum"], source["rejected"]) == ("keyvalue", "xor", {})
    assert source["readings"] == source["lines"] > 2
    assert 0.005 < source["period_s"] < 0.5
    assert source["channels"]["T"]["low"] < source["channels"]["T"]["high"]
    table = tomllib.loads(document["proposal"])["inputs"][0]
    assert table["port"] == str(name)
    assert (table["baud"], table["flow_control"], table["units"]) == (9600, "xonxoff", ["C"])
    config = pasted(document, tmp_path)
    assert reads(config, 0, [signed(b"T=7.5C P=0.5", "xor")]) == [[7.5, 0.5]]
    again = found("--input", "usb-FTDI_x", "--config", config)
    (source,) = again["sources"]
    assert (source["rejected"], again["proposal"]) == ({}, None)
    assert source["readings"] > 2
    text = probe("serial", name, "--baud", 9600, "--seconds", 0.5).output
    assert "> 'T=" in text
    assert "keyvalue, checksum xor; " in text
    assert "[[inputs]]" in text


def test_the_rate_of_a_line_is_looked_for(
    port: tuple[int, Path], talking: Callable[..., None]
) -> None:
    """At a terminal every rate is right: the first is taken."""
    controller, name = port
    talking(lambda n: write(controller, b"2\r\n%d," % n, end=b""))
    document = found("serial", name)
    assert tomllib.loads(document["proposal"])["inputs"][0]["baud"] == 115200
    assert document["raw"][0].endswith(",2")  # the first line had lost its beginning
    assert document["sources"][0]["rejected"] == {}


def test_ports_are_listed(port: tuple[int, Path], tmp_path: Path) -> None:
    _, name = port
    assert f"{name} -> {name.resolve()}\n" in probe("--by-id", name.parent).output
    listed = probe("--by-id", name.parent, "--json").output
    assert json.loads(listed) == [{"port": str(name), "target": str(name.resolve())}]
    assert "there is no serial device" in probe("--by-id", tmp_path / "none").output


def test_what_is_wrong_with_a_line_is_told(port: tuple[int, Path], tmp_path: Path) -> None:
    controller, name = port
    absent = found("serial", tmp_path / "ttyUSB9", "--baud", 9600)
    assert "ttyUSB9 does not exist: is the device plugged in?" in absent["problem"]
    silent = found("serial", name, "--baud", 9600)
    assert silent["problem"].startswith("nothing arrived in 0.5 s: is the device on")
    talk = Talking(lambda _: os.write(controller, b"x"))
    document = found("serial", name, "--baud", 9600)
    talk.close()
    assert "bytes arrived, but no line end: is 9600 baud right?" in document["problem"]
    file = tmp_path / "file"
    file.touch()
    assert str(file) in found("serial", file, "--baud", 9600)["problem"]
    assert "no device matches" in found("serial", tmp_path / "usb-*")["problem"]
    ended = probe("serial", tmp_path / "ttyUSB9")
    assert "does not exist" in ended.stderr
    assert ended.return_value == 69


def test_a_port_without_permission_names_the_group(port: tuple[int, Path]) -> None:
    _, name = port
    terminal = name.resolve()
    terminal.chmod(0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        problem = found("serial", terminal, "--baud", 9600)["problem"]
    finally:
        os.seteuid(was)
    assert problem == (
        f"no permission to open {terminal}: add the agent's user to the group {terminal.group()}"
    )


def test_lines_of_no_known_format_are_told(
    port: tuple[int, Path], talking: Callable[..., None]
) -> None:
    controller, name = port
    talking(lambda _: write(controller, b"all is well here"))
    document = found("serial", name, "--baud", 9600)
    assert (document["problem"], document["proposal"]) == (None, None)
    text = probe("serial", name, "--baud", 9600, "--seconds", 0.3).output
    assert "match no known format; format = 'regex'" in text
    assert "data arrived, but none of it can be read" in text


# ---- a file


def test_a_file_with_a_header_and_what_it_gets(
    talking: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    rows = [f"2023-11-14T22:13:{second:02d}Z;{second},5;x" for second in range(20)]
    path.write_text("\n".join(["at;Flow [m3/h];note", *rows, ""]))

    def append(_: int) -> None:
        with path.open("a") as file:
            file.write("2023-11-14T22:13:30Z;1,5;x\n")

    document = found("file", path)
    talking(append)
    more = found("file", path)
    assert document["lines"] == 21 < more["lines"]
    (source,) = document["sources"]
    assert (source["readings"], source["period_s"], source["time"]) == (20, 1.0, "at")
    assert source["channels"]["Flow_m3_h"] == {
        "from": "Flow [m3/h]",
        "low": 0.5,
        "high": 19.5,
        "last": 19.5,
    }
    config = pasted(document, tmp_path)
    assert configuration.load(config).inputs[0].header
    assert reads(config, 0, [b"Flow [m3/h];at", b"7,5;1700000000"]) == [[7.5]]
    again = found("--input", "log", "--config", config, seconds=1.5)
    assert again["sources"][0]["readings"] > 0
    assert again["sources"][0]["rejected"] == {}


def test_a_file_without_a_time_gets_a_note_and_one_with_a_date_does_not(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("Station;T\n" + "Nord;20,5\n" * 5)
    (source,) = found("file", path, seconds=0.1)["sources"]
    assert "no time was found" in source["notes"][0]
    path.write_text("Zeit;T\n" + "21.09.2026 14:13:33;20,5\n" * 5)
    document = found("file", path, seconds=0.1)
    (source,) = document["sources"]
    assert "no time was found" not in str(source["notes"])
    config = pasted(document, tmp_path)
    assert reads(config, 0, [b"Zeit;T", b"22.09.2026 00:00:00;7,5"]) == [[7.5]]


def test_a_file_with_the_date_and_the_time_of_day_in_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [f"21.09.2026;14:13:{second};1.404,{second};x" for second in range(10, 30)]
    path.write_text("\n".join(["Datum;Zeit;Öl-Druck;Status", *rows, ""]))
    document = found("file", path, seconds=0.1)
    (source,) = document["sources"]
    assert (source["readings"], source["time"]) == (20, "Datum with Zeit")
    assert source["rejected"] == {"bad_time": 1, "not_a_number": 1}
    assert "the header counts as one line that cannot be read" in source["notes"][0]
    assert source["channels"]["Oel-Druck"]["low"] == pytest.approx(1404.1)
    config = pasted(document, tmp_path)
    assert reads(config, 0, [b"22.09.2026;00:00:00;7,5;y"]) == [[7.5]]


def test_rows_that_are_not_in_order_are_told(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("".join(f"2023-11-14T22:13:{second}Z,7\n" for second in (10, 12, 11, 13, 12)))
    assert found("file", path, seconds=0.1)["sources"][0]["backwards"] == 2
    told = probe("file", path, "--seconds", 0.1).stdout
    assert "2 lines have an earlier time than the line before" in told
    assert "sort the lines by time" in told


def test_control_c_ends_the_listening_and_what_came_counts(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("1700000000,7\n1700000001,8\n")
    arguments = ["-m", "agent", "probe", "file", str(path), "--seconds", "3600"]
    process = subprocess.Popen(
        [sys.executable, "-u", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        # a job in the background ignores Ctrl-C, and so would what it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "> '1700000000,7'\n"
    assert process.stdout.readline() == "> '1700000001,8'\n"
    wait_until(lambda: str(path) in opened_by(process.pid), "the file to be followed")
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert 'columns = ["time", "channel_2"]' in printed


def opened_by(process: int) -> set[str]:
    links = Path(f"/proc/{process}/fd").iterdir()
    return {str(link.readlink()) for link in links if link.is_symlink()}


def test_options_before_the_command_hold_or_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("1,2\n3,4\n")
    document = json.loads(probe("--json", "--seconds", 0.1, "file", path).stdout)
    assert (document["seconds"], document["lines"]) == (0.1, 2)
    for options in (["--input", "x"], ["--config", "x"], ["--by-id", "x"]):
        refused = probe(*options, "file", path)
        assert f"{options[0]} is not an option of probe file" in str(refused.exception)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"1,2", "has 3 bytes, but no line end"),
        ("1,2\n".encode("utf-16"), "it is UTF-16"),
        (b'{\n  "flow": 7\n}\n', "each document in one line (jq -c . FILE does that)"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(data)
    assert said in found("file", path, seconds=0.1)["problem"]


@pytest.mark.parametrize("text", [None, ""])
def test_a_file_that_is_absent_or_empty(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "log.csv"
    if text is not None:
        path.write_text(text)
    problem = found("file", path, seconds=0.1)["problem"]
    assert ("is empty" if text == "" else "cannot be read: No such file") in problem


# ---- MQTT


def test_each_topic_of_a_broker_gets_an_input(
    broker: RealBroker, talking: Callable[..., None], tmp_path: Path
) -> None:
    client = Client()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    said = {
        "plant/1/flow": "41.5",
        "plant/1/all": '{"ts": 1700000000, "values": {"p": 7, "flow": 1}}',
        "plant/1/state": "running well",
        "else/x": "5",
    }

    def publish(_: int) -> None:
        for topic, body in said.items():
            client.publish(topic, body, qos=0)

    talking(publish)
    document = found("mqtt", f"127.0.0.1:{broker.port}", "--topic", "plant/#", seconds=1.0)
    assert document["problem"] is None
    about = {source["source"]: source for source in document["sources"]}
    assert set(about) == {"plant/1/flow", "plant/1/all", "plant/1/state"}
    assert about["plant/1/state"]["format"] is None
    channels = tomllib.loads(document["stream"])["streams"][0]["baseline"]["channels"]
    assert len(channels) == 3  # though two topics say "flow"
    config = pasted(document, tmp_path)
    tables = {
        table.topics[0]: number for number, table in enumerate(configuration.load(config).inputs)
    }
    assert set(tables) == {"plant/1/flow", "plant/1/all"}
    for topic, number in tables.items():
        expected = [[41.5]] if topic.endswith("flow") else [[7.0, 1.0]]
        (read,) = reads(config, number, [said[topic].encode()])
        assert sorted(read) == sorted(expected[0])
    again = found("--input", "plant-1-all", "--config", config)
    assert again["sources"][0]["rejected"] == {}
    assert again["sources"][0]["readings"] > 0
    client.disconnect()
    client.loop_stop()
    client.on_connect = None


def test_what_the_broker_retained_is_told(broker: RealBroker) -> None:
    client = Client()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish("plant/1/flow", "41.5", qos=1, retain=True).wait_for_publish(WAIT_S_MAX)
    document = found("mqtt", f"127.0.0.1:{broker.port}", "--topic", "plant/#", seconds=0.5)
    assert (document["lines"], document["retained"]) == (1, 1)
    (said,) = [line for line in report.lines(document) if "retained by the broker" in line]
    assert ": 1." in said
    client.disconnect()
    client.loop_stop()
    client.on_connect = None


def test_what_is_wrong_with_a_broker_is_told(broker: RealBroker) -> None:
    nobody = found("mqtt", f"127.0.0.1:{broker.port}", "--topic", "plant/#", seconds=0.3)
    assert nobody["problem"] == "nobody published to plant/# in 0.3 s"
    broker.kill()
    assert "refused" in found("mqtt", f"127.0.0.1:{broker.port}", seconds=0.1)["problem"]
    wrong = probe("mqtt", "127.0.0.1", "--tls-key-file", "key.pem")
    assert "tls_key_file needs tls_cert_file" in str(wrong.exception)


@pytest.mark.parametrize("topic", ["a/#/b", "", "a+"])
def test_a_topic_that_one_cannot_subscribe_to_is_refused(topic: str) -> None:
    outcome = CliRunner().invoke(
        commands, ["probe", "mqtt", "127.0.0.1", "--topic", topic], standalone_mode=False
    )
    assert isinstance(outcome.exception, ConfigError)
    assert "--topic" in str(outcome.exception)


def granting(session: Session, packet: bytes) -> None:
    """Grant one topic, and publish to it (QoS 0)."""
    session.send(SUBACK, packet + bytes([0]))
    session.send(PUBLISH, b"\x00\x01a" + b"41.5")


@pytest.mark.parametrize(
    ("code", "granted", "said"),
    [
        (0x84, granting, None),
        (0x87, granting, "the broker refuses: Not authorized"),
        (
            0x84,
            lambda session, packet: session.send(SUBACK, packet + b"\x80"),
            "refuses the subscription",
        ),
    ],
)
def test_an_older_broker_and_one_that_refuses(
    code: int, granted: Callable[[Session, bytes], None], said: str | None
) -> None:
    def on_connect(session: Session) -> None:
        session.accept(code=code if session.protocol == 5 else 0)

    with ScriptedBroker(on_connect, on_subscribe=granted) as scripted:
        document = found("mqtt", f"127.0.0.1:{scripted.port}", seconds=1.0)
        protocols = [session.protocol for session in scripted.sessions]
    if said is None:
        assert (document["problem"], document["sources"][0]["readings"]) == (None, 1)
    else:
        assert said in document["problem"]
    assert protocols == ([5] if code == 0x87 else [5, 4])


def test_a_broker_too_old_for_what_is_configured(tmp_path: Path) -> None:
    with ScriptedBroker(lambda session: session.accept(code=0x84)) as scripted:
        config = tmp_path / "agent.toml"
        broker = f'{{ host = "127.0.0.1", port = {scripted.port}, protocol = "5" }}'
        config.write_text(f"""{HEAD}
[[streams]]
name = "pump"
baseline = {{ period_s = 1.0, channels = [{{ name = "flow" }}] }}
[[inputs]]
name = "bus"
type = "mqtt"
stream = "pump"
broker = {broker}
topics = ["a"]
columns = ["flow"]
""")
        document = found("--input", "bus", "--config", config)
    assert document["problem"] == "the broker refuses: it does not speak this version of MQTT"


# ---- Modbus


def test_the_registers_of_a_device(tmp_path: Path) -> None:
    device = Device()
    where = f"127.0.0.1:{device.port}"
    document = found(
        *("modbus-tcp", where, "--address", 4, "--count", 3, "--type", "int32"), "--interval", 0.1
    )
    assert document["problem"] is None
    assert document["polls"] >= 2
    first = document["registers"][0]
    assert (first["address"], first["last"], first["changes"]) == (4, 40, False)
    assert first["int32"] == 40 << 16 | 50
    assert first["int32, low word first"] == 50 << 16 | 40
    assert document["channels"]["holding_4"]["last"] == 40 << 16 | 50
    config = pasted(document, tmp_path)
    (table,) = configuration.load(config).inputs
    assert [(register.channel, register.address) for register in table.registers] == [
        ("holding_4", 4)
    ]
    again = found("--input", "modbus-tcp-unit-1", "--config", config)
    assert again["sources"][0]["channels"]["holding_4"]["last"] == pytest.approx(40 << 16 | 50)
    bits = found("modbus-tcp", where, "--function", "coil", "--address", 3, "--count", 2)
    assert [(seen["address"], seen["last"]) for seen in bits["registers"]] == [(3, 1), (4, 0)]
    assert pasted(bits, tmp_path)
    assert configuration.load(pasted(bits, tmp_path)).inputs[0].registers[1].function == "coil"
    text = probe("modbus-tcp", where, "--count", 2, "--seconds", 0.3).output
    assert "  1: 10\n" in text
    none = found("modbus-tcp", where, "--address", 1000, "--count", 1)
    device.stop()
    assert "holding register 1000 (function code 3): exception 2" in none["problem"]
    away = found("modbus-tcp", where, "--count", 1)
    assert "does not answer" in away["problem"]
    assert probe("modbus-tcp", where, "--function", "coil", "--type", "int16").exception


def test_registers_that_a_device_lacks_are_not_proposed(tmp_path: Path) -> None:
    unit = Unit(holding={4: 1, 5: 2, 7: 3, 8: 4})
    device = Device(units={9: unit}, framing="rtu")
    where = f"127.0.0.1:{device.port}"
    options = ("--framing", "rtu", "--unit", 9, "--address", 4, "--count", 5, "--interval", 0.1)
    document = found("modbus-tcp", where, *options)
    text = probe("modbus-tcp", where, *options).output
    device.stop()
    assert [seen["last"] for seen in document["registers"]] == [1, 2, None, 3, 4]
    (table,) = configuration.load(pasted(document, tmp_path)).inputs
    assert [register.address for register in table.registers] == [4, 5, 7, 8]
    assert (table.unit, table.framing) == (9, "rtu")
    assert document["note"] == (
        "unit 9, holding register 6 (function code 3): exception 2, illegal data address"
    )
    assert document["note"] in text


def test_the_registers_of_a_device_at_a_serial_line(tmp_path: Path) -> None:
    cable = Cable(echo=True)
    device = Device(line=cable.ends[1])
    line = ("modbus-rtu", cable.ends[0], "--parity", "none", "--function", "input")
    line += ("--handle-local-echo",)
    document = found(*line, "--address", 7, "--count", 1, "--interval", 0.1)
    device.stop()
    cable.close()
    assert document["registers"][0]["last"] == 70
    (table,) = configuration.load(pasted(document, tmp_path)).inputs
    assert (table.type, table.parity, table.registers[0].function) == (
        "modbus-rtu",
        "none",
        "input",
    )


# ---- a configured input


def test_rejects_of_a_configured_input_are_shown(
    port: tuple[int, Path], talking: Callable[..., None], tmp_path: Path
) -> None:
    controller, name = port
    talking(lambda n: write(controller, b"7" if n % 2 else b"x" if n % 4 else b"200"))
    config = tmp_path / "agent.toml"
    config.write_text(f"""{HEAD}
[[streams]]
name = "pump"
[streams.baseline]
period_s = 1.0
channels = [{{ name = "flow", high = 100.0 }}]
[[inputs]]
name = "line"
stream = "pump"
port = "{name}"
columns = ["flow"]
""")
    document = found("--input", "line", "--config", config)
    (source,) = document["sources"]
    assert set(source["rejected"]) == {"malformed", "out_of_range"}
    assert {(one["cause"], one["line"]) for one in source["rejects"]} == {
        ("malformed", "x"),
        ("out_of_range", "200"),
    }
    assert source["channels"]["flow"] == {"low": 7.0, "high": 7.0, "last": 7.0}
    text = probe("--input", "line", "--config", config, "--seconds", 0.3).output
    assert "rejected, malformed: " in text
    wrong = probe("--input", "lime", "--config", config)
    assert "has no input 'lime'; its inputs are line" in str(wrong.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ("serial", "x", "--baud", "fast"),
        ("serial", "x", "--stream", "a b"),
        ("file", "x", "--seconds", "0"),
    ],
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(commands, ["probe", *arguments]).exit_code == 2
