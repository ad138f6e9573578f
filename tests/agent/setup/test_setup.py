"""``fieldwatch-agent setup`` as a person, or an image, calls it: whole, in a folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import commands
from agent.config.load import load
from agent.setup.ports import Seen, added
from tests.agent.setup.person import Person
from tests.conftest import AGENT, ROOT, ZOO_BUNDLE
from tests.secured_broker import SecuredBroker
from tests.serial_line import Line

PASSWORD = "of plant/gw-1"  # as the broker knows it
SAMPLE = ROOT / "systemd" / "agent.toml"
FEED = """
[[streams]]
name = "pump"
bundle = "pump.fieldwatch"
[[inputs]]
name = "line"
stream = "pump"
type = "file"
path = "/run/lines"
format = "json"
"""


class Image:
    """A folder with a gateway's files, and a stick with answers."""

    def __init__(self, directory: Path, broker: SecuredBroker) -> None:
        self.root, self.stick, self.broker = directory / "root", directory / "stick", broker
        self.stick.mkdir()
        self.answers = self.stick / "fieldwatch.toml"
        self.config = self.root / "etc" / "fieldwatch" / "agent.toml"
        self.password = self.root / "etc" / "credstore" / "mqtt.password"
        shutil.copy(ZOO_BUNDLE, self.stick / "pump.fieldwatch")
        shutil.copy(broker.authority.file, self.stick / "ca.pem")
        self.answer()

    def answer(self, more: str = "", feed: str = FEED, **broker: object) -> None:
        settings = {
            "host": "127.0.0.1",
            "port": self.broker.gateways_port,
            "username": "plant/gw-1",
            "password": PASSWORD,
            "tls_ca_file": "ca.pem",
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in (settings | broker).items()]
        gateway = '[gateway]\nsite = "plant"\nname = "gw-1"\n'
        self.answers.write_text(f"{gateway}[mqtt]\n" + "\n".join(lines) + f"\n{feed}{more}")

    def sample(self) -> None:
        self.config.parent.mkdir(parents=True)
        shutil.copy(SAMPLE, self.config)

    def call(self, *words: object) -> Result:
        arguments = ["setup", "--root", str(self.root), *map(str, words)]
        return CliRunner().invoke(commands, arguments, standalone_mode=False)

    def apply(self, *words: object) -> Result:
        return self.call("--answers", self.answers, "--yes", *words)

    def set_up(self, *words: object) -> Result:
        ended = self.apply(*words)
        assert code(ended) == 0, ended.output
        return ended

    def holders(self, secret: str) -> list[str]:
        """Return the files that contain a secret."""
        files = [file for file in self.root.rglob("*") if file.is_file()]
        found = [file for file in files if secret.encode() in file.read_bytes()]
        return [str(file.relative_to(self.root)) for file in found]


@pytest.fixture
def image(tmp_path: Path, secured: SecuredBroker) -> Image:
    return Image(tmp_path, secured)


def code(ended: Result) -> int:
    """Return the exit code, as ``main`` would have it."""
    if ended.exception is not None:
        return int(getattr(ended.exception, "exit_code", -1))
    return int(ended.return_value)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("sample", [True, False])
def test_a_fresh_gateway_is_set_up_and_check_agrees(image: Image, sample: bool) -> None:
    if sample:
        image.sample()
    ended = image.set_up()
    assert f"broker 127.0.0.1:{image.broker.gateways_port}: accepts this gateway" in ended.output
    assert image.holders(PASSWORD) == ["etc/credstore/mqtt.password"]
    assert PASSWORD not in ended.output
    assert (mode(image.password), mode(image.password.parent)) == (0o600, 0o700)
    assert (mode(image.config), mode(image.config.parent)) == (0o644, 0o755)
    assert (image.config.parent / "pump.fieldwatch").read_bytes() == ZOO_BUNDLE.read_bytes()

    config = load(image.config)
    assert (config.gateway.site, config.gateway.name) == ("plant", "gw-1")
    assert [one.name for one in config.inputs] == ["line"]
    ended = subprocess.run(
        [*AGENT, "check", "--config", str(image.config), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"CREDENTIALS_DIRECTORY": str(image.password.parent)},
    )
    found = {one["what"]: one for one in json.loads(ended.stdout)}
    broker = found[f"broker 127.0.0.1:{image.broker.gateways_port}"]
    assert broker["ok"] and found["stream pump"]["ok"] and found["configuration"]["ok"]


