"""Tests in advance everything that the agent needs, and reports what to fix.

Each finding is independent: a broken port does not hide a broken bundle.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent.alarms.context import check_names
from agent.alarms.handled import check_suppressions
from agent.alarms.limit import check_limits, limitable, never_back, unreachable
from agent.bundles.load import Loader, baseline
from agent.bundles.trust import told
from agent.bundles.verdict import objection
from agent.commands.apart import NOT_ASKED, Apart
from agent.commands.check_onsite import on_site
from agent.commands.check_page import page
from agent.commands.finding import UNAVAILABLE, Finding
from agent.commands.secrecy import other_user, password_is_known, secrets
from agent.config import load as configuration
from agent.config.broker import BrokerTable, MqttTable
from agent.config.hostile_lines import slow_line
from agent.config.inputs import (
    AnyInput,
    FileTable,
    ModbusRtuTable,
    ModbusTcpTable,
    MqttInputTable,
    ReplayTable,
    SerialTable,
)
from agent.config.layers import leaves
from agent.config.load import AgentConfig, StreamTable
from agent.config.texts import Catalogue, languages, read_catalogue
from agent.defects.quarantine import NOTES
from agent.dialects.topics import ROOT
from agent.fleets import Chooser, check_fit
from agent.inputs.file import probe_file
from agent.inputs.kinds import open_input
from agent.inputs.ports import named
from agent.inputs.replay import probe_recording
from agent.inputs.serial import probe_port
from agent.mqtt.connection import LinkError
from agent.mqtt.signer import key_file, read_signer
from agent.mqtt.version import CREDENTIALS_WANTED, Refusal, probe_broker
from agent.parsing.lines import LineParser
from agent.store.migrations import READINGS, RECORDS
from agent.store.obstacles import refuse_obstacle, refuse_obstacles
from agent.store.sqlite import LOCK
from models.detector import Detector
from models.errors import BundleError, ConfigError, InterpreterMissing, StoreError
from models.keys import ROLES, ed25519, names, read_keyring
from models.manifest import Manifest
from models.printable import printable
from models.settings import dotted, explain
from models.validation import ValidationError

FREE_BYTES_MIN = 50 * 2**20
_SLOW = (
    "pattern: several repeats can match the same text, and trying all ways takes too long. Name"
    " their separator: \\d+(?:\\.\\d+)? instead of \\d+\\.?\\d*. The agent would reject lines"
    " such as "
)
_LOSSY = (
    " with MQTT 3.1.1. Note: if its access list denies a topic, 3.1.1 cannot report that; the"
    " message counts as accepted, and is lost. Let this user publish to all topics, or use MQTT 5"
)
_UNSIGNED = (
    "accepted without a signature (mqtt.unsigned_acknowledgements): any client of the"
    " broker can delete messages that no collector has"
)
_UNTIMED = ". Note: its messages have no time; "
_WAITED_LOST = (
    f"{_UNTIMED}the broker does not keep those published while the agent is away. It keeps them if"
    " you send a time"
)
_WAITED_USED = (
    f"{_UNTIMED}those that waited at the broker (session_expiry_s) get the time of their arrival."
    " Send a time, or set session_expiry_s = 0"
)


class Setting(NamedTuple):
    """One setting in effect."""

    key: str
    value: Any
    source: str  # a file, a variable, or "default"


def settings(config_file: Path) -> Iterator[Setting]:
    """Yield every setting in effect, and where it was set.

    Raises:
        ConfigError: the configuration is wrong.

    """
    config, layers = configuration.load_layers(config_file)
    given = {location for location, _ in leaves(layers.document)}
    for location, value in leaves(config.model_dump(mode="json", exclude_none=True)):
        inside = any(place[: len(location)] == location for place in given)  # for a whole table
        source = layers.origins(location)[-1].source if inside else "default"
        yield Setting(dotted(location), value, source)


class Access(NamedTuple):
    """The credentials of another user of this gateway's broker."""

    username: str | None
    password_file: Path | None
    tls_cert_file: Path | None
    tls_key_file: Path | None

    def of(self, broker: BrokerTable) -> BrokerTable:
        """Return the broker's table with these credentials instead of the gateway's.

        Raises:
            ConfigError: they are inconsistent.

        """
        try:
            return BrokerTable.model_validate(
                {
                    name: self._asdict().get(name, getattr(broker, name))
                    for name in BrokerTable.model_fields
                }
            )
        except ValidationError as error:
            raise ConfigError("; ".join(explain(BrokerTable, error))) from error


