"""The steps of a set-up, in their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from agent.setup import apply, credentials, ports, questions
from agent.setup.answers import Answers, answers_of, read_answers
from agent.setup.broker import Trouble
from agent.setup.credentials import Way
from agent.setup.place import Place
from agent.setup.plan import Plan, Present, plan, read_present


class Options(NamedTuple):
    """What the command line says."""

    settings: dict[str, Any]  # in the form of agent.toml
    answers_file: Path | None
    serial: tuple[Path, ...]  # ports to probe
    by_id: Path
    seconds: float  # of a probe
    way: Way
    asks: bool
    dry_run: bool
    tries: bool  # the broker


class Voice(NamedTuple):
    """How a set-up speaks to a person."""

    tell: Callable[[str], None]
    warn: Callable[[str], None]
    confirm: Callable[[str, bool], None]  # question and default; raises if the answer is no


class Outcome(NamedTuple):
    """What was done."""

    config: Path
    difference: list[str]
    broker: str  # "ok", "none", "not tried", or why it cannot be used
    credentials: dict[str, Way]
    written: list[Path]
    secret_files: tuple[Path, ...]

    @property
    def broker_fails(self) -> bool:
        """Whether the broker was tried in vain."""
        return self.broker not in ("ok", "none", "not tried")

    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        written = [str(path) for path in self.written]
        document = self._asdict() | {"config": str(self.config), "written": written}
        del document["secret_files"]
        return document


def set_up(place: Place, options: Options, voice: Voice) -> Outcome:
    """Read, ask, probe, plan, try the broker, show, and write.

    Raises:
        ConfigError: an answer is wrong, or what is there cannot be read or changed.
        NotPermitted: this user may not write a file.
        CannotWrite: the disk does not take a file, or a secret cannot be encrypted.

    """
    present = read_present(place)
    answers = _answers(place, present, options, voice)
    way = credentials.chosen(place, options.way)
    wanted = plan(place, present, answers)
    wanted = wanted._replace(secrets=credentials.changed(place, wanted.secrets, way))
    broker = _tried(wanted, options, voice)
    difference = list(wanted.difference())
    for line in (*difference, *(f"credential {name}: new, {way}" for name in wanted.secrets)):
        voice.tell(line)
    written: list[Path] = []
    if not options.dry_run:
        written = _write(wanted, way, options, voice)
    secrets = dict.fromkeys(wanted.secrets, way)
    return Outcome(place.config_file, difference, broker, secrets, written, answers.secret_files)


def _answers(place: Place, present: Present, options: Options, voice: Voice) -> Answers:
    answers = Answers({}) if options.answers_file is None else read_answers(options.answers_file)
    answers = answers_of(options.settings, Path.cwd()).over(answers)
    if options.serial:
        answers = _probed(present, answers, options, voice).over(answers)
    if options.asks:
        return questions.ask(place, present, answers, options.by_id, options.seconds)
    return answers


def _probed(present: Present, answers: Answers, options: Options, voice: Voice) -> Answers:
    """Return the inputs with those at the ports that the options name."""
    below = {} if present.is_sample else present.document
    streams = answers.settings.get("streams", below.get("streams", []))
    inputs = answers.settings.get("inputs", below.get("inputs", []))
    for port in options.serial:
        name = f"stream-{len(streams) + 1}"
        seen = ports.look(port, options.by_id, name, options.seconds, voice.tell)
        for line in seen.lines:
            voice.tell(line)
        if seen.input is not None:
            streams, inputs = ports.added(streams, inputs, seen)
    return Answers({"streams": streams, "inputs": inputs} if inputs else {})


def _tried(wanted: Plan, options: Options, voice: Voice) -> str:
    """Try the broker, if there is one; let a person decide whether to go on without it."""
    broker = wanted.config.mqtt
    if broker is None:
        return "none"
    if not options.tries:
        return "not tried"
    trouble: Trouble | None = apply.try_planned(wanted)
    what = f"broker {broker.host}:{broker.port}"
    if trouble is None:
        voice.tell(f"{what}: accepts this gateway")
        return "ok"
    voice.warn(f"{what}: {trouble.told()}")
    if options.asks:
        voice.confirm("Go on all the same?", False)
    return trouble.told()


def _write(wanted: Plan, way: Way, options: Options, voice: Voice) -> list[Path]:
    if options.asks and (wanted.changes_files or wanted.secrets):
        voice.confirm("Write this?", True)
    written = apply.write(wanted, way)
    for line in apply.told(wanted.place, written, way):
        voice.tell(line)
    return written