def test_a_second_time_changes_nothing_and_keeps_what_a_person_wrote(image: Image) -> None:
    image.sample()
    image.set_up()
    again = image.set_up()
    assert "@@" not in again.output and "nothing changed" in again.output

    before = image.config.read_text().replace("# keepalive_s = 60", "keepalive_s = 20  # mine", 1)
    image.config.write_text(before)
    ended = image.call("--yes", "--site", "hall")
    assert code(ended) == 69  # the broker knows no such user's topics
    assert "not-authorised: " in ended.output
    assert image.config.read_text() == before.replace('site = "plant" ', 'site = "hall"  ')
    assert image.password.read_text() == PASSWORD


def test_the_difference_is_shown_and_a_dry_run_writes_nothing(image: Image) -> None:
    image.sample()
    before = image.config.read_bytes()
    ended = image.call("--answers", image.answers, "--dry-run")
    assert code(ended) == 0
    assert '-name = "gateway-1"' in ended.output and '+name = "gw-1"' in ended.output
    assert "new: " in ended.output and "pump.fieldwatch" in ended.output
    assert "credential mqtt.password: new, plain" in ended.output
    assert image.config.read_bytes() == before
    assert [file.name for file in image.config.parent.iterdir()] == ["agent.toml"]
    assert not image.password.exists()


def test_without_a_person_nothing_is_asked_and_nothing_written(image: Image) -> None:
    ended = image.call("--answers", image.answers)
    assert code(ended) == 2 and "add --yes" in str(ended.exception)
    assert not image.root.exists()


def test_the_password_of_a_file_is_stored_without_its_line_end(image: Image) -> None:
    image.answer(password="")
    file = image.stick / "secret"
    file.write_text(f"{PASSWORD}\n")
    image.set_up("--password-file", file)
    assert image.password.read_text() == PASSWORD
    assert image.holders(PASSWORD) == ["etc/credstore/mqtt.password"]
    assert file.exists()


def test_the_credential_takes_the_place_of_a_password_file(image: Image) -> None:
    image.set_up()
    text = image.config.read_text()
    image.config.write_text(text.replace("[mqtt]\n", '[mqtt]\npassword_file = "old"\n'))
    image.set_up()
    assert image.config.read_text() == text


def test_a_wrong_password_is_named_and_the_gateway_is_set_up_nevertheless(image: Image) -> None:
    image.answer(password="wrong")
    ended = image.apply("--json")
    assert code(ended) == 69
    document = json.loads(ended.stdout)
    assert document["broker"].startswith("password: ")
    assert str(image.config) in document["written"] and load(image.config)
    assert code(image.apply("--no-test")) == 0


def test_a_gateway_may_work_alone(image: Image) -> None:
    image.set_up()
    ended = image.call("--yes", "--no-broker")
    assert code(ended) == 0
    assert load(image.config).mqtt is None
    assert code(image.call("--yes", "--no-broker", "--host", "a")) == 2
    image.answers.write_text(f"mqtt = false\n{FEED}")
    assert code(image.apply()) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[health]\ninterval_s = -1\n", "health.interval_s = -1"),
        ("[nonsense]\nx = 1\n", "nonsense"),
        ("[on_site]\nhooks = [{ name = 'a' }]\n", "lists of streams and inputs only"),
        ("[", "not TOML"),
        ("[language]\ndefault = { x = 1 }\n", "language.default"),
    ],
)
def test_wrong_answers_are_refused_before_anything_is_written(
    image: Image, more: str, message: str
) -> None:
    image.answer(more)
    ended = image.apply()
    assert message in str(ended.exception)
    assert code(ended) == 78
    assert not image.root.exists()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ("gateway = 3\n", "gateway = 3: must be a table"),
        ("mqtt = true\n", "mqtt = True: must be a table"),
        ("[streams]\nname = 'a'\n", "each with a header [[streams]]"),
        ("inputs = [3]\n", "each with a header [[inputs]]"),
    ],
)
def test_answers_of_another_form_are_refused(image: Image, answers: str, message: str) -> None:
    image.answers.write_text(answers)
    ended = image.apply()
    assert code(ended) == 78 and message in str(ended.exception)
    image.config.parent.mkdir(parents=True)
    image.config.write_text(answers)
    image.answer()
    ended = image.apply()
    assert code(ended) == 78 and f"{image.config}: " in str(ended.exception)


def test_the_configuration_keeps_its_permissions_and_may_be_a_link(image: Image) -> None:
    image.set_up()
    real = image.root / "real.toml"
    image.config.rename(real)
    real.chmod(0o640)
    image.config.symlink_to(real)
    image.call("--yes", "--site", "hall", "--no-test")
    assert image.config.is_symlink() and 'site = "hall"' in real.read_text()
    assert mode(real) == 0o640


def test_a_drop_in_that_overrides_an_answer_is_named(image: Image) -> None:
    drop_in = image.config.parent / "conf.d" / "site.toml"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text('[gateway]\nsite = "other"\n')
    ended = image.apply()
    assert f"{drop_in} overrides gateway.site" in str(ended.exception)