def check(config_file: Path, other: Access | None = None) -> list[Finding]:
    """Test everything in the configuration; with ``other`` also the broker's access list."""
    try:
        config = configuration.load(config_file)
    except ConfigError as error:
        return [Finding(False, "configuration", str(error), error.exit_code)]
    findings = [Finding(True, "configuration", str(config_file)), *other_user(config)]
    findings += _keys(config)
    findings += _commands(config)
    findings += _signing(config)
    findings += _texts(config)
    detectors: dict[str, Detector] = {}
    loader = Loader.of(config, remember=False)
    chooser = Chooser(config, loader)
    for stream in config.streams:
        findings.append(_stream(config, stream, chooser, detectors))
        findings += _limits(stream, detectors.get(stream.name))
        findings += _verdict(stream, detectors.get(stream.name))
    findings += _suppressions(config, detectors)
    for source in config.inputs:
        findings += _input(source, detectors)
    findings.append(_store(config.store.directory))
    findings += secrets(config)
    findings += on_site(config)
    findings += page(config)
    findings += _broker(config, other)
    return findings


def _stream(
    config: AgentConfig, stream: StreamTable, chooser: Chooser, detectors: dict[str, Detector]
) -> Finding:
    what = f"stream {stream.name}"
    try:
        choice = chooser.choose(stream)
        if choice.detector is not None:
            detectors[stream.name] = choice.detector
        if (refused := choice.origin.refused) is not None:
            said = f"{refused.why}. Until you correct this, {choice}"
            return Finding(False, what, said, BundleError.exit_code)
        _check_settings(config, stream, choice.detector)
    except (ConfigError, InterpreterMissing) as error:
        return Finding(False, what, str(error).removeprefix(f"{what}: "), error.exit_code)
    assert choice.detector is not None
    if choice.bundle is None:
        channels = len(choice.detector.manifest.channels)
        return Finding(True, what, f"no bundle: the baseline watches {channels} channels")
    manifest = choice.bundle.manifest
    return Finding(
        True,
        what,
        f"{manifest.name} version {manifest.version},"
        f" {told(choice.bundle, config.keys.directory)}, gives its known answers"
        f" on {choice.detector.runtime}",
    )


def _texts(config: AgentConfig) -> Iterator[Finding]:
    """Test the language of the alarms, and the plant's own texts."""
    catalogue: Catalogue = {}
    path = config.language.catalogue
    if path is not None:
        try:
            catalogue, wrong = read_catalogue(path)
        except ConfigError as error:
            yield Finding(False, "texts", str(error), error.exit_code)
            return
        yield from (Finding(False, "texts", said, ConfigError.exit_code) for said in wrong)
        if not wrong:
            names = ", ".join(f"{name} ({len(texts)})" for name, texts in catalogue.items())
            yield Finding(True, "texts", f"{path}: {names or 'empty'}")
    known = languages(catalogue)
    if config.language.default not in known:
        said = f"language.default = {config.language.default!r}: there are {', '.join(known)}"
        yield Finding(False, "texts", said, ConfigError.exit_code)


def _limits(stream: StreamTable, detector: Detector | None) -> Iterator[Finding]:
    channels = detector.manifest.channels if detector else ()
    for said in (*unreachable(stream.limits, channels), *never_back(stream.limits, channels)):
        yield Finding(True, f"stream {stream.name}", said, mark="warn")


def _suppressions(config: AgentConfig, detectors: Mapping[str, Detector]) -> Iterator[Finding]:
    try:
        check_suppressions(
            config, {name: one.manifest.channel_names for name, one in detectors.items()}
        )
    except ConfigError as error:
        yield Finding(False, "alarms", str(error), error.exit_code)