def test_without_any_input_it_says_how_to_find_one(image: Image) -> None:
    image.answer(feed="")
    ended = image.apply()
    assert "there is no input: attach a device and give --serial PORT" in str(ended.exception)


def test_what_cannot_be_written_is_an_error_with_a_code(image: Image) -> None:
    image.root.mkdir()
    (image.root / "etc").touch()
    ended = image.apply()
    assert code(ended) == 78  # it cannot even be read
    (image.root / "etc").unlink()
    image.config.parent.mkdir(parents=True)
    (image.root / "etc" / "credstore").touch()
    ended = image.apply()
    assert code(ended) == 74
    assert not image.config.exists()  # the last that is written


def test_secrets_are_encrypted_where_systemd_can(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSTEMD_CREDENTIAL_SECRET", str(tmp_path / "host-key"))
    image.set_up()
    encrypted = image.root / "etc" / "credstore.encrypted"
    encrypted.mkdir(mode=0o700)
    (encrypted / "mqtt.other").touch()  # of another service
    image.set_up("--credentials", "encrypted")
    assert "nothing changed" in image.set_up("--credentials", "encrypted").output
    file = encrypted / "mqtt.password"
    assert mode(file) == 0o600
    assert image.holders(PASSWORD) == []  # the plain one is gone
    unit = image.root / "etc/systemd/system/fieldwatch-agent.service.d/encrypted-credentials.conf"
    assert unit.read_text().splitlines()[1:] == [
        "[Service]",
        "LoadCredentialEncrypted=mqtt.password",
    ]
    assert "accepts this gateway" in image.call("--yes").output  # with the stored password
    image.set_up("--credentials", "plain")
    assert not file.exists() and not unit.exists() and image.password.exists()


def test_a_file_that_is_read_once_loses_its_secrets(image: Image) -> None:
    image.set_up("--once")
    assert not image.answers.exists()
    applied = image.stick / "fieldwatch.toml.applied"
    assert tomllib.loads(applied.read_text())["mqtt"]["username"] == "plant/gw-1"
    for file in image.stick.iterdir():
        assert PASSWORD.encode() not in file.read_bytes(), file
    report = (image.stick / "fieldwatch.toml.log").read_text()
    assert "accepts this gateway" in report and "has no secrets any more" in report


def test_a_password_file_beside_it_goes_too(image: Image) -> None:
    secret = image.stick / "secret"
    secret.write_text(PASSWORD)
    text = image.answers.read_text()
    image.answers.write_text(
        text.replace("password =", "#").replace("#", 'password_file = "secret" #')
    )
    image.set_up("--once")
    assert image.password.read_text() == PASSWORD
    assert not secret.exists()
    assert "password_file" not in (image.stick / "fieldwatch.toml.applied").read_text()


def test_a_file_with_a_mistake_stays_for_a_second_try(image: Image) -> None:
    image.answer("[health]\ninterval_s = -1\n")
    before = image.answers.read_text()
    ended = image.apply("--once")
    assert code(ended) == 78
    assert image.answers.read_text() == before
    assert "error: " in (image.stick / "fieldwatch.toml.log").read_text()


def test_secrets_that_cannot_be_cut_out_take_the_file_with_them(image: Image) -> None:
    text = image.answers.read_text()
    broker = re.search(r"\[mqtt\]\n(.*?)\n\n", text, re.DOTALL)
    assert broker is not None
    dotted = "\n".join(f"mqtt.{line}" for line in broker[1].splitlines())
    image.answers.write_text(f"{dotted}\n{text.replace(broker[0], '')}")
    image.set_up("--once")
    assert image.password.read_text() == PASSWORD
    left = (image.stick / "fieldwatch.toml.applied").read_text()
    assert PASSWORD not in left and left.startswith("# the secrets of this file were removed")


@pytest.fixture
def sensor(tmp_path: Path) -> Iterator[Line]:
    """A device that sends two values again and again."""
    ports = tmp_path / "by-id"
    ports.mkdir()
    line = Line(ports / "usb-sensor")
    ended = threading.Event()

    def talk() -> None:
        while not ended.wait(0.05):
            line.write(b"41.5,20.25\r\n")

    thread = threading.Thread(target=talk)
    thread.start()
    yield line
    ended.set()
    thread.join()
    line.close()


def test_a_port_is_probed_and_its_input_added(image: Image, sensor: Line) -> None:
    image.sample()
    words = ["--yes", "--no-broker", "--serial", sensor.path, "--seconds", 1]
    ended = image.call(*words)
    assert code(ended) == 0, ended.output
    assert "> 41.5,20.25" in ended.output
    config = load(image.config)
    (source,) = config.inputs  # and no sample's
    assert source.name == "usb-sensor" and len(source.lines.columns) == 2
    assert config.streams[0].baseline is not None
    before = image.config.read_text()
    assert code(image.call(*words)) == 0
    assert image.config.read_text() == before


def test_a_second_device_of_a_machine_adds_its_channels() -> None:
    def seen(port: str, channel: str) -> Seen:
        source = {"name": "line", "stream": "pump", "port": port, "columns": [channel]}
        baseline = {"period_s": 1.0, "channels": [{"name": channel, "unit": ""}]}
        return Seen((), source, {"name": "pump", "baseline": baseline})

    streams, inputs = added([], [], seen("/dev/a", "flow"))
    streams, inputs = added(streams, inputs, seen("/dev/b", "pressure"))
    (stream,) = streams
    assert [row["name"] for row in stream["baseline"]["channels"]] == ["flow", "pressure"]
    assert [one["name"] for one in inputs] == ["line", "line-2"]
    with_bundle = [{"name": "pump", "bundle": "x"}]
    assert added(with_bundle, [], seen("/dev/a", "flow"))[0] == with_bundle
    assert added([], inputs, seen("/dev/b", "other")) == ([], inputs)


def test_a_person_may_name_a_bundle(image: Image, sensor: Line) -> None:
    words = ("setup", "--root", image.root, "--by-id", sensor.path.parent, "--seconds", 1)
    with Person(*words, "--no-broker", directory=image.stick) as person:
        for question in ("Name of this", "Site", "Probe", "Use it?", "Name of its machine"):
            person.answer(question, "")
        person.answer("Its channels", "flow,voltage")
        person.answer("Its bundle", "pump.fieldwatch")
        person.answer("Another", "")
        person.answer("Write this?", "")
        assert person.ended() == 0, person.said
    (stream,) = load(image.config).streams
    assert stream.bundle == image.config.parent / "pump.fieldwatch"
    assert stream.bundle.read_bytes() == ZOO_BUNDLE.read_bytes()


def test_a_silent_port_is_no_input(image: Image, tmp_path: Path) -> None:
    image.set_up()
    ended = image.call("--yes", "--serial", tmp_path / "none", "--no-test")
    assert code(ended) == 0 and "none does not exist" in ended.output
    assert [one.name for one in load(image.config).inputs] == ["line"]


def test_a_person_is_asked_for_everything_and_sees_it_before_it_is_written(
    image: Image, sensor: Line
) -> None:
    image.sample()
    with Person(
        *("setup", "--root", image.root, "--by-id", sensor.path.parent, "--seconds", 1),
        directory=image.stick,
    ) as person:
        person.answer("Name of this gateway", "gw-1")
        person.answer("Site or plant [plant-1]", "plant")
        person.answer("Broker of central ops", "127.0.0.1")
        person.answer("TLS? [Y/n]", "")
        person.answer("File with the CA's certificates", "ca.pem")
        person.answer("Port [8883]", str(image.broker.gateways_port))
        person.answer("User (or 'none') [plant/gw-1]", "")
        person.answer("Password (not shown)", PASSWORD)
        person.answer("Probe usb-sensor? [Y/n]", "")
        person.answer("Use it? [Y/n]", "")
        person.answer("Name of its machine (stream) [stream-1]", "pump")
        person.answer("Its channels", "flow")
        person.answer("Its channels", "flow,temperature")
        person.answer("Its bundle", "")
        person.answer("Another serial port", "")
        person.answer("Write this? [Y/n]", "")
        assert person.ended() == 0, person.said
    assert "give 2 different names" in person.said
    assert "accepts this gateway" in person.said and '+name = "gw-1"' in person.said
    assert PASSWORD not in person.said
    assert image.holders(PASSWORD) == ["etc/credstore/mqtt.password"]
    config = load(image.config)
    assert config.inputs[0].lines.columns == ["flow", "temperature"]
    assert config.streams[0].name == "pump"


def test_a_person_who_takes_all_defaults_changes_nothing(image: Image, tmp_path: Path) -> None:
    image.set_up()
    before = image.config.read_text()
    with Person(
        *("setup", "--root", image.root, "--by-id", tmp_path / "none"), directory=tmp_path
    ) as person:
        for question in ("gateway", "Site", "Broker", "TLS?", "CA's", "Port", "User"):
            person.answer(question, "")
        person.answer("Password (empty: as it is)", "")
        person.answer("Another serial port", "")
        assert person.ended() == 0, person.said
    assert "nothing changed" in person.said
    assert image.config.read_text() == before


def test_a_person_who_says_no_has_changed_nothing(image: Image) -> None:
    image.answer(password="wrong")
    words = ("setup", "--root", image.root, "--answers", image.answers)
    with Person(*words, directory=image.stick) as person:
        person.answer("Go on all the same? [y/N]", "")
        assert person.ended() == 130, person.said
    assert not image.root.exists()