def _verdict(stream: StreamTable, detector: Detector | None) -> Iterator[Finding]:
    rules = None if detector is None else detector.manifest
    if isinstance(rules, Manifest) and (said := objection(rules.metrics)) is not None:
        yield Finding(True, f"stream {stream.name}", said, mark="warn")


def _check_settings(config: AgentConfig, stream: StreamTable, detector: Detector | None) -> None:
    """Raise ConfigError if the limits or the substitute baseline do not fit."""
    assert detector is not None
    check_limits(stream.name, stream.limits, limitable(detector.manifest))
    check_names(stream, detector.manifest.channel_names)
    if stream.bundle is not None and stream.baseline is not None:
        try:
            check_fit(config, stream, baseline(stream.baseline), limits=False)
        except ConfigError as error:
            raise ConfigError(f"its baseline cannot replace the bundle: {error}") from error


def _input(source: AnyInput, detectors: dict[str, Detector]) -> Iterator[Finding]:
    what = f"input {source.name}"
    if source.stream in detectors:
        try:
            LineParser(source.lines, detectors[source.stream].manifest.source_channels)
        except ConfigError as error:
            yield Finding(False, what, str(error), error.exit_code)
    if source.lines.pattern is not None and (line := slow_line(source.lines.pattern)) is not None:
        yield Finding(False, what, f"{_SLOW}{printable(line)!r}", ConfigError.exit_code)
    if isinstance(source, SerialTable):
        trouble = probe_port(source)
        if trouble is None:
            yield Finding(True, what, f"{named(source.port, source.by_id)} opens")
        else:
            yield Finding(False, what, trouble, UNAVAILABLE)
        return
    try:
        open_input(source)
    except ConfigError as error:
        yield Finding(False, what, str(error), error.exit_code)
        return
    if isinstance(source, ModbusTcpTable | ModbusRtuTable):
        from agent.inputs.modbus import probe_device  # only if a device is polled

        found = probe_device(source)
        yield Finding(found.complete, what, found.text, 0 if found.complete else UNAVAILABLE)
    elif isinstance(source, FileTable) and (trouble := probe_file(source)):
        yield Finding(False, what, trouble, UNAVAILABLE)
    elif isinstance(source, ReplayTable) and (trouble := probe_recording(source)):
        yield Finding(False, what, trouble, UNAVAILABLE)
    else:
        untried = f"can be used; its source ({source.type}) was not tested"
        yield Finding(True, what, f"{untried}{_untimed(source)}")


def _untimed(source: AnyInput) -> str:
    """Describe the fate of messages that wait at a broker, if their age is unknown."""
    if not isinstance(source, MqttInputTable) or source.has_time:
        return ""
    return _WAITED_USED if source.kept_s else _WAITED_LOST


def _store(directory: Path) -> Finding:
    what = f"store {directory}"
    code = StoreError.exit_code
    try:
        for name in (RECORDS, READINGS):
            refuse_obstacles(directory / name, writing=True)
        for name in (LOCK, NOTES):
            refuse_obstacle(directory / name, writing=True)
    except StoreError as error:
        return Finding(False, what, str(error), code)
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        detail = f"cannot be written by user {os.getuid()}: {error.strerror}"
        return Finding(False, what, detail, code)
    free = shutil.disk_usage(directory).free
    if free < FREE_BYTES_MIN:
        return Finding(False, what, f"only {free // 2**20} MB free on its disk", code)
    return Finding(True, what, f"can be written, {free // 2**20} MB free{_open_to_all(directory)}")


def _open_to_all(directory: Path) -> str:
    """Report files that every user can read; older versions created such files."""
    files = [directory / name for name in (RECORDS, READINGS)]
    found = [str(file) for file in files if file.exists() and file.stat().st_mode & 0o007]
    return f"; every user can read {' and '.join(found)}; chmod o= prevents that" if found else ""


def _signing(config: AgentConfig) -> Iterator[Finding]:
    """Test the key that signs messages."""
    if (file := key_file(config)) is None:
        return
    what = f"signing {file}"
    try:
        signer = read_signer(file, config.gateway.site, config.gateway.name)
    except ConfigError as error:
        yield Finding(False, what, str(error), error.exit_code)
        return
    yield Finding(True, what, f"messages are signed with key {signer.key_id}")


def _keys(config: AgentConfig) -> Iterator[Finding]:
    """Test which keys are trusted, and whether unsigned messages are accepted."""
    if config.keys.directory is None:
        keyring = None
    else:
        what = f"keys {config.keys.directory}"
        try:
            keyring = read_keyring(config.keys.directory)
            if keyring.keys:
                ed25519()
        except ConfigError as error:
            yield Finding(False, what, str(error), error.exit_code)
            return
        told = ", ".join(f"{role} {len(keyring.of(role))}" for role in ROLES)
        yield Finding(True, what, f"unrevoked keys: {told}")
    if config.mqtt is None or config.mqtt.acknowledgement != "central":
        return
    collectors = keyring.of("collector") if keyring else []
    if config.mqtt.unsigned_acknowledgements:
        useless = "; collectors' keys are not used" if collectors else ""
        yield Finding(True, "acknowledgements", f"{_UNSIGNED}{useless}", mark="warn")
    elif collectors:
        yield Finding(True, "acknowledgements", f"accepted if signed by {names(collectors)}")
    else:
        yield Finding(
            False,
            "acknowledgements",
            f"{config.keys.directory} has no unrevoked key of a collector: no message"
            " would ever be deleted",
            ConfigError.exit_code,
        )


def _commands(config: AgentConfig) -> Iterator[Finding]:
    """Say whether commands of central ops are on, and which keys may operate."""
    if config.mqtt is None or not config.mqtt.commands.enabled:
        yield Finding(True, "commands", "off: central ops cannot handle alarms of this gateway")
        return
    assert config.keys.directory is not None  # the configuration sees to that
    try:
        operating = read_keyring(config.keys.directory).of("operate")
        ed25519()
    except ConfigError as error:
        yield Finding(False, "commands", str(error), error.exit_code)
        return
    if operating:
        yield Finding(True, "commands", f"on: accepted if signed by {names(operating)}")
    else:
        nobody = f"on, but {config.keys.directory} has no unrevoked key of the role operate"
        yield Finding(True, "commands", nobody, mark="warn")
    if config.mqtt.commands.has_own_user:
        yield _user_of_commands(config.mqtt.for_commands, _client_id(config))


def _user_of_commands(broker: BrokerTable, client_id: str) -> Finding:
    what = f"commands at {broker.host}:{broker.port}"
    try:
        probe_broker(broker, client_id)
    except LinkError as error:
        return Finding(False, what, error.without(broker), UNAVAILABLE)
    user = "their certificate" if broker.username is None else f"user {broker.username}"
    return Finding(True, what, f"accepts {user}")


def _client_id(config: AgentConfig) -> str:
    return f"fieldwatch-check:{config.gateway.site}:{config.gateway.name}"


def _not_accepted(error: LinkError, what: str, broker: MqttTable) -> Finding:
    """Return a failure, unless the broker only wants the password that the service gets."""
    asked = isinstance(error, Refusal) and error.code in CREDENTIALS_WANTED
    if asked and not password_is_known(broker):
        detail = "it answers; whether it accepts the service is not known without the password"
        return Finding(True, what, detail, mark="unknown")
    return Finding(False, what, error.without(broker), UNAVAILABLE)


def _broker(config: AgentConfig, other: Access | None) -> Iterator[Finding]:
    if config.mqtt is None:
        yield Finding(True, "broker", "none configured; central ops receives nothing")
        return
    what = f"broker {config.mqtt.host}:{config.mqtt.port}"
    client_id = _client_id(config)
    try:
        protocol = probe_broker(config.mqtt, client_id)
    except LinkError as error:
        yield _not_accepted(error, what, config.mqtt)
        return
    yield Finding(True, what, f"accepts the connection{_LOSSY if protocol == '3.1.1' else ''}")
    if other is None:
        yield NOT_ASKED
    else:
        topics = f"{ROOT}/{config.gateway.site}/{config.gateway.name}"
        yield Apart(topics, config.mqtt, other.of(config.mqtt), client_id).finding()
